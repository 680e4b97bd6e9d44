"""Pairs that differ in one thing only: an exact test, the smallest gap it would find, and how many pairs a gap needs.

Two rollouts of a pair share context, seed and random numbers. If what tells them apart does not matter, either could have been
the other, so the sign of every pair's difference is a toss of a coin; pairs of one context are tossed together.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike

from align.audit.probes.base import LEVEL, POWER
from align.audit.statistics import Float64, PairPower, clustered_mcnemar

NUM_FLIPS = 9999


def cluster_totals(values: ArrayLike, clusters: ArrayLike) -> tuple[Float64, Float64]:
    """Sums [C] and counts [C] of the finite values of each cluster that has any."""
    array, labels = np.asarray(values, dtype=np.float64), np.asarray(clusters)
    if array.ndim != 1 or labels.shape != array.shape:
        raise ValueError(f"values and clusters must be 1-dimensional and of one length, got {array.shape} and {labels.shape}")
    seen = np.isfinite(array)
    _, index = np.unique(labels[seen], return_inverse=True)
    counts = np.bincount(index).astype(np.float64)
    return np.bincount(index, weights=array[seen]).astype(np.float64), counts


def sign_flip_p_value(differences: ArrayLike, clusters: ArrayLike, seed: int = 0) -> float:
    """Two-sided test that twins are exchangeable; exact where cluster sums are whole numbers, as those of 0/1 outcomes are.

    With one pair a cluster this is McNemar's exact test: 5 pairs one way and 1 the other give p = 14/64. Other numbers are
    tested with 9,999 random sign flips, the observed signs counting as one more (Phipson and Smyth 2010).

    Args:
        differences: float [n], right minus left of every pair; NaN where either could not be read, which leaves the pair out.
        clusters: [n] labels; signs of one cluster flip together.
        seed: Seed of random flips, where they are needed.

    Returns:
        The p-value; NaN without a readable pair, 1 where no pair differs.
    """
    totals, _ = cluster_totals(differences, clusters)
    if not len(totals):
        return math.nan
    sums, observed = np.abs(totals), abs(float(totals.sum()))
    if np.all(sums == np.round(sums)):
        return clustered_mcnemar(totals)
    rng = np.random.default_rng(seed)
    hits = 0
    for block in np.array_split(np.arange(NUM_FLIPS), 10):
        flips = rng.integers(0, 2, (len(block), len(sums))) * 2 - 1
        hits += int((np.abs(flips @ sums) >= observed * (1 - 1e-12)).sum())
    return (hits + 1) / (NUM_FLIPS + 1)


def smallest_gap(differences: ArrayLike, clusters: ArrayLike, *, level: float = LEVEL, power: float = POWER) -> float:
    """The smallest gap that the exact test would have found, for pairs that disagree as often as these.

    The number of pairs is the effective one. Two pseudo-pairs, of which one differs, are added, so no data set claims that it
    would have seen everything.

    Args:
        differences: float [n] of 0/1 outcomes, right minus left; NaN is left out.
        clusters: [n] labels.
        level: Two-sided level of the test; divide by the number of tests made together.
        power: Chance of finding it.

    Returns:
        A gap in (0, 1]; NaN where not even a gap of 1 would be found.
    """
    sums, counts = cluster_totals(differences, clusters)
    n = float(counts.sum())
    if n == 0 or len(sums) < 2:
        return math.nan
    values = np.asarray(differences, dtype=np.float64)
    discordance = (float(np.nansum(values**2)) + 1) / (n + 2)
    effective = n / design_effect(sums, counts, discordance)
    return PairPower(discordance, effective, len(sums) - 1).smallest(level, power)


def design_effect(sums: Float64, counts: Float64, unit_variance: float) -> float:
    """How much larger the variance of the mean is than that of independent pairs; at least 1."""
    n, num = counts.sum(), len(sums)
    if num < 2 or unit_variance <= 0 or (counts == 1).all():
        return 1.0
    spread = float(((sums - sums.sum() / n * counts) ** 2).sum()) * num / (num - 1)
    return max(1.0, spread / (n * unit_variance))


def pairs_needed(gap: float, discordance: float, *, level: float = LEVEL, power: float = POWER) -> float:
    """Independent pairs with which the exact test finds a gap with the given power.

    Args:
        gap: Difference of two rates, in (0, 1].
        discordance: Share of pairs whose two outcomes differ without the gap.
        level: Two-sided level.
        power: Chance of finding it.
    """
    if not 0 < gap <= 1 or not 0 <= discordance <= 1:
        raise ValueError(f"gap must lie in (0, 1] and discordance in [0, 1], got {gap} and {discordance}")
    return 1000 * PairPower(discordance, 1000).times_needed(gap, level, power)
