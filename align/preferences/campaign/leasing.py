"""Who gets which task next, and for how long.

Giving out work is serialised (SQLite: BEGIN IMMEDIATE, PostgreSQL: an advisory lock), so nobody is given what others have
already. Everything else changes only the rows of one lease and leaves a note in ``settle_at``; whoever gives out work next
counts the tasks of such leases anew. There is one lease an annotator and task, opened again where its first term ended
without an answer, so the clips keep their sides for this annotator.
"""

from __future__ import annotations

import json
import random
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import Connection, Engine, Integer, and_, bindparam, case, false, func, null, select, true, update

from align.errors import Forbidden, NotFound
from align.preferences.campaign.schema import Lease, Settings
from align.preferences.campaign.settings import load_settings
from align.preferences.campaign.tasks import count_anew, drawn_as, task_from_row
from align.preferences.storage.campaign_tables import FLAGS, LEASES, TASKS, lock_queue, moment_text, row_of, rows_of
from align.preferences.storage.database import writing
from align.preferences.storage.inserting import insert_new
from align.preferences.storage.store import ANNOTATORS
from align.preferences.votes.fields import new_id

MAX_OPEN = 50
AT_ONCE = ""
"""A ``settle_at`` that lies before every time."""
_Rows = list[dict[str, Any]]

# Queries of the hot path are built once, which saves more time than running them takes.
_MINE = LEASES.c.annotator_id == bindparam("who")
_OWN_LEASE = (
    select(LEASES, *(TASKS.c[name] for name in ("rollouts", "axes", "pairs", "drawn")), ANNOTATORS.c.simulated)
    .join(TASKS, TASKS.c.task_id == LEASES.c.task_id)
    .join(ANNOTATORS, ANNOTATORS.c.annotator_id == LEASES.c.annotator_id)
    .where(LEASES.c.lease_id == bindparam("lease"))
    .with_for_update(of=LEASES)
)
_SETTLE = (
    update(LEASES)
    .where(LEASES.c.settle_at <= bindparam("now"))
    .values(state=case((LEASES.c.state == "open", "returned"), else_=LEASES.c.state), settle_at=null())
    .returning(LEASES.c.task_id)
)
_HELD = (
    select(TASKS, LEASES.c.lease_id, LEASES.c.shown)
    .join(LEASES, LEASES.c.task_id == TASKS.c.task_id)
    .where(_MINE, LEASES.c.state == "open")
    .order_by(LEASES.c.issued_at, LEASES.c.lease_id)
)
_PROLONG = (
    update(LEASES)
    .where(LEASES.c.lease_id.in_(bindparam("leases", expanding=True)))
    .values(state="open", expires_at=bindparam("until"), settle_at=bindparam("until"))
)
# A number, not an EXISTS: PostgreSQL would turn that into a join, and a slow one while its statistics are old.
_NUM_TAKEN = select(func.count()).where(_MINE, LEASES.c.task_id == TASKS.c.task_id, LEASES.c.state != "returned")
_WAITING = select(TASKS).where(
    TASKS.c.queue == bindparam("queue"), TASKS.c.is_full == false(), _NUM_TAKEN.scalar_subquery() < 1
)
_BY_KEY = _WAITING.order_by(TASKS.c.sort_key).limit(bindparam("most", type_=Integer))
_BY_PRIORITY = _WAITING.order_by(TASKS.c.priority.desc().nulls_last(), TASKS.c.sort_key).limit(bindparam("most", type_=Integer))
_BEFORE = select(LEASES.c.task_id, LEASES.c.lease_id, LEASES.c.shown).where(
    _MINE, LEASES.c.task_id.in_(bindparam("tasks", expanding=True))
)
_HARM = (
    select(FLAGS.c.rollout_id, FLAGS.c.annotator_id, FLAGS.c.raised)
    .where(FLAGS.c.kind == "harm", FLAGS.c.rollout_id.in_(bindparam("rollouts", expanding=True)))
    .order_by(FLAGS.c.row_id)
)
_DONE = select(
    func.count().label("num_total"), func.count(case((LEASES.c.done_at >= bindparam("today"), 1))).label("num_today")
)
_DONE = _DONE.where(_MINE, LEASES.c.state == "done")

