"""Gaps between two groups of rollouts that may share contexts: interval, test, and smallest detectable effect.

Both groups are given as sums over the *same* clusters, so what they share by being in one context is accounted for.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from align.audit.statistics.clusters import ENOUGH_EVENTS, SPARSE_ICC, ClusterSums, bootstrap_weights
from align.audit.statistics.differences import mover_difference
from align.audit.statistics.power import GapPower, MeanPower, Power
from align.audit.statistics.quantiles import fisher_exact, normal_isf, t_isf, t_sf
from align.audit.statistics.values import Float64

MAX_BOOTSTRAP_CLUSTERS = 4096
"""More clusters than this are drawn in bundles of whole clusters: as precise, and a million contexts need no more memory."""
FEW_EVENTS = 30
"""Below so many events (or non-events) in both groups together, Fisher's exact test is asked as well."""


@dataclass(frozen=True)
class TwoGroups:
    """Two groups over the same clusters.

    Attributes:
        sums_a: float64 [C], sum of outcomes of group a in each cluster; 0 where it has none there.
        counts_a: float64 [C], how many.
        sums_b: float64 [C].
        counts_b: float64 [C].
        is_rate: Whether outcomes are 0 or 1.
    """

    sums_a: Float64
    counts_a: Float64
    sums_b: Float64
    counts_b: Float64
    is_rate: bool

    @cached_property
    def a(self) -> ClusterSums:
        return _present(self.sums_a, self.counts_a)

    @cached_property
    def b(self) -> ClusterSums:
        return _present(self.sums_b, self.counts_b)

    @property
    def gap(self) -> float:
        """Mean of b less mean of a."""
        return self.b.mean - self.a.mean

    @property
    def num_clusters(self) -> int:
        """Clusters of the group that has fewer."""
        return min(self.a.num_clusters, self.b.num_clusters)

    @property
    def dof(self) -> int:
        return self.num_clusters - 1

    @cached_property
    def pooled_mean(self) -> float:
        return float((self.sums_a.sum() + self.sums_b.sum()) / (self.a.n + self.b.n))

    @cached_property
    def trust(self) -> float:
        """From 0 to 1: whether both groups show enough events and non-events to learn a variance from them."""
        events = (min(group.mean, 1 - group.mean) * group.n for group in (self.a, self.b))
        return min(1.0, min(events) / ENOUGH_EVENTS) if self.is_rate else 1.0

    def variance(self, mean_a: float, mean_b: float) -> float:
        """Cluster-robust variance of the gap around the given means, what the groups share included."""
        pull = (self.sums_b - mean_b * self.counts_b) / self.b.n - (self.sums_a - mean_a * self.counts_a) / self.a.n
        used = int(((self.counts_a + self.counts_b) > 0).sum())
        return float((pull**2).sum() * used / (used - 1))

    @cached_property
    def design_effect(self) -> float:
        """Variance of the gap over what independent rollouts would give; below 1 where shared contexts help."""
        iid = sum(group.mean * (1 - group.mean) / group.n for group in (self.a, self.b))
        sizes = (self.counts_a + self.counts_b)[(self.counts_a + self.counts_b) > 0]
        assumed = 1 + (float((sizes**2).sum() / sizes.sum()) - 1) * SPARSE_ICC
        measured = self.variance(self.a.mean, self.b.mean) / iid if iid > 0 else assumed
        return max(0.1, self.trust * measured + (1 - self.trust) * assumed)

    def p_value(self) -> float:
        """Two-sided p-value of "no gap"; NaN with fewer than two clusters in a group, or where nothing varies.

        For rates the pooled (Pearson) variance times the design effect, for numbers the cluster-robust variance around the
        pooled mean; t with the smaller group's clusters less one. Where events are few, no smaller than Fisher's.
        """
        if self.num_clusters < 2:
            return math.nan
        pooled = self.pooled_mean
        if self.is_rate:
            variance = self.design_effect * pooled * (1 - pooled) * (1 / self.a.n + 1 / self.b.n)
        else:
            variance = self.variance(pooled, pooled)
        if variance <= 0:
            return 1.0 if self.is_rate else math.nan
        p = 2 * t_sf(abs(self.gap) / math.sqrt(variance), self.dof)
        total = self.a.n + self.b.n
        return max(p, self._fisher()) if self.is_rate and min(pooled, 1 - pooled) * total < FEW_EVENTS else p

    def _fisher(self) -> float:
        deff = max(1.0, self.design_effect)
        counts = [round(value / deff) for group in (self.a, self.b) for value in (float(group.sums.sum()), group.n)]
        return fisher_exact(counts[0], counts[1], counts[2], counts[3])

    def closed_interval(self, confidence: float) -> tuple[float, float]:
        """MOVER on Wilson's intervals of the two rates: honest where events are few or none."""
        return mover_difference(self.a, self.b, confidence)

    @property
    def has_few_events(self) -> bool:
        """Whether the bootstrap can't know what it doesn't see, and `closed_interval` is the one to show."""
        return self.trust < 1

    def power(self) -> Power:
        """What this sample would have shown; at least two clusters a group."""
        if not self.is_rate:
            return MeanPower(math.sqrt(self.variance(self.a.mean, self.b.mean)), self.dof)
        # Two successes and two failures more, as Agresti & Coull do: a base rate of 0 was not seen to be 0.
        total = self.a.n + self.b.n
        base = (self.pooled_mean * total + 2) / (total + 4)
        return GapPower(base, self.a.n / self.design_effect, self.b.n / self.design_effect, self.dof)


