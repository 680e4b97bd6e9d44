"""What to ask about a rollout folder: pairs, groups or single clips, with catch trials among them."""

from __future__ import annotations

import hashlib
import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from itertools import zip_longest

import numpy as np
import pandas as pd

from align.errors import DataError
from align.preferences.campaign.schema import Task
from align.preferences.pairing import candidate_pairs
from align.preferences.votes.schema import Pair, Selection
from ui.web.axes import Plan
from ui.web.media import ClipInfo

PREFIX = "clips-"
TASKS_PER_CLIP = 3
"""Pairs of a context for each of its clips, where nobody asks for another number; up to 7 clips, that is every pair."""
MANY_CLIPS = 100
"""From so many clips of one context on, its pairs are drawn: a flat folder of 10,000 videos has 50 million of them."""


def make_tasks(
    clips: Sequence[ClipInfo], plan: Plan, seed: int, num_clips: int = 2, per_context: int = 0, catch_share: float = 0.0
) -> list[Task]:
    """Tasks for a campaign, in random order, every context once before any comes twice.

    Args:
        clips: The folder's clips.
        plan: What to ask about each scene.
        seed: Seed of every draw.
        num_clips: 1 asks pass or fail about single clips, 2 compares, 3 and 4 rank.
        per_context: Most tasks of one context; 0 takes a few for every clip. Single clips are asked about all.
        catch_share: Share of further tasks that show one clip twice, where the honest answer is a tie; pairs only.

    Returns:
        None at all where no context has enough clips.
    """
    if not clips:
        return []
    rng = np.random.default_rng(seed)
    if num_clips == 1:
        by_context = _singles(clips, plan, rng)
    elif num_clips == 2:
        by_context = _pairs(clips, plan, rng, seed, per_context)
    else:
        by_context = _groups(clips, plan, rng, num_clips, per_context)
    tasks = [task for round_ in zip_longest(*by_context) for task in round_ if task is not None]
    if num_clips == 2 and catch_share > 0:
        tasks += _catch_trials(clips, plan, rng, math.ceil(catch_share * len(tasks)))
    return tasks


def check_tasks(tasks: Iterable[Task], clips: Mapping[str, ClipInfo]) -> None:
    """Check that stored tasks are about this folder's clips, and that those are still what they were.

    Raises:
        DataError: A task names a clip that isn't there, or whose content has changed.
    """
    for task in tasks:
        missing = [name for name in task.rollouts if name not in clips]
        if missing:
            raise DataError(
                f"the label database asks about clips that are not in this folder, the first is {missing[0]}; start with the "
                "folder it was begun with, or name another database with --db"
            )
        expected = task_id([clips[name] for name in task.rollouts])
        if task.task_id.startswith(PREFIX) and task.task_id != expected:
            raise DataError(
                f"clips of the context {task.context_id} have changed since the label database was begun; restore them, or "
                "name another database with --db"
            )


def task_id(clips: Sequence[ClipInfo]) -> str:
    """An id that says which clips with which content a task is about, so that a changed file doesn't go unnoticed."""
    lines = [clips[0].context_id, *(f"{clip.rollout_id} {clip.sha256}" for clip in clips)]
    return PREFIX + hashlib.sha256("\n".join(lines).encode()).hexdigest()[:24]


def _make_task(clips: Sequence[ClipInfo], plan: Plan, selection: Selection = "random") -> Task:
    return Task(
        task_id=task_id(clips),
        context_id=clips[0].context_id,
        rollouts=tuple(clip.rollout_id for clip in clips),
        axes=plan.by_scene[clips[0].scene],
        selection=selection,
    )


def _singles(clips: Sequence[ClipInfo], plan: Plan, rng: np.random.Generator) -> list[list[Task]]:
    groups = _by_context(clips)
    return [[_make_task([group[i]], plan) for i in rng.permutation(len(group))] for group in _shuffled(groups, rng)]


def _pairs(clips: Sequence[ClipInfo], plan: Plan, rng: np.random.Generator, seed: int, per_context: int) -> list[list[Task]]:
    groups = _by_context(clips)
    small = [clip for group in groups if not _has_many(group, per_context) for clip in group]
    large = [_rings(group, plan, rng, per_context) for group in groups if _has_many(group, per_context)]
    return (_all_pairs(small, plan, seed, per_context) if small else []) + large


