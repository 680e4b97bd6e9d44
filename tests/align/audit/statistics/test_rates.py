"""Rates and means against scipy, arithmetic by hand and known truths."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from scipy import stats

from align.audit.statistics import cluster_rate, count_missing_as_wrong, mean_interval

NAN = math.nan
LEAST_COVERAGE = 0.925
"""A true 95 % less two standard errors of a simulation with 300 data sets."""


@pytest.mark.parametrize(("count", "n"), [(10, 20), (60, 200), (190, 200)])
def test_a_rate_of_independent_outcomes_is_wilsons(count: int, n: int, successes: Callable[[int, int], np.ndarray]) -> None:
    rate = cluster_rate(successes(count, n), np.arange(n), better="lower")
    expected = stats.binomtest(count, n).proportion_ci(method="wilson")
    assert (rate.value, rate.low, rate.high) == pytest.approx((count / n, expected.low, expected.high), abs=1e-12)
    assert (rate.n, rate.num_clusters, rate.num_missing) == (n, n, 0)


@pytest.mark.parametrize(("count", "n"), [(1, 50), (3, 300), (298, 300)])
def test_a_rate_with_few_events_is_clopper_pearsons(count: int, n: int, successes: Callable[[int, int], np.ndarray]) -> None:
    rate = cluster_rate(successes(count, n), np.arange(n), better="lower")
    expected = stats.binomtest(count, n).proportion_ci(method="exact")
    assert (rate.low, rate.high) == pytest.approx((expected.low, expected.high), abs=1e-12)


def test_zero_of_1024_is_at_most_0_29_percent() -> None:
    rate = cluster_rate(np.zeros(1024), np.arange(1024), better="lower")
    assert (rate.value, rate.low) == (0.0, 0.0)
    assert rate.high == pytest.approx(1 - 0.05 ** (1 / 1024))
    assert f"{rate.high:.2%}" == "0.29%"
    assert cluster_rate(np.ones(1024), np.arange(1024), better="higher").low == pytest.approx(1 - rate.high)


def test_zero_of_1024_in_32_clusters_proves_less_than_in_1024() -> None:
    alone = cluster_rate(np.zeros(1024), np.arange(1024), better="lower")
    clustered = cluster_rate(np.zeros(1024), np.arange(1024) % 32, better="lower")
    assert 3 * alone.high < clustered.high < 0.1


def test_copies_of_an_outcome_add_nothing(successes: Callable[[int, int], np.ndarray]) -> None:
    once = cluster_rate(successes(30, 100), np.arange(100), better="lower")
    copied = cluster_rate(np.repeat(successes(30, 100), 10), np.repeat(np.arange(100), 10), better="lower")
    assert copied.n == 1000
    assert copied.high - copied.low >= once.high - once.low


def test_fewer_than_two_clusters_have_no_interval() -> None:
    rate = cluster_rate([1, 0, 1], ["a"] * 3, better="lower")
    assert rate.value == pytest.approx(2 / 3)
    assert math.isnan(rate.low)
    assert math.isnan(rate.high)
    empty = cluster_rate([], [], better="lower")
    assert math.isnan(empty.value)
    assert (empty.n, empty.num_clusters) == (0, 0)
    assert empty.as_dict() == {"value": None, "low": None, "high": None, "n": 0, "num_clusters": 0, "num_missing": 0}


def test_unreadable_is_wrong_on_both_sides_or_dropped_but_always_counted() -> None:
    outcomes, clusters = [1.0, NAN, 0.0, NAN], ["a", "a", "b", "c"]
    shown = cluster_rate(outcomes, clusters, better="higher")
    hallucinated = cluster_rate(outcomes, clusters, better="lower")
    dropped = cluster_rate(outcomes, clusters, missing="drop")
    assert (shown.value, hallucinated.value, dropped.value) == (0.25, 0.75, 0.5)
    assert [r.n for r in (shown, hallucinated, dropped)] == [4, 4, 2]
    assert [r.num_missing for r in (shown, hallucinated, dropped)] == [2, 2, 2]
    assert dropped.num_clusters == 2
    assert np.array_equal(count_missing_as_wrong([NAN, 0.0], "lower"), [1.0, 0.0])


def test_wrong_needs_to_know_which_way_is_good_even_when_nothing_is_missing() -> None:
    with pytest.raises(ValueError, match="better must be"):
        cluster_rate([0.0, 1.0], ["a", "b"])


def test_cluster_interval_covers_where_the_iid_interval_fails(draw_clustered: Callable[..., np.ndarray]) -> None:
    rng, p, clusters = np.random.default_rng(1), 0.3, np.repeat(np.arange(32), 16)
    draws = [draw_clustered(rng, p, 0.2, 32, 16) for _ in range(300)]
    rates = [cluster_rate(draw, clusters, better="lower") for draw in draws]
    iid = [stats.binomtest(int(draw.sum()), draw.size).proportion_ci(method="wilson") for draw in draws]
    assert LEAST_COVERAGE <= np.mean([r.low <= p <= r.high for r in rates]) <= 0.975
    assert np.mean([i.low <= p <= i.high for i in iid]) < 0.75


def test_rare_clustered_events_are_covered_too(draw_clustered: Callable[..., np.ndarray]) -> None:
    rng, p, clusters = np.random.default_rng(2), 0.01, np.repeat(np.arange(32), 16)
    rates = [cluster_rate(draw_clustered(rng, p, 0.2, 32, 16), clusters, better="lower") for _ in range(300)]
    assert min(r.value for r in rates) == 0.0
    assert np.mean([r.low <= p <= r.high for r in rates]) >= LEAST_COVERAGE


def test_mean_of_equal_clusters_is_the_t_interval_of_cluster_means() -> None:
    rng = np.random.default_rng(0)
    values = rng.normal(size=(12, 5)) + rng.normal(size=(12, 1))
    got = mean_interval(values.ravel(), np.repeat(np.arange(12), 5))
    means = values.mean(1)
    expected = stats.t.interval(0.95, 11, loc=means.mean(), scale=stats.sem(means))
    assert (got.low, got.high) == pytest.approx(expected, abs=1e-12)


def test_mean_drops_and_counts_nan() -> None:
    got = mean_interval([1.0, 3.0, NAN, 5.0], ["a", "b", "c", "c"])
    assert (got.value, got.n, got.num_clusters, got.num_missing) == (3.0, 3, 3, 1)
