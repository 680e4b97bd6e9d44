"""Krippendorff's alpha: agreement beyond chance, with an interval.

    alpha = 1 - D_o / D_e
    D_o   = 1/n sum_u 1/(n_u - 1) sum_{i != j in u} delta(x_i, x_j)       disagreement seen within units
    D_e   = 1/(n (n - 1)) sum_{i != j} delta(x_i, x_j)                    disagreement expected if units did not matter

over the n ratings of units that have at least two (K. Krippendorff, Content Analysis, 4th ed. 2018, ch. 12; "Computing
Krippendorff's alpha-reliability", 2011). 1 is perfect agreement, 0 is chance, below 0 is worse than chance. ``delta`` is 0 or 1
for nominal values, the squared difference for interval ones, and for ordinal ones the squared difference of mid-ranks.

The interval is a percentile bootstrap over units (Zapf, Castell, Morawietz and Karch, BMC Medical Research Methodology 16:93,
2016). An undefined alpha is NaN and says why: perfect agreement on one value and no data at all are opposites.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

Float64 = NDArray[np.float64]
Metric = Literal["nominal", "ordinal", "interval"]
METRICS: tuple[Metric, ...] = ("nominal", "ordinal", "interval")
NO_RATINGS = "no ratings"
NO_OVERLAP = "no unit was rated by two annotators"
ONE_VALUE = "perfect agreement on one single value: with nothing to tell apart, agreement beyond chance is undefined"
ONE_UNIT = "one unit only, so there is no interval"
NO_DISAGREEMENT = "no disagreement was seen at all, so resampling can't give an interval"
_BLOCK = 4_000_000
"""Numbers held at once while resampling."""


@dataclass(frozen=True)
class Alpha:
    """Krippendorff's alpha with its interval and with what it rests on.

    Attributes:
        value: At most 1; NaN where undefined.
        low: Lower end of the interval; NaN where there is none.
        high: Upper end.
        num_units: Units with at least two ratings; the others can't say anything.
        num_ratings: Ratings of these units.
        reason: Why the value or the interval is undefined; empty where both are defined.
    """

    value: float
    low: float
    high: float
    num_units: int
    num_ratings: int
    reason: str = ""


def krippendorff_alpha(
    ratings: ArrayLike,
    metric: Metric = "nominal",
    *,
    num_resamples: int = 1000,
    confidence: float = 0.95,
    seed: int = 0,
) -> Alpha:
    """Alpha of a table of ratings.

    Args:
        ratings: [units, annotators]; missing cells are NaN or None. Nominal values may be texts, others are numbers.
        metric: ``nominal``, ``ordinal`` or ``interval``.
        num_resamples: Bootstrap draws of units.
        confidence: Coverage of the interval.
        seed: Seed of the draws.

    Raises:
        ValueError: A metric that isn't known, no table, or texts where numbers are needed.
    """
    table = np.asarray(ratings, dtype=object)
    if table.ndim != 2:
        raise ValueError(f"ratings must be a table of units x annotators, got shape {table.shape}")
    filled = np.argwhere(np.vectorize(_is_given, otypes=[bool])(table)) if table.size else np.empty((0, 2), dtype=int)
    values = [table[row, column] for row, column in filled]
    return alpha_of(filled[:, 0].tolist(), values, metric, num_resamples=num_resamples, confidence=confidence, seed=seed)


def _is_given(value: object) -> bool:
    return value is not None and not (isinstance(value, float | np.floating) and math.isnan(value))


def alpha_of(
    units: Sequence[Hashable],
    values: Sequence[Hashable],
    metric: Metric = "nominal",
    *,
    num_resamples: int = 1000,
    confidence: float = 0.95,
    seed: int = 0,
) -> Alpha:
    """As ``krippendorff_alpha``, of ratings in long form: ``values[i]`` is what one annotator said about ``units[i]``."""
    if metric not in METRICS or not 0 < confidence < 1 or num_resamples < 1:
        raise ValueError(f"metric must be one of {METRICS}, confidence in (0, 1) and num_resamples >= 1, got {metric!r}")
    counts, scale = _count(units, values, metric)
    sizes = counts.sum(axis=1)
    counts, sizes = counts[sizes > 1], sizes[sizes > 1]
    num_units, num_ratings = len(counts), int(sizes.sum())
    if num_units == 0:
        return Alpha(math.nan, math.nan, math.nan, 0, 0, NO_OVERLAP if len(values) else NO_RATINGS)
    value = float(_alphas(np.ones((1, num_units)), counts, scale, metric)[0])
    if reason := why_undefined(value, num_units):
        return Alpha(value, math.nan, math.nan, num_units, num_ratings, reason)

    def resampled(weights: Float64) -> Float64:
        return _alphas(weights, counts, scale, metric)

    low, high = unit_bootstrap(resampled, num_units, num_units + counts.shape[1], num_resamples, confidence, seed)
    return Alpha(value, low, high, num_units, num_ratings)


def why_undefined(value: float, num_units: int) -> str:
    """Why this alpha, or its interval, is undefined; empty where neither is."""
    if math.isnan(value):
        return ONE_VALUE
    if num_units == 1:
        return ONE_UNIT
    return NO_DISAGREEMENT if value == 1 else ""


def _count(units: Sequence[Hashable], values: Sequence[Hashable], metric: Metric) -> tuple[Float64, Float64]:
    """Ratings as counts [units, different values], and the values as numbers [different values] in their order."""
    if len(units) != len(values):
        raise ValueError(f"units and values must have one length, got {len(units)} and {len(values)}")
    if metric == "nominal":
        codes = {value: code for code, value in enumerate(dict.fromkeys(values))}
        scale, column = np.arange(len(codes), dtype=np.float64), np.array([codes[value] for value in values], dtype=np.int64)
    else:
        try:
            numbers = np.array(values, dtype=np.float64)
        except (TypeError, ValueError):
            raise ValueError(f"the metric {metric!r} needs numbers as ratings; use 'nominal' for names") from None
        scale, column = np.unique(numbers, return_inverse=True)
    rows = {unit: row for row, unit in enumerate(dict.fromkeys(units))}
    counts = np.zeros((len(rows), len(scale)))
    np.add.at(counts, (np.array([rows[unit] for unit in units], dtype=np.int64), column), 1)
    return counts, scale


def _alphas(weights: Float64, counts: Float64, scale: Float64, metric: Metric) -> Float64:
    """Alpha under unit weights.

    Args:
        weights: [R, U], how often each unit counts.
        counts: [U, V] ratings.
        scale: [V] values.
        metric: The metric.

    Returns:
        [R], NaN where only one value is left.
    """
    sizes = counts.sum(axis=1)
    totals = weights @ counts  # [R, V]
    n = totals.sum(axis=1)
    if metric == "nominal":
        observed = weights @ ((sizes**2 - (counts**2).sum(axis=1)) / (sizes - 1))
        expected = n**2 - (totals**2).sum(axis=1)
    else:
        # The sum of squared differences over ordered pairs of m numbers is 2 (m sum x^2 - (sum x)^2).
        x = np.cumsum(totals, axis=1) - totals / 2 if metric == "ordinal" else np.broadcast_to(scale, totals.shape)
        x = x - (totals * x).sum(axis=1, keepdims=True) / n[:, None]  # centred, or large values would cancel
        within = (sizes * (x**2 @ counts.T) - (x @ counts.T) ** 2) / (sizes - 1)
        observed = 2 * (weights * within).sum(axis=1)
        expected = 2 * n * (totals * x**2).sum(axis=1)
    several = (totals > 0).sum(axis=1) > 1
    ratio = np.divide(observed * (n - 1), expected, out=np.full(len(n), np.nan), where=several & (expected > 0))
    return np.asarray(1 - ratio)


def unit_bootstrap(
    statistic: Callable[[Float64], Float64], num_units: int, width: int, num_resamples: int, confidence: float, seed: int
) -> tuple[float, float]:
    """Percentile interval of a statistic of unit weights [R, U], computed in blocks of draws."""
    rng = np.random.default_rng(seed)
    chances = np.full(num_units, 1 / num_units)
    draws: list[Float64] = []
    left = num_resamples
    while left:
        block = min(left, max(1, _BLOCK // width))
        draws.append(statistic(rng.multinomial(num_units, chances, size=block).astype(np.float64)))
        left -= block
    drawn = np.concatenate(draws)
    if np.isnan(drawn).all():
        return math.nan, math.nan
    low, high = np.nanquantile(drawn, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)
