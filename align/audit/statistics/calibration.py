"""Whether probabilities mean what they say."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from align.audit.statistics.values import read_values


@dataclass(frozen=True)
class Calibration:
    """Expected calibration error.

    Attributes:
        value: Mean gap between confidence and truth, weighted by bin; NaN where nothing could be binned.
        floor: What a perfectly calibrated score shows on average at this n: finite samples never show 0.
        n: Items that were binned.
        num_missing: Items with a NaN probability or label.
    """

    value: float
    floor: float
    n: int
    num_missing: int


def expected_calibration_error(
    prob: ArrayLike, label: ArrayLike, num_bins: int = 15, *, num_simulations: int = 200, seed: int = 0
) -> Calibration:
    """Expected calibration error in equal-width bins, with its noise floor.

    Args:
        prob: float [n], probability of label 1, or float [n, K], a distribution over K labels (then the winning label's
            probability is held against how often it is right).
        label: [n]; 0/1, or 0..K-1.
        num_bins: Bins over [0, 1].
        num_simulations: Draws of perfectly calibrated labels behind the floor.
        seed: Seed of these draws.
    """
    p, y = np.asarray(prob, dtype=np.float64), read_values(label, "label")
    if p.ndim not in (1, 2) or len(p) != len(y):
        raise ValueError(f"prob must be [n] or [n, K] with n = {len(y)} labels, got shape {p.shape}")
    if num_bins < 1:
        raise ValueError(f"num_bins must be at least 1, got {num_bins}")
    seen = np.isfinite(p.reshape(len(p), -1)).all(1) & np.isfinite(y) if len(p) else np.zeros(0, dtype=bool)
    p, y = p[seen], y[seen]
    if ((p < 0) | (p > 1)).any():
        raise ValueError("prob must lie in [0, 1]")
    confidence, hit = (p, y) if p.ndim == 1 else (p.max(1, initial=0.0), (p.argmax(1) == y).astype(np.float64))
    if not len(confidence):
        return Calibration(math.nan, math.nan, 0, int((~seen).sum()))
    bins = np.minimum((confidence * num_bins).astype(np.int64), num_bins - 1)
    one_hot = np.zeros((len(bins), num_bins))
    one_hot[np.arange(len(bins)), bins] = 1.0
    draws = np.random.default_rng(seed).random((num_simulations, len(bins))) < confidence
    gaps = np.abs((np.vstack([hit, draws]) - confidence) @ one_hot).sum(1) / len(bins)
    return Calibration(float(gaps[0]), float(gaps[1:].mean()), len(bins), int((~seen).sum()))
