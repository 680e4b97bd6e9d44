"""Quantiles and exact tests against scipy.stats."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from align.audit.statistics import quantiles


@pytest.mark.parametrize("tail", [1e-9, 0.00125, 0.025, 0.2, 0.7])
def test_tails_and_quantiles(tail: float) -> None:
    assert quantiles.normal_isf(tail) == pytest.approx(stats.norm.isf(tail), rel=1e-12)
    for dof in (1, 4, 31.5, 1000):
        value = quantiles.t_isf(tail, dof)
        assert value == pytest.approx(stats.t.isf(tail, dof), rel=1e-9)
        assert quantiles.t_sf(value, dof) == pytest.approx(tail, rel=1e-8)
    for a, b in ((1, 30), (3.4, 1000.2)):
        assert quantiles.beta_ppf(tail, a, b) == pytest.approx(stats.beta.ppf(tail, a, b), rel=1e-10)
        assert quantiles.beta_isf(tail, a, b) == pytest.approx(stats.beta.isf(tail, a, b), rel=1e-10)
        assert quantiles.beta_cdf(0.02, a, b) == pytest.approx(stats.beta.cdf(0.02, a, b), rel=1e-10)


@pytest.mark.parametrize("count", [1, 7, 5000])
def test_the_fair_coin(count: int) -> None:
    assert quantiles.fair_binomial(count) == pytest.approx(stats.binom.pmf(np.arange(count + 1), count, 0.5), rel=1e-9)


@pytest.mark.parametrize("table", [(1, 500, 9, 500), (0, 20, 0, 30), (0, 20, 30, 30), (3, 7, 4, 90), (12, 400, 13, 410)])
def test_fishers_exact_test(table: tuple[int, int, int, int]) -> None:
    events_a, n_a, events_b, n_b = table
    expected = stats.fisher_exact([[events_a, n_a - events_a], [events_b, n_b - events_b]]).pvalue
    assert quantiles.fisher_exact(*table) == pytest.approx(expected, rel=1e-9)
