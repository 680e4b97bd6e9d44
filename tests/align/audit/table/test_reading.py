"""Tables as people have them: every format the same, and a sentence for what is wrong."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from align.audit.table.reading import EMPTY, read_ids, read_labels, read_outcome, read_pairs, read_table
from align.errors import DataError

FRAME = pd.DataFrame(
    {
        "context_id": ["c1", "c1", "c2", "c3"],
        "group": ["Zoë", "NA", "漢字", "Zoë"],
        "bumped": [1.0, 0.0, math.nan, 1.0],
        "severity": [0.25, -1.5, 3.0, 1e-7],
    }
)


def write(path: Path, frame: pd.DataFrame = FRAME) -> Path:
    if path.suffix == ".parquet":
        frame.to_parquet(path)
    elif path.suffix == ".jsonl":
        path.write_text(frame.to_json(orient="records", lines=True, force_ascii=False), encoding="utf-8")
    else:
        frame.to_csv(path, index=False, sep="\t" if path.suffix == ".tsv" else ",")
    return path


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".jsonl", ".parquet"])
def test_every_format_says_the_same(suffix: str, tmp_path: Path) -> None:
    table = read_table(write(tmp_path / f"table{suffix}"))
    assert list(table.columns) == list(FRAME.columns)
    codes, labels = read_labels(table["group"])
    assert labels == ["NA", "Zoë", "漢字"]
    assert codes.tolist() == [1, 0, 2, 1]
    assert read_outcome(table["bumped"], "bumped") == pytest.approx(FRAME["bumped"].to_numpy(), nan_ok=True)
    assert read_outcome(table["severity"], "severity") == pytest.approx(FRAME["severity"].to_numpy())


def test_a_spreadsheets_csv_with_its_mark_quotes_and_line_breaks(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_bytes('\ufeffcontext_id,group\r\n"c,1","two\nlines"\r\n\r\nc2,007\r\n'.encode())
    table = read_table(tmp_path / "t.csv")
    assert table["context_id"].tolist() == ["c,1", "c2"]
    assert read_labels(table["group"])[1] == ["007", "two\nlines"]


def test_a_rollout_folder_is_read_with_its_attributes(tmp_path: Path) -> None:
    rows = pd.DataFrame({"context_id": ["c1", "c2"], "attributes": [json.dumps({"group": "a", "light": 1}), "{}"]})
    rows.to_parquet(tmp_path / "metadata.parquet")
    table = read_table(tmp_path)
    assert read_labels(table["group"])[1] == [EMPTY, "a"]
    assert read_labels(table["light"])[1] == [EMPTY, "1"]


def test_labels_are_what_people_see() -> None:
    composed, decomposed = "Zo\u00eb", "Zoe\u0308"
    codes, labels = read_labels(pd.Series([composed, decomposed, " Zo\u00eb ", "", None, "  "]))
    assert labels == [EMPTY, composed]
    assert codes.tolist() == [1, 1, 1, 0, 0, 0]
    assert read_labels(pd.Series([1.0, 2.0, math.nan]))[1] == [EMPTY, "1", "2"]
    assert read_labels(pd.Series([[1], [1], {"a": 2}], dtype=object))[1] == ["[1]", '{"a": 2}']


def test_the_order_of_rows_plays_no_part_in_the_codes_of_contexts() -> None:
    names = pd.Series(["b", "c", "a", "b"])
    codes, count = read_ids(names, "context_id")
    assert (codes.tolist(), count) == ([1, 2, 0, 1], 3)
    with pytest.raises(DataError, match="row 2 has no context_id"):
        read_ids(pd.Series(["a", ""]), "context_id")


def test_a_rollout_may_have_no_twin() -> None:
    assert read_pairs(pd.Series(["p2", "", "p1", "p2"])).tolist() == [1, -1, 0, 1]
    assert read_pairs(pd.Series(["!", "", "p"])).tolist() == [0, -1, 1]
    assert read_pairs(pd.Series(["p", "q"])).tolist() == [0, 1]


def test_outcomes_as_people_write_them() -> None:
    column = pd.Series(["1", "0", "", "TRUE", "false", " 0.5 ", "NaN", "1e-3", None])
    expected = [1, 0, math.nan, 1, 0, 0.5, math.nan, 0.001, math.nan]
    assert read_outcome(column, "x") == pytest.approx(np.array(expected), nan_ok=True)
    assert read_outcome(pd.Series([True, False]), "x").tolist() == [1.0, 0.0]


@pytest.mark.parametrize(
    ("cell", "sentence"), [("yes", "row 2 of the outcome x holds 'yes'"), ("1_0", "'1_0'"), ("inf", "is infinite")]
)
def test_what_is_no_outcome_is_named_with_its_row(cell: str, sentence: str) -> None:
    with pytest.raises(DataError, match=sentence):
        read_outcome(pd.Series(["1", cell]), "x")


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("t.csv", b"a,b\n1,2\n3\n", "Expected 2 columns, got 1"),
        ("t.csv", b"a,b\n1,2,3\n", "Expected 2 columns, got 3"),
        ("t.csv", b"a,a\n1,2\n", "the column 'a' occurs twice"),
        ("t.csv", b"a,b\n\xff,2\n", "UTF8|UTF-8|utf-8"),
        ("t.csv", b"", "can't be read as csv"),
        ("t.csv", b"a,b\n", "holds no rows"),
        ("t.jsonl", b'{"a": 1}\n{"a"\n', "line 2 is not JSON"),
        ("t.jsonl", b"[1]\n", "line 1 is not a JSON object"),
        ("t.parquet", b"PAR1", "can't be read as parquet"),
        ("t.xlsx", b"", "has the suffix '.xlsx'; allowed are .csv, .tsv, .jsonl, .parquet"),
    ],
)
def test_what_is_no_table_is_refused(name: str, content: bytes, sentence: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=sentence):
        read_table(tmp_path / name)


def test_a_missing_table_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="does not exist"):
        read_table(tmp_path / "none.csv")
