"""An exact test that outcomes have nothing to do with an order: they are shuffled within contexts, which may differ."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from align.audit.statistics import Float64

NUM_SHUFFLES = 1999


def shuffle_totals(weights: Sequence[Float64], values: Sequence[Float64], num: int = NUM_SHUFFLES, seed: int = 0) -> Float64:
    """Weighted totals over all contexts after shuffling every context's values among its rollouts.

    Args:
        weights: For each context float [K, N], what a rollout counts in each of K statistics; N may differ.
        values: For each context float [N].
        num: Shuffles.
        seed: Of the shuffles.

    Returns:
        float64 [1 + num, K]; row 0 is as observed.
    """
    rng = np.random.default_rng(seed)
    totals = np.zeros((1 + num, len(weights[0])))
    for weight, value in zip(weights, values, strict=True):
        totals[0] += weight @ value
        totals[1:] += _shuffled(weight, value, num, rng)
    return totals


def _shuffled(weight: Float64, value: Float64, num: int, rng: np.random.Generator) -> Float64:
    """Totals [num, K] of one context; with two values, one of them rare, only the rare one's places are drawn."""
    kinds, counts = np.unique(value, return_counts=True)
    if len(kinds) == 1:
        return np.broadcast_to(weight @ value, (num, len(weight)))
    few = int(counts.min())
    if len(kinds) > 2 or few * few > len(value):
        return np.asarray(rng.permuted(np.broadcast_to(value, (num, len(value))), axis=1) @ weight.T)
    rare, common = (kinds[int(at)] for at in (counts.argmin(), 1 - counts.argmin()))
    drawn = weight.T[_draw_places(len(value), few, num, rng)].sum(1)
    return np.asarray(common * weight.sum(1) + (rare - common) * drawn)


def _draw_places(total: int, few: int, num: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """int64 [num, few]: different places in every row; rows with a place twice are drawn again."""
    places = rng.integers(0, total, (num, few))
    while len(again := np.flatnonzero((np.diff(np.sort(places, axis=1), axis=1) == 0).any(1))):
        places[again] = rng.integers(0, total, (len(again), few))
    return places


def largest_p_value(totals: Float64) -> float:
    """One-sided p-value of the largest of K statistics, each measured in standard deviations of its own shuffles.

    Valid whatever K and however the statistics hang together (the max-T of Westfall & Young 1993): the observed order counts
    as one of the shuffles (Phipson & Smyth 2010).

    Args:
        totals: float [1 + num, K] of :func:`shuffle_totals`.
    """
    spread = totals.std(0)
    moves = spread > 1e-12
    if not moves.any():
        return 1.0
    largest = ((totals - totals.mean(0))[:, moves] / spread[moves]).max(1)
    return float((largest >= largest[0] - 1e-9).mean())
