"""What a comparison is made on and what it gives."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from align.audit.statistics import Float64, Power, Rate
from align.audit.table.groups import Comparison


@dataclass(frozen=True)
class Outcome:
    """One outcome column.

    Attributes:
        name: Its name.
        values: float64 [n]; NaN where it could not be scored.
        is_rate: Whether it is 0 or 1.
    """

    name: str
    values: Float64
    is_rate: bool

    @property
    def seen(self) -> np.ndarray:
        return np.isfinite(self.values)

    @property
    def spread(self) -> float:
        """Standard deviation over rollouts; NaN with fewer than two."""
        seen = self.values[self.seen]
        return float(seen.std(ddof=1)) if len(seen) > 1 else math.nan


@dataclass(frozen=True)
class Result:
    """What a comparison gave.

    Attributes:
        comparison: Who was compared.
        method: ``twins``, ``same contexts`` or ``groups``.
        mean_a: Mean of group a among what was compared.
        mean_b: Mean of group b.
        gap: b less a, with its interval.
        p_value: Two-sided; NaN where nothing could be tested.
        power: What the sample would have shown; None where nothing could be tested.
        reason: Why nothing could be told, "" where something could.
    """

    comparison: Comparison
    method: str
    mean_a: float
    mean_b: float
    gap: Rate
    p_value: float
    power: Power | None
    reason: str = ""


def group_masks(comparison: Comparison) -> tuple[np.ndarray, np.ndarray]:
    """bool [n] of group a and of group b."""
    codes = comparison.factor.codes
    in_b = codes == comparison.b
    return (~in_b if comparison.a is None else codes == comparison.a), in_b
