"""Many tests at once: Holm's step-down adjustment."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from align.audit.statistics.values import Float64


def holm(p_values: ArrayLike) -> Float64:
    """Adjusted p-values: calling those at or below alpha findings is wrong about any of them with probability alpha at most.

    Holm (1979): the k-th smallest of m p-values is multiplied by m - k + 1, and no adjusted value is below one that was
    smaller before. Holds whatever the dependence between the tests.

    Args:
        p_values: float [m] in [0, 1]; NaN is a test that could not be made, and counts for nothing.

    Returns:
        float64 [m]; NaN where it was NaN.
    """
    values = np.asarray(p_values, dtype=np.float64)
    adjusted = np.full(values.shape, np.nan)
    made = np.flatnonzero(np.isfinite(values))
    if ((values[made] < 0) | (values[made] > 1)).any():
        raise ValueError("p_values must lie in [0, 1]")
    order = made[np.argsort(values[made], kind="stable")]
    factors = np.arange(len(order), 0, -1)
    adjusted[order] = np.minimum(1.0, np.maximum.accumulate(values[order] * factors))
    return adjusted
