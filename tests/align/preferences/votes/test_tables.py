from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from align.errors import DataError
from align.preferences.votes.schema import Breakpoint, Judgement, read_judgements, write_judgements
from align.preferences.votes.tables import neutralise, parse_rows, read_rows, restore, write_rows

DANGEROUS = "=+-@\t\r\n＝＋－＠"
# Half of the texts begin with what a spreadsheet minds, or with apostrophes before it.
texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), max_size=12)
tricky = st.builds(str.__add__, st.text("'" + DANGEROUS, max_size=4), texts) | texts


@given(tricky)
def test_a_neutralised_text_is_no_formula_and_comes_back(text: str) -> None:
    safe = neutralise(text)
    assert safe[:1] not in tuple(DANGEROUS)
    assert restore(safe) == text


@pytest.mark.parametrize("number", [-0.0, -1.5, 3, True, None])
def test_numbers_stay_numbers(number: object) -> None:
    assert neutralise(number) is number


@pytest.mark.parametrize(
    ("text", "safe"), [("=1+1", "'=1+1"), ("-5", "'-5"), ("'=1", "''=1"), ("'tis", "'tis"), ("a=b", "a=b"), ("", "")]
)
def test_only_what_a_spreadsheet_would_run_gets_an_apostrophe(text: str, safe: str) -> None:
    assert neutralise(text) == safe


@given(comments=st.lists(tricky, min_size=1, max_size=4), name=tricky)
def test_no_cell_of_a_csv_is_a_formula_and_all_come_back(
    tmp_path_factory: pytest.TempPathFactory, comments: list[str], name: str
) -> None:
    rows = [
        Judgement(judgement_id=f"=j{i}", rollout_id="@r", axis="-x", verdict="pass", annotator_id=name, comment=text)
        for i, text in enumerate(comments)
    ]
    path = tmp_path_factory.mktemp("csv") / "j.csv"
    write_judgements(path, rows)
    with path.open(encoding="utf-8", newline="") as file:
        cells = [cell for row in csv.reader(file) for cell in row]
    assert not [cell for cell in cells if cell.startswith(tuple(DANGEROUS))]
    assert read_judgements(path) == rows


def test_a_long_cell_survives_a_csv(tmp_path: Path) -> None:
    row = Judgement(judgement_id="j", rollout_id="r", axis="x", verdict="pass", comment="x" * 200_000)
    write_judgements(tmp_path / "j.csv", [row])
    assert read_judgements(tmp_path / "j.csv") == [row]


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
def test_whole_numbers_and_empty_cells_survive_a_file(tmp_path: Path, suffix: str) -> None:
    rows = [
        Breakpoint(breakpoint_id="b1", rollout_id="r", time_s=1.25, frame_idx=12, category="=hand", severity=3),
        Breakpoint(breakpoint_id="b2", rollout_id="r", none=True, annotator_id="ann"),
    ]
    path = tmp_path / f"b{suffix}"
    write_rows(path, rows, Breakpoint)
    assert parse_rows(read_rows(path), Breakpoint, "b") == rows
    if suffix == ".parquet":
        import pyarrow.parquet as pq

        assert str(pq.read_schema(path).field("frame_idx").type) == "int64"


def test_tsv_and_json_are_read_and_not_written(tmp_path: Path) -> None:
    (tmp_path / "t.tsv").write_bytes(b"uid\tmodel\r\nx,1\t[0, 1]\r\n")
    (tmp_path / "t.json").write_text(json.dumps([{"uid": 1}, {"model": [0]}]))
    assert read_rows(tmp_path / "t.tsv") == [{"uid": "x,1", "model": "[0, 1]"}]
    assert read_rows(tmp_path / "t.json") == [{"uid": 1}, {"model": [0]}]
    (tmp_path / "t.json").write_text('{"uid": {"0": 1}}')
    with pytest.raises(DataError, match="one list of objects"):
        read_rows(tmp_path / "t.json")
    for suffix in (".tsv", ".json"):
        with pytest.raises(DataError, match=r"allowed are \.csv, \.jsonl, \.parquet"):
            write_rows(tmp_path / f"out{suffix}", [], Judgement)


def test_an_id_with_a_line_break_is_named(tmp_path: Path) -> None:
    (tmp_path / "j.csv").write_text('judgement_id,rollout_id,axis,verdict\n"a\nb",r,x,pass\n')
    with pytest.raises(DataError, match=r"row 1: judgement_id is 'a\\nb': an id must not hold line breaks"):
        read_judgements(tmp_path / "j.csv")
