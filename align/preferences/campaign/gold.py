"""Checks on annotators: gold tasks, whose answer is known, and catch trials, which show one clip twice.

Where many annotators agree, a pair can serve as gold for those who come later. That is a check of attention, not of truth:
what most people get wrong would become gold as well, so an admin looks at every pair before it does.
"""

from __future__ import annotations

import hashlib
import json
import random
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Engine, Select, func, or_, select, true, update

from align.errors import Conflict, DataError, NotFound
from align.preferences.campaign.schema import PAIR_ANSWERS, Task, parse
from align.preferences.campaign.settings import load_settings
from align.preferences.campaign.tasks import requeue, task_from_row
from align.preferences.storage.campaign_tables import LEASES, TASKS, lock_queue
from align.preferences.storage.database import writing
from align.preferences.storage.store import PAIRS, VOTES
from align.preferences.votes.schema import Vote, effective_votes


@dataclass(frozen=True)
class Agreed:
    """A pair that annotators agree on.

    Attributes:
        answers: Axis to the answer most of them gave.
        num_annotators: The fewest that answered any of these axes.
        share: The smallest share of them that gave it.
    """

    pair_id: str
    rollout_a: str
    rollout_b: str
    answers: dict[str, str]
    num_annotators: int
    share: float


def find_agreed(votes: Iterable[Vote], min_annotators: int = 3, min_share: float = 0.9, limit: int = 50) -> list[Agreed]:
    """Pairs that could become gold, most annotators first.

    Args:
        votes: Raw votes. Simulated ones, unsigned ones and those about checks don't count.
        min_annotators: How many different people must have answered.
        min_share: How many of them, of 1, must have given the same answer; more than half.
        limit: How many pairs to return at most.
    """
    if min_annotators < 2 or not 0.5 < min_share <= 1:
        raise ValueError(f"need min_annotators >= 2 and 0.5 < min_share <= 1, got {min_annotators} and {min_share}")
    said: dict[tuple[str, str], dict[str, Vote]] = defaultdict(dict)
    for vote in effective_votes(votes):
        if vote.annotator_id and not vote.simulated and vote.selection not in ("gold", "catch"):
            said[vote.pair_id, vote.axis][vote.annotator_id] = vote
    found: dict[str, list[tuple[Vote, str, int, float]]] = defaultdict(list)
    for (pair_id, _), by_person in said.items():
        (answer, number), total = Counter(vote.vote for vote in by_person.values()).most_common(1)[0], len(by_person)
        if total >= min_annotators and number >= min_share * total:
            found[pair_id].append((next(iter(by_person.values())), answer, total, number / total))
    pairs = [_agreed(rows) for rows in found.values()]
    return sorted(pairs, key=lambda pair: (-pair.num_annotators, -pair.share, pair.pair_id))[:limit]


def _agreed(rows: Sequence[tuple[Vote, str, int, float]]) -> Agreed:
    first = rows[0][0]
    return Agreed(
        pair_id=first.pair_id,
        rollout_a=first.rollout_a,
        rollout_b=first.rollout_b,
        answers={vote.axis: answer for vote, answer, _, _ in rows},
        num_annotators=min(total for _, _, total, _ in rows),
        share=min(share for _, _, _, share in rows),
    )


def parse_answers(text: str) -> dict[str, str]:
    """Read expected answers as a person types them: ``spill=a, success=tie``, in one line or several.

    Raises:
        DataError: Says what is wrong and what is allowed.
    """
    answers: dict[str, str] = {}
    for entry in filter(str.strip, text.replace("\n", ",").split(",")):
        axis, sign, answer = (part.strip() for part in entry.rpartition("="))
        if not sign or not axis or answer not in PAIR_ANSWERS or axis in answers:
            allowed = ", ".join(PAIR_ANSWERS)
            raise DataError(f"{entry.strip()!r} is no expected answer; write axis=answer once an axis, answer one of {allowed}")
        answers[axis] = answer
    if not answers:
        raise DataError("say what answer is expected, for example spill=a")
    return answers


