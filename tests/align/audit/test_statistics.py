"""The intervals against scipy, scikit-learn, arithmetic by hand and known truths."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import roc_auc_score

from align.audit import statistics
from align.audit.statistics import (
    auroc,
    bootstrap_weights,
    cluster_bootstrap_means,
    cluster_rate,
    count_missing_as_wrong,
    difference,
    expected_calibration_error,
    mean_interval,
    paired_difference,
    ratio_interval,
)

NAN = math.nan
LEAST_COVERAGE = 0.925
"""A true 95 % less two standard errors of a simulation with 300 data sets."""


def successes(count: int, n: int) -> np.ndarray:
    return (np.arange(n) < count).astype(float)


def draw_clustered(rng: np.random.Generator, p: float, icc: float, clusters: int, size: int) -> np.ndarray:
    """Beta-binomial outcomes, float [clusters * size]."""
    scale = (1 - icc) / icc
    rates = rng.beta(p * scale, (1 - p) * scale, (clusters, 1))
    return (rng.random((clusters, size)) < rates).astype(float).ravel()


# ---------------------------------------------------------------------------------------------------------------- rates


@pytest.mark.parametrize(("count", "n"), [(10, 20), (60, 200), (190, 200)])
def test_a_rate_of_independent_outcomes_is_wilsons(count: int, n: int) -> None:
    rate = cluster_rate(successes(count, n), np.arange(n), better="lower")
    expected = stats.binomtest(count, n).proportion_ci(method="wilson")
    assert (rate.value, rate.low, rate.high) == pytest.approx((count / n, expected.low, expected.high), abs=1e-12)
    assert (rate.n, rate.num_clusters, rate.num_missing) == (n, n, 0)


@pytest.mark.parametrize(("count", "n"), [(1, 50), (3, 300), (298, 300)])
def test_a_rate_with_few_events_is_clopper_pearsons(count: int, n: int) -> None:
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


def test_copies_of_an_outcome_add_nothing() -> None:
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


def test_cluster_interval_covers_where_the_iid_interval_fails() -> None:
    rng, p, clusters = np.random.default_rng(1), 0.3, np.repeat(np.arange(32), 16)
    draws = [draw_clustered(rng, p, 0.2, 32, 16) for _ in range(300)]
    rates = [cluster_rate(draw, clusters, better="lower") for draw in draws]
    iid = [stats.binomtest(int(draw.sum()), draw.size).proportion_ci(method="wilson") for draw in draws]
    assert LEAST_COVERAGE <= np.mean([r.low <= p <= r.high for r in rates]) <= 0.975
    assert np.mean([i.low <= p <= i.high for i in iid]) < 0.75


def test_rare_clustered_events_are_covered_too() -> None:
    rng, p, clusters = np.random.default_rng(2), 0.01, np.repeat(np.arange(32), 16)
    rates = [cluster_rate(draw_clustered(rng, p, 0.2, 32, 16), clusters, better="lower") for _ in range(300)]
    assert min(r.value for r in rates) == 0.0
    assert np.mean([r.low <= p <= r.high for r in rates]) >= LEAST_COVERAGE


# ------------------------------------------------------------------------------------------------- means and differences


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


def test_paired_difference_of_numbers_is_the_paired_t_interval() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=40), rng.normal(1.0, 1.0, size=40)
    got = paired_difference(a, b, np.arange(40), missing="drop")
    expected = stats.ttest_rel(b, a).confidence_interval()
    assert (got.low, got.high) == pytest.approx((expected.low, expected.high), abs=1e-12)


def test_paired_difference_of_outcomes_by_hand() -> None:
    # 100 independent pairs: 12 worsen, 4 mend. Agresti-Min: n* = 102, 12.5 and 4.5 discordant.
    a = np.r_[np.zeros(12), np.ones(4), np.zeros(84)]
    b = np.r_[np.ones(12), np.zeros(4), np.zeros(84)]
    got = paired_difference(a, b, np.arange(100), better="lower")
    centre = 8 / 102
    half = 1.959963985 * math.sqrt((17 / 102 - centre**2) / 102)
    assert got.value == pytest.approx(0.08)
    assert (got.low, got.high) == pytest.approx((centre - half, centre + half), abs=1e-8)


def test_no_discordant_pair_is_not_certainty() -> None:
    got = paired_difference(np.zeros(64), np.zeros(64), np.arange(64) % 16, better="lower")
    assert got.value == 0.0
    assert got.low < -0.03
    assert got.high > 0.03


def test_swapping_a_pair_flips_the_sign() -> None:
    rng = np.random.default_rng(3)
    a, b, clusters = rng.integers(0, 2, 60), rng.integers(0, 2, 60), np.arange(60) % 12
    there, back = paired_difference(a, b, clusters, better="lower"), paired_difference(b, a, clusters, better="lower")
    assert (there.value, there.low, there.high) == pytest.approx((-back.value, -back.high, -back.low))
    there = difference(a, clusters, b, clusters, better="lower")
    back = difference(b, clusters, a, clusters, better="lower")
    assert (there.value, there.low, there.high) == pytest.approx((-back.value, -back.high, -back.low))


def test_paired_missing_is_wrong_for_the_side_that_misses() -> None:
    got = paired_difference([1.0, NAN], [NAN, 1.0], ["a", "b"], better="higher")
    assert (got.value, got.n, got.num_missing) == (0.0, 2, 2)
    dropped = paired_difference([1.0, NAN, 0.0], [NAN, 1.0, 1.0], ["a", "b", "c"], missing="drop")
    assert (dropped.value, dropped.n, dropped.num_missing) == (1.0, 1, 2)
    assert math.isnan(dropped.low)


def test_unpaired_difference_is_newcombes() -> None:
    got = difference(successes(56, 70), np.arange(70), successes(48, 80), np.arange(80), better="higher")
    # Newcombe (1998), 56/70 against 48/80, method 10: 0.0524 to 0.3339 for a - b.
    assert (-got.high, -got.low) == pytest.approx((0.0524, 0.3339), abs=5e-5)


def test_unpaired_difference_of_numbers_is_welchs() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=30), rng.normal(2, 3, size=50)
    got = difference(a, np.arange(30), b, np.arange(50), missing="drop")
    expected = stats.ttest_ind(b, a, equal_var=False).confidence_interval()
    assert (got.low, got.high) == pytest.approx((expected.low, expected.high), abs=1e-12)


def test_paired_difference_covers_clustered_truth() -> None:
    rng, clusters, hits = np.random.default_rng(4), np.repeat(np.arange(32), 16), []
    for _ in range(300):
        rates = rng.beta(1.6, 2.4, (32, 1))  # mean 0.4, ICC 0.2
        u = rng.random((32, 16))
        got = paired_difference((u < rates).ravel(), (u < rates / 2).ravel(), clusters, better="lower")
        hits.append(got.low <= -0.2 <= got.high)
    assert LEAST_COVERAGE <= np.mean(hits) <= 0.975


# -------------------------------------------------------------------------------------------------------------- ratios


def test_ratio_agrees_with_the_cluster_bootstrap_on_the_log_scale() -> None:
    rng, clusters = np.random.default_rng(5), np.repeat(np.arange(64), 16)
    rates, u = rng.beta(1.6, 2.4, (64, 1)), rng.random((64, 16))
    base, aligned = (u < rates).ravel().astype(float), (u < rates / 3).ravel().astype(float)
    got = ratio_interval(aligned, base, clusters, better="lower")
    means = cluster_bootstrap_means(np.stack([aligned, base]), clusters, num_resamples=4000)
    low, high = np.exp(np.quantile(np.log(means[0] / means[1]), [0.025, 0.975]))
    assert got.value == pytest.approx(aligned.sum() / base.sum())
    assert (got.low, got.high) == pytest.approx((low, high), rel=0.05)


def test_ratio_with_an_empty_numerator_has_a_finite_honest_upper_end() -> None:
    got = ratio_interval(np.zeros(200), successes(50, 200), np.arange(200), better="lower")
    assert (got.value, got.low) == (0.0, 0.0)
    # Exact tests bound 0/200 by 1.5 % and 50/200 is 25 %: an honest end is no lower than their ratio.
    assert 0.015 / 0.25 < got.high < 0.15


def test_ratio_with_an_empty_denominator_is_undefined_with_its_count() -> None:
    got = ratio_interval(successes(5, 20), np.zeros(20), np.arange(20), better="lower")
    assert [math.isnan(x) for x in (got.value, got.low, got.high)] == [True] * 3
    assert got.n == 20


def test_ratio_covers_rare_events() -> None:
    rng, clusters, hits = np.random.default_rng(6), np.repeat(np.arange(64), 8), []
    for _ in range(300):
        base, aligned = draw_clustered(rng, 0.3, 0.2, 64, 8), draw_clustered(rng, 0.006, 0.1, 64, 8)
        got = ratio_interval(aligned, base, clusters, better="lower")
        hits.append(got.low <= 0.02 <= got.high)
    assert np.mean(hits) >= LEAST_COVERAGE


# ----------------------------------------------------------------------------------------------------------- bootstrap


def test_bootstrap_weights_draw_as_many_clusters_as_there_are() -> None:
    weights = bootstrap_weights(7, 50, seed=3)
    assert weights.shape == (50, 7)
    assert (weights.sum(1) == 7).all()
    assert not np.array_equal(weights, bootstrap_weights(7, 50, seed=4))


def test_bootstrap_means_equal_a_loop_over_resamples() -> None:
    rng = np.random.default_rng(0)
    values, clusters = rng.normal(size=(3, 20)), np.array(list("ddcbaadccbbaaabbccdd"))
    values[1, 4] = NAN
    got = cluster_bootstrap_means(values, clusters, num_resamples=25, seed=9)
    names = np.unique(clusters)
    for row, weights in enumerate(bootstrap_weights(4, 25, seed=9)):
        drawn = np.concatenate(
            [np.tile(values[:, clusters == name], k) for name, k in zip(names, weights, strict=True)], axis=1
        )
        assert got[:, row] == pytest.approx(np.nanmean(drawn, axis=1))
    assert cluster_bootstrap_means(values[0], clusters, num_resamples=25, seed=9) == pytest.approx(got[0])


# -------------------------------------------------------------------------------------------------------------- scores


def test_auroc_is_scikit_learns_with_ties() -> None:
    rng = np.random.default_rng(0)
    scores, labels = rng.integers(0, 6, 200).astype(float), rng.integers(0, 2, 200)
    got = auroc(scores, labels)
    assert got.value == pytest.approx(roc_auc_score(labels, scores), abs=1e-12)
    assert got.low < got.value < got.high
    weights = bootstrap_weights(200, 3, seed=0)
    expected = [roc_auc_score(labels, scores, sample_weight=w) for w in weights]
    assert statistics._weighted_auroc(scores, labels.astype(float), weights) == pytest.approx(expected, abs=1e-12)


def test_auroc_interval_widens_with_copies_in_clusters_and_not_without() -> None:
    rng = np.random.default_rng(0)
    labels = np.arange(60) % 2
    scores = rng.normal(size=60) + labels
    once = auroc(scores, labels)
    copied = auroc(np.repeat(scores, 9), np.repeat(labels, 9), np.repeat(np.arange(60), 9))
    naive = auroc(np.repeat(scores, 9), np.repeat(labels, 9))
    assert (copied.low, copied.high) == pytest.approx((once.low, once.high))
    assert naive.high - naive.low < 0.5 * (copied.high - copied.low)


def test_auroc_of_one_class_is_undefined_and_of_perfect_scores_not_certain() -> None:
    lonely = auroc([0.1, 0.2, NAN], [1, 1, 1])
    assert math.isnan(lonely.value)
    assert (lonely.n, lonely.num_missing) == (2, 1)
    perfect = auroc(np.arange(40.0), np.arange(40) >= 20)
    assert (perfect.value, perfect.high) == (1.0, 1.0)
    assert perfect.low == pytest.approx(1 - (1 - 0.05 ** (1 / 20)))


def test_calibration_error_by_hand() -> None:
    # Bin [0, .5): mean prob .2, mean label .5 (2 items). Bin [.5, 1]: mean prob .8, mean label 1 (2 items).
    got = expected_calibration_error([0.1, 0.3, 0.7, 0.9], [0, 1, 1, 1], num_bins=2)
    assert got.value == pytest.approx((2 * 0.3 + 2 * 0.2) / 4)
    multi = expected_calibration_error([[0.9, 0.1], [0.2, 0.8], [NAN, 0.5]], [0, 0, 1], num_bins=1)
    assert multi.value == pytest.approx(abs(0.85 - 0.5))
    assert (multi.n, multi.num_missing) == (2, 1)


def test_calibration_floor_is_what_a_perfect_score_shows() -> None:
    rng = np.random.default_rng(0)
    prob = rng.random(200)
    perfect = expected_calibration_error(prob, rng.random(200) < prob)
    assert 0.04 < perfect.floor < 0.12
    assert perfect.value < 2 * perfect.floor
    wrong = expected_calibration_error(prob, rng.random(200) < 1 - prob)
    assert wrong.value > 3 * wrong.floor


def test_nothing_to_calibrate_is_undefined_with_its_count() -> None:
    got = expected_calibration_error([NAN], [1])
    assert math.isnan(got.value)
    assert (got.n, got.num_missing) == (0, 1)


# ---------------------------------------------------------------------------------------------------------- arguments


def test_bad_arguments_say_what_is_allowed() -> None:
    with pytest.raises(ValueError, match=r"lie in \[0, 1\]"):
        cluster_rate([0.0, 2.0], ["a", "b"], missing="drop")
    with pytest.raises(ValueError, match="one label per outcome"):
        cluster_rate([0.0, 1.0], ["a"], better="lower")
    with pytest.raises(ValueError, match="must be finite or NaN"):
        mean_interval([math.inf], ["a"])
    with pytest.raises(ValueError, match="'wrong' or 'drop'"):
        cluster_rate([0.0], ["a"], missing="ignore")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="pair row by row"):
        paired_difference([0.0], [0.0, 1.0], ["a"], better="lower")
    with pytest.raises(ValueError, match="confidence must lie"):
        mean_interval([0.0], ["a"], confidence=95)
    with pytest.raises(ValueError, match="labels must be 0 or 1"):
        auroc([0.0], [2])
