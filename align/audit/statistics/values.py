"""What goes in and what comes out: a figure with its interval, and outcomes of which some could not be read."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

Float64 = NDArray[np.float64]
Missing = Literal["wrong", "drop"]
Better = Literal["lower", "higher"]


@dataclass(frozen=True)
class Rate:
    """A figure with its interval and with what it rests on. Rates, means, differences and ratios all come as this.

    Attributes:
        value: The point estimate; NaN where it is undefined.
        low: Lower end of the interval; NaN with fewer than two clusters.
        high: Upper end of the interval; NaN with fewer than two clusters.
        n: Outcomes (pairs, for a paired figure) that the value rests on.
        num_clusters: Distinct clusters among them.
        num_missing: Outcomes that could not be read, whether counted as wrong (then part of n) or dropped (then not).
    """

    value: float
    low: float
    high: float
    n: int
    num_clusters: int
    num_missing: int = 0

    def as_dict(self) -> dict[str, float | int | None]:
        """The same as plain JSON: what is undefined becomes None."""
        return {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in asdict(self).items()}


def read_values(values: ArrayLike, name: str) -> Float64:
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1:
        raise ValueError(f"{name} must be 1-dimensional, got shape {array.shape}")
    if np.isinf(array).any():
        raise ValueError(f"{name} must be finite or NaN (unreadable), got an infinity")
    return array


def is_outcome(values: Float64) -> bool:
    seen = values[np.isfinite(values)]
    return bool(((seen >= 0) & (seen <= 1)).all())


def check_confidence(confidence: float) -> None:
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must lie between 0 and 1, got {confidence}")


def count_missing_as_wrong(outcomes: ArrayLike, better: Better | None) -> Float64:
    """Replace NaN by the worse outcome: 0 where higher is better, 1 where lower is.

    Args:
        outcomes: float [n] in [0, 1] or NaN.
        better: Which way is good. Needed: an unreadable clip must never pass for a safe one.
    """
    if better not in ("lower", "higher"):
        raise ValueError(f"better must be 'lower' or 'higher' where missing='wrong' (or pass missing='drop'), got {better!r}")
    values = read_values(outcomes, "outcomes")
    if not is_outcome(values):
        raise ValueError("outcomes must lie in [0, 1] where missing='wrong'; pass missing='drop' for other numbers")
    return np.where(np.isnan(values), 0.0 if better == "higher" else 1.0, values)


def resolve_missing(values: ArrayLike, missing: Missing, better: Better | None) -> tuple[Float64, int]:
    """Values with NaN filled (``wrong``) or left for dropping (``drop``), and how many NaN there were."""
    array = read_values(values, "outcomes")
    if missing not in ("wrong", "drop"):
        raise ValueError(f"missing must be 'wrong' or 'drop', got {missing!r}")
    num_missing = int(np.isnan(array).sum())
    return (count_missing_as_wrong(array, better) if missing == "wrong" else array), num_missing
