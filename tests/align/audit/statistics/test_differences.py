"""Paired and unpaired differences against scipy, arithmetic by hand and known truths."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from scipy import stats

from align.audit.statistics import difference, paired_difference

NAN = math.nan
LEAST_COVERAGE = 0.925
"""A true 95 % less two standard errors of a simulation with 300 data sets."""


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


def test_unpaired_difference_is_newcombes(successes: Callable[[int, int], np.ndarray]) -> None:
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
