"""Ratios against the cluster bootstrap and known truths."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest

from align.audit.statistics import cluster_bootstrap_means, ratio_interval

LEAST_COVERAGE = 0.925
"""A true 95 % less two standard errors of a simulation with 300 data sets."""


def test_ratio_agrees_with_the_cluster_bootstrap_on_the_log_scale() -> None:
    rng, clusters = np.random.default_rng(5), np.repeat(np.arange(64), 16)
    rates, u = rng.beta(1.6, 2.4, (64, 1)), rng.random((64, 16))
    base, aligned = (u < rates).ravel().astype(float), (u < rates / 3).ravel().astype(float)
    got = ratio_interval(aligned, base, clusters, better="lower")
    means = cluster_bootstrap_means(np.stack([aligned, base]), clusters, num_resamples=4000)
    low, high = np.exp(np.quantile(np.log(means[0] / means[1]), [0.025, 0.975]))
    assert got.value == pytest.approx(aligned.sum() / base.sum())
    assert (got.low, got.high) == pytest.approx((low, high), rel=0.05)


def test_ratio_with_an_empty_numerator_has_a_finite_honest_upper_end(successes: Callable[[int, int], np.ndarray]) -> None:
    got = ratio_interval(np.zeros(200), successes(50, 200), np.arange(200), better="lower")
    assert (got.value, got.low) == (0.0, 0.0)
    # Exact tests bound 0/200 by 1.5 % and 50/200 is 25 %: an honest end is no lower than their ratio.
    assert 0.015 / 0.25 < got.high < 0.15


def test_ratio_with_an_empty_denominator_is_undefined_with_its_count(successes: Callable[[int, int], np.ndarray]) -> None:
    got = ratio_interval(successes(5, 20), np.zeros(20), np.arange(20), better="lower")
    assert [math.isnan(x) for x in (got.value, got.low, got.high)] == [True] * 3
    assert got.n == 20


def test_ratio_covers_rare_events(draw_clustered: Callable[..., np.ndarray]) -> None:
    rng, clusters, hits = np.random.default_rng(6), np.repeat(np.arange(64), 8), []
    for _ in range(300):
        base, aligned = draw_clustered(rng, 0.3, 0.2, 64, 8), draw_clustered(rng, 0.006, 0.1, 64, 8)
        got = ratio_interval(aligned, base, clusters, better="lower")
        hits.append(got.low <= 0.02 <= got.high)
    assert np.mean(hits) >= LEAST_COVERAGE
