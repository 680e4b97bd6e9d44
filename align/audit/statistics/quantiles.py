"""Tails and quantiles of the distributions that intervals are made of.

The same functions as behind ``scipy.stats``, without the second that importing that package takes and its cost per call.
"""

from __future__ import annotations

import math

import numpy as np
from scipy import special

from align.audit.statistics.values import Float64


def normal_isf(tail: float) -> float:
    """The value that a standard normal exceeds with probability ``tail``."""
    return -float(special.ndtri(tail))


def t_isf(tail: float, dof: float) -> float:
    """The value that Student's t exceeds with probability ``tail``."""
    return -float(special.stdtrit(dof, tail))


def t_sf(value: float, dof: float) -> float:
    """The probability that Student's t exceeds ``value``."""
    return float(special.stdtr(dof, -value))


def beta_ppf(share: float, a: float, b: float) -> float:
    """The value below which a beta variable lies with probability ``share``."""
    return float(special.betaincinv(a, b, share))


def beta_isf(tail: float, a: float, b: float) -> float:
    """The value above which a beta variable lies with probability ``tail``."""
    return float(special.betainccinv(a, b, tail))


def beta_cdf(value: float, a: float, b: float) -> float:
    """The probability that a beta variable lies below ``value``."""
    return float(special.betainc(a, b, value))


def fair_binomial(count: int) -> Float64:
    """Probabilities of 0 to ``count`` heads of a fair coin."""
    heads = np.arange(count + 1)
    ways = special.gammaln(count + 1) - special.gammaln(heads + 1) - special.gammaln(count - heads + 1)
    return np.asarray(np.exp(ways - count * math.log(2)), dtype=np.float64)


def fisher_exact(events_a: int, n_a: int, events_b: int, n_b: int) -> float:
    """Two-sided p-value of Fisher's exact test of two rates: all tables no likelier than the one that was seen."""
    events = events_a + events_b
    counts = np.arange(max(0, events - n_b), min(events, n_a) + 1)

    def log_ways(n: int, k: np.ndarray) -> np.ndarray:
        return np.asarray(special.gammaln(n + 1) - special.gammaln(k + 1) - special.gammaln(n - k + 1))

    log_pmf = log_ways(n_a, counts) + log_ways(n_b, events - counts)
    pmf = np.exp(log_pmf - log_pmf.max())
    seen = pmf[events_a - counts[0]]
    return float(min(1.0, pmf[pmf <= seen * (1 + 1e-7)].sum() / pmf.sum()))
