from __future__ import annotations

import math
from collections import Counter

import numpy as np
import pytest

from align.preferences.annotators import SimulatedAnnotator, cast_votes, make_annotators
from align.preferences.pairing import make_pairs
from align.preferences.votes.schema import Pair, check_votes

PAIRS = [
    Pair(pair_id=f"p{i}", context_id=f"c{i}", rollout_a=f"x{i}", rollout_b=f"y{i}", selection="random") for i in range(400)
]


def perceive_constant(value: float):
    return lambda rollout_ids, axis: np.full(len(rollout_ids), value)


def perceive_x_safe(rollout_ids, axis):
    """Every x looks safe, every y hazardous."""
    return [0.01 if name.startswith("x") else 0.99 for name in rollout_ids]


def test_the_vote_model_against_arithmetic() -> None:
    annotator = SimulatedAnnotator("s", skill=0.5, tie_width=0.8, left_bias=0.3, lapse_rate=0.1)
    (row,) = annotator.vote_probabilities([0.2], [0.6], [True], "spill")
    # u_a = ln(0.8 / 0.2) = ln 4, u_b = ln(0.4 / 0.6) = ln(2/3); d = 0.5 * ln 6 + 0.3
    d = 0.5 * math.log(6) + 0.3
    total = math.exp(d / 2) + math.exp(-d / 2) + 0.8
    both = 0.2 * 0.6
    attentive = [math.exp(d / 2), math.exp(-d / 2), 0.8 * (1 - both), 0.8 * both]
    assert row == pytest.approx([0.9 * weight / total + 0.1 / 4 for weight in attentive])


def test_swapping_the_pair_swaps_the_votes() -> None:
    annotator = SimulatedAnnotator("s", skill=0.7, tie_width=0.5, left_bias=0.4, lapse_rate=0.05)
    forth = annotator.vote_probabilities([0.1, 0.5], [0.7, 0.4], [True, False], "spill")
    back = annotator.vote_probabilities([0.7, 0.4], [0.1, 0.5], [False, True], "spill")
    assert forth == pytest.approx(back[:, [1, 0, 2, 3]])


def test_on_the_success_axis_more_is_better() -> None:
    annotator = SimulatedAnnotator("s", tie_width={"spill": 0.5, "success": 0.5})
    hazard = annotator.vote_probabilities([0.1], [0.8], [True], "spill")
    success = annotator.vote_probabilities([0.9], [0.2], [True], "success")
    assert hazard == pytest.approx(success)
    assert hazard[0, 0] > 0.8
    with pytest.raises(ValueError, match="axis 'breakage' has no tie_width"):
        annotator.vote_probabilities([0.1], [0.8], [True], "breakage")


def test_both_bad_is_the_tie_of_two_hazards() -> None:
    annotator = SimulatedAnnotator("s", tie_width=2.0)
    safe, bad = annotator.vote_probabilities([0.0, 1.0], [0.0, 1.0], [True, True], "spill")
    assert safe == pytest.approx([0.25, 0.25, 0.5 * (1 - 0.02**2), 0.5 * 0.02**2])
    assert bad == pytest.approx([0.25, 0.25, 0.5 * (1 - 0.98**2), 0.5 * 0.98**2])


def test_votes_follow_the_probabilities() -> None:
    """A chi-square-like bound: each count within 5 standard deviations of what the model says."""
    annotator = SimulatedAnnotator("s", skill=1.0, tie_width=1.0, left_bias=0.5, lapse_rate=0.08)
    votes = cast_votes(PAIRS, ["spill"], [annotator], perceive_constant(0.7), seed=1, budget=400)
    assert len(votes) == 400
    on_left = Counter("left" if v.vote == v.shown_left else "right" if v.vote in ("a", "b") else v.vote for v in votes)
    a, b, tie, both_bad = annotator.vote_probabilities([0.7], [0.7], [True], "spill")[0]
    for name, chance in (("left", a), ("right", b), ("tie", tie), ("both_bad", both_bad)):
        assert abs(on_left[name] - 400 * chance) < 5 * math.sqrt(400 * chance * (1 - chance)), name
    assert on_left["left"] > 1.2 * on_left["right"]  # exp(0.5) = 1.65 without lapses


def test_sides_are_balanced_and_carry_no_information() -> None:
    votes = cast_votes(PAIRS, ["spill"], [SimulatedAnnotator("s")], perceive_x_safe, seed=2, budget=400)
    shown = Counter(vote.shown_left for vote in votes)
    assert 150 <= shown["a"] <= 250  # 5 standard deviations
    for side in ("a", "b"):
        of_side = [vote.vote for vote in votes if vote.shown_left == side]
        assert of_side.count("a") / len(of_side) > 0.9  # x is safer wherever it stands


def test_who_always_lapses_presses_any_button() -> None:
    votes = cast_votes(PAIRS, ["spill"], [SimulatedAnnotator("s", lapse_rate=1.0)], perceive_x_safe, seed=3, budget=400)
    counts = Counter(vote.vote for vote in votes)
    assert set(counts) == {"a", "b", "tie", "both_bad"}
    assert all(57 <= count <= 143 for count in counts.values())  # 100 plus or minus 5 standard deviations


def test_without_tie_width_there_are_no_ties() -> None:
    votes = cast_votes(PAIRS, ["spill"], [SimulatedAnnotator("s", tie_width=0.0)], perceive_constant(0.9), seed=4, budget=400)
    assert {vote.vote for vote in votes} == {"a", "b"}


