"""``gptsim votes import`` and ``export`` with tables of others, marks of the labelling page and texts like formulas."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from align.preferences.accounts import Accounts
from align.preferences.campaign import Answer, Break, Campaign, Settings, Submission, Task
from align.preferences.storage.store import LabelStore
from align.preferences.votes.mapping import BUILT_IN
from align.preferences.votes.schema import Breakpoint, Flag, Judgement, read_votes
from align.preferences.votes.tables import parse_rows, read_rows
from ui.cli import votes as votes_cli
from ui.cli.main import app

MAPPING = """
fields: {context_id: "{scene}", left: "{x}", right: "{y}", annotator_id: "{who}"}
answers: [{columns: [spill, polite], fields: {axis: "{column}"}}]
translate: {vote: {L: left, R: right, "=": tie, "": null}}
"""


def run(*args: object, code: int = 0) -> str:
    result = CliRunner().invoke(app, ["votes", *map(str, args)])
    assert result.exit_code == code, result.output
    return " ".join(result.output.split())


@pytest.fixture
def db(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'labels.db'}"


@pytest.fixture
def sheet(tmp_path: Path) -> Path:
    (tmp_path / "m.yaml").write_text(MAPPING)
    path = tmp_path / "sheet.tsv"
    path.write_text("scene\tx\ty\twho\tspill\tpolite\ns\tr2\tr1\tann\tL\t=\ns\tr1\tr2\tbob\tR\t\n")
    return path


def test_a_mapping_takes_a_table_once(sheet: Path, db: str, tmp_path: Path) -> None:
    arguments = ("import", sheet, "--mapping", tmp_path / "m.yaml", "--db", db, "--json", tmp_path / "figures.json")
    output = run(*arguments)
    assert "3 votes added, 0 were there already (0 of 3 simulated) read from 2 rows; 1 cells held no answer" in output
    figures = json.loads((tmp_path / "figures.json").read_text())
    assert (figures["num_added"], figures["num_table_rows"], figures["num_unanswered"]) == (3, 2, 1)
    assert "0 votes added, 3 were there already" in run(*arguments)
    with LabelStore(db) as store:
        votes = [(vote.axis, vote.annotator_id, vote.vote, vote.shown_left) for vote in store.votes()]
    assert votes == [("spill", "ann", "b", "b"), ("polite", "ann", "tie", "b"), ("spill", "bob", "b", "a")]


def test_a_changed_answer_is_refused_and_its_row_named(sheet: Path, db: str, tmp_path: Path) -> None:
    run("import", sheet, "--mapping", tmp_path / "m.yaml", "--db", db)
    sheet.write_text(sheet.read_text().replace("bob\tR", "bob\tL"))
    output = run("import", sheet, "--mapping", tmp_path / "m.yaml", "--db", db, code=5)
    assert "mend 1 problem(s) first: row 2, column 'spill': vote_id 'vote-" in output
    assert "is already stored with another content" in output


def test_bad_rows_and_bad_mappings_leave_no_database(sheet: Path, db: str, tmp_path: Path) -> None:
    sheet.write_text(sheet.read_text().replace("\tL\t", "\tl\t").replace("\tR\t", "\tr\t"))
    output = run("import", sheet, "--mapping", tmp_path / "m.yaml", "--db", db, code=5)
    assert "mend 2 problem(s)" in output
    assert "row 1, column 'spill': 'l' is not in translate.vote" in output
    assert "row 2, column 'spill': 'r' is not in translate.vote" in output
    (tmp_path / "m.yaml").write_text("fields: {}\n")
    assert "answers must be a list" in run("import", sheet, "--mapping", tmp_path / "m.yaml", "--db", db, code=4)
    assert not (tmp_path / "labels.db").exists()


def test_set_names_the_rater_of_a_file_of_judgements(db: str, tmp_path: Path) -> None:
    (tmp_path / "r.csv").write_text("clip,safe\nr1,1\n")
    (tmp_path / "m.json").write_text(
        json.dumps(
            {
                "kind": "judgements",
                "fields": {"rollout_id": "{clip}"},
                "answers": [{"columns": ["safe"], "fields": {"axis": "spill"}}],
                "translate": {"verdict": {"1": "pass", "0": "fail"}},
            }
        )
    )
    arguments = ("import", tmp_path / "r.csv", "--mapping", tmp_path / "m.json", "--db", db)
    for rater in ("ann", "bob"):
        assert "1 judgements added" in run(*arguments, "--set", f"annotator_id={rater}")
    assert "0 judgements added" in run(*arguments, "--set", "annotator_id=bob", "--kind", "judgements")
    assert "the file holds judgements; leave out --kind votes" in run(*arguments, "--kind", "votes", code=3)
    assert "'bob' must have the form FIELD=TEXT" in run(*arguments, "--set", "bob", code=3)
    with LabelStore(db) as store:
        assert [row.annotator_id for row in store.judgements()] == ["ann", "bob"]


def test_videoalign_needs_no_mapping(db: str, tmp_path: Path) -> None:
    path = tmp_path / "data.csv"
    path.write_text("path_A,path_B,prompt,VQ,MQ,TA\na.mp4,b.mp4,a cat,A,B,same\n")
    assert "3 votes added" in run("import", path, "--format", "videoalign", "--db", db)
    both = run("import", path, "--format", "videoalign", "--mapping", path, "--db", db, code=3)
    assert "give --mapping or --format, not both" in both
    assert "--set changes a mapping" in run("import", path, "--set", "axis=x", "--db", db, code=3)
    assert [name.value for name in votes_cli.Format] == list(BUILT_IN)


@pytest.fixture
def labelled(db: str) -> Iterator[str]:
    """A campaign of one pair in which somebody answered, flagged a clip and marked breaks, one of them corrected."""
    with LabelStore(db) as store:
        campaign = Campaign(store)
        campaign.save_settings(Settings.model_validate({"axes": [{"name": "spill"}], "catch_share": 0, "gold_share": 0}))
        accounts = Accounts(store)
        accounts.redeem(accounts.invite("labeler", by="admin"), "ann", "a password of some length")
        campaign.add_tasks([Task(task_id="t1", context_id="c1", rollouts=("r1", "r2"))])
        (lease,) = campaign.lease("ann", 1)
        answers = (Answer(axis="spill", choice="left"),)
        for number, category in enumerate(("+hand", "=hand")):
            breaks = (Break(position=0, time_s=0.5, severity=2, category=category), Break(position=1, none=True))
            breaks += (Break(position=0, time_s=0.9, severity=1),) * (1 - number)  # the second time there is one fewer
            comment = '=HYPERLINK("http://x")\nsecond line'
            submission = Submission(
                submission_id=f"s{number}", lease_id=lease.lease_id, answers=answers, breaks=breaks, comment=comment
            )
            campaign.submit(submission, "ann")
        campaign.flag("f1", lease.lease_id, 0, "harm", True, "ann", "@home")
    return db


def test_marks_of_the_page_go_out_safely_and_read_back(labelled: str, tmp_path: Path) -> None:
    with LabelStore(labelled) as store:
        campaign = Campaign(store)
        expected = {"flags": (Flag, campaign.flags()), "breakpoints": (Breakpoint, campaign.breakpoints(effective=False))}
    for kind, (model, rows) in expected.items():
        assert rows
        for suffix in ("csv", "jsonl", "parquet"):
            dest = tmp_path / f"{kind}.{suffix}"
            assert f"{len(rows)} {kind} written" in run("export", dest, "--db", labelled, "--kind", kind)
            assert parse_rows(read_rows(dest), model, kind) == rows
    run("export", tmp_path / "now.csv", "--db", labelled, "--kind", "breakpoints", "--effective")
    assert len(read_rows(tmp_path / "now.csv")) < len(expected["breakpoints"][1])
    cells = [cell for path in tmp_path.glob("*.csv") for row in csv.reader(path.read_text().splitlines()) for cell in row]
    assert {"'=hand", "'@home"} <= set(cells)
    assert not [cell for cell in cells if cell.startswith(("=", "+", "-", "@"))]


@pytest.mark.parametrize("suffix", ["csv", "jsonl", "parquet"])
def test_marks_go_into_another_database_once_and_mean_the_same_there(labelled: str, tmp_path: Path, suffix: str) -> None:
    other = f"sqlite:///{tmp_path / 'other.db'}"
    for kind in ("flags", "breakpoints"):
        file, again = tmp_path / f"{kind}.{suffix}", tmp_path / f"{kind}-again.{suffix}"
        run("export", file, "--db", labelled, "--kind", kind)
        num = len(read_rows(file))
        told = run("import", file, "--db", other, "--kind", kind, "--json", tmp_path / "figures.json")
        assert told == f"{num} {kind} added, 0 were there already"
        assert json.loads((tmp_path / "figures.json").read_text()) == {"num_rows": num, "num_added": num, "num_known": 0}
        for db in (other, labelled):
            assert f"0 {kind} added, {num} were there already" in run("import", file, "--db", db, "--kind", kind)
        run("export", again, "--db", other, "--kind", kind)
        assert again.read_bytes() == file.read_bytes()
    with LabelStore(labelled) as first, LabelStore(other) as second:
        assert len(Campaign(first).breakpoints()) == 2
        assert Campaign(first).breakpoints() == Campaign(second).breakpoints()


def test_bad_marks_are_refused_with_their_row(tmp_path: Path, db: str) -> None:
    (tmp_path / "f.csv").write_text("flag_id,rollout_id,kind,annotator_id\nf1,r1,harm,ann\nf2,r1,ugly,ann\nf3,r1,harm,\n")
    assert "row 2: kind is 'ugly'" in run("import", tmp_path / "f.csv", "--db", db, "--kind", "flags", code=5)
    (tmp_path / "f.csv").write_text("flag_id,rollout_id,kind,annotator_id\nf1,r1,harm,ann\nf3,r1,harm,\n")
    assert "row 2: annotator_id is empty" in run("import", tmp_path / "f.csv", "--db", db, "--kind", "flags", code=5)
    assert not (tmp_path / "labels.db").exists()


def test_comments_go_out_with_the_votes_and_come_back(labelled: str, tmp_path: Path) -> None:
    run("export", tmp_path / "votes.csv", "--db", labelled)
    with LabelStore(labelled) as store:
        stored = store.votes()
    assert read_votes(tmp_path / "votes.csv") == stored
    assert stored[-1].comment.startswith("=HYPERLINK")
    other = f"sqlite:///{tmp_path / 'other.db'}"
    assert f"{len(stored)} votes added" in run("import", tmp_path / "votes.csv", "--db", other)
    with LabelStore(other) as store:
        assert store.votes() == stored


def test_options_that_do_not_fit_a_kind_are_refused(labelled: str, tmp_path: Path) -> None:
    dest = tmp_path / "out.csv"
    assert "flags have no axis" in run("export", dest, "--db", labelled, "--kind", "flags", "--axis", "spill", code=3)
    assert "--effective chooses" in run("export", dest, "--db", labelled, "--kind", "judgements", "--effective", code=3)
    assert "come from votes; leave out --kind flags" in run(
        "export", tmp_path / "set", "--db", labelled, "--kind", "flags", "--choice", "all", code=5
    )
    assert not dest.exists()
    run("export", dest, "--db", labelled, "--kind", "judgements")
    assert parse_rows(read_rows(dest), Judgement, "j") == []
