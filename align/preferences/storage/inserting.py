"""Rows into a table of the database: new ones are inserted, known ones must be what they were, corrections must fit."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from pydantic import BaseModel
from sqlalchemy import Connection, Table, select
from sqlalchemy.dialects import postgresql, sqlite

from align.preferences.votes.corrections import SUBJECT, number_rows, supersede_problems
from align.preferences.votes.tables import raise_problems

CHUNK = 500
"""Ids in one query."""
Stored = Mapping[str, Any]


def insert_new(connection: Connection, table: Table, key: str, values: Sequence[Stored]) -> int:
    """Insert rows whose key isn't taken; returns how many of them this transaction inserted, which others may have done too."""
    if not values:
        return 0
    insert: Any = postgresql.insert(table) if connection.dialect.name == "postgresql" else sqlite.insert(table)
    new = insert.on_conflict_do_nothing(index_elements=[table.c[key]]).returning(table.c[key])
    return len(connection.execute(new, list(values)).all())


def fetch_rows(connection: Connection, table: Table, key: str, ids: Sequence[Any], query: Any = None) -> dict[str, Stored]:
    """The stored rows with these ids, by id; ``query`` says what to select where that isn't the table as it is."""
    asked: Any = select(table) if query is None else query
    found: dict[str, Stored] = {}
    for start in range(0, len(ids), CHUNK):
        chosen = asked.where(table.c[key].in_(ids[start : start + CHUNK]))
        found.update({row[key]: dict(row) for row in connection.execute(chosen).mappings()})
    return found


def add_rows(
    connection: Connection,
    table: Table,
    rows: Sequence[BaseModel],
    key: str,
    parse: Callable[[Stored], BaseModel],
    places: Sequence[str] | None = None,
    query: Any = None,
) -> int:
    """Add rows to a table and check them against what is there.

    Args:
        connection: Of a transaction, which is lost if this raises.
        table: Where they go; of each row those fields are stored that are its columns.
        rows: Checked already for what they say alone and together.
        key: Name of the id.
        parse: Makes the model of a stored row.
        places: How errors call each of them; None counts them, "row 1" first.
        query: Selects what ``parse`` needs, where that isn't the table as it is.

    Returns:
        How many were new.

    Raises:
        DataError: An id is taken by another row, or a correction doesn't fit what it corrects; lists every problem.
    """
    at, ids = number_rows(rows, places), [getattr(row, key) for row in rows]
    before = fetch_rows(connection, table, key, ids)
    fresh = [_values(table, row) for row, name in zip(rows, ids, strict=True) if name not in before]
    added = insert_new(connection, table, key, fresh)
    # Read back instead of trusting `before`: under PostgreSQL another writer may have used an id in between.
    stored = {name: parse(row) for name, row in fetch_rows(connection, table, key, ids, query).items()}
    problems = [
        f"{place}: {key} {name!r} is already stored with another content; give a correction a new id and "
        "name this one in supersedes"
        for place, row, name in zip(at, rows, ids, strict=True)
        if stored[name] != row
    ]
    if key in SUBJECT and not problems:
        problems = _correction_problems(connection, table, rows, key, parse, at, query)
    raise_problems(table.name, problems)
    return added


def _values(table: Table, row: BaseModel) -> dict[str, Any]:
    values = {name: value for name, value in row.model_dump().items() if name in table.c}
    return values | {"annotator_id": values["annotator_id"] or None}


def _correction_problems(
    connection: Connection, table: Table, rows: Sequence[Any], key: str, parse: Any, at: Sequence[str], query: Any
) -> list[str]:
    wanted = [row.supersedes for row in rows if row.supersedes]
    targets = {name: parse(row) for name, row in fetch_rows(connection, table, key, wanted, query).items()}
    problems: list[str] = []
    for place, row in zip(at, rows, strict=True):
        if row.supersedes and row.supersedes not in targets:
            problems.append(f"{place}: {getattr(row, key)!r} supersedes {row.supersedes!r}, which is not stored")
        elif row.supersedes:
            problems += [f"{place}: {problem}" for problem in supersede_problems(row, targets[row.supersedes], key)]
    return problems
