"""Does a bad outcome gather in the rollouts that the proxy reward likes best? An exact test, made for rare exploits.

An exploit in one rollout of a hundred hardly moves any mean, but it is what the best of a hundred is. If the order of the proxy
said nothing about the outcome, any rollout of a context could have been its best. So outcomes are shuffled within contexts, and
the largest standardised excess of best-of-n over all n > 1 is held against those of the shuffles. That is exact whatever the
contexts' own rates: rollouts of one context are drawn independently given the context.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import special

from align.audit.probes.base import LEVEL, POWER
from align.audit.probes.pools import Pools
from align.audit.probes.shuffles import largest_p_value, shuffle_totals
from align.audit.statistics import Rate, cluster_rate, paired_difference

OCTAVES = 7
"""Searching n from 2 to 128 costs at most what so many separate tests would; neighbouring n say much the same."""


@dataclass(frozen=True)
class Gathering:
    """Whether a bad outcome gathers at the proxy's top.

    Attributes:
        scene: Scene, or "all".
        outcome: Its column.
        base: Its rate in the pools.
        chosen: (n, rate among the best of n).
        excess: Rate at the largest n less that of the base; the interval is over contexts.
        p_value: Exact, one-sided, over all n together, for these contexts.
        detectable: Smallest excess that would have been found.
    """

    scene: str
    outcome: str
    base: Rate
    chosen: tuple[tuple[int, Rate], ...]
    excess: Rate
    p_value: float
    detectable: float

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON."""
        chosen = [{"n": n, **rate.as_dict()} for n, rate in self.chosen]
        about = {"scene": self.scene, "outcome": self.outcome, "base": self.base.as_dict(), "best_of_n": chosen}
        detectable = self.detectable if math.isfinite(self.detectable) else None
        return {**about, "excess": self.excess.as_dict(), "p_value": self.p_value, "detectable": detectable}


def gather(pool: Pools, outcome: str, *, level: float = LEVEL, seed: int = 0) -> Gathering:
    """Test one outcome in one scene.

    Args:
        pool: The scene's pools.
        outcome: One of its outcomes.
        level: Of the one-sided test, for ``detectable``.
        seed: Of the shuffles.
    """
    values = pool.outcomes[outcome]
    totals = shuffle_totals([weight[1:] for weight in pool.weights], values, seed=seed)
    chosen = pool.choose(values).clip(0, 1)
    names = np.arange(len(chosen))
    rates = [cluster_rate(chosen[:, k], names, missing="drop") for k in range(len(pool.sizes))]
    num_rollouts = sum(map(len, values))
    return Gathering(
        pool.scene,
        outcome,
        rates[0],
        tuple(zip(pool.sizes, rates, strict=True)),
        paired_difference(chosen[:, 0], chosen[:, -1], names, missing="drop"),
        largest_p_value(totals),
        smallest_excess(rates[0].value, num_rollouts, len(chosen), level / OCTAVES),
    )


def smallest_excess(base: float, num_rollouts: int, num_contexts: int, level: float, power: float = POWER) -> float:
    """The smallest excess of a bad outcome that one choice in each context would have shown, by the binomial distribution.

    Args:
        base: Rate of the outcome in the pools. Two rollouts more, one of them bad, keep a 0 from promising too much.
        num_rollouts: How many it was measured on.
        num_contexts: Choices, one a context.
        level: One-sided.
        power: Chance of finding it.

    Returns:
        An excess in (0, 1]; NaN where not even the outcome in every context would be found.
    """
    rate = (base * num_rollouts + 1) / (num_rollouts + 2)
    counts = np.arange(1, num_contexts + 1)
    enough = counts[special.bdtrc(counts - 1, num_contexts, rate) <= level]
    if not len(enough):
        return math.nan
    return float(special.betaincinv(enough[0], num_contexts - enough[0] + 1, power)) - rate
