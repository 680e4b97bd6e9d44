"""What an admin wants to see of a running campaign, counted by the database; agreement and rankings are reported elsewhere."""

from __future__ import annotations

from dataclasses import dataclass, fields
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, Connection, Engine, Select, Table, and_, case, func, or_, select, true

from align.preferences.campaign.marks import load_flags
from align.preferences.campaign.settings import load_settings
from align.preferences.campaign.tasks import SPECIAL
from align.preferences.storage.campaign_tables import (
    ACCOUNTS,
    BREAKPOINTS,
    FLAGS,
    GUIDELINES,
    LEASES,
    SESSIONS,
    TASKS,
    moment_text,
)
from align.preferences.storage.store import ANNOTATORS, JUDGEMENTS, VOTES
from align.preferences.votes.schema import Flag

HOUR, DAY = len("2026-01-31T09"), len("2026-01-31")
"""How much of a stored time tells the hour, and the day."""


@dataclass(frozen=True)
class Person:
    """One annotator.

    Attributes:
        role: None without an account, as with votes that were imported.
        num_answers: Votes and judgements, corrections not counted again.
        num_done, num_today, num_held: Tasks done at all, done since midnight UTC, and held now.
        last_seen: When they last signed in, took or answered a task; empty where that never was.
    """

    annotator_id: str
    role: str | None
    disabled: bool
    simulated: bool
    num_answers: int
    num_done: int
    num_today: int
    num_held: int
    last_seen: str


@dataclass(frozen=True)
class Queue:
    """Where the tasks of the campaign stand; catch trials and gold tasks are ``checks``, which never come to an end.
    Retired tasks are left out.

    Attributes:
        total: All tasks but the checks.
        done: Answered by as many people as the overlap asks for.
        leased: Not done, and somebody holds it now.
        paused: Neither, and nobody is asked, because every axis of it is paused.
        open: The rest.
    """

    total: int
    done: int
    leased: int
    paused: int
    open: int
    checks: int


@dataclass(frozen=True)
class Rows:
    """How much there is to compute figures from; unequal after whatever changed the tables."""

    votes: int
    judgements: int
    breakpoints: int
    flags: int
    newest: tuple[str, ...]


@dataclass(frozen=True)
class GuidelineVersion:
    """When a version was published, and by whom (empty after a withdrawal)."""

    version: str
    created_at: str
    created_by: str


def count_rows(engine: Engine) -> Rows:
    """Size of every table of answers, and the id of its newest row."""
    keys = (VOTES.c.vote_id, JUDGEMENTS.c.judgement_id, BREAKPOINTS.c.breakpoint_id, FLAGS.c.flag_id)
    with engine.connect() as connection:
        counts = [connection.execute(select(func.count()).select_from(key.table)).scalar_one() for key in keys]
        # Not the number of the row: SQLite gives that of a deleted one to another.
        newest = [connection.execute(select(key).order_by(key.table.c.row_id.desc()).limit(1)).scalar() for key in keys]
    votes, judgements, breakpoints, flags = counts
    return Rows(votes, judgements, breakpoints, flags, tuple(name or "" for name in newest))


def list_people(engine: Engine, now: datetime | None = None) -> list[Person]:
    """Everybody with an account or an answer: accounts first, oldest first, then the others by name."""
    with engine.connect() as connection:
        query = select(ANNOTATORS.c.annotator_id, ANNOTATORS.c.simulated, ACCOUNTS.c.role, ACCOUNTS.c.disabled)
        joined = ANNOTATORS.outerjoin(ACCOUNTS, ACCOUNTS.c.annotator_id == ANNOTATORS.c.annotator_id)
        order = (ACCOUNTS.c.created_at.is_(None), ACCOUNTS.c.created_at, ANNOTATORS.c.annotator_id)
        people = connection.execute(query.select_from(joined).order_by(*order)).all()
        answers = [_by_annotator(connection, _answers(table)) for table in (VOTES, JUDGEMENTS)]
        work = _by_annotator(connection, _work(now))
        sessions = _by_annotator(connection, select(SESSIONS.c.annotator_id, func.max(SESSIONS.c.created_at).label("seen")))
    listed = []
    for name, simulated, role, disabled in people:
        mine = [found[name] for found in (*answers, work, sessions) if name in found]
        done = work.get(name, {})
        counts = {key: done.get(key) or 0 for key in ("num_done", "num_today", "num_held")}
        num_answers = sum(found[name]["num_answers"] for found in answers if name in found)
        seen = max((row[key] or "" for row in mine for key in ("seen", "issued", "done") if key in row), default="")
        listed.append(Person(name, role, bool(disabled), simulated, num_answers, **counts, last_seen=seen))
    return listed


def _by_annotator(connection: Connection, query: Select[Any]) -> dict[str, dict[str, Any]]:
    rows = connection.execute(query.group_by(query.selected_columns.annotator_id)).mappings()
    return {row["annotator_id"]: dict(row) for row in rows}


