from __future__ import annotations

import math

import pytest
from scipy import stats

from align.preferences.statistics.habits import (
    Trials,
    count_repeats,
    count_sides,
    count_trials,
    only_answer,
    response_speed,
    trial_p_values,
    usual_times,
)


def test_sides_by_hand(make_vote) -> None:
    votes = [make_vote(f"v{i}", "a", shown_left="a") for i in range(9)]
    votes += [make_vote("w", "b", shown_left="a"), make_vote("t", "tie", shown_left="a"), make_vote("u", "a")]
    sides = count_sides(votes)
    assert (sides.num_sided, sides.num_left, sides.share) == (10, 9, 0.9)
    assert sides.p_half == pytest.approx(2 * (1 + 10) / 2**10)
    assert sides.p_habit == pytest.approx(2 * (0.65**10 + 10 * 0.65**9 * 0.35))
    assert sides.low < 0.65 < 0.9 < sides.high
    right = count_sides([vote.model_copy(update={"shown_left": "b"}) for vote in votes[:10]])
    assert (right.share, right.p_habit) == (pytest.approx(0.1), pytest.approx(sides.p_habit))
    nothing = count_sides(votes[10:])
    assert (nothing.num_sided, math.isnan(nothing.share), math.isnan(nothing.p_half)) == (0, True, True)


def test_trials_by_hand(make_vote) -> None:
    gold = {("r1", "r2", "spill"): "a", ("r5", "r6", "spill"): "both_bad"}
    votes = [
        make_vote("v1", "a", selection="gold"),
        make_vote("v2", "tie", selection="gold"),
        make_vote("v3", "b", selection="gold", pair_id="p2", rollout_a="r2", rollout_b="r1"),  # stored the other way round
        make_vote("v4", "tie", selection="gold", pair_id="p5", rollout_a="r5", rollout_b="r6"),
        make_vote("v5", "a", selection="gold", axis="success"),  # nobody said what is right
        make_vote("v6", "both_bad", selection="catch", pair_id="p3", rollout_b="r1"),
        make_vote("v7", "b", selection="catch", pair_id="p3", rollout_b="r1"),
        make_vote("v8", "a", pair_id="p4", rollout_b="r4"),
    ]
    trials = count_trials(votes, gold)
    assert trials == Trials(num_catch=2, num_catch_failed=1, num_gold=4, num_gold_failed=2, num_gold_unknown=1)
    assert (trials.num, trials.num_failed) == (6, 3)
    assert count_trials(votes).num_gold_unknown == 5


def test_trials_are_judged_against_the_others() -> None:
    good, bad, alone = Trials(num_catch=10), Trials(num_gold=8, num_gold_failed=8), Trials()
    p_good, p_bad, p_alone = trial_p_values([good, bad, alone])
    assert p_good == 1
    mean = 0.05  # the others' 0.5 / 11 is below what anybody may fail
    assert p_bad == pytest.approx(stats.betabinom.pmf(8, 8, 10 * mean, 10 * (1 - mean)))
    assert math.isnan(p_alone)
    assert math.isnan(trial_p_values([bad])[0])  # nobody to compare with
    # Where everybody fails a trial, failing says nothing.
    assert min(trial_p_values([Trials(num_catch=10, num_catch_failed=6)] * 5)) > 0.3


def test_repeats(make_vote) -> None:
    votes = [
        make_vote("v1", "a"),
        make_vote("v2", "b", pair_id="p2", rollout_a="r2", rollout_b="r1"),
        make_vote("v3", "tie"),
        make_vote("v4", "a", axis="success"),
    ]
    assert count_repeats(votes) == (2, 1)


def test_speed_is_relative_to_the_axis(make_vote) -> None:
    votes = [
        make_vote(f"v{i}", response_time_s=time, axis=axis)
        for i, (time, axis) in enumerate([(4, "spill"), (2, "spill"), (9, "success")])
    ]
    usual = usual_times([*votes, make_vote("w", response_time_s=6, axis="spill"), make_vote("u", axis="spill")])
    assert usual == {"spill": 4, "success": 9}
    assert response_speed(votes, usual) == (3, 4.0, 1.0)
    num, seconds, ratio = response_speed([make_vote("u")], usual)
    assert (num, math.isnan(seconds), math.isnan(ratio)) == (0, True, True)
    assert math.isnan(response_speed([make_vote("z", response_time_s=0)], {"spill": 0.0})[2])


def test_the_only_answer(make_vote) -> None:
    ties = [make_vote(f"v{i}", "tie") for i in range(3)]
    assert only_answer(ties) == "tie"
    assert only_answer(ties[:2]) == ""
    assert only_answer([*ties, make_vote("w", "a")]) == ""
    lefts = [make_vote("v1", "a", shown_left="a"), make_vote("v2", "b", shown_left="b"), make_vote("v3", "a", shown_left="a")]
    assert only_answer(lefts) == "left"
    assert only_answer([*lefts, *ties]) == ""
    assert only_answer([make_vote(f"v{i}", "a") for i in range(3)]) == "a"
    catch = make_vote("c", "tie", selection="catch", pair_id="p9", rollout_b="r1")
    assert only_answer([*lefts, catch]) == "left"
