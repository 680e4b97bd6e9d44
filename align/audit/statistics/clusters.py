"""What a cluster is worth: resamples of clusters, cluster sums, and the effective number of independent outcomes."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike, NDArray

from align.audit.statistics.quantiles import normal_isf, t_isf
from align.audit.statistics.values import Float64

SPARSE_ICC = 0.2
"""Correlation of rollouts of one context that is assumed where too few events were seen to measure it."""

ENOUGH_EVENTS = 10
"""From so many events (and as many non-events) on, the measured design effect is used alone."""


def bootstrap_weights(num_clusters: int, num_resamples: int = 2000, seed: int = 0) -> NDArray[np.int64]:
    """How often each cluster is drawn in each resample.

    Returns:
        int64 [num_resamples, num_clusters]; every row sums to ``num_clusters``.
    """
    rng = np.random.default_rng(seed)
    return rng.multinomial(num_clusters, np.full(num_clusters, 1.0 / num_clusters), size=num_resamples)


def cluster_bootstrap_means(values: ArrayLike, clusters: ArrayLike, num_resamples: int = 2000, seed: int = 0) -> Float64:
    """Means of many arms under one set of cluster resamples: resampling is a matrix product of weights and cluster sums.

    Args:
        values: float [num_arms, n] or [n]; NaN is left out.
        clusters: [n] labels of any type, shared by the arms, so differences between arms stay paired.
        num_resamples: Bootstrap draws.
        seed: Seed of the draws.

    Returns:
        float64 [num_arms, num_resamples] ([num_resamples] for 1-D values); NaN where a resample holds no value of an arm.
    """
    arms = np.atleast_2d(np.asarray(values, dtype=np.float64))
    index, num_clusters = cluster_index(clusters, arms.shape[1])
    present = np.isfinite(arms)
    order = np.argsort(index, kind="stable")
    starts = np.searchsorted(index[order], np.arange(num_clusters))
    sums = np.add.reduceat(np.where(present, arms, 0.0)[:, order], starts, axis=1)
    counts = np.add.reduceat(present.astype(np.float64)[:, order], starts, axis=1)
    weights = bootstrap_weights(num_clusters, num_resamples, seed).astype(np.float64)
    totals = counts @ weights.T
    means = np.divide(sums @ weights.T, totals, out=np.full_like(totals, np.nan), where=totals > 0)
    return means if np.ndim(values) == 2 else means[0]


def cluster_index(clusters: ArrayLike, n: int) -> tuple[NDArray[np.int64], int]:
    labels = np.asarray(clusters)
    if labels.shape != (n,):
        raise ValueError(f"clusters must have one label per outcome, shape ({n},), got {labels.shape}")
    unique, index = np.unique(labels, return_inverse=True)
    return index.reshape(-1), len(unique)


@dataclass(frozen=True)
class ClusterSums:
    """Cluster sums [C] and counts [C] of finite values: all that the closed-form intervals need."""

    sums: Float64
    counts: Float64

    @classmethod
    def of(cls, values: Float64, clusters: ArrayLike) -> ClusterSums:
        index, num_clusters = cluster_index(clusters, len(values))
        counts = np.bincount(index, minlength=num_clusters).astype(np.float64)
        return cls(np.bincount(index, weights=values, minlength=num_clusters).astype(np.float64), counts)

    @cached_property
    def n(self) -> int:
        return int(self.counts.sum())

    @property
    def num_clusters(self) -> int:
        return len(self.counts)

    @cached_property
    def mean(self) -> float:
        return float(self.sums.sum() / self.counts.sum()) if self.n else math.nan

    @cached_property
    def residuals(self) -> Float64:
        """float64 [C]: each cluster's pull on the mean, scaled so that the sum of squares is the variance of the mean."""
        correction = math.sqrt(self.num_clusters / (self.num_clusters - 1))
        return (self.sums - self.mean * self.counts) * correction / self.counts.sum()

    @cached_property
    def variance(self) -> float:
        """Cluster-robust variance of the mean."""
        return float((self.residuals**2).sum())

    def effective_n(self, unit_variance: float, num_events: float, confidence: float) -> float:
        """How many independent outcomes would be worth as much as these."""
        mean_size = float((self.counts**2).sum() / self.counts.sum())
        if mean_size == 1.0:
            return float(self.n)
        assumed = 1 + (mean_size - 1) * SPARSE_ICC
        measured = self.variance * self.n / unit_variance if unit_variance > 0 else assumed
        trust = min(1.0, num_events / ENOUGH_EVENTS)
        design_effect = max(1.0, trust * measured + (1 - trust) * assumed)
        z, t = normal_isf((1 - confidence) / 2), self.t_quantile(confidence)
        return float(self.n / design_effect * (z / t) ** 2)

    def t_quantile(self, confidence: float) -> float:
        return t_isf((1 - confidence) / 2, self.num_clusters - 1)

    def rate_effective_n(self, confidence: float) -> float:
        p, n = self.mean, self.n
        return self.effective_n(p * (1 - p), min(p, 1 - p) * n, confidence)

    def wilson(self, confidence: float) -> tuple[float, float]:
        return _wilson(self.mean, self.rate_effective_n(confidence), confidence)


def _wilson(p: float, n: float, confidence: float) -> tuple[float, float]:
    z2 = normal_isf((1 - confidence) / 2) ** 2
    centre = (p + z2 / (2 * n)) / (1 + z2 / n)
    half = math.sqrt(z2 * (p * (1 - p) / n + z2 / (4 * n * n))) / (1 + z2 / n)
    return max(0.0, min(p, centre - half)), min(1.0, max(p, centre + half))


def finite_sums(values: Float64, clusters: ArrayLike) -> ClusterSums:
    seen = np.isfinite(values)
    labels = np.asarray(clusters)
    if labels.shape != values.shape:
        raise ValueError(f"clusters must have one label per outcome, shape {values.shape}, got {labels.shape}")
    return ClusterSums.of(values[seen], labels[seen])


def percentiles(draws: Float64, confidence: float) -> tuple[float, float]:
    seen = draws[np.isfinite(draws)]
    if not len(seen):
        return math.nan, math.nan
    low, high = np.quantile(seen, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)
