"""Figures with honest error bars: rollouts of one context resemble each other, so every interval is built from clusters.

A context (the start of a clip) is a cluster; rollouts of one context are not independent, and an interval that forgets it is
too narrow. What is undefined is NaN with its count, never 0; an outcome that nobody could read counts as wrong unless the
caller says otherwise; a count of zero has an upper bound, not a standard error of zero.

The intervals in one place (C clusters, n outcomes, V the cluster-robust variance of the mean, t with C-1 degrees of freedom):

- rate: Wilson's interval at the effective n (p(1-p)/V, scaled by (z/t)^2 as in Korn & Graubard 1998); with fewer than 10 events
  or non-events Clopper-Pearson's, also at the effective n; with none the one-sided exact bound 1 - (1-confidence)^(1/n_eff),
  the "rule of three".
- mean: value +- t sqrt(V).
- paired difference: Agresti & Min (2005), two pseudo-pairs at the effective n; outside [0, 1] the t interval.
- unpaired difference and ratio: MOVER (Newcombe 1998; Donner & Zou 2012) on the Wilson intervals, so zero counts stay honest.
- AUROC: cluster bootstrap.

Where fewer than 10 events were seen, the design effect can't be learned from them and leans on ``SPARSE_ICC``.
The module is long because each interval shares the few lines above it; none is longer than a screen.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

Float64 = NDArray[np.float64]
Missing = Literal["wrong", "drop"]
Better = Literal["lower", "higher"]

SPARSE_ICC = 0.2
"""Correlation of rollouts of one context that is assumed where too few events were seen to measure it."""

ENOUGH_EVENTS = 10
"""From so many events (and as many non-events) on, the measured design effect is used alone."""


@dataclass(frozen=True)
class Rate:
    """A figure with its interval and with what it rests on. Rates, means, differences and ratios all come as this.

    Attributes:
        value: The point estimate; NaN where it is undefined.
        low: Lower end of the interval; NaN with fewer than two clusters.
        high: Upper end of the interval; NaN with fewer than two clusters.
        n: Outcomes (pairs, for a paired figure) that the value rests on.
        num_clusters: Distinct clusters among them.
        num_missing: Outcomes that could not be read, whether counted as wrong (then part of n) or dropped (then not).
    """

    value: float
    low: float
    high: float
    n: int
    num_clusters: int
    num_missing: int = 0

    def as_dict(self) -> dict[str, float | int | None]:
        """The same as plain JSON: what is undefined becomes None."""
        return {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in asdict(self).items()}


# ---------------------------------------------------------------------------------------------------------------- clusters


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
    index, num_clusters = _cluster_index(clusters, arms.shape[1])
    present = np.isfinite(arms)
    order = np.argsort(index, kind="stable")
    starts = np.searchsorted(index[order], np.arange(num_clusters))
    sums = np.add.reduceat(np.where(present, arms, 0.0)[:, order], starts, axis=1)
    counts = np.add.reduceat(present.astype(np.float64)[:, order], starts, axis=1)
    weights = bootstrap_weights(num_clusters, num_resamples, seed).astype(np.float64)
    totals = counts @ weights.T
    means = np.divide(sums @ weights.T, totals, out=np.full_like(totals, np.nan), where=totals > 0)
    return means if np.ndim(values) == 2 else means[0]


def _cluster_index(clusters: ArrayLike, n: int) -> tuple[NDArray[np.int64], int]:
    labels = np.asarray(clusters)
    if labels.shape != (n,):
        raise ValueError(f"clusters must have one label per outcome, shape ({n},), got {labels.shape}")
    unique, index = np.unique(labels, return_inverse=True)
    return index.reshape(-1), len(unique)


@dataclass(frozen=True)
class _Sums:
    """Cluster sums [C] and counts [C] of finite values: all that the closed-form intervals need."""

    sums: Float64
    counts: Float64

    @classmethod
    def of(cls, values: Float64, clusters: ArrayLike) -> _Sums:
        index, num_clusters = _cluster_index(clusters, len(values))
        counts = np.bincount(index, minlength=num_clusters).astype(np.float64)
        return cls(np.bincount(index, weights=values, minlength=num_clusters).astype(np.float64), counts)

    @property
    def n(self) -> int:
        return int(self.counts.sum())

    @property
    def num_clusters(self) -> int:
        return len(self.counts)

    @property
    def mean(self) -> float:
        return float(self.sums.sum() / self.counts.sum()) if self.n else math.nan

    @property
    def residuals(self) -> Float64:
        """float64 [C]: each cluster's pull on the mean, scaled so that the sum of squares is the variance of the mean."""
        correction = math.sqrt(self.num_clusters / (self.num_clusters - 1))
        return (self.sums - self.mean * self.counts) * correction / self.counts.sum()

    @property
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
        z, t = stats.norm.isf((1 - confidence) / 2), self.t_quantile(confidence)
        return float(self.n / design_effect * (z / t) ** 2)

    def t_quantile(self, confidence: float) -> float:
        return float(stats.t.isf((1 - confidence) / 2, self.num_clusters - 1))

    def rate_effective_n(self, confidence: float) -> float:
        p, n = self.mean, self.n
        return self.effective_n(p * (1 - p), min(p, 1 - p) * n, confidence)

    def wilson(self, confidence: float) -> tuple[float, float]:
        return _wilson(self.mean, self.rate_effective_n(confidence), confidence)


