"""The tasks of a campaign: stored once, with their pairs, each in the queue where the settings want it.

Two columns of a task are derived, so that the next one is found by an index however many there are. ``queue`` is the mode
and the lane, for example ``pairs-random``: gold and catch tasks have lanes of their own, tasks to be picked by priority stand
in ``active``, the others in ``random``, tasks of which every axis is paused in ``paused``, and retired ones in ``retired``.
``is_full`` says that nobody else is to get it.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations
from typing import Any

from sqlalchemy import Connection, and_, bindparam, case, false, func, literal, or_, select, text, true, update

from align.errors import Conflict
from align.preferences.campaign.schema import Settings, Task
from align.preferences.storage.campaign_tables import LEASES, TASKS, chunks, rows_of
from align.preferences.storage.store import PAIRS, insert_pairs
from align.preferences.votes.fields import pair_id_of, utc_now
from align.preferences.votes.schema import Pair
from align.preferences.votes.tables import raise_problems

SPECIAL = ("gold", "catch")
"""Selections that serve as checks: for every annotator, without an overlap."""
_COMPARED = ("context_id", "rollouts", "axes", "selection", "gold")


def task_from_row(row: Mapping[str, Any]) -> Task:
    """The task that a row of the table holds."""
    return Task(
        task_id=row["task_id"],
        context_id=row["context_id"],
        rollouts=json.loads(row["rollouts"]),
        axes=json.loads(row["axes"]),
        selection=row["selection"],
        priority=row["priority"],
        gold=json.loads(row["gold"]) if row["gold"] else None,
    )


def insert_tasks(connection: Connection, tasks: Sequence[Task], rng: random.Random, keep_order: bool = False) -> int:
    """Store tasks that are new, and the new priorities of known ones; returns how many were new.

    Args:
        connection: With ``lock_queue`` taken; call ``requeue`` afterwards.
        tasks: What to store.
        rng: Draws the random order.
        keep_order: The tasks come in an order that was drawn at random already.

    Raises:
        Conflict: A task_id is taken by a task with other clips, axes, answers or selection; lists all of them.
    """
    by_id = {task.task_id: task for task in tasks}
    known = _fetch(connection, list(by_id))
    problems = [task.task_id for task in tasks if _content(task) != _content(known.get(task.task_id, by_id[task.task_id]))]
    if problems:
        listed = ", ".join(map(repr, problems[:20]))
        raise Conflict(f"{len(problems)} task_id(s) are taken by tasks of another content: {listed}; give new tasks new ids")
    fresh = [task for name, task in by_id.items() if name not in known]
    pairs = _stored_pairs(connection, fresh)
    keys = [rng.random() for _ in fresh]
    if keep_order:
        keys.sort()
    if fresh:
        connection.execute(TASKS.insert(), [_row_of(task, pairs, key) for task, key in zip(fresh, keys, strict=True)])
    changed = [task for name, task in by_id.items() if name in known and task.priority not in (None, known[name].priority)]
    if changed:
        query = update(TASKS).where(TASKS.c.task_id == bindparam("name")).values(priority=bindparam("new"))
        connection.execute(query, [{"name": task.task_id, "new": task.priority} for task in changed])
    return len(fresh)


def requeue(connection: Connection, settings: Settings) -> None:
    """Put every task into the queue where the settings want it, and see anew which are full."""
    sets = connection.execute(select(TASKS.c.axes).distinct()).scalars().all()
    silent = [axes for axes in sets if not settings.asked(tuple(json.loads(axes)))]
    mode = case((TASKS.c.num_clips == 1, literal("single-")), else_=literal("pairs-"))
    lane = case(
        (TASKS.c.selection.in_(SPECIAL), TASKS.c.selection),
        (_is_active(settings), literal("active")),
        else_=literal("random"),
    )
    held_back = [(TASKS.c.retired == true(), literal("retired")), (TASKS.c.axes.in_(silent), literal("paused"))]
    queue = case(*held_back, else_=mode + lane)
    connection.execute(update(TASKS).values(queue=queue, is_full=_is_full(settings.overlap)))
    if connection.dialect.name == "postgresql":
        connection.execute(text("ANALYZE tasks"))  # or it would sort all tasks to find the next, until it looks by itself


def _is_active(settings: Settings) -> Any:
    scored = TASKS.c.priority.is_not(None)
    if settings.policy == "random":
        return false()
    if settings.policy == "active":
        return or_(TASKS.c.selection == "active", scored)
    return or_(TASKS.c.selection == "active", and_(scored, TASKS.c.sort_key >= settings.random_share))


def drawn_as(selection: str, queue: str) -> str:
    """As what a task counts that is first given out from this queue: picked for its priority, it is no random one."""
    return "active" if selection == "random" and queue.endswith("-active") else selection


def _is_full(overlap: Any) -> Any:
    counts = or_(LEASES.c.state == "open", and_(LEASES.c.state == "done", LEASES.c.skipped == false()))
    taken = select(func.count()).select_from(LEASES).where(LEASES.c.task_id == TASKS.c.task_id, counts)
    full = taken.correlate(TASKS).scalar_subquery() >= overlap
    return case((TASKS.c.selection.in_(SPECIAL), false()), (full, true()), else_=false())


_picked = and_(TASKS.c.selection == "random", TASKS.c.queue.like("%-active"))
_COUNT_ANEW = (
    update(TASKS)
    .where(TASKS.c.task_id.in_(bindparam("tasks", expanding=True)))
    .values(
        is_full=_is_full(bindparam("overlap")),
        drawn=func.coalesce(TASKS.c.drawn, case((_picked, "active"), else_=TASKS.c.selection)),
    )
)


def count_anew(connection: Connection, task_ids: Iterable[str], overlap: int) -> None:
    """See anew whether these tasks, which were lent, have all the annotators they need. Call it under ``lock_queue``."""
    for part in chunks(sorted(set(task_ids))):
        connection.execute(_COUNT_ANEW, {"tasks": part, "overlap": overlap})


def _content(task: Task) -> dict[str, Any]:
    return task.model_dump(include=set(_COMPARED))


def _fetch(connection: Connection, task_ids: Sequence[str]) -> dict[str, Task]:
    found = {}
    for part in chunks(task_ids):
        rows = rows_of(connection, select(TASKS).where(TASKS.c.task_id.in_(part)))
        found.update({row["task_id"]: task_from_row(row) for row in rows})
    return found


def _row_of(task: Task, pairs: Mapping[tuple[str, str, str], Pair], sort_key: float) -> dict[str, Any]:
    listed = []
    for (i, first), (j, second) in combinations(enumerate(task.rollouts), 2):
        pair = pairs[task.context_id, first, second]
        listed.append([pair.pair_id, i, j] if pair.rollout_a == first else [pair.pair_id, j, i])
    return {
        **task.model_dump(include={"task_id", "context_id", "selection", "priority"}),
        "rollouts": json.dumps(task.rollouts, ensure_ascii=False),
        "axes": json.dumps(task.axes, ensure_ascii=False),
        "gold": json.dumps(task.gold, ensure_ascii=False, sort_keys=True) if task.gold else None,
        "created_at": utc_now(),
        "pairs": json.dumps(listed),
        "num_clips": len(task.rollouts),
        "sort_key": sort_key,
        "queue": "paused",
        "is_full": False,
        "retired": False,
    }


def _stored_pairs(connection: Connection, tasks: Sequence[Task]) -> dict[tuple[str, str, str], Pair]:
    """(context, rollout, rollout) to its pair, in every order that the tasks need; missing pairs are stored.

    Two rollouts that are a pair already stay this pair, whichever of them a task names first, so that all votes about the two
    meet under one pair_id.
    """
    wanted = [(task.context_id, first, second, task) for task in tasks for first, second in combinations(task.rollouts, 2)]
    either = {pair_id_of(*ids) for c, x, y, _ in wanted for ids in ((c, x, y), (c, y, x))}
    taken: set[str] = set()
    for part in chunks(sorted(either)):
        taken |= set(connection.execute(select(PAIRS.c.pair_id).where(PAIRS.c.pair_id.in_(part))).scalars())
    found: dict[tuple[str, str, str], Pair] = {}
    fresh: dict[str, Pair] = {}
    for context, first, second, task in wanted:
        turned = pair_id_of(context, second, first)
        a, b = (second, first) if turned in taken else (first, second)
        pair = Pair(pair_id=pair_id_of(context, a, b), context_id=context, rollout_a=a, rollout_b=b, selection=task.selection)
        fresh.setdefault(pair.pair_id, pair)
        taken.add(pair.pair_id)
        found[context, first, second] = fresh[pair.pair_id]
    # In the order of their ids: two writers that insert the same rows must not wait for each other in a circle.
    raise_problems("tasks", insert_pairs(connection, [fresh[name] for name in sorted(fresh)])[1])
    return found
