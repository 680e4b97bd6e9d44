from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from align.preferences.statistics.saddlepoint import lower_tail


def test_against_all_outcomes_counted() -> None:
    """Nine three-valued variables have 19,683 outcomes; each tail is within 15 % and half a point of the exact one."""
    rng = np.random.default_rng(0)
    values, chances = rng.normal(size=(9, 3)), rng.dirichlet(np.ones(3), size=9)
    outcomes = np.array(list(product(range(3), repeat=9)))
    totals = values[np.arange(9), outcomes].sum(axis=1)
    weights = chances[np.arange(9), outcomes].prod(axis=1)
    for level in (1e-3, 0.01, 0.1, 0.3, 0.5, 0.7, 0.95):
        order = np.argsort(totals)
        t = totals[order][np.searchsorted(np.cumsum(weights[order]), level)]
        exact = weights[totals <= t].sum()
        found = lower_tail(values, chances[:, None], np.zeros(9, dtype=np.int64), 1, np.array([t]))
        assert found.shape == (1, 1)
        assert found[0, 0] == pytest.approx(exact, rel=0.15, abs=0.005 if level > 0.05 else 0)


def test_groups_and_hypotheses_are_kept_apart() -> None:
    rng = np.random.default_rng(1)
    values, chances = rng.normal(size=(40, 3)), rng.dirichlet(np.ones(3), size=(40, 2))
    group, totals = np.repeat([0, 1], 20), np.array([-5.0, 2.0])
    both = lower_tail(values, chances, group, 2, totals)
    for g in (0, 1):
        for s in (0, 1):
            rows = group == g
            alone = lower_tail(values[rows], chances[rows][:, [s]], np.zeros(20, dtype=np.int64), 1, totals[[g]])
            assert both[g, s] == pytest.approx(alone[0, 0])


def test_the_far_tail_of_a_binomial() -> None:
    """3 or fewer of 60 at one half: 6.2e-14, where the normal approximation says 1.4e-12 at best."""
    from scipy import stats

    values = np.tile([0.0, 1.0], (60, 1))
    found = lower_tail(values, np.full((60, 1, 2), 0.5), np.zeros(60, dtype=np.int64), 1, np.array([3.5]))
    assert found[0, 0] == pytest.approx(stats.binom.cdf(3, 60, 0.5), rel=0.3)


def test_the_edges_of_what_is_possible() -> None:
    values, chances = np.tile([0.0, 1.0], (10, 1)), np.full((10, 1, 2), 0.5)
    zeros = np.zeros(10, dtype=np.int64)
    assert lower_tail(values, chances, zeros, 1, np.array([0.0]))[0, 0] == pytest.approx(0.5**10, rel=0.01)
    assert lower_tail(values, chances, zeros, 1, np.array([10.0]))[0, 0] == 1
    assert lower_tail(np.zeros((10, 2)), chances, zeros, 1, np.array([0.0]))[0, 0] == 1
