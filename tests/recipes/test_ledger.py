"""Runs in the ledger: what they read and wrote, steps inside a run, model cards, and what a broken ledger does."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from align.audit.ledger import Ledger, verify_ledger
from align.errors import RunError
from align.io import atomic_write, read_json
from recipes._ledger import find_ledger
from recipes._run import Run


@dataclass(frozen=True)
class Config:
    """Something that reads votes."""

    votes: str = ""
    model: str = "household"
    db: str = ""


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with votes."""
    monkeypatch.chdir(tmp_path)
    atomic_write("votes.csv", "1,a")
    return tmp_path


def play(root: Path | str, name: str, config: Config, figures: dict[str, Any], recipe: str = "dpo") -> Run:
    with Run.create(root, name, config, recipe=recipe) as run:
        run.finish(figures)
    return run


def make_adapter(folder: Path) -> str:
    atomic_write(folder / "weights", "1")
    atomic_write(folder / "README.md", "# Adapter\n")
    return str(folder)


def test_a_finished_run_has_a_record_of_what_it_read_and_wrote(project: Path) -> None:
    run = play("runs", "first", Config("votes.csv"), {"out": make_adapter(project / "adapter"), "loss": 1.0})
    chain = Ledger("runs/ledger.jsonl").read()
    (record,) = chain.records
    assert (record.kind, record.name) == ("dpo", "first")
    assert {name: artefact.path for name, artefact in record.inputs.items()} == {"votes": "../votes.csv"}
    assert {name: artefact.path for name, artefact in record.outputs.items()} == {
        "out": "../adapter",
        "report": "first/report.json",
    }
    assert record.config == {"votes": "votes.csv", "model": "household", "db": ""}
    assert record.versions == read_json(run.path / "versions.json")
    assert read_json(run.path / "inputs.json")["votes"]["path"] == "votes.csv"
    assert verify_ledger("runs/ledger.jsonl", chain.head).intact


def test_an_unfinished_run_has_none(project: Path) -> None:
    Run.create("runs", "first", Config("votes.csv"), recipe="dpo").close()
    assert not Path("runs/ledger.jsonl").exists()


def test_a_step_inside_a_run_shares_its_ledger_and_is_called_by_its_path() -> None:
    with Run.create("runs", "outer", Config(), recipe="quickstart") as outer:
        play(outer.path / "steps", "5-dpo", Config("votes.csv"), {})
        outer.finish({})
    names = [record.name for record in Ledger("runs/ledger.jsonl").read().records]
    assert names == ["outer/steps/5-dpo", "outer"]
    assert not (outer.path / "steps" / "ledger.jsonl").exists()


def test_a_foreign_run_json_far_above_is_no_outer_run(project: Path) -> None:
    atomic_write("run.json", "{}")
    assert find_ledger(Path("runs/first")).path == project / "runs" / "ledger.jsonl"


def test_a_recipe_that_looks_at_its_own_result_did_not_read_it(project: Path) -> None:
    with Run.create("runs", "film", Config(), recipe="simulate") as run:
        atomic_write("clips/a.mp4", "film")
        run.record_input("clips", "clips")
        run.finish({"out": "clips"})
    (record,) = Ledger("runs/ledger.jsonl").read().records
    assert not record.inputs
    assert record.outputs["out"].path == "../clips"


def test_the_model_card_says_where_the_model_comes_from(project: Path) -> None:
    atomic_write("votes_made.csv", "1,b")
    play("runs", "ask", Config(), {"out": "votes_made.csv"}, "annotate")
    head = Ledger("runs/ledger.jsonl").read().head
    adapter = make_adapter(project / "adapter")
    play("runs", "tune", Config("votes_made.csv"), {"out": adapter})
    card = (project / "adapter" / "README.md").read_text()
    assert card.startswith("# Adapter\n\n## Lineage\n")
    assert "this step (dpo)\n└─ votes: ../votes_made.csv (" in card
    assert "from record 0 (annotate, ask)" in card
    assert f"gptsim ledger verify --head {head}" in card
    assert verify_ledger("runs/ledger.jsonl", head).since_head == 1
    play("runs", "again", Config("votes_made.csv"), {"out": adapter})
    assert (project / "adapter" / "README.md").read_text().count("## Lineage") == 1
    assert verify_ledger("runs/ledger.jsonl").intact


def test_passwords_stay_out_of_the_ledger() -> None:
    play("runs", "select", Config(db="postgresql+psycopg://ann:s3cret@host/labels"), {})
    assert "s3cret" not in Path("runs/ledger.jsonl").read_text()
    (record,) = Ledger("runs/ledger.jsonl").read().records
    assert record.config["db"] == "postgresql+psycopg://ann:***@host/labels"


def test_a_broken_ledger_leaves_the_run_unfinished_until_it_is_moved_away() -> None:
    play("runs", "one", Config(), {})
    ledger = Path("runs/ledger.jsonl")
    ledger.write_bytes(ledger.read_bytes().replace(b'"kind":"dpo"', b'"kind":"ddo"'))
    with Run.create("runs", "two", Config(), recipe="dpo") as run:
        with pytest.raises(RunError, match="is not intact: record 0"):
            run.finish({"loss": 1.0})
        assert sorted(path.name for path in run.path.iterdir() if path.name[0] != ".") == [
            "config.yaml",
            "run.json",
            "versions.json",
        ]
    ledger.rename("runs/broken.jsonl")
    with Run.create("runs", "two", Config(), resume=True, recipe="dpo") as run:
        run.finish({"loss": 1.0})
    assert [record.name for record in Ledger(ledger).read().records] == ["two"]


def test_only_the_first_rank_appends(monkeypatch: pytest.MonkeyPatch) -> None:
    with Run.create("runs", "first", Config(), recipe="dpo") as run:
        monkeypatch.setenv("RANK", "1")
        other = Run.join(run.path)
        other.record_input("votes", "votes.csv")
        other.finish({"loss": 1.0})
        assert not Path("runs/ledger.jsonl").exists()
        monkeypatch.setenv("RANK", "0")
        Run.join(run.path).finish({"loss": 1.0})
    assert len(Ledger("runs/ledger.jsonl").read().records) == 1
