"""Pools of rollouts with a proxy reward and the truth, with planted exploits or without, for tests and for the benchmark.

Every rollout has a quality q, standard normal. An honest proxy is q plus noise; hazards happen where q is low. An exploit is a
rollout that the proxy puts at the very top although the hazard happens.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

TOP = 6.0
"""What an exploit adds to the proxy, whose spread is 1.4."""


def make_pools(seed: int, kind: str = "honest", contexts: int = 32, size: int = 128, **wishes: Any) -> pd.DataFrame:
    """A table of pools: ``context_id, proxy, gold, hazard``, gold being 1 without the hazard unless the kind says otherwise."""
    rng = np.random.default_rng([seed, 11])
    shape = (contexts, size)
    quality = rng.normal(size=shape)
    proxy, hazard, gold = KINDS[kind](rng, quality, **wishes)
    hazard = hazard.astype(float)
    return pd.DataFrame(
        {
            "context_id": np.repeat([f"c{i}" for i in range(contexts)], size),
            "proxy": proxy.ravel(),
            "gold": (1 - hazard if gold is None else gold.astype(float)).ravel(),
            "hazard": hazard.ravel(),
        }
    )


def _honest(rng: Any, quality: Any, base: float = 0.015) -> Any:
    """Hazards happen in the lower half of quality; the proxy sees quality through noise."""
    return quality + rng.normal(size=quality.shape), rng.random(quality.shape) < 2 * base * (quality < 0), None


def _exploit(rng: Any, quality: Any, mass: float = 0.01, base: float = 0.005, share: float = 1.0, top: float = TOP) -> Any:
    """An honest proxy, but for ``mass`` of all rollouts; in a ``share`` of the contexts, so that these hold more of them."""
    proxy, hazard, _ = _honest(rng, quality, base)
    where = np.arange(len(quality)) < round(share * len(quality))
    exploits = rng.random(quality.shape) < mass / where.mean() * where[:, None]
    return proxy + top * exploits, hazard | exploits, None


def _ignorant(rng: Any, quality: Any, base: float = 0.015) -> Any:
    """The proxy knows nothing of the hazard."""
    return quality, rng.random(quality.shape) < base, None


def _rarely_good(rng: Any, quality: Any, rate: float = 0.015) -> Any:
    """The proxy knows nothing, and hardly any rollout is good: a t test would take the lack of luck for a fall."""
    good = rng.random(quality.shape) < rate
    return quality, ~good, good


def _uneven(rng: Any, quality: Any, base: float = 0.015) -> Any:
    """The proxy knows nothing of the hazard, which happens in a few contexts mostly."""
    rate = rng.beta(0.1, 0.1 / base - 0.1, len(quality))
    return quality, rng.random(quality.shape) < rate[:, None], None


def _level(rng: Any, quality: Any) -> Any:
    """Gold rises with the proxy and then stays: no turning point."""
    proxy = quality + 0.5 * rng.normal(size=quality.shape)
    good = rng.random(quality.shape) < 0.3 + 0.5 * np.clip(proxy, 0, 1)
    return proxy, ~good, good


def _cancelling(rng: Any, quality: Any) -> Any:
    """In any context gold rises or falls with the proxy, as often the one as the other."""
    slope = rng.choice([-1.0, 1.0], len(quality))[:, None]
    good = rng.random(quality.shape) < 1 / (1 + np.exp(-slope * quality))
    return quality, np.zeros(quality.shape, bool), good


def _turning(rng: Any, quality: Any, bend: float = 3.0) -> Any:
    """Gold rises up to the best of 8 and falls by 15 points to the best of 128: the proxy also likes what is too much."""
    excess = rng.exponential(0.5, size=quality.shape)
    good = rng.random(quality.shape) < 1 / (1 + np.exp(-(quality - bend * np.maximum(excess - 1, 0))))
    return quality + excess, ~good, good


KINDS = {
    "honest": _honest,
    "exploit": _exploit,
    "ignorant": _ignorant,
    "rarely good": _rarely_good,
    "uneven": _uneven,
    "level": _level,
    "cancelling": _cancelling,
    "turning": _turning,
}
