"""Flags and break-points: marks on single clips, kept apart from every preference.

They come from the page, as part of a lease, or from a file.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Engine, Table, select

from align.errors import Conflict, DataError
from align.preferences.campaign.leasing import own_lease
from align.preferences.campaign.schema import FlagRequest
from align.preferences.storage.campaign_tables import BREAKPOINTS, FLAGS
from align.preferences.storage.database import writing
from align.preferences.storage.inserting import add_rows, insert_new
from align.preferences.storage.store import ANNOTATORS
from align.preferences.votes.corrections import number_rows, table_problems
from align.preferences.votes.fields import utc_now
from align.preferences.votes.schema import Breakpoint, Flag, effective_breakpoints
from align.preferences.votes.tables import raise_problems


def flag_clip(engine: Engine, request: FlagRequest, annotator_id: str) -> None:
    """Store a flag, or that it is taken back; durable when this returns, and the same once more does nothing.

    Raises:
        NotFound: There is no such lease.
        Forbidden: It is somebody else's.
        Conflict: The flag_id was used for something else.
        DataError: There is no clip at this position.
    """
    with writing(engine) as connection:
        lease = own_lease(connection, request.lease_id, annotator_id)
        shown = json.loads(lease["shown"])
        if request.position >= len(shown):
            raise DataError(f"there is no clip at position {request.position}; {len(shown)} clip(s) are shown")
        row: dict[str, Any] = request.model_dump(exclude={"lease_id", "position"})
        row |= {"rollout_id": json.loads(lease["rollouts"])[shown[request.position]], "annotator_id": annotator_id}
        insert_new(connection, FLAGS, "flag_id", [{**row, "created_at": utc_now()}])
        stored = connection.execute(select(FLAGS).where(FLAGS.c.flag_id == request.flag_id)).mappings().one()
        if any(stored[key] != value for key, value in row.items()):
            raise Conflict(f"the flag_id {request.flag_id!r} was used for another flag; give this one a new id")


def add_flags(engine: Engine, flags: Sequence[Flag], places: Sequence[str] | None = None) -> int:
    """Store flags of a file, all or none; they count in the order in which they come in.

    Args:
        engine: Of the label database.
        flags: What to store.
        places: How errors call each of them; None counts them, "row 1" first.

    Returns:
        How many were new.

    Raises:
        DataError: A flag has no annotator, or its id is taken by another one; lists every problem.
    """
    return _add(engine, FLAGS, flags, "flag_id", _flag_from_row, places)


def add_breakpoints(engine: Engine, breakpoints: Sequence[Breakpoint], places: Sequence[str] | None = None) -> int:
    """Store break-points of a file, all or none; the rest as with ``add_flags``, and corrections must fit."""
    return _add(engine, BREAKPOINTS, breakpoints, "breakpoint_id", _breakpoint_from_row, places)


def check_marks(rows: Sequence[Flag | Breakpoint], name: str = "marks", places: Sequence[str] | None = None) -> None:
    """Check what no single row can show: who made it, unique ids, corrections that fit.

    Raises:
        DataError: Lists every problem with its row.
    """
    at = number_rows(rows, places)
    key = "flag_id" if rows and isinstance(rows[0], Flag) else "breakpoint_id"
    unsigned = "annotator_id is empty; a mark belongs to somebody, so write a name, made up or not"
    problems = [f"{place}: {unsigned}" for place, row in zip(at, rows, strict=True) if not row.annotator_id]
    raise_problems(name, problems + table_problems(rows, key, at))


def _add(engine: Engine, table: Table, rows: Sequence[Any], key: str, parse: Any, places: Sequence[str] | None) -> int:
    check_marks(rows, table.name, places)
    names = sorted({row.annotator_id for row in rows})
    with writing(engine, bulk=len(rows) > 1) as connection:
        insert_new(connection, ANNOTATORS, "annotator_id", [{"annotator_id": name, "simulated": False} for name in names])
        return add_rows(connection, table, rows, key, parse, places)


def _flag_from_row(row: Mapping[str, Any]) -> Flag:
    return Flag(**{key: row[key] for key in Flag.model_fields})


def _breakpoint_from_row(row: Mapping[str, Any]) -> Breakpoint:
    return Breakpoint(**{key: row[key] for key in Breakpoint.model_fields})


def load_flags(engine: Engine) -> list[Flag]:
    """Every flag raised and taken back, in the order in which they came in."""
    with engine.connect() as connection:
        return [_flag_from_row(dict(row)) for row in connection.execute(select(FLAGS).order_by(FLAGS.c.row_id)).mappings()]


def load_breakpoints(engine: Engine, effective: bool = True) -> list[Breakpoint]:
    """Break-points in the order in which they came in.

    Args:
        engine: Of the label database.
        effective: Leave out what was corrected or taken back.
    """
    query = select(BREAKPOINTS).order_by(BREAKPOINTS.c.row_id)
    with engine.connect() as connection:
        rows = [_breakpoint_from_row(dict(row)) for row in connection.execute(query).mappings()]
    return effective_breakpoints(rows) if effective else rows