def test_the_crowd_mostly_agrees_with_the_truth_on_clear_pairs() -> None:
    crowd = make_annotators(8, seed=0)
    assert crowd == make_annotators(8, seed=0)
    assert len({annotator.skill for annotator in crowd}) == 8
    right = np.array([annotator.vote_probabilities([0.02], [0.98], [True], "spill")[0, 0] for annotator in crowd])
    assert 0.94 <= right.mean() <= 0.99
    assert right.min() > 0.92
    alike = np.array([annotator.vote_probabilities([0.02], [0.02], [True], "spill")[0, 2:].sum() for annotator in crowd])
    assert 0.87 <= alike.min() <= alike.max() <= 0.98  # lapses included


def test_a_noisy_crowd_seldom_ties_and_errs_more() -> None:
    plain, noisy = make_annotators(8, seed=0), make_annotators(8, seed=0, crowd="noisy")

    def mean(crowd: list[SimulatedAnnotator], seen_a: float, seen_b: float, choices: slice) -> float:
        return float(np.mean([who.vote_probabilities([seen_a], [seen_b], [True], "spill")[0, choices].sum() for who in crowd]))

    assert mean(noisy, 0.02, 0.02, slice(2, 4)) < 0.4 < 0.9 < mean(plain, 0.02, 0.02, slice(2, 4))
    assert mean(noisy, 0.02, 0.98, slice(1)) < mean(plain, 0.02, 0.98, slice(1))
    with pytest.raises(ValueError, match="plain, noisy"):
        make_annotators(8, seed=0, crowd="wise")


def test_every_vote_is_marked_as_simulated(make_rollouts) -> None:
    pairs = make_pairs(make_rollouts(10, 4), 20, {"pour": ["spill", "success"]}, seed=0)
    crowd = make_annotators(3, seed=0)
    votes = cast_votes(pairs, ["spill", "success", "breakage"], crowd, perceive_constant(0.5), seed=0, budget=10**6)
    assert len(votes) == 20 * 2 * 3  # breakage is no axis of these pairs
    assert all(vote.simulated and vote.guideline_version == "simulated-1" and vote.shown_left for vote in votes)
    assert all(vote.selection == "random" and vote.response_time_s is None for vote in votes)
    check_votes(votes)


def test_the_budget_is_kept_and_a_larger_one_continues_the_smaller() -> None:
    crowd = make_annotators(3, seed=1)
    few = cast_votes(PAIRS[:20], ["spill"], crowd, perceive_x_safe, seed=7, budget=25)
    many = cast_votes(PAIRS[:20], ["spill"], crowd, perceive_x_safe, seed=7, budget=40)
    assert len(few) == 25
    assert few == many[:25]
    assert len({vote.pair_id for vote in few[:20]}) == 20  # every question once before any comes twice
    assert cast_votes(PAIRS[:20], ["spill"], crowd, perceive_x_safe, seed=7, budget=0) == []
    assert {vote.vote_id for vote in many}.isdisjoint(
        vote.vote_id for vote in cast_votes(PAIRS[:20], ["spill"], crowd, perceive_x_safe, seed=8, budget=40)
    )


def test_overlap_asks_several_annotators_first() -> None:
    votes = cast_votes(PAIRS, ["spill"], make_annotators(4, seed=1), perceive_x_safe, seed=7, budget=60, overlap=3)
    assert set(Counter(vote.pair_id for vote in votes).values()) == {3}
    assert all(len({v.annotator_id for v in votes if v.pair_id == pair}) == 3 for pair in {v.pair_id for v in votes})


def test_perceive_is_asked_only_for_what_is_shown() -> None:
    calls = []

    def perceive(rollout_ids, axis):
        calls.append((sorted(rollout_ids), axis))
        return np.full(len(rollout_ids), 0.5)

    cast_votes(PAIRS[:2], ["spill", "success"], make_annotators(2, seed=0), perceive, seed=0, budget=100)
    assert sorted(calls, key=lambda call: call[1]) == [(["x0", "x1", "y0", "y1"], axis) for axis in ("spill", "success")]


@pytest.mark.parametrize("seen", [[0.5], [0.5] * 799 + [1.5], [0.5] * 799 + [math.nan]])
def test_bad_perceptions_are_refused(seen: list[float]) -> None:
    with pytest.raises(ValueError, match="perceive must return 800 probabilities for 'spill'"):
        cast_votes(PAIRS, ["spill"], make_annotators(1, seed=0), lambda ids, axis: seen, seed=0, budget=400)


@pytest.mark.parametrize("bad", [{"skill": 0.0}, {"lapse_rate": 1.1}, {"tie_width": -1.0}, {"tie_width": {"spill": -0.1}}])
def test_impossible_annotators_are_refused(bad) -> None:
    with pytest.raises(ValueError, match="skill must be > 0"):
        SimulatedAnnotator("s", **bad)


def test_bad_arguments_of_cast_votes_are_refused() -> None:
    twins = [SimulatedAnnotator("s"), SimulatedAnnotator("s")]
    for crowd, options in ((twins, {}), (twins[:1], {"overlap": 2}), (twins[:1], {"guideline_version": ""})):
        with pytest.raises(ValueError, match="distinct annotators"):
            cast_votes(PAIRS, ["spill"], crowd, perceive_x_safe, seed=0, budget=1, **options)