def _has_many(group: Sequence[ClipInfo], per_context: int) -> bool:
    """Whether a context has far more pairs than are wanted."""
    num = len(group)
    return num >= MANY_CLIPS and num * (num - 1) // 2 >= 4 * (per_context or TASKS_PER_CLIP * num)


def _rings(group: Sequence[ClipInfo], plan: Plan, rng: np.random.Generator, per_context: int) -> list[Task]:
    """Neighbours in random orders of all clips; the first order joins them all, so that they can be ranked."""
    distinct = list({clip.sha256: clip for clip in group}.values())
    wanted = min(per_context or TASKS_PER_CLIP * len(distinct), len(distinct) * (len(distinct) - 1) // 2)
    drawn: dict[frozenset[str], Task] = {}
    while len(drawn) < wanted:
        order = [distinct[i] for i in rng.permutation(len(distinct))]
        for pair in zip(order, [*order[1:], order[0]], strict=True):
            if pair[0] is not pair[1]:
                drawn.setdefault(frozenset(clip.rollout_id for clip in pair), _make_task(pair, plan))
    return list(drawn.values())[:wanted]


def _all_pairs(clips: Sequence[ClipInfo], plan: Plan, seed: int, per_context: int) -> list[list[Task]]:
    fields = ("rollout_id", "context_id", "scene", "sha256")
    table = pd.DataFrame([{name: getattr(clip, name) for name in fields} | {"file_name": str(clip.path)} for clip in clips])
    by_id = {clip.rollout_id: clip for clip in clips}
    pairs: dict[str, list[Pair]] = defaultdict(list)
    for pair in candidate_pairs(table, plan.by_scene, seed):
        pairs[pair.context_id].append(pair)
    sizes = {
        context_id: len({name for pair in found for name in (pair.rollout_a, pair.rollout_b)})
        for context_id, found in pairs.items()
    }
    return [
        [
            _make_task([by_id[pair.rollout_a], by_id[pair.rollout_b]], plan)
            for pair in _connected_first(found)[: per_context or TASKS_PER_CLIP * sizes[context_id]]
        ]
        for context_id, found in pairs.items()
    ]


def _connected_first(pairs: Sequence[Pair]) -> list[Pair]:
    """The pairs that join clips not joined so far come first: with one fewer than there are clips, all can be ranked."""
    part: dict[str, str] = {}

    def find(name: str) -> str:
        while part.setdefault(name, name) != name:
            name = part[name]
        return name

    joining: list[Pair] = []
    rest: list[Pair] = []
    for pair in pairs:
        first, second = find(pair.rollout_a), find(pair.rollout_b)
        (joining if first != second else rest).append(pair)
        part[first] = second
    return joining + rest


def _groups(
    clips: Sequence[ClipInfo], plan: Plan, rng: np.random.Generator, num_clips: int, per_context: int
) -> list[list[Task]]:
    """Every clip of a context in one group, then in another one; a short last group is filled up from the first."""
    made = []
    for group in _shuffled(_by_context(clips), rng):
        distinct = list({clip.sha256: clip for clip in group}.values())
        if len(distinct) < num_clips:
            continue
        tasks: dict[frozenset[str], Task] = {}
        for _ in range(2):
            order = [distinct[i] for i in rng.permutation(len(distinct))]
            order += order[: -len(order) % num_clips]
            for start in range(0, len(order), num_clips):
                chosen = order[start : start + num_clips]
                tasks.setdefault(frozenset(clip.rollout_id for clip in chosen), _make_task(chosen, plan))
        made.append(list(tasks.values())[: per_context or None])
    return made


def _catch_trials(clips: Sequence[ClipInfo], plan: Plan, rng: np.random.Generator, count: int) -> list[Task]:
    chosen = rng.choice(len(clips), size=min(count, len(clips)), replace=False)
    return [_make_task([clips[i], clips[i]], plan, "catch") for i in chosen]


def _by_context(clips: Sequence[ClipInfo]) -> list[list[ClipInfo]]:
    groups: dict[str, list[ClipInfo]] = defaultdict(list)
    for clip in clips:
        groups[clip.context_id].append(clip)
    return [groups[context_id] for context_id in sorted(groups)]


def _shuffled(groups: list[list[ClipInfo]], rng: np.random.Generator) -> list[list[ClipInfo]]:
    return [groups[i] for i in rng.permutation(len(groups))]
