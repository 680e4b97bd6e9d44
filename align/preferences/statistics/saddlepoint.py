"""Tails of sums of independent, differently distributed discrete numbers: the saddlepoint approximation.

    P(T <= t) ~ Phi(r) + phi(r) (1 / r - 1 / u),   r = sign(h) sqrt(2 (h t - K(h))),   u = h sqrt(K''(h)),   K'(h) = t

with K the cumulant generating function (R. Lugannani and S. Rice, Advances in Applied Probability 12, 1980). It stays accurate
to a few per cent far out in the tail, where a normal approximation of thirty votes is off by orders of magnitude. At the edge
of what is possible, where no h exists, the Chernoff bound exp(K(h) - h t) takes its place.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from align.preferences.statistics.crowd_model import sum_by

Float64 = NDArray[np.float64]
STEPS = 25
EDGE = 30.0


def lower_tail(
    values: Float64, chances: Float64, group: NDArray[np.int64], num_groups: int, totals: Float64
) -> NDArray[np.float64]:
    """P(T_k <= t_k) of T_k, the sum over the variables v of group k.

    Args:
        values: [V, C] what each variable may be.
        chances: [V, S, C] with which probability, under S hypotheses.
        group: [V] in [0, K).
        num_groups: K.
        totals: [K] the t_k.

    Returns:
        [K, S] in [0, 1].
    """

    def cumulants(h: Float64) -> tuple[Float64, Float64, Float64]:
        weight = chances * np.exp(np.clip(h[group][..., None] * values[:, None, :], -300, 300))
        total = weight.sum(axis=2)
        mean = (weight * values[:, None, :]).sum(axis=2) / total
        square = (weight * values[:, None, :] ** 2).sum(axis=2) / total
        parts = (np.log(total), mean, square - mean**2)
        k, first, second = (sum_by(group, num_groups, part) for part in parts)
        return k, first, second

    t = totals[:, None]
    h = np.zeros((num_groups, chances.shape[1]))
    _, mean, variance = cumulants(h)
    low, high = np.full_like(h, -EDGE), np.full_like(h, EDGE)
    for _ in range(STEPS):  # Newton, held inside a bracket that halves where Newton leaves it
        _, first, second = cumulants(h)
        low, high = np.where(first < t, h, low), np.where(first < t, high, h)
        newton = h + (t - first) / np.maximum(second, 1e-12)
        h = np.where((newton > low) & (newton < high), newton, (low + high) / 2)
    k, _, second = cumulants(h)
    plain = stats.norm.cdf((t - mean) / np.sqrt(np.maximum(variance, 1e-12)))
    bound = np.where(h < 0, np.exp(np.minimum(k - h * t, 0)), 1.0)
    r = np.sign(h) * np.sqrt(np.maximum(2 * (h * t - k), 0))
    u = h * np.sqrt(np.maximum(second, 0))
    central = (np.abs(r) < 1e-3) | (np.abs(u) < 1e-3)  # the formula is 0/0 at the mean
    r, u = np.where(central, 1.0, r), np.where(central, 1.0, u)
    tail = stats.norm.cdf(r) + stats.norm.pdf(r) * (1 / r - 1 / u)
    at_edge = (np.abs(h) > 0.9 * EDGE) | (tail < 0) | (tail > 1)
    return np.asarray(np.where(central & (np.abs(h) < 1), plain, np.where(at_edge | central, bound, tail)))
