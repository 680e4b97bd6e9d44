"""From rewards to pairs: which rollout of a context is chosen over which."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

Float64 = NDArray[np.float64]


def combine_axes(scores: Mapping[str, Float64], axes: Sequence[str], weights: Mapping[str, float] | None = None) -> Float64:
    """One utility a clip: the log-probability that it is good on every axis, Σ_k w_k log σ(score_k).

    A clip can't buy a spill with a better success: each axis adds at most 0. The axes themselves stay in the metrics.

    Args:
        scores: Axis to calibrated log-odds [n], higher is better.
        axes: Those that count for these clips.
        weights: Axis to weight; 1 where none is given.
    """
    terms = [(weights or {}).get(axis, 1.0) * -np.logaddexp(0, -np.asarray(scores[axis], np.float64)) for axis in axes]
    return np.sum(terms, axis=0)


def choose_pairs(
    utility: Float64, contexts: Sequence[str], *, min_margin: float, max_per_context: int = 2
) -> list[tuple[int, int]]:
    """Pairs (chosen, rejected) within contexts: best against worst, then second best against second worst, and so on.

    Args:
        utility: [n], higher is better.
        contexts: [n], only rollouts of one context are paired.
        min_margin: Smallest difference of utility; contexts whose rollouts are alike teach nothing.
        max_per_context: At most so many pairs of a context: more of the same context gain little.

    Returns:
        Row numbers, in the order of the contexts' first rows.
    """
    rows_of: dict[str, list[int]] = defaultdict(list)
    for row, context in enumerate(contexts):
        rows_of[context].append(row)
    pairs = []
    for rows in rows_of.values():
        ranked = sorted(rows, key=lambda row: (-utility[row], row))
        for rank in range(min(max_per_context, len(ranked) // 2)):
            best, worst = ranked[rank], ranked[-1 - rank]
            if utility[best] - utility[worst] >= min_margin:
                pairs.append((best, worst))
    return pairs
