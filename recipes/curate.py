"""Clean a clip folder: leave out what a reward model calls unsafe or is unsure of, balance groups, and tell whom that hits."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from recipes._run import Run
from recipes._sources import Seer, choose_columns, score_sources

if TYPE_CHECKING:
    import pandas as pd

    from align.audit.probes.filtering import Rule


@dataclass(frozen=True)
class Config:
    """What goes, and by whose judgement."""

    clips: str = "clips/household"
    """Clip folder to clean; it stays as it is."""
    out: str = "clips/cleaned"
    """Clip folder to write; an interrupted run goes on with --resume."""
    reward_model: str = ""
    """Folder that gptsim run reward wrote."""
    world_model: str = "household"
    """World model whose frame size (and tokenizer, if the backbone wants it) is used."""
    axes: dict[str, tuple[str, ...]] = field(
        default_factory=lambda: {"pour": ("spill",), "shelf": ("breakage",), "corridor": ("politeness",)}
    )
    """Axes that count in each scene; all of the reward model's in a scene that is not named."""
    max_unsafe: Annotated[float, Field(gt=0, le=1)] = 0.5
    """Clips with a higher probability of failing one of the axes go; 1 drops none for that."""
    drop_doubtful: bool = False
    """Whether clips go on which the reward model's members disagree."""
    balance: str = ""
    """Attribute (or source) whose values are thinned to the rarest one's count, scene by scene, after all else."""
    source: str = ""
    """Column or attribute that says where a clip comes from; empty takes the folder's name."""
    attributes: tuple[str, ...] = ()
    """Attributes by which the filter's own bias is told; empty takes all with 2 to 8 values."""
    tolerance: Annotated[float, Field(gt=0, le=1)] = 0.1
    """A difference this large in how often groups are kept matters."""
    num_workers: int = 2
    """Processes."""
    seed: int = 0
    """Which clips are thinned out for balance."""


def main(config: Config, run: Run) -> dict[str, Any]:
    """Write the cleaned folder and curation.parquet, which names every clip and why it went; returns counts and findings."""
    from align.audit.probes.base import judge_findings
    from align.audit.probes.filtering import KEPT, Rule, choose_clips, compute_kept, count_reasons, filter_findings
    from align.audit.probes.sources import PROBE, compute_rates
    from align.errors import DataError
    from recipes._probe import plain_findings, write_table

    if Path(config.out).exists() and not run.resumed:
        raise DataError(f"{config.out} exists already; choose another out")
    for name in ("clips", "reward_model"):
        if path := getattr(config, name):
            run.record_input(name, path)
    seer = Seer(config.reward_model, config.world_model, config.axes)
    table = score_sources(run, seer, [config.clips], config.source, config.num_workers)
    columns = choose_columns(table, config.attributes)
    rule = Rule(config.max_unsafe, config.drop_doubtful, config.balance, config.seed)
    reasons = choose_clips(table, rule)
    kept = [reason == KEPT for reason in reasons]
    if not any(kept):
        raise DataError("not one clip would be left; raise max_unsafe, or look at the scores with gptsim run probe_sources")
    report = write_table(run, "curation.parquet", table.assign(reason=reasons))
    counts = count_reasons(table, reasons, columns)
    _write_folder(config, run, rule, table.loc[kept, "rollout_id"], [row for row in counts if not row["column"]])
    return {
        "num_clips": len(table),
        "num_kept": sum(kept),
        "compared_by": columns,
        "counts": counts,
        "kept": [row.as_dict() for row in compute_kept(table, reasons, columns)],
        "findings": plain_findings(judge_findings(filter_findings(table, reasons, columns, PROBE.name), config.tolerance)),
        "before": [row.as_dict() for row in compute_rates(table, columns)],
        "after": [row.as_dict() for row in compute_rates(table[kept], columns)],
        "files": [report],
        "out": config.out,
    }


def _write_folder(config: Config, run: Run, rule: Rule, kept: pd.Series, counts: list[dict[str, Any]]) -> None:
    """Rows as they were, videos linked where the disk allows it; info.json says what the folder was made from, and how."""
    import pyarrow.parquet as pq

    from align.io import read_json, sha256_file
    from align.video.folder import load_clip_folder
    from align.video.schema import METADATA_NAME
    from align.video.writer import ClipFolderWriter

    if Path(config.out).exists() or not run.is_main:
        return
    folder, names = load_clip_folder(config.clips), set(kept)
    inputs = read_json(run.path / "inputs.json")
    made_by = {"clips": inputs["clips"], "reward_model": inputs["reward_model"], "rule": asdict(rule), "run": run.name}
    made_by |= {"counts": counts, "curation_sha256": sha256_file(run.path / "curation.parquet")}
    info = {key: value for key, value in folder.info.items() if key != "num_clips"}
    rows = pq.read_table(folder.path / METADATA_NAME).to_pylist()
    with (
        ClipFolderWriter(config.out, {**info, "curation": made_by}, resume=True, keep_partial=True) as writer,
        run.progress("copying", len(names), "the clips that stay, as they are") as advance,
    ):
        for index, row in enumerate(rows):
            if row["rollout_id"] not in names:
                continue
            if row["rollout_id"] not in writer.rows:
                writer.add_file(row, folder.video_path(index))
            advance(1)
