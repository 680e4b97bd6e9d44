"""Anybody's table of scored rollouts: CSV, TSV, JSONL or parquet, one row a rollout."""

from __future__ import annotations

import csv
import json
import unicodedata
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from align.audit.statistics import Float64
from align.errors import DataError

EMPTY = "(empty)"
"""The group of rollouts whose attribute is empty."""
_UNSCOREABLE = {"", "nan", "none", "null"}
_TRUTH = {"true": "1", "false": "0"}
ATTRIBUTES = "attributes"


def read_table(path: str | Path) -> pd.DataFrame:
    """Reads a table as it is; columns are not interpreted yet.

    Args:
        path: A .csv, .tsv, .jsonl or .parquet file, or a rollout folder with its ``metadata.parquet``. Keys of a column
            ``attributes`` that holds JSON objects become columns of their own, where there is none of that name.

    Raises:
        DataError: It is missing, has another suffix, can't be parsed, or holds no rows.
    """
    file = Path(path) / "metadata.parquet" if Path(path).is_dir() else Path(path)
    readers: dict[str, Callable[[Path], pd.DataFrame]] = {
        ".csv": lambda file: _read_csv(file, ","),
        ".tsv": lambda file: _read_csv(file, "\t"),
        ".jsonl": _read_jsonl,
        ".parquet": _read_parquet,
    }
    if file.suffix.lower() not in readers:
        raise DataError(f"{file} has the suffix {file.suffix!r}; allowed are {', '.join(readers)}")
    try:
        table = readers[file.suffix.lower()](file)
    except FileNotFoundError:
        raise DataError(f"{file} does not exist; give the path of a table, one row a rollout") from None
    except (OSError, ValueError, csv.Error) as error:
        raise DataError(f"{file} can't be read as {file.suffix[1:]}: {error}") from error
    if not len(table):
        raise DataError(f"{file} holds no rows; a table needs one row a rollout")
    return _with_attributes(table)


def _read_csv(path: Path, delimiter: str) -> pd.DataFrame:
    from pyarrow import csv as arrow_csv
    from pyarrow import string

    with path.open(encoding="utf-8-sig", newline="") as file:
        header = next(csv.reader(file, delimiter=delimiter), [])
    twice = sorted({name for name in header if header.count(name) > 1})
    if twice:
        raise ValueError(f"the column {twice[0]!r} occurs twice in its header")
    # Everything as text: a group may be called NA, 007 or 2020-01-01.
    as_text = arrow_csv.ConvertOptions(column_types=dict.fromkeys(header, string()), strings_can_be_null=False)
    how = arrow_csv.ParseOptions(delimiter=delimiter, newlines_in_values=True)
    return arrow_csv.read_csv(path, parse_options=how, convert_options=as_text).to_pandas()


def _read_jsonl(path: Path) -> pd.DataFrame:
    rows = []
    with path.open(encoding="utf-8-sig", newline="\n") as file:
        for number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except json.JSONDecodeError as error:
                raise ValueError(f"line {number} is not JSON: {error.msg}") from error
            if not isinstance(row, dict):
                raise ValueError(f"line {number} is not a JSON object")
            rows.append(row)
    return pd.DataFrame(rows, dtype=object)


def _read_parquet(path: Path) -> pd.DataFrame:
    import pyarrow as pa

    try:
        return pd.read_parquet(path)
    except pa.ArrowException as error:
        raise ValueError(str(error)) from error


def _with_attributes(table: pd.DataFrame) -> pd.DataFrame:
    if ATTRIBUTES not in table:
        return table
    rows = []
    for cell in table[ATTRIBUTES]:
        try:
            found = json.loads(cell) if isinstance(cell, str) and cell else cell
        except json.JSONDecodeError:
            return table  # a column of that name that is something else
        rows.append(found if isinstance(found, dict) else {})
    wide = pd.DataFrame(rows, index=table.index, dtype=object)
    return table.join(wide[[name for name in wide if name not in table]])


