"""Rows in files people exchange: CSV, JSON lines or parquet, by suffix; TSV and JSON are read as well.

Every reader reports all bad rows at once. Row 1 is the first row below a CSV's header, the first line of a JSONL file.

A spreadsheet takes a CSV's cell that begins with ``=``, ``+``, ``-`` or ``@`` for a formula and runs it, and annotators may
write what they like into a comment. Such texts are written with an apostrophe before them, which the reader takes away again
(https://owasp.org/www-community/attacks/CSV_Injection).
"""

from __future__ import annotations

import csv
import json
import math
import re
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ValidationError

from align.errors import DataError
from align.io import atomic_path

Row = TypeVar("Row", bound=BaseModel)
MAX_LISTED = 200
"""Problems written out in one message; the rest are counted."""
MAX_CELL = 2**31 - 1
"""Characters of a CSV's cell; Python's own limit of 131,072 is less than what the other formats hold."""
# Full-width signs count as well: spreadsheets in East Asian locales treat them alike.
_FORMULA = re.compile(r"'*[=+\-@\t\r\n＝＋－＠]")


def is_missing(value: Any) -> bool:
    """Whether a cell is empty: None, an empty string or a float NaN."""
    return value is None or value == "" or (isinstance(value, float) and math.isnan(value))


def raise_problems(name: str, problems: Sequence[str]) -> None:
    """Raise one DataError that lists the problems; does nothing where there are none."""
    if not problems:
        return
    listed = "; ".join(problems[:MAX_LISTED])
    more = f"; and {len(problems) - MAX_LISTED} more" if len(problems) > MAX_LISTED else ""
    raise DataError(f"{name} can't be taken, mend {len(problems)} problem(s) first: {listed}{more}")


def parse_rows(rows: Iterable[Mapping[str, Any]], model: type[Row], name: str) -> list[Row]:
    """Turn raw rows into models.

    Args:
        rows: One mapping a row; empty cells take the model's default.
        model: The pydantic model of a row.
        name: How messages call the table, for example the file's name.

    Raises:
        DataError: Columns are missing or unknown, or any row is invalid; every problem is listed with its row number.
    """
    raw = [dict(row) for row in rows]
    raise_problems(name, _column_problems(raw, model))
    parsed: list[Row] = []
    problems: list[str] = []
    for number, row in enumerate(raw, start=1):
        try:
            parsed.append(model.model_validate({key: value for key, value in row.items() if not is_missing(value)}))
        except ValidationError as error:
            problems += [f"row {number}: {describe(detail)}" for detail in error.errors()]
    raise_problems(name, problems)
    return parsed


def _column_problems(raw: Sequence[Mapping[str, Any]], model: type[BaseModel]) -> list[str]:
    seen = {key for row in raw for key in row}
    unknown = sorted(str(key) for key in seen - set(model.model_fields))
    required = [key for key, field in model.model_fields.items() if field.is_required()]
    missing = [key for key in required if raw and key not in seen]
    problems = [f"unknown column {key!r} (known: {', '.join(model.model_fields)})" for key in unknown]
    return problems + [f"the column {key!r} is missing" for key in missing]


def describe(detail: Any) -> str:
    """One sentence about one of the details of a pydantic ``ValidationError``."""
    column = ".".join(str(part) for part in detail["loc"]) or "row"
    if detail["type"] == "missing":
        return f"{column} is empty"
    if detail["type"] == "string_pattern_mismatch":
        return f"{column} is {detail['input']!r}: an id must not hold line breaks or other control characters"
    return f"{column} is {detail['input']!r}: {detail['msg']}"


def read_rows(path: str | Path) -> list[dict[str, Any]]:
    """Read the raw rows of a CSV, TSV, JSONL, JSON (a list of objects) or parquet file.

    Raises:
        DataError: The file is missing, has another suffix, or can't be parsed.
    """
    path = Path(path)
    readers = {".csv": _read_csv, ".tsv": _read_tsv, ".jsonl": _read_jsonl, ".json": _read_json, ".parquet": _read_parquet}
    read = _pick(path, readers)
    try:
        rows: list[dict[str, Any]] = read(path)
    except FileNotFoundError:
        raise DataError(f"{path} does not exist; give the path of a CSV, JSONL or parquet file") from None
    except (OSError, ValueError, csv.Error) as error:
        raise DataError(f"{path} can't be read as {path.suffix[1:]}: {error}") from error
    return rows


