from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest

from align.preferences.statistics import agreement
from align.preferences.statistics.agreement import (
    any_break_agreement,
    break_agreement,
    canonical,
    comparable_votes,
    vote_agreement,
)
from align.preferences.statistics.alpha import NO_OVERLAP, NO_RATINGS, ONE_VALUE
from align.preferences.votes.schema import Breakpoint


@pytest.fixture
def make_break() -> Callable[..., Breakpoint]:
    numbers = iter(range(1000))

    def make(rollout: str, annotator: str, time_s: float | None, **fields) -> Breakpoint:
        row = {"breakpoint_id": f"b{next(numbers)}", "rollout_id": rollout, "annotator_id": annotator}
        row |= {"none": True} if time_s is None else {"time_s": time_s, "severity": 2}
        return Breakpoint(**{**row, **fields})

    return make


def test_a_pair_is_one_unit_whichever_way_round_it_is_stored(make_vote) -> None:
    forth = make_vote("v1", "a", annotator_id="x", pair_id="p1", rollout_a="r1", rollout_b="r2", shown_left="b")
    back = make_vote("v2", "b", annotator_id="y", pair_id="p2", rollout_a="r2", rollout_b="r1", shown_left="b")
    first, second = canonical(forth), canonical(back)
    assert first.unit == second.unit
    assert (first.value, second.value, first.left_id, second.left_id) == ("first", "first", "r2", "r1")
    other = [
        make_vote(f"w{i}", vote, annotator_id=who, pair_id="p3", context_id="c2")
        for i, (vote, who) in enumerate([("b", "x"), ("b", "y")])
    ]
    assert vote_agreement([forth, back, *other]).value == 1
    assert vote_agreement([forth, back, *other]).num_units == 2


def test_both_bad_is_a_tie_unless_it_is_asked_apart(make_vote) -> None:
    votes = [
        make_vote("v1", "tie", annotator_id="x"),
        make_vote("v2", "both_bad", annotator_id="y"),
        make_vote("v3", "a", annotator_id="x", pair_id="p2", context_id="c2"),
        make_vote("v4", "a", annotator_id="y", pair_id="p2", context_id="c2"),
    ]
    assert vote_agreement(votes).value == 1
    assert vote_agreement(votes, both_bad=True).value < 1


def test_what_does_not_count_for_agreement(make_vote) -> None:
    votes = [
        make_vote("v1", "a", annotator_id="x"),
        make_vote("v2", "b", annotator_id="x", supersedes="v1"),
        make_vote("v3", "skip", annotator_id="y"),
        make_vote("v4", "a", annotator_id="z", selection="gold", pair_id="p9", context_id="c9"),
        make_vote("v5", "tie", annotator_id="z", selection="catch", pair_id="p8", rollout_b="r1"),
        make_vote("v6", "a", annotator_id="z", selection="twin"),
        make_vote("v7", "b", annotator_id="z", selection="twin"),  # a repeat by the same person
        make_vote("v8", "b"),
        make_vote("v9", "b"),  # two people whose names nobody wrote down
    ]
    assert [row.vote.vote_id for row in comparable_votes(votes)] == ["v2", "v6", "v8", "v9"]
    assert [row.vote.vote_id for row in comparable_votes(votes, trials=True)] == ["v2", "v4", "v5", "v6", "v8", "v9"]
    assert vote_agreement(votes).num_ratings == 4


def test_axes_are_units_of_their_own(make_vote) -> None:
    votes = [
        make_vote(f"{axis}{who}", "a" if axis == "spill" else "b", annotator_id=who, axis=axis)
        for axis in ("spill", "success")
        for who in "xy"
    ]
    assert vote_agreement(votes).num_units == 2
    assert vote_agreement([vote for vote in votes if vote.axis == "spill"]).reason == ONE_VALUE


# ------------------------------------------------------------------------------------------------------------ break-points


def test_break_agreement_by_hand(make_break) -> None:
    """Rollout r: x at 1.0 and 3.0, y at 1.1. Within 0.2 s one of three marks' pairs matches: F1 = 2 * 1 / 3."""
    rows = [
        make_break("r", "x", 1.0),
        make_break("r", "x", 3.0),
        make_break("r", "y", 1.1),
        make_break("s", "x", None),
        make_break("s", "y", None),
    ]
    narrow, wide = break_agreement(rows, [0.05, 0.2])
    assert narrow.agreement == pytest.approx((0 + 1) / 2)
    assert wide.agreement == pytest.approx((2 / 3 + 1) / 2)
    # D_o: both orders of each rollout's pair over 4 answers. D_e: 12 ordered pairs; x's and y's marks never match "no breaks".
    assert wide.alpha.value == pytest.approx(1 - (2 * (1 / 3) / 4) / ((2 * (1 / 3) + 8) / 12))
    assert (wide.alpha.num_units, wide.alpha.num_ratings) == (2, 4)


