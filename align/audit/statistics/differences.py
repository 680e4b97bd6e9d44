"""Differences of two sets of outcomes, paired or not."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike

from align.audit.statistics.clusters import ClusterSums, finite_sums
from align.audit.statistics.quantiles import normal_isf, t_isf
from align.audit.statistics.rates import t_interval
from align.audit.statistics.values import Better, Float64, Missing, Rate, check_confidence, is_outcome, resolve_missing


def paired_difference(
    a: ArrayLike,
    b: ArrayLike,
    clusters: ArrayLike,
    *,
    better: Better | None = None,
    missing: Missing = "wrong",
    confidence: float = 0.95,
) -> Rate:
    """The mean of b - a over pairs that share context and seed, with its cluster interval.

    Args:
        a: float [n], the base model.
        b: float [n], the aligned model, row by row the same context and seed as ``a``.
        clusters: [n] cluster labels.
        better: Which way is good; needed for ``missing="wrong"``.
        missing: As in `cluster_rate`; ``drop`` drops the pair if either side is unreadable.
        confidence: Coverage of the interval.
    """
    check_confidence(confidence)
    (left, _), (right, _) = resolve_missing(a, missing, better), resolve_missing(b, missing, better)
    if left.shape != right.shape:
        raise ValueError(f"a and b must pair row by row, got {len(left)} and {len(right)} rows")
    num_missing = int((np.isnan(np.asarray(a, dtype=float)) | np.isnan(np.asarray(b, dtype=float))).sum())
    sums = finite_sums(right - left, clusters)
    if sums.num_clusters < 2:
        low, high = math.nan, math.nan
    elif is_outcome(left) and is_outcome(right):
        delta = (right - left)[np.isfinite(right - left)]
        low, high = _agresti_min(sums, delta, confidence)
    else:
        low, high = t_interval(sums, confidence)
    return Rate(sums.mean, low, high, sums.n, sums.num_clusters, num_missing)


def _agresti_min(sums: ClusterSums, delta: Float64, confidence: float) -> tuple[float, float]:
    """Two pseudo-pairs, one in each direction, keep the interval open where no pair differed."""
    square = float((delta**2).mean())
    n = sums.effective_n(square - sums.mean**2, float(np.abs(delta).sum()), confidence)
    centre = sums.mean * n / (n + 2)
    spread = math.sqrt(((square * n + 1) / (n + 2) - centre**2) / (n + 2))
    half = normal_isf((1 - confidence) / 2) * spread
    return max(-1.0, centre - half), min(1.0, centre + half)


def difference(
    a: ArrayLike,
    clusters_a: ArrayLike,
    b: ArrayLike,
    clusters_b: ArrayLike,
    *,
    better: Better | None = None,
    missing: Missing = "wrong",
    confidence: float = 0.95,
) -> Rate:
    """The mean of b minus the mean of a for two independent sets; where pairs exist, `paired_difference` is sharper.

    Args:
        a: float [n_a].
        clusters_a: [n_a] cluster labels.
        b: float [n_b].
        clusters_b: [n_b] cluster labels.
        better: Which way is good; needed for ``missing="wrong"``.
        missing: As in `cluster_rate`.
        confidence: Coverage of the interval.

    Returns:
        A Rate whose n and num_missing are sums over both sets; num_clusters is that of the smaller set.
    """
    check_confidence(confidence)
    (left, missing_a), (right, missing_b) = resolve_missing(a, missing, better), resolve_missing(b, missing, better)
    sa, sb = finite_sums(left, clusters_a), finite_sums(right, clusters_b)
    num_clusters, value = min(sa.num_clusters, sb.num_clusters), sb.mean - sa.mean
    if num_clusters < 2:
        low, high = math.nan, math.nan
    elif is_outcome(left) and is_outcome(right):
        low, high = mover_difference(sa, sb, confidence)
    else:
        low, high = _welch(sa, sb, confidence)
    return Rate(value, low, high, sa.n + sb.n, num_clusters, missing_a + missing_b)


def mover_difference(sa: ClusterSums, sb: ClusterSums, confidence: float) -> tuple[float, float]:
    """Newcombe's interval of the difference of two rates (b minus a) from Wilson's of each; two clusters a side at least."""
    (la, ua), (lb, ub) = sa.wilson(confidence), sb.wilson(confidence)
    value = sb.mean - sa.mean
    return value - math.hypot(sb.mean - lb, ua - sa.mean), value + math.hypot(ub - sb.mean, sa.mean - la)


def _welch(sa: ClusterSums, sb: ClusterSums, confidence: float) -> tuple[float, float]:
    va, vb = sa.variance, sb.variance
    value = sb.mean - sa.mean
    if va + vb == 0:
        return value, value
    dof = (va + vb) ** 2 / (va**2 / (sa.num_clusters - 1) + vb**2 / (sb.num_clusters - 1))
    half = t_isf((1 - confidence) / 2, dof) * math.sqrt(va + vb)
    return value - half, value + half
