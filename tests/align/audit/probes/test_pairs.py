"""Pairs: the exact test against arithmetic and enumeration, and what it would find against simulation."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from align.audit.probes.pairs import cluster_totals, pairs_needed, sign_flip_p_value, smallest_gap


def test_single_pairs_are_tested_as_by_mcnemar() -> None:
    d = [1] * 5 + [-1] + [0] * 4
    assert sign_flip_p_value(d, range(10)) == pytest.approx(14 / 64)
    assert sign_flip_p_value(d, range(10)) == pytest.approx(stats.binomtest(5, 6).pvalue)


@given(st.lists(st.integers(-3, 3), min_size=1, max_size=9))
def test_clusters_are_tossed_as_a_whole(sums: list[int]) -> None:
    """Against all 2^C assignments of signs, for clusters whose differences add up to anything."""
    d = [np.sign(total) for total in sums for _ in range(abs(total))] + [0] * len(sums)
    clusters = [c for c, total in enumerate(sums) for _ in range(abs(total))] + list(range(len(sums)))
    flips = np.array(list(itertools.product((-1, 1), repeat=len(sums))))
    wanted = (np.abs(flips @ np.abs(sums)) >= abs(sum(sums))).mean()
    assert sign_flip_p_value(d, clusters) == pytest.approx(wanted)


def test_numbers_that_are_no_counts_are_tested_by_random_flips() -> None:
    rng = np.random.default_rng(0)
    d = rng.normal(0.5, 1, 40)
    assert sign_flip_p_value(d, range(40)) == pytest.approx(stats.ttest_1samp(d, 0).pvalue, abs=0.003)
    assert sign_flip_p_value(d, range(40)) == sign_flip_p_value(-d, range(40)) > 0


def test_nothing_to_test_is_undefined_and_no_difference_is_no_evidence() -> None:
    assert math.isnan(sign_flip_p_value([], [])) and math.isnan(sign_flip_p_value([math.nan], ["x"]))
    assert sign_flip_p_value([0, 0, math.nan], [1, 2, 3]) == 1.0
    with pytest.raises(ValueError, match="one length"):
        sign_flip_p_value([0, 1], [1])


def test_unreadable_pairs_are_left_out() -> None:
    sums, counts = cluster_totals([1, math.nan, -1, 0], ["x", "x", "y", "y"])
    assert sums.tolist() == [1, -1] and counts.tolist() == [1, 2]


def test_as_many_pairs_as_are_needed_find_the_gap() -> None:
    """Power of the exact test at the promised gap, by simulation; the gap comes on top of the discordance."""
    gap, discordance, level = 0.1, 0.25, 0.05 / 20
    n = math.ceil(pairs_needed(gap, discordance, level=level, power=0.8))
    rng = np.random.default_rng(1)
    shares = [discordance / 2 + gap, discordance / 2]
    up, down, _ = rng.multinomial(n, [*shares, 1 - discordance - gap], 2000).T
    p = stats.binom.cdf(np.minimum(up, down), up + down, 0.5) * 2
    assert 0.77 <= (p <= level).mean() <= 0.86


def test_smallest_gap_is_the_inverse() -> None:
    d = np.r_[np.ones(40), -np.ones(24), np.zeros(192)]
    found = smallest_gap(d, range(256), level=0.01)
    assert pairs_needed(found, 65 / 258, level=0.01) == pytest.approx(256, rel=0.03)
    assert smallest_gap(d, range(256), level=0.001) > found
    assert smallest_gap(np.tile(d, 4), range(1024), level=0.01) < found


def test_no_difference_at_all_does_not_promise_everything() -> None:
    assert 0.05 < smallest_gap(np.zeros(100), range(100)) < 0.2
    assert math.isnan(smallest_gap([0, 1], [0, 1])), "two pairs find nothing"
    assert math.isnan(smallest_gap(np.zeros(50), np.zeros(50))), "one cluster can't say anything"


def test_copies_of_a_pair_are_no_further_pairs() -> None:
    d = np.r_[np.ones(20), -np.ones(12), np.zeros(96)]
    once = smallest_gap(d, range(128))
    assert smallest_gap(np.repeat(d, 8), np.repeat(range(128), 8)) == pytest.approx(once, rel=0.08)


def test_bad_gaps_are_refused() -> None:
    with pytest.raises(ValueError, match="gap must lie"):
        pairs_needed(0, 0.1)