def _wilson(p: float, n: float, confidence: float) -> tuple[float, float]:
    z2 = float(stats.norm.isf((1 - confidence) / 2)) ** 2
    centre = (p + z2 / (2 * n)) / (1 + z2 / n)
    half = math.sqrt(z2 * (p * (1 - p) / n + z2 / (4 * n * n))) / (1 + z2 / n)
    return max(0.0, min(p, centre - half)), min(1.0, max(p, centre + half))


def _clopper_pearson(p: float, n: float, confidence: float) -> tuple[float, float]:
    """Exact where n is a count; n_eff may be fractional, for which the beta quantiles interpolate. One-sided at p of 0 or 1."""
    tail = 1 - confidence if p in (0.0, 1.0) else (1 - confidence) / 2
    low = 0.0 if p == 0.0 else float(stats.beta.ppf(tail, n * p, n * (1 - p) + 1))
    high = 1.0 if p == 1.0 else float(stats.beta.isf(tail, n * p + 1, n * (1 - p)))
    return low, high


def _read(values: ArrayLike, name: str) -> Float64:
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1:
        raise ValueError(f"{name} must be 1-dimensional, got shape {array.shape}")
    if np.isinf(array).any():
        raise ValueError(f"{name} must be finite or NaN (unreadable), got an infinity")
    return array


def _is_outcome(values: Float64) -> bool:
    seen = values[np.isfinite(values)]
    return bool(((seen >= 0) & (seen <= 1)).all())


def _check_confidence(confidence: float) -> None:
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must lie between 0 and 1, got {confidence}")


def count_missing_as_wrong(outcomes: ArrayLike, better: Better | None) -> Float64:
    """Replace NaN by the worse outcome: 0 where higher is better, 1 where lower is.

    Args:
        outcomes: float [n] in [0, 1] or NaN.
        better: Which way is good. Needed: an unreadable clip must never pass for a safe one.
    """
    if better not in ("lower", "higher"):
        raise ValueError(f"better must be 'lower' or 'higher' where missing='wrong' (or pass missing='drop'), got {better!r}")
    values = _read(outcomes, "outcomes")
    if not _is_outcome(values):
        raise ValueError("outcomes must lie in [0, 1] where missing='wrong'; pass missing='drop' for other numbers")
    return np.where(np.isnan(values), 0.0 if better == "higher" else 1.0, values)


def _resolve(values: ArrayLike, missing: Missing, better: Better | None) -> tuple[Float64, int]:
    """Values with NaN filled (``wrong``) or left for dropping (``drop``), and how many NaN there were."""
    array = _read(values, "outcomes")
    if missing not in ("wrong", "drop"):
        raise ValueError(f"missing must be 'wrong' or 'drop', got {missing!r}")
    num_missing = int(np.isnan(array).sum())
    return (count_missing_as_wrong(array, better) if missing == "wrong" else array), num_missing


# ------------------------------------------------------------------------------------------------------- rates and means


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
    _check_confidence(confidence)
    values, num_missing = _resolve(outcomes, missing, better)
    if not _is_outcome(values):
        raise ValueError("outcomes must lie in [0, 1]; use mean_interval for other numbers")
    sums = _finite_sums(values, clusters)
    p = sums.mean
    if sums.num_clusters < 2:
        return Rate(p, math.nan, math.nan, sums.n, sums.num_clusters, num_missing)
    if min(p, 1 - p) * sums.n < ENOUGH_EVENTS:
        low, high = _clopper_pearson(p, sums.rate_effective_n(confidence), confidence)
    else:
        low, high = sums.wilson(confidence)
    return Rate(p, low, high, sums.n, sums.num_clusters, num_missing)


