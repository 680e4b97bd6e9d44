"""Rates and means of one set of outcomes."""

from __future__ import annotations

import math

from numpy.typing import ArrayLike

from align.audit.statistics.clusters import ENOUGH_EVENTS, ClusterSums, finite_sums
from align.audit.statistics.quantiles import beta_isf, beta_ppf
from align.audit.statistics.values import Better, Missing, Rate, check_confidence, is_outcome, read_values, resolve_missing


def cluster_rate(
    outcomes: ArrayLike,
    clusters: ArrayLike,
    *,
    better: Better | None = None,
    missing: Missing = "wrong",
    confidence: float = 0.95,
) -> Rate:
    """A rate with its cluster interval.

    Args:
        outcomes: float [n] in [0, 1]; NaN is unreadable.
        clusters: [n] cluster labels.
        better: Which way is good; needed for ``missing="wrong"``.
        missing: ``wrong`` counts an unreadable outcome as the worse one, ``drop`` leaves it out. Both report the number.
        confidence: Coverage of the interval. At 0 or n successes the bound is one-sided at this level.

    Raises:
        ValueError: Outcomes outside [0, 1], lengths that differ, or no ``better`` where it is needed.
    """
    check_confidence(confidence)
    values, num_missing = resolve_missing(outcomes, missing, better)
    if not is_outcome(values):
        raise ValueError("outcomes must lie in [0, 1]; use mean_interval for other numbers")
    sums = finite_sums(values, clusters)
    low, high = rate_ends(sums, confidence)
    return Rate(sums.mean, low, high, sums.n, sums.num_clusters, num_missing)


def rate_ends(sums: ClusterSums, confidence: float) -> tuple[float, float]:
    """Ends of a rate's interval; NaN with fewer than two clusters."""
    p = sums.mean
    if sums.num_clusters < 2:
        return math.nan, math.nan
    if min(p, 1 - p) * sums.n < ENOUGH_EVENTS:
        return _clopper_pearson(p, sums.rate_effective_n(confidence), confidence)
    return sums.wilson(confidence)


def mean_interval(values: ArrayLike, clusters: ArrayLike, *, confidence: float = 0.95) -> Rate:
    """A mean with its cluster-robust t interval; NaN is left out and counted.

    Args:
        values: float [n], any range.
        clusters: [n] cluster labels.
        confidence: Coverage of the interval.
    """
    check_confidence(confidence)
    array = read_values(values, "values")
    sums = finite_sums(array, clusters)
    low, high = t_interval(sums, confidence)
    return Rate(sums.mean, low, high, sums.n, sums.num_clusters, len(array) - sums.n)


def _clopper_pearson(p: float, n: float, confidence: float) -> tuple[float, float]:
    """Exact where n is a count; n_eff may be fractional, for which the beta quantiles interpolate. One-sided at p of 0 or 1."""
    tail = 1 - confidence if p in (0.0, 1.0) else (1 - confidence) / 2
    low = 0.0 if p == 0.0 else beta_ppf(tail, n * p, n * (1 - p) + 1)
    high = 1.0 if p == 1.0 else beta_isf(tail, n * p + 1, n * (1 - p))
    return low, high


def t_interval(sums: ClusterSums, confidence: float) -> tuple[float, float]:
    if sums.num_clusters < 2:
        return math.nan, math.nan
    half = sums.t_quantile(confidence) * math.sqrt(sums.variance)
    return sums.mean - half, sums.mean + half
