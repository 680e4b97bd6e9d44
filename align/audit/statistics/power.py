"""What a sample of this size would have shown: smallest detectable effects, and how large a sample is needed.

Normal approximations with the variance that the effect itself would bring, so that a base rate of zero doesn't promise
infinite precision. All share one shape: an effect is found with the given power if it is at least ``noise(effect)``.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from align.audit.statistics.quantiles import normal_isf, t_isf


class Power(Protocol):
    """What a sample can show."""

    def smallest(self, alpha: float, power: float) -> float:
        """The smallest effect that is found with probability ``power`` at the two-sided level ``alpha``.

        NaN where not even the largest possible one would be.
        """
        ...

    def times_needed(self, effect: float, alpha: float, power: float) -> float:
        """By which factor the sample has to grow (or may shrink) until this effect is found; NaN for no effect."""
        ...


@dataclass(frozen=True)
class GapPower:
    """Two rates of independent groups, after Fleiss, Levin & Paik (2003).

    One group stays at the base rate and the other goes further up (or, above a half, down), the smaller group being the one
    with the larger variance.

    Attributes:
        base_rate: In [0, 1].
        n_a: Effective outcomes of the one group.
        n_b: Effective outcomes of the other.
        dof: Degrees of freedom; few clusters take from the effective n.
    """

    base_rate: float
    n_a: float
    n_b: float
    dof: float = math.inf

    def smallest(self, alpha: float, power: float) -> float:
        """See `Power`."""
        return _root(lambda gap: self._noise(gap, alpha, power), 1 - min(self.base_rate, 1 - self.base_rate))

    def times_needed(self, effect: float, alpha: float, power: float) -> float:
        """See `Power`."""
        return (self._noise(effect, alpha, power) / effect) ** 2 if effect > 0 else math.nan

    def _noise(self, gap: float, alpha: float, power: float) -> float:
        za, zb = _quantiles(alpha, power, math.inf)
        small, large = sorted((self.n_a, self.n_b))
        p = min(self.base_rate, 1 - self.base_rate)
        q = min(1.0, p + gap)
        mean = (small * q + large * p) / (small + large)
        null = mean * (1 - mean) * (1 / small + 1 / large)
        true = p * (1 - p) / large + q * (1 - q) / small
        return (za * math.sqrt(null) + zb * math.sqrt(true)) * _few_clusters(alpha, self.dof)


@dataclass(frozen=True)
class PairPower:
    """Pairs of 0/1 (or of means of them), after Miettinen (1968) for McNemar's test, with a continuity correction of one pair.

    The difference is thought to come on top of the discordance that is there already.

    Attributes:
        discordance: Mean of the squared differences within pairs; for 0/1 the share of pairs that differ.
        n: Effective pairs.
        dof: Degrees of freedom.
    """

    discordance: float
    n: float
    dof: float = math.inf

    def smallest(self, alpha: float, power: float) -> float:
        """See `Power`."""
        return _root(lambda gap: self._noise(gap, alpha, power) + 1 / self.n, 1.0)

    def times_needed(self, effect: float, alpha: float, power: float) -> float:
        """See `Power`."""
        if effect <= 0:
            return math.nan
        noise = self._noise(effect, alpha, power)
        # noise / sqrt(times) + 1 / (n times) = effect, solved for sqrt(times)
        return ((noise + math.sqrt(noise**2 + 4 * effect / self.n)) / (2 * effect)) ** 2

    def _noise(self, gap: float, alpha: float, power: float) -> float:
        za, zb = _quantiles(alpha, power, math.inf)
        spread = min(1.0, self.discordance + gap)
        both = za * math.sqrt(spread) + zb * math.sqrt(max(0.0, spread - gap**2))
        return both / math.sqrt(self.n) * _few_clusters(alpha, self.dof)


@dataclass(frozen=True)
class MeanPower:
    """A difference between means whose standard error is known.

    Attributes:
        standard_error: In the unit of the means.
        dof: Degrees of freedom.
    """

    standard_error: float
    dof: float = math.inf

    def smallest(self, alpha: float, power: float) -> float:
        """See `Power`."""
        return sum(_quantiles(alpha, power, self.dof)) * self.standard_error

    def times_needed(self, effect: float, alpha: float, power: float) -> float:
        """See `Power`."""
        return (self.smallest(alpha, power) / effect) ** 2 if effect > 0 else math.nan


def _quantiles(alpha: float, power: float, dof: float) -> tuple[float, float]:
    if not (0 < alpha < 1 and 0 < power < 1):
        raise ValueError(f"alpha and power must lie between 0 and 1, got {alpha} and {power}")
    if math.isinf(dof):
        return normal_isf(alpha / 2), normal_isf(1 - power)
    return t_isf(alpha / 2, dof), t_isf(1 - power, dof)


def _few_clusters(alpha: float, dof: float) -> float:
    """t/z: how much wider few clusters make an interval."""
    return 1.0 if math.isinf(dof) else t_isf(alpha / 2, dof) / normal_isf(alpha / 2)


def _root(noise: Callable[[float], float], most: float) -> float:
    """The smallest effect that is not below its noise, by bisection."""
    if noise(most) > most:
        return math.nan
    low, high = 0.0, most
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (middle, high) if noise(middle) > middle else (low, middle)
    return high
