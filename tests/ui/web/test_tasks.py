"""What is asked about a folder: spread over contexts, connected, the same for the same seed, bound to the clips' content."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from align.errors import DataError
from align.preferences.campaign.schema import Task
from align.preferences.pairing import candidate_pairs
from ui.web.axes import plan_axes
from ui.web.media import ClipInfo
from ui.web.tasks import check_tasks, make_tasks, task_id


def make_clips(*sizes: int, scene: str = "kitchen") -> list[ClipInfo]:
    """Contexts of these sizes."""
    return [
        ClipInfo(
            f"r{context}-{number}", f"c{context}", scene, "", Path(f"{context}-{number}.mp4"), 8.0, 16, 2, f"{context}{number}"
        )
        for context, size in enumerate(sizes)
        for number in range(size)
    ]


def tasks_of(clips: list[ClipInfo], **settings: Any) -> list[Task]:
    plan = plan_axes([clip.scene for clip in clips], {"axes": ["spill"]})
    return make_tasks(clips, plan, **({"seed": 0} | settings))


def test_every_pair_of_a_small_context_is_asked_once() -> None:
    tasks = tasks_of(make_clips(4, 3, 2, 1))
    assert Counter(task.context_id for task in tasks) == {"c0": 6, "c1": 3, "c2": 1}
    assert len({frozenset(task.rollouts) for task in tasks}) == len(tasks) == len({task.task_id for task in tasks})
    assert {task.selection for task in tasks} == {"random"}
    assert {task.axes for task in tasks} == {("spill",)}
    assert len({task.context_id for task in tasks[:3]}) == 3  # each context once before any comes twice


def test_a_large_context_gives_three_pairs_a_clip_and_all_its_clips_are_connected() -> None:
    for seed in range(5):
        tasks = tasks_of(make_clips(30), seed=seed)
        assert len(tasks) == 90
        assert num_parts(tasks, 30) == 1
    assert len(tasks_of(make_clips(30), per_context=29)) == 29
    assert num_parts(tasks_of(make_clips(30), per_context=29), 30) == 1  # the fewest that can connect thirty clips
    assert num_parts(tasks_of(make_clips(30), per_context=28), 30) == 2


def test_pairs_of_a_very_large_context_are_drawn_without_listing_all(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []

    def list_all(table: Any, *rest: Any) -> Any:
        asked.append(len(table))
        return candidate_pairs(table, *rest)

    monkeypatch.setattr("ui.web.tasks.candidate_pairs", list_all)
    tasks = tasks_of(make_clips(300, 4))
    assert asked == [4]
    drawn = [task.rollouts for task in tasks if task.context_id == "c0"]
    assert (len(drawn), len({frozenset(pair) for pair in drawn}), len(tasks)) == (900, 900, 906)
    assert set(Counter(name for pair in drawn for name in pair).values()) <= {
        4,
        5,
        6,
        7,
        8,
    }  # three rings and a bit of a fourth
    assert 400 < sum(a < b for a, b in drawn) < 500  # of 900
    few = tasks_of(make_clips(300), per_context=299)
    assert (len(few), num_parts(few, 300)) == (299, 1)
    assert tasks_of(make_clips(300)) == tasks_of(make_clips(300)) != tasks_of(make_clips(300), seed=1)
    copies = [replace(clip, sha256="same") for clip in make_clips(300)]
    assert tasks_of(copies) == []
    assert len(tasks_of([*copies[:-1], make_clips(300)[-1]])) == 1


def num_parts(tasks: list[Task], num_clips: int) -> int:
    """Groups of clips that no task joins, clips that no task names among them."""
    parts: dict[str, set[str]] = {}
    for task in tasks:
        joined = set().union(*(parts.get(name, {name}) for name in task.rollouts))
        parts |= dict.fromkeys(joined, joined)
    return len({frozenset(part) for part in parts.values()}) + num_clips - len(parts)


def test_the_same_seed_gives_the_same_tasks_and_another_one_others() -> None:
    clips = make_clips(6, 6, 6)
    for settings in ({"num_clips": 1}, {"num_clips": 2, "catch_share": 0.2}, {"num_clips": 3}):
        assert tasks_of(clips, **settings) == tasks_of(clips, **settings)
        assert tasks_of(clips, **settings) != tasks_of(clips, seed=1, **settings)


def test_sides_are_drawn() -> None:
    first = [task.rollouts[0] < task.rollouts[1] for task in tasks_of(make_clips(*[4] * 30))]
    assert 60 < sum(first) < 120  # of 180


def test_catch_trials_show_one_clip_twice() -> None:
    tasks = tasks_of(make_clips(4, 4, 4, 4), catch_share=0.1)
    trials = [task for task in tasks if task.selection == "catch"]
    assert (len(tasks), len(trials)) == (24 + 3, 3)  # a tenth of 24, rounded up
    assert all(len(set(task.rollouts)) == 1 and task.gold is None for task in trials)
    assert len({task.rollouts[0] for task in trials}) == 3


def test_identical_files_are_not_compared() -> None:
    clips = make_clips(3)
    clips[1] = replace(clips[1], sha256=clips[0].sha256)
    assert {frozenset(task.rollouts) for task in tasks_of(clips)} == {frozenset({"r0-0", "r0-2"}), frozenset({"r0-1", "r0-2"})}
    assert all({"r0-0", "r0-1"} - set(task.rollouts) for task in tasks_of([*clips, make_clips(4)[3]], num_clips=3))


@pytest.mark.parametrize("num_clips", [3, 4])
def test_groups_hold_different_clips_and_every_clip_comes_up(num_clips: int) -> None:
    tasks = tasks_of(make_clips(8, 7, 4, 3, 2), num_clips=num_clips)
    assert {len(set(task.rollouts)) for task in tasks} == {num_clips}
    for context, size in ((0, 8), (1, 7), (2, 4)):
        asked = Counter(name for task in tasks if task.context_id == f"c{context}" for name in task.rollouts)
        assert len(asked) == size
    assert num_parts([task for task in tasks if task.context_id == "c2"], 4) == 1
    assert "c4" not in {task.context_id for task in tasks}


def test_single_clips_are_all_asked() -> None:
    clips = make_clips(3, 1)
    tasks = tasks_of(clips, num_clips=1)
    assert sorted(task.rollouts for task in tasks) == sorted((clip.rollout_id,) for clip in clips)


def test_too_few_clips_give_no_tasks() -> None:
    assert tasks_of(make_clips(1, 1)) == []
    assert tasks_of(make_clips(2, 2), num_clips=3) == []


def test_stored_tasks_must_be_about_these_clips_as_they_were() -> None:
    clips = make_clips(3)
    tasks = tasks_of(clips, catch_share=0.5)
    by_id = {clip.rollout_id: clip for clip in clips}
    check_tasks(tasks, by_id)
    with pytest.raises(DataError, match="about clips that are not in this folder, the first is r0-2"):
        check_tasks(tasks, {name: clip for name, clip in by_id.items() if name != "r0-2"})
    with pytest.raises(DataError, match="clips of the context c0 have changed"):
        check_tasks(tasks, by_id | {"r0-1": replace(by_id["r0-1"], sha256="other")})


def test_tasks_that_others_made_are_checked_by_their_clips_alone() -> None:
    task = Task(task_id="pair-1", context_id="c0", rollouts=("r0-0", "r0-1"), selection="active", priority=0.5)
    check_tasks([task], {clip.rollout_id: clip for clip in make_clips(2)})


def test_an_id_depends_on_content_and_order() -> None:
    first, second = make_clips(2)
    ids = {task_id(pair) for pair in ([first, second], [second, first], [first, replace(second, sha256="x")], [first, first])}
    assert len(ids) == 4