def mean_interval(values: ArrayLike, clusters: ArrayLike, *, confidence: float = 0.95) -> Rate:
    """A mean with its cluster-robust t interval; NaN is left out and counted.

    Args:
        values: float [n], any range.
        clusters: [n] cluster labels.
        confidence: Coverage of the interval.
    """
    _check_confidence(confidence)
    array = _read(values, "values")
    sums = _finite_sums(array, clusters)
    low, high = _t_interval(sums, confidence)
    return Rate(sums.mean, low, high, sums.n, sums.num_clusters, len(array) - sums.n)


def _finite_sums(values: Float64, clusters: ArrayLike) -> _Sums:
    seen = np.isfinite(values)
    labels = np.asarray(clusters)
    if labels.shape != values.shape:
        raise ValueError(f"clusters must have one label per outcome, shape {values.shape}, got {labels.shape}")
    return _Sums.of(values[seen], labels[seen])


def _t_interval(sums: _Sums, confidence: float) -> tuple[float, float]:
    if sums.num_clusters < 2:
        return math.nan, math.nan
    half = sums.t_quantile(confidence) * math.sqrt(sums.variance)
    return sums.mean - half, sums.mean + half


# ------------------------------------------------------------------------------------------------- differences and ratios


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
    _check_confidence(confidence)
    (left, _), (right, _) = _resolve(a, missing, better), _resolve(b, missing, better)
    if left.shape != right.shape:
        raise ValueError(f"a and b must pair row by row, got {len(left)} and {len(right)} rows")
    num_missing = int((np.isnan(np.asarray(a, dtype=float)) | np.isnan(np.asarray(b, dtype=float))).sum())
    sums = _finite_sums(right - left, clusters)
    if sums.num_clusters < 2:
        low, high = math.nan, math.nan
    elif _is_outcome(left) and _is_outcome(right):
        delta = (right - left)[np.isfinite(right - left)]
        low, high = _agresti_min(sums, delta, confidence)
    else:
        low, high = _t_interval(sums, confidence)
    return Rate(sums.mean, low, high, sums.n, sums.num_clusters, num_missing)


def _agresti_min(sums: _Sums, delta: Float64, confidence: float) -> tuple[float, float]:
    """Two pseudo-pairs, one in each direction, keep the interval open where no pair differed."""
    square = float((delta**2).mean())
    n = sums.effective_n(square - sums.mean**2, float(np.abs(delta).sum()), confidence)
    centre = sums.mean * n / (n + 2)
    spread = math.sqrt(((square * n + 1) / (n + 2) - centre**2) / (n + 2))
    half = float(stats.norm.isf((1 - confidence) / 2)) * spread
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
    _check_confidence(confidence)
    (left, missing_a), (right, missing_b) = _resolve(a, missing, better), _resolve(b, missing, better)
    sa, sb = _finite_sums(left, clusters_a), _finite_sums(right, clusters_b)
    num_clusters, value = min(sa.num_clusters, sb.num_clusters), sb.mean - sa.mean
    if num_clusters < 2:
        low, high = math.nan, math.nan
    elif _is_outcome(left) and _is_outcome(right):
        (la, ua), (lb, ub) = sa.wilson(confidence), sb.wilson(confidence)
        low = value - math.hypot(sb.mean - lb, ua - sa.mean)
        high = value + math.hypot(ub - sb.mean, sa.mean - la)
    else:
        low, high = _welch(sa, sb, confidence)
    return Rate(value, low, high, sa.n + sb.n, num_clusters, missing_a + missing_b)


def _welch(sa: _Sums, sb: _Sums, confidence: float) -> tuple[float, float]:
    va, vb = sa.variance, sb.variance
    value = sb.mean - sa.mean
    if va + vb == 0:
        return value, value
    dof = (va + vb) ** 2 / (va**2 / (sa.num_clusters - 1) + vb**2 / (sb.num_clusters - 1))
    half = float(stats.t.isf((1 - confidence) / 2, dof)) * math.sqrt(va + vb)
    return value - half, value + half


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
    _check_confidence(confidence)
    (top, _), (bottom, _) = _resolve(numer, missing, better), _resolve(denom, missing, better)
    if top.shape != bottom.shape:
        raise ValueError(f"numer and denom must pair row by row, got {len(top)} and {len(bottom)} rows")
    if not (_is_outcome(top) and _is_outcome(bottom)):
        raise ValueError("numer and denom must lie in [0, 1]")
    num_missing = int((np.isnan(np.asarray(numer, dtype=float)) | np.isnan(np.asarray(denom, dtype=float))).sum())
    both = np.isfinite(top) & np.isfinite(bottom)
    st, sb = (_finite_sums(np.where(both, side, np.nan), clusters) for side in (top, bottom))
    if st.num_clusters == 0 or sb.mean == 0:
        return Rate(math.nan, math.nan, math.nan, st.n, st.num_clusters, num_missing)
    low, high = _mover_ratio(st, sb, confidence) if st.num_clusters > 1 else (math.nan, math.nan)
    return Rate(st.mean / sb.mean, low, high, st.n, st.num_clusters, num_missing)


