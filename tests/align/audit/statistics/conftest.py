"""Outcomes to compute with."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest


@pytest.fixture(scope="session")
def successes() -> Callable[[int, int], np.ndarray]:
    """``successes(count, n)``: float [n], the first ``count`` of them 1."""
    return lambda count, n: (np.arange(n) < count).astype(float)


@pytest.fixture(scope="session")
def draw_clustered() -> Callable[..., np.ndarray]:
    """``draw_clustered(rng, p, icc, clusters, size)``: beta-binomial outcomes, float [clusters * size]."""

    def draw(rng: np.random.Generator, p: float, icc: float, clusters: int, size: int) -> np.ndarray:
        scale = (1 - icc) / icc
        rates = rng.beta(p * scale, (1 - p) * scale, (clusters, 1))
        return (rng.random((clusters, size)) < rates).astype(float).ravel()

    return draw