def make_gold(engine: Engine, pair_id: str, answers: Mapping[str, str]) -> Task:
    """A gold task about a stored pair, for ``Campaign.add_tasks``; for ``correct_gold`` where the pair is gold already.

    Raises:
        NotFound: There is no such pair.
        Conflict: The pair is gold already, about other axes.
        DataError: The answers are no good.
    """
    with engine.connect() as connection:
        pair = connection.execute(select(PAIRS).where(PAIRS.c.pair_id == pair_id)).mappings().one_or_none()
        if pair is None:
            raise NotFound(f"there is no pair {pair_id!r}; copy its id from the votes or from the list of agreed pairs")
        known = {tuple(sorted(task.rollouts)): task for task in _checks(connection, "gold")}
    rollouts = (pair["rollout_a"], pair["rollout_b"])
    task = known.get(tuple(sorted(rollouts)))
    if task is not None and (task.rollouts != rollouts or set(task.gold or ()) != set(answers)):
        raise Conflict(
            f"the pair {pair_id!r} is gold already, with {_text(task.gold)}; change only these answers, or retire it"
        )
    # One that was retired has the same id, if it was about the same axes, and comes back with all its answers.
    digest = hashlib.sha256("\n".join(["gold", *rollouts, *sorted(answers)]).encode()).hexdigest()[:24]
    raw = {"task_id": task.task_id if task else f"gold-{digest}", "context_id": pair["context_id"], "rollouts": rollouts}
    return parse(Task, raw | {"axes": sorted(answers), "selection": "gold", "gold": dict(answers)})


def correct_gold(engine: Engine, task: Task) -> bool:
    """Change the expected answers of a stored gold task to those of ``task``, and bring a retired one back.

    Answers that came already are judged anew: nothing but the expectation is stored.

    Returns:
        False where there is nothing to change.
    """
    text = json.dumps(task.gold, ensure_ascii=False, sort_keys=True)
    differs = or_(TASKS.c.gold != text, TASKS.c.retired == true())
    stored = (TASKS.c.task_id == task.task_id, TASKS.c.selection == "gold", differs)
    with writing(engine) as connection:
        lock_queue(connection)
        if connection.execute(update(TASKS).where(*stored).values(gold=text, retired=False)).rowcount == 0:
            return False
        requeue(connection, load_settings(connection))
    return True


def retire_gold(engine: Engine, task_id: str) -> None:
    """Stop asking about a gold pair, and judge nobody by the answers it got; they stay, and so does the pair.

    Whoever has it on the screen may still answer it.

    Raises:
        NotFound: There is no such gold task, or it is retired already.
    """
    stored = (TASKS.c.task_id == task_id, TASKS.c.selection == "gold", TASKS.c.retired != true())
    held = (LEASES.c.task_id == task_id, LEASES.c.state == "open")
    with writing(engine) as connection:
        lock_queue(connection)
        if connection.execute(update(TASKS).where(*stored).values(retired=True, queue="retired")).rowcount == 0:
            raise NotFound(f"there is no gold pair {task_id!r} any more; refresh the page")
        connection.execute(update(LEASES).where(*held).values(state="returned", settle_at=None))


def known_answers(engine: Engine) -> dict[tuple[str, str, str], str]:
    """(rollout a, rollout b, axis) to the known answer, of all gold pairs that aren't retired."""
    with engine.connect() as connection:
        pairs = [task for task in _checks(connection, "gold") if len(task.rollouts) == 2]
    return {(*task.rollouts, axis): answer for task in pairs for axis, answer in (task.gold or {}).items()}  # type: ignore[misc]