_LANES = TASKS.c.queue.in_(bindparam("lanes", expanding=True))
_NUM_FREE = select(func.count()).select_from(TASKS).where(_LANES, TASKS.c.is_full == false())
# What an annotator has done is not left to them, though others may get it; what they hold is, though nobody else may.
_MINE_NOT_FREE = and_(LEASES.c.state == "done", TASKS.c.is_full == false())
_MINE_NOT_COUNTED = and_(LEASES.c.state == "open", TASKS.c.is_full == true())
_MY_CHANGE = (
    select(func.coalesce(func.sum(case((_MINE_NOT_FREE, -1), (_MINE_NOT_COUNTED, 1), else_=0)), 0))
    .select_from(LEASES.join(TASKS, LEASES.c.task_id == TASKS.c.task_id))
    .where(_MINE, _LANES)
)


def lease_tasks(engine: Engine, rng: random.Random, annotator_id: str, count: int, now: datetime | None = None) -> list[Lease]:
    """Give an annotator up to ``count`` open leases in all: those still open first, renewed, then new ones."""
    if not 1 <= count <= MAX_OPEN:
        raise ValueError(f"count must be from 1 to {MAX_OPEN}, got {count}")
    moment = datetime.now(UTC) if now is None else now
    with writing(engine) as connection:
        lock_queue(connection)
        settings = load_settings(connection)
        term = (moment_text(moment), moment_text(moment + timedelta(seconds=settings.lease_s)))
        touched = list(connection.execute(_SETTLE, {"now": term[0]}).scalars())
        count_anew(connection, touched, settings.overlap)
        held = rows_of(connection, _HELD, {"who": annotator_id})
        rows = [row for row in held if settings.asked(tuple(json.loads(row["axes"])))][:count]
        fresh = _draw(connection, rng, annotator_id, settings, count - len(rows)) if len(rows) < count else []
        reopened = _lend(connection, rng, annotator_id, fresh, term)
        again = reopened + [row["lease_id"] for row in rows]
        if again:
            connection.execute(_PROLONG, {"leases": again, "until": term[1]})
        count_anew(connection, [row["task_id"] for row in fresh], settings.overlap)
        rows += fresh
        flagged = harmful_rollouts(connection, [name for row in rows for name in json.loads(row["rollouts"])])
    return [_lease(row, settings, term[1], flagged) for row in rows]


def give_back(engine: Engine, lease_id: str, annotator_id: str) -> None:
    """Hand a lease back, so that others may get its task at once; does nothing where it isn't open.

    Raises:
        NotFound: There is no such lease.
        Forbidden: It is somebody else's.
    """
    with writing(engine) as connection:
        lease = own_lease(connection, lease_id, annotator_id)
        if lease["state"] == "open":
            values = {"state": "returned", "settle_at": AT_ONCE}
            connection.execute(update(LEASES).where(LEASES.c.lease_id == lease_id).values(**values))


def own_lease(connection: Connection, lease_id: str, annotator_id: str) -> dict[str, Any]:
    """The row of a lease with its task's, locked until the transaction ends.

    Raises:
        NotFound: There is no such lease.
        Forbidden: It is somebody else's.
    """
    row = row_of(connection, _OWN_LEASE, {"lease": lease_id})
    if row is None:
        raise NotFound(f"there is no lease {lease_id!r}; ask for new work")
    if row["annotator_id"] != annotator_id:
        raise Forbidden("this work was lent to somebody else")
    return row


def harmful_rollouts(connection: Connection, rollout_ids: Sequence[str]) -> set[str]:
    """Those of the rollouts on which somebody's harm flag stands."""
    last = {(rollout, who): raised for rollout, who, raised in connection.execute(_HARM, {"rollouts": rollout_ids})}
    return {rollout for (rollout, _), raised in last.items() if raised}


