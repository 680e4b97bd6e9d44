"""``gptsim ledger``: exit codes, sentences, and the lineage as text and page."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from align.audit.ledger import Ledger
from align.errors import DataError
from align.io import atomic_write
from ui.cli.main import USAGE, app

LEDGER = Path("runs/ledger.jsonl")


def call(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["ledger", *arguments], prog_name="gptsim")


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Votes, and an adapter that was made of them."""
    monkeypatch.chdir(tmp_path)
    atomic_write("votes.csv", "1,a")
    atomic_write("adapter/weights", "1")
    assert call("add", "votes", "--output", "votes=votes.csv", "--note", "by people").exit_code == 0
    made = call("add", "dpo", "--input", "votes=votes.csv", "--output", "adapter=adapter")
    assert made.exit_code == 0
    assert made.stdout.startswith("record 1 (dpo) appended to runs/ledger.jsonl; head ")
    return tmp_path


def test_an_intact_ledger_ends_with_0_and_says_what_it_could_not_see() -> None:
    result = call("verify")
    assert result.exit_code == 0
    assert "2 records, 3 files and folders as recorded; head " in result.stdout
    assert "intact, as far as can be told without --head" in result.stdout
    head = Ledger(LEDGER).read().head
    result = call("verify", "--head", head, "--json", "found.json")
    assert result.exit_code == 0
    assert "intact; 0 records were appended after the head that you gave" in result.stdout
    found = json.loads(Path("found.json").read_text())
    assert (found["intact"], found["num_files"], found["head"], found["violations"]) == (True, 3, head, [])


def test_a_changed_file_ends_with_1_and_one_sentence() -> None:
    atomic_write("adapter/weights", "2")
    result = call("verify", "--json", "found.json")
    assert result.exit_code == 1
    assert result.stdout.splitlines()[0] == (
        "violated: record 1 (dpo): its output adapter, ../adapter, has changed (weights changed)"
    )
    assert json.loads(Path("found.json").read_text())["intact"] is False


def test_a_cut_ledger_ends_with_1_given_the_head() -> None:
    head = Ledger(LEDGER).read().head
    LEDGER.write_bytes(LEDGER.read_bytes().splitlines(keepends=True)[0])
    assert call("verify").exit_code == 0
    result = call("verify", "--head", head)
    assert result.exit_code == 1
    assert "the ledger was cut short" in result.stdout


def test_missing_files_may_be_allowed() -> None:
    Path("votes.csv").unlink()
    assert call("verify").exit_code == 1
    result = call("verify", "--allow-missing")
    assert result.exit_code == 0
    assert "missing: record 0 (votes): its output votes, ../votes.csv, is not here any more" in result.stdout


def test_what_can_not_be_checked_is_neither_0_nor_1() -> None:
    assert call("verify", "none.jsonl").exit_code == DataError.exit_code
    assert call("verify", "--head", "abc").exit_code == USAGE
    assert call("show", "none.jsonl").exit_code == DataError.exit_code


def test_the_lineage_is_drawn_as_text_and_as_a_page() -> None:
    result = call("show", "--html", "ledger.html", "--json", "ledger.json")
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    assert lines[0] == "record 1 (dpo)"
    assert lines[1].startswith("└─ votes: ../votes.csv (")
    assert lines[1].endswith("from record 0 (votes)")
    assert "record 0 (votes)" in Path("ledger.html").read_text()
    assert [record["kind"] for record in json.loads(Path("ledger.json").read_text())["records"]] == ["votes", "dpo"]


def test_the_lineage_of_one_file() -> None:
    assert call("show", "--of", "votes.csv").stdout.splitlines()[0] == "record 0 (votes)"
    atomic_write("other.csv", "2")
    result = call("show", "--of", "other.csv")
    assert result.exit_code == DataError.exit_code
    assert "no record says that it wrote other.csv" in result.stderr


def test_a_broken_ledger_is_shown_as_far_as_it_holds() -> None:
    LEDGER.write_bytes(LEDGER.read_bytes().replace(b'"kind":"dpo"', b'"kind":"ddo"'))
    result = call("show")
    assert result.exit_code == 0
    assert result.stdout.splitlines()[0] == "record 0 (votes)"
    assert "NOT INTACT: record 1 (line 2) was changed after it was written" in result.stdout


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["votes"], "says nothing; name at least one file"),
        (["votes", "--input", "votes.csv"], "must have the form NAME=PATH"),
        (["votes", "--input", "a=votes.csv", "--input", "a=votes.csv"], "names something twice"),
        ([" ", "--input", "a=votes.csv"], "KIND is empty"),
    ],
)
def test_a_record_that_says_nothing_is_refused(arguments: list[str], sentence: str) -> None:
    before = LEDGER.read_bytes()
    result = call("add", *arguments)
    assert result.exit_code == USAGE
    assert sentence in result.stderr
    assert LEDGER.read_bytes() == before
