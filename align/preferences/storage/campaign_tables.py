"""The tables of a campaign, as its queries see them. Keys and constraints stand in ``migrations/versions``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, TypeVar

from sqlalchemy import Boolean, Column, Connection, Float, Integer, MetaData, Table, Text, text

CHUNK = 500
QUEUE_LOCK = 0x67707474
_T = TypeVar("_T")
_meta = MetaData()
_BOOLEANS = {"disabled", "is_full", "none", "raised", "retired", "skipped", "taken_back"}
_FLOATS = {"priority", "sort_key", "time_s"}
_INTEGERS = {"row_id", "num_clips", "frame_idx", "severity"}


def _type(column: str) -> Any:
    if column in _BOOLEANS:
        return Boolean
    if column in _FLOATS:
        return Float(53)
    return Integer if column in _INTEGERS else Text


def _table(name: str, columns: str) -> Table:
    return Table(name, _meta, *(Column(column, _type(column), primary_key=column == "row_id") for column in columns.split()))


ACCOUNTS = _table("accounts", "annotator_id role password_hash disabled created_at")
INVITATIONS = _table("invitations", "token_hash role annotator_id created_by created_at expires_at used_at")
SESSIONS = _table("sessions", "token_hash annotator_id created_at expires_at")
FAILURES = _table("sign_in_failures", "row_id name address at")
SETTINGS = _table("settings", "key value updated_at")
GUIDELINES = _table("guidelines", "row_id version body created_at created_by")
TASKS = _table(
    "tasks",
    "row_id task_id context_id rollouts axes selection priority gold created_at pairs num_clips sort_key queue is_full drawn "
    "retired",
)
LEASES = _table("leases", "lease_id task_id annotator_id shown issued_at expires_at state done_at skipped settle_at")
SUBMISSIONS = _table("submissions", "row_id submission_id lease_id annotator_id digest created_at")
FLAGS = _table("flags", "row_id flag_id rollout_id annotator_id kind raised created_at comment")
BREAKPOINTS = _table(
    "breakpoints",
    "row_id breakpoint_id submission_id rollout_id annotator_id time_s frame_idx category severity none supersedes created_at "
    "guideline_version taken_back",
)
ALL = (
    *(ACCOUNTS, INVITATIONS, SESSIONS, FAILURES, SETTINGS, GUIDELINES),
    *(TASKS, LEASES, SUBMISSIONS, FLAGS, BREAKPOINTS),
)


def lock_queue(connection: Connection) -> None:
    """Wait until nobody else gives out work, and keep others from it until the transaction ends.

    Nothing to do under SQLite, where the transaction of every writer is exclusive. A transaction that takes both this lock
    and the one of ``database.writing(bulk=True)`` takes that one first.
    """
    if connection.dialect.name == "postgresql":
        connection.execute(text(f"SELECT pg_advisory_xact_lock({QUEUE_LOCK})"))


def rows_of(connection: Connection, query: Any, values: Mapping[str, Any] | None = None) -> list[dict[str, Any]]:
    """All rows of a query, by column name."""
    return [dict(row) for row in connection.execute(query, values or {}).mappings()]


def row_of(connection: Connection, query: Any, values: Mapping[str, Any] | None = None) -> dict[str, Any] | None:
    """The one row of a query, by column name, or None."""
    rows = rows_of(connection, query, values)
    if len(rows) > 1:
        raise LookupError(f"one row was expected, {len(rows)} came")
    return rows[0] if rows else None


def chunks(values: Sequence[_T]) -> Iterator[Sequence[_T]]:
    """Parts that fit into one query."""
    return (values[start : start + CHUNK] for start in range(0, len(values), CHUNK))


def moment_text(moment: datetime | None) -> str:
    """A time (None is now) as it is stored: UTC, of fixed width, so that texts sort by time."""
    moment = datetime.now(UTC) if moment is None else moment
    if moment.tzinfo is None:
        raise ValueError(f"a time needs its offset from UTC, got {moment.isoformat()} without one")
    return moment.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
