"""The area under the ROC curve."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from align.audit.statistics.clusters import bootstrap_weights, cluster_index, percentiles
from align.audit.statistics.values import Float64, Rate, check_confidence, read_values


def auroc(
    scores: ArrayLike,
    labels: ArrayLike,
    clusters: ArrayLike | None = None,
    *,
    confidence: float = 0.95,
    num_resamples: int = 2000,
    seed: int = 0,
) -> Rate:
    """Area under the ROC curve (ties count half) with a cluster bootstrap percentile interval.

    Args:
        scores: float [n]; NaN is dropped and counted.
        labels: [n] 0 or 1; NaN is dropped and counted.
        clusters: [n] cluster labels; None makes every item its own cluster.
        confidence: Coverage of the interval. At an area of exactly 0 or 1 the bound is one-sided and exact.
        num_resamples: Bootstrap draws.
        seed: Seed of the draws.
    """
    check_confidence(confidence)
    x, y = read_values(scores, "scores"), read_values(labels, "labels")
    groups = np.arange(len(x)) if clusters is None else np.asarray(clusters)
    if not x.shape == y.shape == groups.shape:
        raise ValueError(f"scores, labels and clusters must have one length, got {len(x)}, {len(y)}, {len(groups)}")
    seen = np.isfinite(x) & np.isfinite(y)
    if not np.isin(y[seen], (0.0, 1.0)).all():
        raise ValueError("labels must be 0 or 1")
    x, y, groups = x[seen], y[seen].astype(np.float64), groups[seen]
    index, num_clusters = cluster_index(groups, len(x))
    value = float(_weighted_auroc(x, y, np.ones((1, len(x))))[0]) if len(x) else math.nan
    low = high = math.nan
    if num_clusters > 1 and not math.isnan(value):
        weights = bootstrap_weights(num_clusters, num_resamples, seed)
        blocks = [_weighted_auroc(x, y, block[:, index]) for block in np.array_split(weights, max(1, num_resamples // 100))]
        low, high = percentiles(np.concatenate(blocks), confidence)
        if value in (0.0, 1.0):
            # A separable sample stays separable when resampled; the scarcer side's clusters bound what was not seen.
            scarce = min(len(np.unique(index[y == 1])), len(np.unique(index[y == 0])))
            bound = 1 - (1 - confidence) ** (1 / scarce)
            low, high = (0.0, bound) if value == 0.0 else (1 - bound, 1.0)
    return Rate(value, low, high, len(x), num_clusters, int((~seen).sum()))


def _weighted_auroc(scores: Float64, labels: Float64, weights: NDArray[Any]) -> Float64:
    """AUROC [R] under item weights [R, n]: mass of positives above negatives, ties half. NaN where a class has no weight."""
    order = np.argsort(scores, kind="stable")
    starts = np.flatnonzero(np.r_[True, np.diff(scores[order]) != 0])
    positive = np.add.reduceat((weights * labels)[:, order], starts, axis=1)
    negative = np.add.reduceat((weights * (1 - labels))[:, order], starts, axis=1)
    below = np.cumsum(negative, axis=1) - negative / 2
    total = positive.sum(1) * negative.sum(1)
    return np.divide((positive * below).sum(1), total, out=np.full(len(total), np.nan), where=total > 0)
