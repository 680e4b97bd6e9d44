"""Flags and break-points: marks on single clips, kept apart from every preference."""

from __future__ import annotations

import json
from typing import Any

from sqlalchemy import Engine, func, select

from align.errors import Conflict, DataError
from align.preferences.campaign_schema import FlagRequest
from align.preferences.campaign_tables import BREAKPOINTS, FLAGS, SUBMISSIONS, insert_new
from align.preferences.database import writing
from align.preferences.fields import utc_now
from align.preferences.leasing import own_lease
from align.preferences.schema import Breakpoint, Flag


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


def load_flags(engine: Engine) -> list[Flag]:
    """Every flag raised and taken back, in the order in which they came in."""
    with engine.connect() as connection:
        rows = connection.execute(select(FLAGS).order_by(FLAGS.c.row_id)).mappings()
        return [Flag(**{key: row[key] for key in Flag.model_fields}) for row in rows]


def load_breakpoints(engine: Engine, effective: bool = True) -> list[Breakpoint]:
    """Break-points in the order in which they came in.

    Args:
        engine: Of the label database.
        effective: Leave out what was corrected. A corrected submission replaces all break-points of the one before, fewer or
            none included.
    """
    query = select(BREAKPOINTS).order_by(BREAKPOINTS.c.row_id)
    if effective:
        last = select(func.max(SUBMISSIONS.c.row_id)).group_by(SUBMISSIONS.c.lease_id)
        joined = BREAKPOINTS.join(SUBMISSIONS, SUBMISSIONS.c.submission_id == BREAKPOINTS.c.submission_id)
        query = query.select_from(joined).where(SUBMISSIONS.c.row_id.in_(last))
    with engine.connect() as connection:
        rows = connection.execute(query).mappings()
        return [Breakpoint(**{key: row[key] for key in Breakpoint.model_fields}) for row in rows]