def make_catch(engine: Engine, count: int, rng: random.Random) -> list[Task]:
    """Catch trials about clips that aren't in one yet, drawn at random; the honest answer is a tie.

    Raises:
        DataError: Every clip that is compared is in one already, or none is compared.
    """
    if not 1 <= count <= 1000:
        raise ValueError(f"make 1 to 1000 catch trials at once, got {count}")
    with engine.connect() as connection:
        taken = {task.rollouts[0] for task in _checks(connection, "catch")}
        rows = connection.execute(select(TASKS.c.context_id, TASKS.c.rollouts, TASKS.c.axes).where(TASKS.c.num_clips > 1))
        clips = {name: row for row in rows for name in json.loads(row.rollouts) if name not in taken}
    if not clips:
        raise DataError("every clip that is compared is in a catch trial already")
    drawn = rng.sample(sorted(clips), min(count, len(clips)))
    return [
        Task(
            task_id=f"catch-{hashlib.sha256(name.encode()).hexdigest()[:24]}",
            context_id=clips[name].context_id,
            rollouts=(name, name),
            axes=tuple(json.loads(clips[name].axes)),
            selection="catch",
        )
        for name in drawn
    ]


@dataclass(frozen=True)
class Check:
    """A gold task or a catch trial, and how people did.

    Attributes:
        expected: Axis to the known answer; of a catch trial a tie on each.
        num_right, num_answers: Over all its axes, without skips; both bad is a tie in a catch trial.
    """

    task: Task
    pair_id: str
    expected: dict[str, str]
    num_right: int
    num_answers: int


def list_checks(engine: Engine, selection: str) -> list[Check]:
    """All gold pairs that aren't retired, or all catch trials (``selection``), with the answers they got so far."""
    with engine.connect() as connection:
        tasks = [task for task in _checks(connection, selection) if len(task.rollouts) == 2]
        pair_ids = {row[0]: json.loads(row[1])[0][0] for row in connection.execute(_pairs_query(selection))}
        corrected = select(VOTES.c.supersedes).where(VOTES.c.supersedes.is_not(None))
        query = select(PAIRS.c.rollout_a, PAIRS.c.rollout_b, VOTES.c.axis, VOTES.c.vote, func.count())
        query = query.join(PAIRS, PAIRS.c.pair_id == VOTES.c.pair_id)
        query = query.where(VOTES.c.selection == selection, VOTES.c.vote != "skip", VOTES.c.vote_id.not_in(corrected))
        said: dict[tuple[str, str], list[tuple[str, str, int]]] = defaultdict(list)
        for a, b, axis, vote, number in connection.execute(query.group_by(*query.selected_columns[:4])):
            said[a, b].append((axis, vote, number))
            if a != b:  # a gold task may name its clips the other way round
                said[b, a].append((axis, {"a": "b", "b": "a"}.get(vote, vote), number))
    return [_judge(task, pair_ids[task.task_id], said.get((task.rollouts[0], task.rollouts[-1]), [])) for task in tasks]


def _pairs_query(selection: str) -> Select[Any]:
    return select(TASKS.c.task_id, TASKS.c.pairs).where(TASKS.c.selection == selection, TASKS.c.num_clips == 2)


def _judge(task: Task, pair_id: str, said: Sequence[tuple[str, str, int]]) -> Check:
    catch = task.selection == "catch"
    expected = task.gold or dict.fromkeys(task.axes, "tie")
    known = [(axis, vote, number) for axis, vote, number in said if catch or axis in expected]
    right = sum(number for axis, vote, number in known if (vote in ("tie", "both_bad") if catch else vote == expected[axis]))
    return Check(task, pair_id, expected, right, sum(number for _, _, number in known))


def _checks(connection: Connection, selection: str) -> list[Task]:
    query = select(TASKS).where(TASKS.c.selection == selection, TASKS.c.retired != true()).order_by(TASKS.c.row_id)
    return [task_from_row(dict(row)) for row in connection.execute(query).mappings()]


def _text(answers: Mapping[str, str] | None) -> str:
    return ", ".join(f"{axis}={answer}" for axis, answer in (answers or {}).items())