def progress(connection: Connection, annotator_id: str) -> dict[str, int]:
    """``num_today`` (since midnight UTC) and ``num_total`` tasks done by an annotator, and ``num_open_tasks`` left to do."""
    mode = load_settings(connection).mode
    values = {"who": annotator_id, "lanes": [f"{mode}-random", f"{mode}-active"]}
    left = connection.execute(_NUM_FREE, values).scalar_one() + connection.execute(_MY_CHANGE, values).scalar_one()
    return {**count_done(connection, annotator_id), "num_open_tasks": left}


def count_done(connection: Connection, annotator_id: str) -> dict[str, int]:
    """``num_today`` (since midnight UTC) and ``num_total`` tasks done by an annotator."""
    today = moment_text(datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0))
    return rows_of(connection, _DONE, {"who": annotator_id, "today": today})[0]


def _draw(connection: Connection, rng: random.Random, annotator_id: str, settings: Settings, count: int) -> _Rows:
    """Up to ``count`` tasks for an annotator: checks by their share, the others random or by priority as the policy says."""
    lanes = ["random"] if settings.policy == "random" else ["random", "active"]
    waiting = {lane: _waiting(connection, settings.mode, lane, annotator_id, count) for lane in lanes}
    waiting.setdefault("active", [])
    random_share = {"random": 1.0, "active": 0.0, "hybrid": settings.random_share}[settings.policy]
    drawn: _Rows = []
    # Checks are mixed into work: where none is left, none come.
    while len(drawn) < count and (waiting["random"] or waiting["active"]):
        check = _check_kind(rng, settings)
        if check and check not in waiting:
            waiting[check] = _waiting(connection, settings.mode, check, annotator_id, count)
        first, second = ("random", "active") if rng.random() < random_share else ("active", "random")
        source = next(lane for lane in (check, first, second) if waiting.get(lane))
        drawn.append(waiting[source].pop(0))
    return drawn


def _check_kind(rng: random.Random, settings: Settings) -> str:
    coin = rng.random()
    if coin < settings.gold_share:
        return "gold"
    return "catch" if coin < settings.gold_share + settings.catch_share else ""


def _waiting(connection: Connection, mode: str, lane: str, annotator_id: str, count: int) -> _Rows:
    values = {"queue": f"{mode}-{lane}", "who": annotator_id, "most": count}
    return rows_of(connection, _BY_PRIORITY if lane == "active" else _BY_KEY, values)


def _lend(connection: Connection, rng: random.Random, annotator_id: str, rows: _Rows, term: tuple[str, str]) -> list[str]:
    """Give each task its lease: the one that this annotator had of it before, with the sides it had, or a new one.

    Returns:
        The leases that must be opened again.
    """
    if not rows:
        return []
    insert_new(connection, ANNOTATORS, "annotator_id", [{"annotator_id": annotator_id, "simulated": False}])
    names = [row["task_id"] for row in rows]
    before = {row.pop("task_id"): row for row in rows_of(connection, _BEFORE, {"who": annotator_id, "tasks": names})}
    new = []
    for row in rows:
        row["drawn"] = row["drawn"] or drawn_as(row["selection"], row["queue"])
        row |= before.get(row["task_id"]) or {"lease_id": new_id(), "shown": json.dumps(_sides(rng, row["num_clips"]))}
        if row["task_id"] not in before:
            own = {key: row[key] for key in ("lease_id", "task_id", "shown")} | {"annotator_id": annotator_id}
            new.append(own | {"issued_at": term[0], "expires_at": term[1], "settle_at": term[1]})
    if new:
        connection.execute(LEASES.insert(), [row | {"state": "open", "skipped": False} for row in new])
    return [lease["lease_id"] for lease in before.values()]


def _sides(rng: random.Random, num_clips: int) -> list[int]:
    return rng.sample(range(num_clips), num_clips)


def _lease(row: Mapping[str, Any], settings: Settings, expires_at: str, flagged: set[str]) -> Lease:
    task = task_from_row(row)
    return Lease(
        lease_id=row["lease_id"],
        task=task.model_copy(update={"gold": None, "selection": row["drawn"]}),
        shown=tuple(json.loads(row["shown"])),
        axes=settings.asked(task.axes),
        expires_at=expires_at,
        warn=not flagged.isdisjoint(task.rollouts),
    )