def _mover_ratio(st: _Sums, sb: _Sums, confidence: float) -> tuple[float, float]:
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


# --------------------------------------------------------------------------------------------------------- scores


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
    _check_confidence(confidence)
    x, y = _read(scores, "scores"), _read(labels, "labels")
    groups = np.arange(len(x)) if clusters is None else np.asarray(clusters)
    if not x.shape == y.shape == groups.shape:
        raise ValueError(f"scores, labels and clusters must have one length, got {len(x)}, {len(y)}, {len(groups)}")
    seen = np.isfinite(x) & np.isfinite(y)
    if not np.isin(y[seen], (0.0, 1.0)).all():
        raise ValueError("labels must be 0 or 1")
    x, y, groups = x[seen], y[seen].astype(np.float64), groups[seen]
    index, num_clusters = _cluster_index(groups, len(x))
    value = float(_weighted_auroc(x, y, np.ones((1, len(x))))[0]) if len(x) else math.nan
    low = high = math.nan
    if num_clusters > 1 and not math.isnan(value):
        weights = bootstrap_weights(num_clusters, num_resamples, seed)
        blocks = [_weighted_auroc(x, y, block[:, index]) for block in np.array_split(weights, max(1, num_resamples // 100))]
        low, high = _percentiles(np.concatenate(blocks), confidence)
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


def _percentiles(draws: Float64, confidence: float) -> tuple[float, float]:
    seen = draws[np.isfinite(draws)]
    if not len(seen):
        return math.nan, math.nan
    low, high = np.quantile(seen, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)


@dataclass(frozen=True)
class Calibration:
    """Expected calibration error.

    Attributes:
        value: Mean gap between confidence and truth, weighted by bin; NaN where nothing could be binned.
        floor: What a perfectly calibrated score shows on average at this n: finite samples never show 0.
        n: Items that were binned.
        num_missing: Items with a NaN probability or label.
    """

    value: float
    floor: float
    n: int
    num_missing: int


def expected_calibration_error(
    prob: ArrayLike, label: ArrayLike, num_bins: int = 15, *, num_simulations: int = 200, seed: int = 0
) -> Calibration:
    """Expected calibration error in equal-width bins, with its noise floor.

    Args:
        prob: float [n], probability of label 1, or float [n, K], a distribution over K labels (then the winning label's
            probability is held against how often it is right).
        label: [n]; 0/1, or 0..K-1.
        num_bins: Bins over [0, 1].
        num_simulations: Draws of perfectly calibrated labels behind the floor.
        seed: Seed of these draws.
    """
    p, y = np.asarray(prob, dtype=np.float64), _read(label, "label")
    if p.ndim not in (1, 2) or len(p) != len(y):
        raise ValueError(f"prob must be [n] or [n, K] with n = {len(y)} labels, got shape {p.shape}")
    if num_bins < 1:
        raise ValueError(f"num_bins must be at least 1, got {num_bins}")
    seen = np.isfinite(p.reshape(len(p), -1)).all(1) & np.isfinite(y) if len(p) else np.zeros(0, dtype=bool)
    p, y = p[seen], y[seen]
    if ((p < 0) | (p > 1)).any():
        raise ValueError("prob must lie in [0, 1]")
    confidence, hit = (p, y) if p.ndim == 1 else (p.max(1, initial=0.0), (p.argmax(1) == y).astype(np.float64))
    if not len(confidence):
        return Calibration(math.nan, math.nan, 0, int((~seen).sum()))
    bins = np.minimum((confidence * num_bins).astype(np.int64), num_bins - 1)
    one_hot = np.zeros((len(bins), num_bins))
    one_hot[np.arange(len(bins)), bins] = 1.0
    draws = np.random.default_rng(seed).random((num_simulations, len(bins))) < confidence
    gaps = np.abs((np.vstack([hit, draws]) - confidence) @ one_hot).sum(1) / len(bins)
    return Calibration(float(gaps[0]), float(gaps[1:].mean()), len(bins), int((~seen).sum()))
