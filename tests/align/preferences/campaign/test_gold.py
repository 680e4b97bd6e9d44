from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest

from align.errors import Conflict, DataError, NotFound
from align.preferences.campaign import Campaign
from align.preferences.campaign.gold import (
    correct_gold,
    find_agreed,
    known_answers,
    list_checks,
    make_catch,
    make_gold,
    parse_answers,
    retire_gold,
)
from align.preferences.campaign.overview import count_queue
from align.preferences.storage.store import LabelStore
from align.preferences.votes.fields import pair_id_of
from align.preferences.votes.schema import Vote


def cast(make_vote: Callable[..., Vote], answers: str, **fields: Any) -> list[Vote]:
    """One vote of each of several people; the letters are their answers."""
    words = {"a": "a", "b": "b", "t": "tie", "s": "skip"}
    pair = fields.get("pair_id", "p1")
    axis = fields.get("axis", "spill")
    return [
        make_vote(f"{pair}-{axis}-{i}", words[letter], **{"annotator_id": f"ann-{i}", **fields})
        for i, letter in enumerate(answers)
    ]


def test_agreed_pairs_by_people_and_share(make_vote: Callable[..., Vote]) -> None:
    other = {"pair_id": "p2", "context_id": "c2", "rollout_a": "x", "rollout_b": "y"}
    votes = cast(make_vote, "aaaab") + cast(make_vote, "bbb", axis="success") + cast(make_vote, "ttt", **other)
    pairs = find_agreed(votes, min_annotators=3, min_share=0.8)
    assert [(pair.pair_id, pair.answers, pair.num_annotators) for pair in pairs] == [
        ("p2", {"spill": "tie"}, 3),
        ("p1", {"spill": "a", "success": "b"}, 3),
    ]
    assert [pair.share for pair in pairs] == [1, pytest.approx(0.8)]
    assert [pair.answers for pair in find_agreed(votes, 3, 0.81)] == [{"success": "b"}, {"spill": "tie"}]
    assert [pair.answers for pair in find_agreed(votes, 4, 0.8)] == [{"spill": "a"}]


@pytest.mark.parametrize("fields", [{"simulated": True}, {"selection": "gold"}, {"annotator_id": ""}, {"annotator_id": "same"}])
def test_agreement_of_nobody_in_particular_does_not_count(make_vote: Callable[..., Vote], fields: dict[str, Any]) -> None:
    assert find_agreed(cast(make_vote, "aaaaa", **fields), 2) == []


def test_a_correction_counts_instead_of_what_it_corrects(make_vote: Callable[..., Vote]) -> None:
    votes = cast(make_vote, "aas")
    votes += [make_vote("again", "b", annotator_id="ann-0", supersedes="p1-spill-0")]
    assert find_agreed(votes, 2, 0.6) == []


def test_find_agreed_refuses_less_than_a_majority() -> None:
    with pytest.raises(ValueError, match="min_share"):
        find_agreed([], 3, 0.5)


def test_parse_answers() -> None:
    assert parse_answers(" spill=a,\n success = tie ") == {"spill": "a", "success": "tie"}
    for text in ("", "spill", "spill=left", "=a", "spill=a, spill=b"):
        with pytest.raises(DataError, match=r"for example|write axis=answer"):
            parse_answers(text)


def test_make_gold_of_a_stored_pair(store: LabelStore, campaign: Campaign, make_tasks: Callable[..., Any]) -> None:
    campaign.add_tasks(make_tasks(2))
    pair_id = pair_id_of("c0", "t0-r0", "t0-r1")
    task = make_gold(store.engine, pair_id, {"spill": "b"})
    assert (task.selection, task.rollouts, task.axes, task.gold) == ("gold", ("t0-r0", "t0-r1"), ("spill",), {"spill": "b"})
    assert campaign.add_tasks([task]) == 1
    assert campaign.add_tasks([make_gold(store.engine, pair_id, {"spill": "b"})]) == 0
    with pytest.raises(Conflict, match="spill=b"):
        make_gold(store.engine, pair_id, {"success": "a"})
    with pytest.raises(NotFound, match="no pair"):
        make_gold(store.engine, "nowhere", {"spill": "a"})
    with pytest.raises(DataError, match="better"):
        make_gold(store.engine, pair_id_of("c1", "t1-r0", "t1-r1"), {"success": "better"})


def test_a_wrong_expectation_is_corrected(
    store: LabelStore, campaign: Campaign, make_tasks: Callable[..., Any], answer: Callable[..., Any]
) -> None:
    campaign.add_tasks(make_tasks(3))
    pair_id = pair_id_of("c0", "t0-r0", "t0-r1")
    campaign.add_tasks([make_gold(store.engine, pair_id, {"spill": "b"})])
    campaign.save_settings(campaign.settings().model_copy(update={"gold_share": 1.0}))
    lease = next(lease for lease in campaign.lease("ann", 4) if lease.task.selection == "gold")
    campaign.submit(answer(lease, "s", "left" if lease.shown[0] == 0 else "right"), "ann")  # rollout a is better
    assert [(check.num_right, check.num_answers) for check in list_checks(store.engine, "gold")] == [(0, 1)]
    right = make_gold(store.engine, pair_id, {"spill": "a"})
    assert correct_gold(store.engine, right) and not correct_gold(store.engine, right)
    (check,) = list_checks(store.engine, "gold")
    assert (check.pair_id, check.expected, check.num_right, check.num_answers) == (pair_id, {"spill": "a"}, 1, 1)