def _present(sums: Float64, counts: Float64) -> ClusterSums:
    seen = counts > 0
    return ClusterSums(sums[seen], counts[seen])


class GapBootstrap:
    """Cluster bootstrap of many gaps under one set of resamples.

    Attributes:
        bundles: int [C], which row of the sums each cluster belongs to: itself, unless there are very many clusters.
        num_bundles: Rows B of the sums.

    Args:
        num_clusters: Clusters C.
        num_resamples: Draws R.
        seed: Seed of the draws, and of the bundling where there are very many clusters.
    """

    def __init__(self, num_clusters: int, num_resamples: int = 2000, seed: int = 0) -> None:
        self.num_bundles = min(num_clusters, MAX_BOOTSTRAP_CLUSTERS)
        order = np.arange(num_clusters)
        if num_clusters > MAX_BOOTSTRAP_CLUSTERS:
            order = np.random.default_rng(seed).permutation(num_clusters) % MAX_BOOTSTRAP_CLUSTERS
        self.bundles = order
        self._weights = bootstrap_weights(self.num_bundles, num_resamples, seed).astype(np.float64)

    def intervals(
        self, sums: Float64, counts: Float64, pairs: np.ndarray, confidence: float, num_clusters: np.ndarray
    ) -> Float64:
        """Intervals of the gaps between columns.

        Percentiles of the resampled gaps, spread around the estimate by sqrt(C/(C-1)) t/z, without which few clusters give
        too narrow intervals (the expanded percentile interval of Hesterberg 2015).

        Args:
            sums: float64 [B, G], sums of outcomes by bundle and group.
            counts: float64 [B, G], how many.
            pairs: int [K, 2], columns (a, b) of each gap.
            confidence: Coverage.
            num_clusters: int [K], clusters of the smaller group of each pair, at least 2.

        Returns:
            float64 [K, 2], lower and upper ends; NaN where a group is empty in every resample.
        """
        means = self._resampled_means(sums, counts)
        draws = means[:, pairs[:, 1]] - means[:, pairs[:, 0]]
        totals = counts.sum(0)
        observed = np.divide(sums.sum(0), totals, out=np.full(len(totals), np.nan), where=totals > 0)
        centre = observed[pairs[:, 1]] - observed[pairs[:, 0]]
        tail = (1 - confidence) / 2
        ends = np.nanquantile(draws, [tail, 1 - tail], axis=0).T if len(pairs) else np.zeros((0, 2))
        wider = np.array([t_isf(tail, count - 1) / normal_isf(tail) for count in num_clusters])
        spread = np.sqrt(num_clusters / (num_clusters - 1)) * wider
        return np.asarray(centre[:, None] + spread[:, None] * (ends - centre[:, None]))

    def _resampled_means(self, sums: Float64, counts: Float64) -> Float64:
        totals = self._weights @ counts
        return np.divide(self._weights @ sums, totals, out=np.full_like(totals, np.nan), where=totals > 0)