def _answers(table: Table) -> Select[Any]:
    own = func.count(case((table.c.supersedes.is_(None), 1)))
    return select(table.c.annotator_id, own.label("num_answers"), func.max(table.c.created_at).label("seen"))


def _work(now: datetime | None) -> Select[Any]:
    moment = datetime.now(UTC) if now is None else now
    midnight = moment_text(moment.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0))
    done = LEASES.c.state == "done"
    return select(
        LEASES.c.annotator_id,
        func.count(case((done, 1))).label("num_done"),
        func.count(case((and_(done, LEASES.c.done_at >= midnight), 1))).label("num_today"),
        func.count(case((_is_held(moment), 1))).label("num_held"),
        func.max(LEASES.c.issued_at).label("issued"),
        func.max(LEASES.c.done_at).label("done"),
    )


def _is_held(moment: datetime) -> ColumnElement[bool]:
    return and_(LEASES.c.state == "open", LEASES.c.expires_at > moment_text(moment))


def count_queue(engine: Engine, now: datetime | None = None) -> Queue:
    """How many tasks are done, held and left."""
    moment = datetime.now(UTC) if now is None else now
    check = TASKS.c.selection.in_(SPECIAL)
    with engine.connect() as connection:
        overlap = load_settings(connection).overlap
        answered = and_(LEASES.c.state == "done", LEASES.c.skipped != true())
        per_task = (
            select(
                LEASES.c.task_id,
                func.count(case((answered, 1))).label("done"),
                func.count(case((_is_held(moment), 1))).label("held"),
            )
            .where(or_(answered, _is_held(moment)))
            .group_by(LEASES.c.task_id)
            .subquery()
        )
        state = case(
            (check, "checks"),
            (func.coalesce(per_task.c.done, 0) >= overlap, "done"),
            (per_task.c.held > 0, "leased"),
            (TASKS.c.queue == "paused", "paused"),
            else_="open",
        ).label("state")
        joined = TASKS.outerjoin(per_task, per_task.c.task_id == TASKS.c.task_id)
        states = select(state).select_from(joined).where(TASKS.c.retired != true()).subquery()
        rows = connection.execute(select(states.c.state, func.count()).group_by(states.c.state))
        counts: dict[str, int] = {row[0]: row[1] for row in rows}
    found = {field.name: counts.get(field.name, 0) for field in fields(Queue)}
    return Queue(**found | {"total": sum(number for name, number in counts.items() if name != "checks")})


def count_answers(engine: Engine, digits: int, since: datetime) -> dict[str, int]:
    """Votes and judgements an hour or a day.

    Args:
        engine: Of the label database.
        digits: ``HOUR`` or ``DAY``.
        since: Counts from the hour or day in which this moment lies.

    Returns:
        Every hour or day (UTC, as ``2026-01-31T09`` or ``2026-01-31``) from then on until now to its number, zeros included.
    """
    start = moment_text(since)[:digits]
    counts: dict[str, int] = {}
    with engine.connect() as connection:
        for table in (VOTES, JUDGEMENTS):
            key = func.substr(table.c.created_at, 1, digits)
            query = select(key, func.count()).where(table.c.created_at >= start).group_by(key)
            for name, number in connection.execute(query):
                counts[name] = counts.get(name, 0) + number
    step = timedelta(hours=1) if digits == HOUR else timedelta(days=1)
    first, now = since.astimezone(UTC).replace(minute=0, second=0, microsecond=0), datetime.now(UTC)
    first = first if digits == HOUR else first.replace(hour=0)
    names = [moment_text(first + number * step)[:digits] for number in range(int((now - first) / step) + 1)]
    return {name: counts.get(name, 0) for name in names}


def count_axes(engine: Engine) -> dict[str, int]:
    """Votes and judgements an axis, corrections not counted again."""
    counts: dict[str, int] = {}
    with engine.connect() as connection:
        for table in (VOTES, JUDGEMENTS):
            query = select(table.c.axis, func.count()).where(table.c.supersedes.is_(None)).group_by(table.c.axis)
            for axis, number in connection.execute(query):
                counts[axis] = counts.get(axis, 0) + number
    return counts


def standing_flags(engine: Engine) -> list[Flag]:
    """Flags that were raised and not taken back by who raised them, newest first."""
    last = {(flag.rollout_id, flag.annotator_id, flag.kind): flag for flag in load_flags(engine)}
    return sorted((flag for flag in last.values() if flag.raised), key=lambda flag: flag.created_at or "", reverse=True)


def list_guidelines(engine: Engine) -> list[GuidelineVersion]:
    """Every version of the guideline, newest first."""
    query = select(*(GUIDELINES.c[field.name] for field in fields(GuidelineVersion))).order_by(GUIDELINES.c.row_id.desc())
    with engine.connect() as connection:
        return [GuidelineVersion(**row) for row in connection.execute(query).mappings()]
