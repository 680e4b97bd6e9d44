"""The exact McNemar test, by clusters."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike

from align.audit.statistics.quantiles import fair_binomial
from align.audit.statistics.values import Float64

EXACT_UP_TO = 20_000
"""Sum of absolute differences up to which the distribution is enumerated; beyond it, the normal one differs by nothing."""


def clustered_mcnemar(differences: ArrayLike) -> float:
    """Two-sided p-value of "the two sides of a pair are exchangeable", from whole clusters.

    A cluster's difference D is its pairs in which only b had the outcome, less those in which only a had it. Without an effect
    each D is as likely as -D, whatever the dependence within the cluster; the sum of D is held against all 2^C assignments of
    signs. With one pair a cluster this is McNemar's exact test.

    Args:
        differences: whole numbers [C].

    Returns:
        The p-value; 1 where no cluster differs, NaN where there are no clusters.
    """
    values = np.asarray(differences, dtype=np.float64)
    if (values != np.rint(values)).any():
        raise ValueError("differences must be whole numbers")
    if not len(values):
        return math.nan
    sizes = np.abs(values[values != 0]).astype(np.int64)
    observed = abs(int(values.sum()))
    if observed == 0:
        return 1.0
    if sizes.sum() > EXACT_UP_TO:
        return float(min(1.0, math.erfc((observed - 1) / math.sqrt(2 * float((sizes**2).sum())))))
    tail = _sum_of_signs(sizes)[(observed + int(sizes.sum()) + 1) // 2 :].sum()
    return float(min(1.0, 2 * tail))


def _sum_of_signs(sizes: np.ndarray) -> Float64:
    """Probabilities of sum(+-size): entry k belongs to the sum 2 k - sum(sizes)."""
    distribution = np.ones(1)
    for size, count in zip(*np.unique(sizes, return_counts=True), strict=True):
        spaced = np.zeros(size * count + 1)
        spaced[::size] = fair_binomial(int(count))
        distribution = np.convolve(distribution, spaced)
    return distribution
