"""Every kind of label with its model, and how it goes from a file into the database and back."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from align.preferences.campaign import marks
from align.preferences.storage.store import LabelStore
from align.preferences.votes.schema import (
    Breakpoint,
    Flag,
    Judgement,
    Vote,
    check_judgements,
    check_votes,
    effective_breakpoints,
    effective_votes,
)
from align.preferences.votes.tables import parse_rows, read_rows

Rows = Sequence[Any]


@dataclass(frozen=True)
class Kind:
    """One kind of label.

    Attributes:
        model: Of a row.
        check: Raises DataError for what no single row can show; takes the rows, and how messages call the table and each row.
        add: Stores rows, all or none; takes the rows and how messages call each of them, returns how many were new.
        load: All stored rows, in the order in which they came in.
        effective: Leaves out what doesn't count, such as corrected rows; None where everything does.
    """

    model: type[BaseModel]
    check: Callable[[Rows, str, Sequence[str] | None], None]
    add: Callable[[LabelStore, Rows, Sequence[str] | None], int]
    load: Callable[[LabelStore], list[Any]]
    effective: Callable[[Rows], list[Any]] | None = None


KINDS = {
    "votes": Kind(Vote, check_votes, LabelStore.add_votes, LabelStore.votes, effective_votes),
    "judgements": Kind(Judgement, check_judgements, LabelStore.add_judgements, LabelStore.judgements),
    "flags": Kind(
        Flag,
        marks.check_marks,
        lambda store, rows, places: marks.add_flags(store.engine, rows, places),
        lambda store: marks.load_flags(store.engine),
    ),
    "breakpoints": Kind(
        Breakpoint,
        marks.check_marks,
        lambda store, rows, places: marks.add_breakpoints(store.engine, rows, places),
        lambda store: marks.load_breakpoints(store.engine, effective=False),
        effective_breakpoints,
    ),
}


def read_labels(path: str | Path, kind: str) -> list[Any]:
    """Read the project's own table of a kind from a CSV, TSV, JSONL, JSON or parquet file.

    Raises:
        DataError: The file can't be read, or rows are invalid; every bad row is listed.
    """
    rows = parse_rows(read_rows(path), KINDS[kind].model, str(path))
    KINDS[kind].check(rows, str(path), None)
    return rows