def write_rows(path: str | Path, rows: Sequence[BaseModel], model: type[BaseModel]) -> None:
    """Write rows by suffix (CSV, JSONL or parquet); the file appears whole or not at all.

    Raises:
        DataError: The suffix is unknown.
        RunError: The file can't be written.
    """
    path = Path(path)
    write = _pick(path, {".csv": _write_csv, ".jsonl": _write_jsonl, ".parquet": _write_parquet})
    with atomic_path(path) as temporary:
        write(temporary, [row.model_dump() for row in rows], model)


def _pick(path: Path, by_suffix: Mapping[str, Callable[..., Any]]) -> Callable[..., Any]:
    if path.suffix.lower() not in by_suffix:
        raise DataError(f"{path} has the suffix {path.suffix!r}; allowed are {', '.join(by_suffix)}")
    return by_suffix[path.suffix.lower()]


def neutralise(cell: Any) -> Any:
    """A CSV's cell that no spreadsheet takes for a formula; numbers stay numbers."""
    return f"'{cell}" if isinstance(cell, str) and _FORMULA.match(cell) else cell


def restore(cell: str) -> str:
    """What ``neutralise`` was given."""
    return cell[1:] if cell.startswith("'") and _FORMULA.match(cell) else cell


def _read_tsv(path: Path) -> list[dict[str, Any]]:
    return _read_csv(path, delimiter="\t")


def _read_csv(path: Path, delimiter: str = ",") -> list[dict[str, Any]]:
    csv.field_size_limit(MAX_CELL)
    # utf-8-sig: spreadsheets write a byte order mark, which would otherwise become part of the first column's name.
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.reader(file, delimiter=delimiter, strict=True)
        header = next(reader, [])
        rows = [cells for cells in reader if cells]
    if len(set(header)) != len(header):
        raise ValueError("a column name occurs twice in its header")
    bad = [str(number) for number, cells in enumerate(rows, start=1) if len(cells) != len(header)]
    if bad:
        raise ValueError(f"row(s) {', '.join(bad)} do not have as many cells as the header, which has {len(header)}")
    return [dict(zip(header, map(restore, cells), strict=True)) for cells in rows]


def _read_jsonl(path: Path) -> list[dict[str, Any]]:
    rows, bad = [], []
    with path.open(encoding="utf-8", newline="\n") as file:
        for number, line in enumerate(file, start=1):
            try:
                row = json.loads(line) if line.strip() else {}
            except json.JSONDecodeError:
                row = None
            if not isinstance(row, dict):
                bad.append(str(number))
            elif row:
                rows.append(row)
    if bad:
        raise ValueError(f"row(s) {', '.join(bad)} are not JSON objects")
    return rows


def _read_json(path: Path) -> list[dict[str, Any]]:
    rows = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise ValueError("it must hold one list of objects, one object a row")
    return rows


def _read_parquet(path: Path) -> list[dict[str, Any]]:
    import pyarrow.parquet as pq

    rows: list[dict[str, Any]] = pq.read_table(path).to_pylist()
    return rows


def _write_csv(path: Path, rows: Sequence[Mapping[str, Any]], model: type[BaseModel]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(model.model_fields), quoting=csv.QUOTE_MINIMAL)
        writer.writeheader()
        writer.writerows({key: neutralise(cell) for key, cell in row.items()} for row in rows)


def _write_jsonl(path: Path, rows: Sequence[Mapping[str, Any]], model: type[BaseModel]) -> None:
    with path.open("w", encoding="utf-8", newline="\n") as file:
        file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def _write_parquet(path: Path, rows: Sequence[Mapping[str, Any]], model: type[BaseModel]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    def arrow_type(annotation: Any) -> Any:
        leaves = _leaf_types(annotation)
        kinds = {bool: pa.bool_(), float: pa.float64(), int: pa.int64()}
        return next((arrow for kind, arrow in kinds.items() if kind in leaves), pa.string())

    schema = pa.schema([(key, arrow_type(field.annotation)) for key, field in model.model_fields.items()])
    pq.write_table(pa.Table.from_pylist(list(rows), schema=schema), path)


def _leaf_types(annotation: Any) -> set[Any]:
    parts = get_args(annotation)
    return {annotation}.union(*(_leaf_types(part) for part in parts)) if isinstance(annotation, Hashable) else set()