def test_a_retired_gold_pair_is_asked_no_more_and_judges_nobody(
    store: LabelStore, campaign: Campaign, make_tasks: Callable[..., Any], answer: Callable[..., Any]
) -> None:
    campaign.add_tasks(make_tasks(8))
    pair_id = pair_id_of("c0", "t0-r0", "t0-r1")
    task = make_gold(store.engine, pair_id, {"spill": "b"})
    campaign.add_tasks([task])
    campaign.save_settings(campaign.settings().model_copy(update={"gold_share": 1.0, "overlap": 9}))

    def gold_of(name: str) -> list[Any]:
        return [lease for lease in campaign.lease(name, 4) if lease.task.selection == "gold"]

    (done,), (held,) = gold_of("ann"), gold_of("bea")
    campaign.submit(answer(done, "s1", "tie"), "ann")
    assert known_answers(store.engine) == {("t0-r0", "t0-r1", "spill"): "b"}
    retire_gold(store.engine, task.task_id)
    assert (list_checks(store.engine, "gold"), known_answers(store.engine)) == ([], {})
    assert count_queue(store.engine).checks == 0
    with pytest.raises(NotFound, match="no gold pair"):
        retire_gold(store.engine, task.task_id)
    campaign.save_settings(campaign.settings().model_copy(update={"overlap": 8}))  # puts every task into its queue
    assert gold_of("bea") == gold_of("cal") == []
    campaign.submit(answer(held, "s2", "tie"), "bea")  # it was on the screen already
    assert len(store.votes()) == 2

    # The same again brings it back with what it was answered; the other way round it is another task.
    assert correct_gold(store.engine, make_gold(store.engine, pair_id, {"spill": "tie"}))
    (check,) = list_checks(store.engine, "gold")
    assert (check.task.task_id, check.num_right, check.num_answers) == (task.task_id, 2, 2)
    assert len(gold_of("dan")) == 1
    retire_gold(store.engine, task.task_id)
    other = make_gold(store.engine, pair_id, {"success": "a"})
    assert campaign.add_tasks([other]) == 1 and other.task_id != task.task_id
    assert known_answers(store.engine) == {("t0-r0", "t0-r1", "success"): "a"}


def test_only_gold_is_retired(store: LabelStore, campaign: Campaign, make_tasks: Callable[..., Any]) -> None:
    campaign.add_tasks(make_tasks(1))
    with pytest.raises(NotFound):
        retire_gold(store.engine, "t0")
    assert len(campaign.lease("ann", 1)) == 1


def test_checks_count_right_answers(
    store: LabelStore, campaign: Campaign, make_tasks: Callable[..., Any], answer: Callable[..., Any]
) -> None:
    campaign.add_tasks(make_tasks(8))
    campaign.add_tasks([make_gold(store.engine, pair_id_of("c0", "t0-r0", "t0-r1"), {"spill": "b"})])
    campaign.add_tasks(make_catch(store.engine, 1, random.Random(0)))
    campaign.save_settings(campaign.settings().model_copy(update={"gold_share": 0.5, "catch_share": 0.5, "overlap": 2}))
    for name, right in (("ann", True), ("bea", False)):
        for number, lease in enumerate(campaign.lease(name, 10)):
            # Position of rollout b of the pair; of a catch trial both are the same clip.
            better = "left" if lease.shown.index(1) == 0 else "right"
            worse = "right" if better == "left" else "left"
            expected = better if lease.task.selection == "gold" else "tie"
            campaign.submit(answer(lease, f"{name}-{number}", expected if right else worse), name)
    (gold,) = list_checks(store.engine, "gold")
    assert (gold.expected, gold.num_right, gold.num_answers) == ({"spill": "b"}, 1, 2)
    (catch,) = list_checks(store.engine, "catch")
    assert (catch.num_right, catch.num_answers) == (2, 4)  # both axes


def test_catch_trials_take_every_clip_once(store: LabelStore, campaign: Campaign, make_tasks: Callable[..., Any]) -> None:
    campaign.add_tasks(make_tasks(2))
    first = make_catch(store.engine, 3, random.Random(0))
    assert campaign.add_tasks(first) == 3
    (last,) = make_catch(store.engine, 3, random.Random(0))
    assert last.rollouts[0] == last.rollouts[1]
    assert {task.rollouts[0] for task in [*first, last]} == {"t0-r0", "t0-r1", "t1-r0", "t1-r1"}
    campaign.add_tasks([last])
    with pytest.raises(DataError, match="already"):
        make_catch(store.engine, 1, random.Random(0))