def test_matching_is_one_to_one(make_break) -> None:
    rows = [make_break("r", "x", time) for time in (1.0, 1.1, 1.2)] + [make_break("r", "y", 1.1)]
    (row,) = break_agreement(rows, [1.0])
    assert row.agreement == pytest.approx(2 * 1 / 4)


def test_the_merge_finds_the_most_matches() -> None:
    """Against all assignments: the greedy merge on sorted times must find as many as the best one-to-one matching."""
    from scipy.optimize import linear_sum_assignment

    rng = np.random.default_rng(0)
    for _ in range(200):
        a, b = (np.sort(rng.uniform(0, 3, rng.integers(0, 5))) for _ in range(2))
        close = np.abs(a[:, None] - b) <= 0.4
        best = close[linear_sum_assignment(-close.astype(float))].sum() if close.size else 0
        padded = agreement._pad([a.tolist(), b.tolist()])
        expected = 1 - (2 * best / (len(a) + len(b)) if len(a) + len(b) else 1)
        assert agreement._distances(padded[:1], padded[1:], 0.4)[0] == pytest.approx(expected)


def test_agreement_grows_with_the_tolerance(make_break) -> None:
    rng = np.random.default_rng(1)
    rows = []
    for rollout in range(30):
        truth = rng.uniform(0.2, 4)
        rows += [make_break(f"r{rollout}", who, max(0.0, truth + rng.normal(0, 0.15))) for who in "xyz"]
    sweep = break_agreement(rows, num_resamples=200)
    shares = [row.agreement for row in sweep]
    assert shares == sorted(shares)
    assert [row.tolerance_s for row in sweep] == list(agreement.TOLERANCES_S)
    middle = sweep[2].alpha
    assert middle.low < middle.value < middle.high
    assert sweep[3].alpha.value > 0.8 > middle.value > sweep[0].alpha.value
    assert sweep == break_agreement(rows, num_resamples=200)


def test_one_frame_at_25_hz_is_within_the_smallest_tolerance(make_break) -> None:
    rows = [make_break("r", "x", 3.5 / 25), make_break("r", "y", 4.5 / 25)]
    assert break_agreement(rows, [0.04])[0].agreement == 1


def test_random_marks_agree_no_more_than_by_chance(make_break) -> None:
    rng = np.random.default_rng(2)
    rows = [make_break(f"r{rollout}", who, float(rng.uniform(0, 4))) for rollout in range(80) for who in "xy"]
    (row,) = break_agreement(rows, [0.5])
    assert row.alpha.low < 0 < row.alpha.high
    assert row.agreement > 0.1


def test_silence_is_no_answer_and_no_breaks_is_one(make_break) -> None:
    silent = [make_break("r", "x", 1.0)]  # y saw r as well and said nothing
    assert break_agreement(silent)[0].alpha.reason == NO_OVERLAP
    assert break_agreement([])[0].alpha.reason == NO_RATINGS
    explicit = [*silent, make_break("r", "y", None)]
    assert break_agreement(explicit)[0].agreement == 0
    agreed = [make_break("r", "x", None), make_break("r", "y", None)]
    assert (break_agreement(agreed)[0].agreement, break_agreement(agreed)[0].alpha.reason) == (1, ONE_VALUE)
    unsigned = [*silent, make_break("r", "", 1.0)]
    assert break_agreement(unsigned)[0].alpha.num_units == 0


def test_corrected_marks_do_not_count(make_break) -> None:
    wrong = make_break("r", "x", 0.1)
    rows = [wrong, make_break("r", "x", 2.0, supersedes=wrong.breakpoint_id), make_break("r", "y", 2.0)]
    assert break_agreement(rows, [0.1])[0].agreement == 1


def test_whether_a_rollout_breaks_at_all(make_break) -> None:
    rows = [make_break("r", "x", 1.0), make_break("r", "y", 3.9), make_break("s", "x", None), make_break("s", "y", None)]
    assert any_break_agreement(rows).value == 1
    assert break_agreement(rows, [0.1])[0].alpha.value < 1
    assert math.isnan(any_break_agreement([]).value)


def test_many_answers_are_sampled_by_seed(make_break, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(3)
    rows = [make_break(f"r{rollout}", who, float(rng.uniform(0, 4))) for rollout in range(40) for who in "xyz"]
    exact = break_agreement(rows, [0.5])[0].alpha.value
    monkeypatch.setattr(agreement, "MAX_ANSWERS", 60)
    sampled = break_agreement(rows, [0.5])[0].alpha.value
    assert sampled == break_agreement(rows, [0.5])[0].alpha.value
    assert sampled != exact
    assert sampled == pytest.approx(exact, abs=0.1)


def test_a_negative_tolerance_is_refused() -> None:
    with pytest.raises(ValueError, match="must not be negative"):
        break_agreement([], [-0.1])
