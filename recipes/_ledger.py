"""How a run gets into the ledger: what it read, what it wrote, and where the ledger lies."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from align.audit.ledger import Artefact, Ledger, Lineage, Record
from align.audit.ledger.files import relative_to_ledger
from align.io import atomic_write, read_json

NAME = "ledger.jsonl"
READS = (
    "adapter", "anchor_clips", "base_rows", "clips", "contexts", "held_out", "judge", "labeller", "model", "pairs",
    "reward_model", "rollouts", "votes", "world_model",
)  # fmt: skip
"""Fields of a configuration that name what a recipe reads. A field of another name is recorded by ``run.record_input``."""
_PASSWORD = re.compile(r"(://[^:/@\s]*):[^@\s]*@")
_LINEAGE = "## Lineage"


def find_ledger(run: Path) -> Ledger:
    """The ledger of a run: ``ledger.jsonl`` in the folder of all runs. A step inside a run shares that of the outer run."""
    root = run.absolute().parent
    while (outer := _outer_run(root)) is not None:
        root = outer.parent
    return Ledger(root / NAME)


def _outer_run(folder: Path) -> Path | None:
    marks = ("run.json", "config.yaml")
    return next((parent for parent in (folder, *folder.parents) if all((parent / mark).is_file() for mark in marks)), None)


def find_reads(config: Any) -> dict[str, Path]:
    """Which files and folders that are there a configuration tells its recipe to read."""
    values = {name: getattr(config, name) for name in READS if isinstance(getattr(config, name, None), str)}
    return {name: Path(value) for name, value in values.items() if value and Path(value).exists()}


def append_run(run: Path, figures: Mapping[str, Any], report: Path) -> Record:
    """Appends a run's record, and tells the adapter's model card where it comes from.

    Args:
        run: The run folder.
        figures: What the recipe returned; ``out`` names its result.
        report: The file that is about to become report.json.

    Raises:
        RunError: The ledger is broken, held by another process, or can't be written.
    """
    ledger = find_ledger(run)
    about, out = read_json(run / "run.json"), figures.get("out")
    result = Path(out) if isinstance(out, str) and out and Path(out).exists() else None
    inputs = _inputs(run, ledger, result)
    kind, name = str(about["recipe"] or "run"), run.absolute().relative_to(ledger.home).as_posix()
    if result is not None:
        _write_lineage(result / "README.md", ledger, kind, inputs)
    return ledger.append(
        kind,
        name,
        inputs=inputs,
        outputs=_outputs(run, ledger, result, report),
        config=_hide_passwords(yaml.safe_load((run / "config.yaml").read_text(encoding="utf-8")) or {}),
        versions=read_json(run / "versions.json"),
    )


def _inputs(run: Path, ledger: Ledger, result: Path | None) -> dict[str, Artefact]:
    """What the run wrote down as it read it, but for a result that it looked at itself."""
    file = run / "inputs.json"
    read = read_json(file) if file.exists() else {}
    found = {name: ledger.artefact(item["path"], item["sha256"]) for name, item in read.items()}
    own = None if result is None else relative_to_ledger(result, ledger.home)
    return {name: artefact for name, artefact in found.items() if artefact.path != own}


def _outputs(run: Path, ledger: Ledger, result: Path | None, report: Path) -> dict[str, Artefact]:
    outputs = {"report": ledger.artefact(run / "report.json", ledger.hash(report))}
    if (page := run / "report.html").exists():
        outputs["page"] = ledger.artefact(page)
    if result is not None:
        outputs["out"] = ledger.artefact(result)
    return outputs


def _hide_passwords(value: Any) -> Any:
    """The configuration without the passwords of database URLs: a ledger is there to be shown."""
    if isinstance(value, dict):
        return {key: _hide_passwords(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_hide_passwords(item) for item in value]
    return _PASSWORD.sub(r"\1:***@", value) if isinstance(value, str) else value


def _write_lineage(card: Path, ledger: Ledger, kind: str, inputs: Mapping[str, Artefact]) -> None:
    """Ends a model card with everything that the model was made from, and with the ledger's head."""
    if not card.is_file():
        return
    chain = ledger.read()
    tree = Lineage(chain.records).text(Record(len(chain.records), chain.head, kind, inputs=inputs))
    text = card.read_text(encoding="utf-8").split(f"\n{_LINEAGE}\n")[0].rstrip("\n")
    atomic_write(
        card,
        f"{text}\n\n{_LINEAGE}\n\n```text\n{tree}\n```\n\n"
        f"Before this step the ledger held {len(chain.records)} records, the last of them with the hash `{chain.head}`. "
        f"Whoever has the ledger and the files can check them: `gptsim ledger verify --head {chain.head}`.\n",
    )