def read_labels(column: pd.Series[Any]) -> tuple[np.ndarray, list[str]]:
    """Group names of a column: trimmed, in one Unicode form, and as people write them (1, not 1.0).

    Returns:
        Codes int [n] and the sorted names; empty cells are the group `EMPTY`.
    """
    codes, found = _factorize(column)
    names = [*map(_label, found), EMPTY]
    used = {names[code] for code in np.unique(codes)}
    labels = sorted(used)
    place = {name: code for code, name in enumerate(labels)}
    return np.array([place.get(name, -1) for name in names])[codes], labels


def read_ids(column: pd.Series[Any], part: str) -> tuple[np.ndarray, int]:
    """Codes int [n] of clusters, and how many there are. Their order is that of their names, not that of the rows.

    Raises:
        DataError: A cell is empty.
    """
    codes, names = read_labels(column)
    if EMPTY in names:
        row = int(np.flatnonzero(codes == names.index(EMPTY))[0]) + 1
        raise DataError(
            f"row {row} has no {part}; every rollout needs one, because rollouts of one context resemble each other"
        )
    return codes, len(names)


def read_pairs(column: pd.Series[Any]) -> np.ndarray:
    """Codes int [n] of twins; -1 for a rollout that has none."""
    codes, names = read_labels(column)
    if EMPTY not in names:
        return codes
    nobody = names.index(EMPTY)
    return np.where(codes == nobody, -1, np.where(codes > nobody, codes - 1, codes))


def _factorize(column: pd.Series[Any]) -> tuple[np.ndarray, list[Any]]:
    """Codes of the distinct cells, and these; empty cells have the code -1."""
    try:
        codes, found = pd.factorize(column, use_na_sentinel=True)
    except TypeError:  # cells that are lists or objects
        text = [None if cell is None else json.dumps(cell, sort_keys=True, ensure_ascii=False) for cell in column]
        codes, found = pd.factorize(pd.Series(text, dtype=object), use_na_sentinel=True)
    return np.asarray(codes), list(found)


def _label(value: Any) -> str:
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return unicodedata.normalize("NFC", str(value)).strip() or EMPTY


def read_outcome(column: pd.Series[Any], name: str) -> Float64:
    """An outcome as float64 [n], NaN where it could not be scored (an empty cell).

    Raises:
        DataError: A cell is no number; names the row.
    """
    if column.dtype.kind in "biuf":
        values = column.to_numpy(dtype=np.float64)
    else:
        codes, found = _factorize(column)
        numbers = [*map(_number, found), np.nan]
        bad = next((code for code, number in enumerate(numbers) if number is None), None)
        if bad is not None:
            row = int(np.flatnonzero(codes == bad)[0]) + 1
            raise DataError(
                f"row {row} of the outcome {name} holds {found[bad]!r}; write 0, 1 or a number, and nothing where it could "
                "not be scored"
            )
        values = np.array(numbers, dtype=np.float64)[codes]
    if np.isinf(values).any():
        row = int(np.flatnonzero(np.isinf(values))[0]) + 1
        raise DataError(f"row {row} of the outcome {name} is infinite; leave it empty if it could not be scored")
    return values


def _number(value: Any) -> float | None:
    text = str(value).strip().lower()
    if text in _UNSCOREABLE:
        return float("nan")
    try:
        return None if "_" in text else float(_TRUTH.get(text, text))  # Python would read 1_0 as ten
    except ValueError:
        return None


def check_columns(table: pd.DataFrame, wanted: Sequence[tuple[str, str]]) -> None:
    """Raises DataError unless every (part, column) is there; names all that are missing and what there is."""
    missing = [f"{part} {name!r}" for part, name in wanted if name not in table]
    if missing:
        raise DataError(f"the table has no {', '.join(missing)}; its columns are {', '.join(map(str, table.columns))}")
