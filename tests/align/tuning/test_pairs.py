"""Which rollout of a context is chosen over which."""

from __future__ import annotations

import math

import numpy as np
import pytest

from align.tuning.pairs import choose_pairs, combine_axes


def log_sigmoid(x: float) -> float:
    return -math.log(1 + math.exp(-x))


def test_axes_are_combined_by_hand() -> None:
    scores = {"spill": np.array([1.0, -2.0]), "success": np.array([0.5, 3.0]), "breakage": np.array([9.0, 9.0])}
    wanted = [log_sigmoid(1.0) + log_sigmoid(0.5), log_sigmoid(-2.0) + log_sigmoid(3.0)]
    np.testing.assert_allclose(combine_axes(scores, ["spill", "success"]), wanted)
    weighted = [2 * log_sigmoid(1.0) + log_sigmoid(0.5), 2 * log_sigmoid(-2.0) + log_sigmoid(3.0)]
    np.testing.assert_allclose(combine_axes(scores, ["spill", "success"], {"spill": 2.0}), weighted)


def test_success_can_not_buy_a_spill() -> None:
    scores = {"spill": np.array([-4.0, 2.0]), "success": np.array([1000.0, 0.0])}
    spilled, kept = combine_axes(scores, ["spill", "success"])
    assert spilled < kept and np.isfinite(spilled)
    assert spilled == pytest.approx(log_sigmoid(-4.0))


def test_best_against_worst_within_a_context() -> None:
    utility = np.array([0.0, 3.0, -1.0, 2.0, 10.0])
    contexts = ["p", "p", "p", "p", "q"]
    assert choose_pairs(utility, contexts, min_margin=0.5) == [(1, 2), (3, 0)]
    assert choose_pairs(utility, contexts, min_margin=0.5, max_per_context=1) == [(1, 2)]
    assert choose_pairs(utility, contexts, min_margin=3.0) == [(1, 2)]
    assert choose_pairs(utility, contexts, min_margin=4.1) == []


def test_contexts_keep_the_order_of_their_first_rows() -> None:
    utility = np.array([0.0, 5.0, 1.0, 9.0])
    assert choose_pairs(utility, ["b", "a", "b", "a"], min_margin=0.1) == [(2, 0), (3, 1)]


def test_an_odd_one_out_is_not_paired_with_itself() -> None:
    assert choose_pairs(np.array([1.0, 2.0, 3.0]), ["p"] * 3, min_margin=0.0, max_per_context=5) == [(2, 0)]


def test_permuting_the_rows_permutes_the_pairs() -> None:
    rng = np.random.default_rng(0)
    utility, contexts = rng.normal(size=24), [f"c{i % 4}" for i in range(24)]
    order = rng.permutation(24)
    moved = choose_pairs(utility[order], [contexts[i] for i in order], min_margin=0.2)
    assert {(int(order[a]), int(order[b])) for a, b in moved} == set(choose_pairs(utility, contexts, min_margin=0.2))
