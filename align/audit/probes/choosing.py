"""Best of n from one pool: what choosing among n rollouts brings, for every n up to the pool's size, with nothing drawn anew.

With the N rollouts of a context in the order of the proxy reward, worst first, rank i is the best of C(i-1, n-1) of all
C(N, n) subsets, so the mean over all of them is

    E[value of the best of n] = sum_i value_(i) C(i-1, n-1) / C(N, n),   i = n ... N,

exactly: unbiased, and without the noise of drawing subsets (Nakano et al. 2021, arXiv:2112.09332, appendix I; Gao, Schulman &
Hilton 2022, arXiv:2210.10760). Rollouts that the proxy can't tell apart share the weight of their ranks, as tossing a coin
would. How far a choice goes from the base is KL(n) = log n - (n-1)/n nats, an upper bound where rollouts tie (Beirami et al.
2024, arXiv:2401.01879).
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

from align.audit.statistics import Float64

LARGEST = 128
"""Choices among more are not looked at."""


def sizes_up_to(largest: int) -> tuple[int, ...]:
    """1, 2, 3, 4, 6, 8, 12 and so on, two in every octave, up to ``largest``, which is among them."""
    octaves = range(max(1, largest).bit_length())
    grid = sorted({n for k in octaves for n in (2**k, 3 * 2**k // 2) if 1 <= n < largest} | {largest})
    return tuple(grid)


def choice_weights(proxy: ArrayLike, sizes: Sequence[int]) -> Float64:
    """The chance that each rollout of a pool is the one that is chosen among n, for every n.

    Args:
        proxy: float [N], higher is better; finite.
        sizes: n of each row, each from 1 to N.

    Returns:
        float64 [K, N]; every row sums to 1. Its product with any column of the pool is that column's mean under best-of-n.

    Raises:
        ValueError: The proxy is not finite, or a size is outside the pool.
    """
    scores = np.asarray(proxy, dtype=np.float64)
    if scores.ndim != 1 or not np.isfinite(scores).all():
        raise ValueError("proxy must be 1-dimensional and finite; a rollout without a score can't be ranked")
    total = len(scores)
    if not all(1 <= n <= total for n in sizes):
        raise ValueError(f"sizes must lie between 1 and the pool's {total} rollouts, got {', '.join(map(str, sizes))}")
    by_rank = _rank_weights(total, tuple(sizes))
    order = np.argsort(scores, kind="stable")
    _, tied, counts = np.unique(scores, return_inverse=True, return_counts=True)
    shares = np.zeros((len(counts), len(sizes)))
    np.add.at(shares, tied[order], by_rank.T)
    return np.asarray((shares / counts[:, None])[tied].T)


@functools.lru_cache(maxsize=64)
def _rank_weights(total: int, sizes: tuple[int, ...]) -> Float64:
    """C(i-1, n-1) / C(N, n) for every n and rank i, float64 [K, N]."""
    ranks, n = np.arange(1, total + 1), np.array(sizes)[:, None]
    possible = ranks >= n
    ways = _log_ways(ranks - 1, np.minimum(n, ranks) - 1) - _log_ways(np.array([[total]]), n)
    return np.where(possible, np.exp(ways), 0.0)


def _log_ways(total: NDArray[np.int64], chosen: NDArray[np.int64]) -> Float64:
    return np.asarray(special.gammaln(total + 1) - special.gammaln(chosen + 1) - special.gammaln(total - chosen + 1))


def distance_of(n: float) -> float:
    """sqrt(KL) in sqrt(nats) of best-of-n from the base; 0 for n = 1."""
    return math.sqrt(max(0.0, math.log(n) - (n - 1) / n))


def size_at(distance: float) -> float:
    """The n (not a whole number) whose choice goes this far: inverse of :func:`distance_of`; infinite for infinity."""
    if not math.isfinite(distance) or distance > 20:
        return math.inf
    low, high = 1.0, math.exp(distance**2 + 1)
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (middle, high) if distance_of(middle) < distance else (low, middle)
    return high
