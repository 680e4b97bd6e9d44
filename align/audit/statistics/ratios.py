"""Ratios of two rates over the same contexts."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike

from align.audit.statistics.clusters import ENOUGH_EVENTS, ClusterSums, finite_sums
from align.audit.statistics.values import Better, Missing, Rate, check_confidence, is_outcome, resolve_missing


def ratio_interval(
    numer: ArrayLike,
    denom: ArrayLike,
    clusters: ArrayLike,
    *,
    better: Better | None = None,
    missing: Missing = "wrong",
    confidence: float = 0.95,
) -> Rate:
    """mean(numer) / mean(denom) for two arms over the same contexts, e.g. aligned over base unsafe rate.

    MOVER on the two Wilson intervals with the measured correlation of the arms. With no event in the numerator the ratio is 0
    and its upper end is finite; with none in the denominator the ratio is undefined: NaN.

    Args:
        numer: float [n] in [0, 1] or NaN.
        denom: float [n] in [0, 1] or NaN, row by row the same cluster as ``numer``.
        clusters: [n] cluster labels.
        better: Which way is good; needed for ``missing="wrong"``.
        missing: As in `cluster_rate`; ``drop`` drops the pair if either side is unreadable.
        confidence: Coverage of the interval.
    """
    check_confidence(confidence)
    (top, _), (bottom, _) = resolve_missing(numer, missing, better), resolve_missing(denom, missing, better)
    if top.shape != bottom.shape:
        raise ValueError(f"numer and denom must pair row by row, got {len(top)} and {len(bottom)} rows")
    if not (is_outcome(top) and is_outcome(bottom)):
        raise ValueError("numer and denom must lie in [0, 1]")
    num_missing = int((np.isnan(np.asarray(numer, dtype=float)) | np.isnan(np.asarray(denom, dtype=float))).sum())
    both = np.isfinite(top) & np.isfinite(bottom)
    st, sb = (finite_sums(np.where(both, side, np.nan), clusters) for side in (top, bottom))
    if st.num_clusters == 0 or sb.mean == 0:
        return Rate(math.nan, math.nan, math.nan, st.n, st.num_clusters, num_missing)
    low, high = _mover_ratio(st, sb, confidence) if st.num_clusters > 1 else (math.nan, math.nan)
    return Rate(st.mean / sb.mean, low, high, st.n, st.num_clusters, num_missing)


def _mover_ratio(st: ClusterSums, sb: ClusterSums, confidence: float) -> tuple[float, float]:
    (l1, u1), (l2, u2) = st.wilson(confidence), sb.wilson(confidence)
    p1, p2 = st.mean, sb.mean
    spread = math.sqrt(st.variance * sb.variance)
    # Only a positive correlation narrows the interval, and one from a handful of events is luck.
    trust = min(1.0, min(p1, p2) * st.n / ENOUGH_EVENTS)
    corr = trust * max(0.0, float(st.residuals @ sb.residuals) / spread) if spread > 0 else 0.0
    lower = p1 * p2 - corr * (p1 - l1) * (u2 - p2)
    upper = p1 * p2 - corr * (u1 - p1) * (p2 - l2)
    low = _ratio_root(lower, l1 * u2 * (2 * p1 - l1) * (2 * p2 - u2), u2 * (2 * p2 - u2), -1)
    high = _ratio_root(upper, u1 * l2 * (2 * p1 - u1) * (2 * p2 - l2), l2 * (2 * p2 - l2), +1)
    return max(0.0, low), high


def _ratio_root(half_b: float, product: float, scale: float, sign: int) -> float:
    """Root of scale r^2 - 2 half_b r + product/scale = 0, written so that scale near 0 stays stable."""
    root = math.sqrt(max(0.0, half_b**2 - product))
    if sign < 0 and half_b + root > 0:
        return product / scale / (half_b + root) if scale != 0 else 0.0
    return (half_b + sign * root) / scale
