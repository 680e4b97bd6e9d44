from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from align.preferences.storage.store import DEFAULT_URL, LabelStore
from align.preferences.votes.schema import Vote, read_judgements, read_votes, write_votes
from align.video.writer import ClipFolderWriter
from ui.cli import votes as votes_cli
from ui.cli.main import app

HEADER = "vote_id,pair_id,context_id,rollout_a,rollout_b,axis,vote"


def run(*args: object, code: int = 0) -> str:
    result = CliRunner().invoke(app, ["votes", *map(str, args)])
    assert result.exit_code == code, result.output
    return result.output


@pytest.fixture
def db(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'labels.db'}"


@pytest.fixture
def some_votes() -> list[Vote]:
    base = {"context_id": "c1", "rollout_a": "r1", "rollout_b": "r2", "axis": "spill"}
    rows = [
        {"vote_id": "v1", "pair_id": "p1", "vote": "a", "annotator_id": "ann", "shown_left": "a"},
        {"vote_id": "v2", "pair_id": "p1", "vote": "b", "annotator_id": "ann", "shown_left": "a", "supersedes": "v1"},
        {"vote_id": "v3", "pair_id": "p1", "vote": "b", "annotator_id": "sim", "simulated": True, "shown_left": "b"},
        {"vote_id": "v4", "pair_id": "p2", "vote": "tie", "annotator_id": "sim", "simulated": True, "axis": "success"},
    ]
    return [Vote.model_validate(base | row) for row in rows]


@pytest.fixture
def filled(db: str, some_votes: list[Vote]) -> str:
    with LabelStore(db) as store:
        store.add_votes(some_votes)
    return db


def test_import_takes_votes_once(tmp_path: Path, db: str, some_votes: list[Vote]) -> None:
    write_votes(tmp_path / "votes.jsonl", some_votes)
    output = run("import", tmp_path / "votes.jsonl", "--db", db, "--json", tmp_path / "figures.json")
    assert "4 votes added, 0 were there already (2 of 4 simulated)" in output
    assert json.loads((tmp_path / "figures.json").read_text())["num_added"] == 4
    assert "0 votes added, 4 were there already" in run("import", tmp_path / "votes.jsonl", "--db", db)
    with LabelStore(db) as store:
        assert store.votes() == some_votes


def test_a_bad_file_is_refused_whole_and_creates_no_database(tmp_path: Path, db: str) -> None:
    path = tmp_path / "votes.csv"
    path.write_text(f"{HEADER}\nv1,p,c,x,y,spill,a\nv2,p,c,x,y,spill,left\nv3,p,c,x,x,spill,\n", encoding="utf-8")
    output = run("import", path, "--db", db, code=5)
    assert "row 2: vote is 'left'" in output
    assert "row 3: vote is empty" in output
    assert "Traceback" not in output
    assert not (tmp_path / "labels.db").exists()


@pytest.mark.parametrize("suffix", ["csv", "jsonl", "parquet"])
def test_export_gives_back_what_was_imported(tmp_path: Path, filled: str, some_votes: list[Vote], suffix: str) -> None:
    dest = tmp_path / f"out.{suffix}"
    assert "4 votes written" in run("export", dest, "--db", filled)
    assert read_votes(dest) == some_votes
    assert "exists already" in run("export", dest, "--db", filled, code=5)
    run("export", dest, "--db", filled, "--overwrite", "--effective", "--axis", "spill")
    assert [vote.vote_id for vote in read_votes(dest)] == ["v2", "v3"]


def test_judgements_go_in_and_out(tmp_path: Path, db: str) -> None:
    (tmp_path / "in.csv").write_text("judgement_id,rollout_id,axis,verdict\nj1,r1,spill,fail\n", encoding="utf-8")
    assert "1 judgements added" in run("import", tmp_path / "in.csv", "--db", db, "--kind", "judgements")
    run("export", tmp_path / "out.parquet", "--db", db, "--kind", "judgements")
    assert read_judgements(tmp_path / "out.parquet")[0].verdict == "fail"
    output = run("export", tmp_path / "set", "--db", db, "--kind", "judgements", "--choice", "all", code=5)
    assert "come from votes" in output


def test_export_for_trl(tmp_path: Path, filled: str) -> None:
    from datasets import load_from_disk

    assert "1 preferences and 1 ties" in run("export", tmp_path / "set", "--db", filled, "--choice", "majority")
    (row,) = load_from_disk(str(tmp_path / "set"))["preferences"].to_list()
    assert (row["chosen"], row["num_chosen"], row["simulated_share"]) == ("r2", 2, 0.5)
    (tmp_path / "rollouts").mkdir()
    assert "no metadata.parquet" in run("export", tmp_path / "s2", "--db", filled, "--rollouts", tmp_path / "rollouts", code=5)
    table = pd.DataFrame({"rollout_id": ["r1", "r2"], "tokens": [[7, 1], [7, 2]]})
    table.to_parquet(tmp_path / "rollouts" / "metadata.parquet")
    run("export", tmp_path / "s2", "--db", filled, "--rollouts", tmp_path / "rollouts", "--prompt-tokens", 1)
    (row,) = load_from_disk(str(tmp_path / "s2"))["preferences"].to_list()
    assert (row["prompt_ids"], row["chosen_ids"], row["rejected_ids"]) == ([7], [2], [1])


def test_export_as_a_wide_table(tmp_path: Path, filled: str) -> None:
    dest = tmp_path / "pairs.csv"
    assert "2 pairs written" in run("export", dest, "--db", filled, "--format", "videoalign")
    assert dest.read_text().splitlines()[:2] == ["path_A,path_B,prompt,spill,success", "r1,r2,c1,B,"]
    with ClipFolderWriter(tmp_path / "rollouts", {}) as writer:
        for name in ("r1", "r2"):
            row = {"rollout_id": name, "context_id": "c1", "scene": "x", "task": "pour", "fps_hz": 8.0}
            writer.add(row, np.zeros((3, 16, 16, 3), np.uint8) + len(name))
    arguments = ("export", dest, "--db", filled, "--format", "videoalign", "--overwrite")
    run(*arguments, "--rollouts", tmp_path / "rollouts")
    (header, *rows) = dest.read_text().splitlines()
    assert header.endswith("spill,success,fps_A,num_frames_A,fps_B,num_frames_B")
    assert rows[0].split(",")[2:] == ["pour", "B", "", "8.0", "3", "8.0", "3"]
    assert "leave out --kind" in run(*arguments, "--kind", "judgements", code=3)


def test_reading_from_a_database_that_is_not_there_creates_none(tmp_path: Path, db: str) -> None:
    for command in (["report", db], ["export", tmp_path / "out.csv", "--db", db]):
        assert "there is no label database" in run(*command, code=5)
    assert list(tmp_path.iterdir()) == []


def test_the_default_database_is_the_stores() -> None:
    assert votes_cli.DEFAULT_DB == DEFAULT_URL


@pytest.mark.parametrize("command", ["import", "export"])
def test_every_command_has_help(command: str) -> None:
    assert "--db" in run(command, "--help")
