"""Gaps between groups against scipy, arithmetic by hand, a loop over resamples and known truths."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from scipy import stats

from align.audit.statistics import GapBootstrap, TwoGroups, bootstrap_weights, difference


def two_groups(values: np.ndarray, groups: np.ndarray, clusters: np.ndarray, is_rate: bool = True) -> TwoGroups:
    """Group 1 against group 0."""
    num = int(clusters.max()) + 1
    sums = [np.bincount(clusters, weights=values * (groups == g), minlength=num) for g in (0, 1)]
    counts = [np.bincount(clusters, weights=(groups == g).astype(float), minlength=num) for g in (0, 1)]
    return TwoGroups(sums[0], counts[0], sums[1], counts[1], is_rate)


def test_independent_rates_are_tested_by_pearsons_chi_square() -> None:
    values = np.r_[np.ones(300), np.zeros(700), np.ones(360), np.zeros(640)]
    groups = np.repeat([0, 1], 1000)
    found = two_groups(values, groups, np.arange(2000))
    expected = stats.chi2_contingency([[300, 700], [360, 640]], correction=False).pvalue
    assert found.gap == pytest.approx(0.06)
    assert found.p_value() == pytest.approx(expected, rel=0.05)  # t with 999 degrees of freedom


def test_few_events_are_tested_no_more_boldly_than_by_fisher() -> None:
    values = np.r_[np.ones(1), np.zeros(499), np.ones(9), np.zeros(491)]
    found = two_groups(values, np.repeat([0, 1], 500), np.arange(1000))
    assert found.p_value() == pytest.approx(stats.fisher_exact([[1, 499], [9, 491]]).pvalue)


def test_copies_in_clusters_prove_nothing_more() -> None:
    rng = np.random.default_rng(0)
    values, groups = (rng.random(400) < 0.3).astype(float), np.arange(400) % 2
    once = two_groups(values, groups, np.arange(400))
    copied = two_groups(np.repeat(values, 8), np.repeat(groups, 8), np.repeat(np.arange(400), 8))
    assert copied.p_value() == pytest.approx(once.p_value(), rel=0.02)
    smallest = [found.power().smallest(0.05, 0.8) for found in (once, copied)]
    assert smallest[1] == pytest.approx(smallest[0], rel=0.05)


def test_a_context_that_both_groups_share_takes_no_part_in_the_gap() -> None:
    rng = np.random.default_rng(0)
    clusters, groups = np.repeat(np.arange(64), 8), np.tile([0, 1], 256)
    rates = rng.beta(0.5, 0.8, 64)[clusters]
    values = (rng.random(512) < rates).astype(float)
    shared = two_groups(values, groups, clusters)
    apart = two_groups(values, groups, clusters * 2 + groups)
    assert shared.design_effect < 0.7 < 2 < apart.design_effect
    assert shared.power().smallest(0.05, 0.8) < 0.6 * apart.power().smallest(0.05, 0.8)


def test_swapping_the_groups_flips_the_gap_and_nothing_else() -> None:
    rng = np.random.default_rng(1)
    values, groups, clusters = (rng.random(300) < 0.2).astype(float), rng.integers(0, 2, 300), rng.integers(0, 40, 300)
    there, back = two_groups(values, groups, clusters), two_groups(values, 1 - groups, clusters)
    assert there.gap == -back.gap
    assert there.p_value() == pytest.approx(back.p_value())
    assert there.closed_interval(0.95) == pytest.approx([-x for x in reversed(back.closed_interval(0.95))])


def test_numbers_are_tested_around_the_pooled_mean() -> None:
    rng = np.random.default_rng(2)
    values = rng.normal(size=400) + np.repeat([0.0, 0.3], 200)
    found = two_groups(values, np.repeat([0, 1], 200), np.arange(400), is_rate=False)
    assert found.p_value() == pytest.approx(stats.ttest_ind(values[:200], values[200:]).pvalue, rel=0.1)
    flat = two_groups(np.full(40, 3.0), np.repeat([0, 1], 20), np.arange(40), is_rate=False)
    assert math.isnan(flat.p_value())


def test_nothing_is_concluded_from_one_cluster_or_from_no_events() -> None:
    lonely = two_groups(np.array([1.0, 0.0, 1.0]), np.array([0, 1, 1]), np.array([0, 1, 2]))
    assert math.isnan(lonely.p_value())
    calm = two_groups(np.zeros(200), np.arange(200) % 2, np.arange(200))
    assert calm.p_value() == 1.0
    assert 0.05 < calm.power().smallest(0.05, 0.8) < 0.2


def test_the_closed_interval_is_that_of_two_independent_sets() -> None:
    rng = np.random.default_rng(3)
    values, clusters = (rng.random(200) < 0.1).astype(float), np.arange(200) // 2
    groups = clusters % 2
    found = two_groups(values, groups, clusters).closed_interval(0.95)
    sides = [(values[groups == g], clusters[groups == g]) for g in (0, 1)]
    expected = difference(*sides[0], *sides[1], better="lower")
    assert found == pytest.approx((expected.low, expected.high))


def test_bootstrapped_ends_equal_a_loop_over_resamples() -> None:
    rng = np.random.default_rng(4)
    sums, counts = rng.random((30, 3)), rng.integers(0, 4, (30, 3)).astype(float)
    pairs = np.array([[0, 1], [2, 0]])
    got = GapBootstrap(30, 200, seed=5).intervals(sums, counts, pairs, 0.9, np.array([12, 20]))
    for (a, b), clusters, ends in zip(pairs, (12, 20), got, strict=True):
        gaps = []
        for weights in bootstrap_weights(30, 200, seed=5):
            total, number = weights @ sums, weights @ counts
            gaps.append(total[b] / number[b] - total[a] / number[a])
        centre = sums[:, b].sum() / counts[:, b].sum() - sums[:, a].sum() / counts[:, a].sum()
        spread = math.sqrt(clusters / (clusters - 1)) * stats.t.isf(0.05, clusters - 1) / stats.norm.isf(0.05)
        assert ends == pytest.approx(centre + spread * (np.quantile(gaps, [0.05, 0.95]) - centre))


def test_very_many_clusters_are_drawn_in_bundles_to_the_same_effect() -> None:
    rng = np.random.default_rng(6)
    sums = (rng.random((20_000, 2)) < [0.2, 0.25]).astype(float)
    counts, pairs, clusters = np.ones((20_000, 2)), np.array([[0, 1]]), np.array([20_000])
    bootstrap = GapBootstrap(20_000, 1000)
    bundled = [
        np.stack([np.bincount(bootstrap.bundles, weights=column, minlength=bootstrap.num_bundles) for column in values.T], 1)
        for values in (sums, counts)
    ]
    assert bundled[0].shape == (4096, 2)
    low, high = bootstrap.intervals(*bundled, pairs, 0.95, clusters)[0]
    half = 1.96 * math.sqrt(0.2 * 0.8 / 20_000 + 0.25 * 0.75 / 20_000)
    assert (high - low) / 2 == pytest.approx(half, rel=0.1)
    assert (high + low) / 2 == pytest.approx(sums[:, 1].mean() - sums[:, 0].mean(), abs=half / 5)


def test_gap_intervals_cover_clustered_truth(draw_clustered: Callable[..., np.ndarray]) -> None:
    rng, clusters, hits, groups = np.random.default_rng(7), np.repeat(np.arange(48), 8), [], np.repeat(np.arange(48) % 2, 8)
    bootstrap = GapBootstrap(48, 400)
    for _ in range(300):
        values = draw_clustered(rng, 0.3, 0.2, 48, 8)
        found = two_groups(values, groups, clusters)
        sums, counts = np.stack([found.sums_a, found.sums_b], 1), np.stack([found.counts_a, found.counts_b], 1)
        low, high = bootstrap.intervals(sums, counts, np.array([[0, 1]]), 0.95, np.array([24]))[0]
        hits.append(low <= 0 <= high)
    assert 0.92 <= np.mean(hits) <= 0.98
