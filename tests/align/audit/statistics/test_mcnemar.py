"""The clustered exact McNemar test against scipy's and against all assignments of signs."""

from __future__ import annotations

import math
from itertools import product

import numpy as np
import pytest
from scipy import stats

from align.audit.statistics import clustered_mcnemar, mcnemar


@pytest.mark.parametrize(("more", "less"), [(5, 1), (12, 4), (9, 0), (300, 240)])
def test_with_one_pair_a_cluster_it_is_mcnemars(more: int, less: int) -> None:
    differences = np.r_[np.ones(more), -np.ones(less), np.zeros(50)]
    expected = stats.binomtest(more, more + less).pvalue
    assert clustered_mcnemar(differences) == pytest.approx(expected, rel=1e-9)
    assert clustered_mcnemar(-differences) == pytest.approx(expected, rel=1e-9)


def test_with_clusters_it_counts_all_assignments_of_signs() -> None:
    for differences in ([3, 2, 2, -1, 1, 0], [4, 4, -4, 1], [2, -2], [5], [7, 3, 3, -2, -1, 1, 1]):
        sums = [abs(np.dot(signs, differences)) for signs in product((-1, 1), repeat=len(differences))]
        expected = np.mean(np.array(sums) >= abs(sum(differences)))
        assert clustered_mcnemar(differences) == pytest.approx(expected, abs=1e-12), differences


def test_pairs_that_go_together_prove_less() -> None:
    assert clustered_mcnemar([1] * 12) == pytest.approx(2 * 0.5**12)
    assert clustered_mcnemar([4] * 3) == pytest.approx(0.25)


def test_nothing_to_compare_is_undefined_and_no_difference_is_1() -> None:
    assert math.isnan(clustered_mcnemar([]))
    assert clustered_mcnemar([0, 0]) == 1.0
    assert clustered_mcnemar([3, -3]) == 1.0
    with pytest.raises(ValueError, match="whole numbers"):
        clustered_mcnemar([0.5])


def test_beyond_the_enumeration_the_normal_distribution_agrees(monkeypatch: pytest.MonkeyPatch) -> None:
    differences = np.r_[np.full(1100, 1), np.full(1000, -1), np.full(300, 2), np.full(280, -2)]
    exact = clustered_mcnemar(differences)
    monkeypatch.setattr(mcnemar, "EXACT_UP_TO", 10)
    assert clustered_mcnemar(differences) == pytest.approx(exact, rel=0.02)
    assert 0.005 < exact < 0.05
