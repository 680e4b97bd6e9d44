"""When more of the proxy stops being more of the gold: a fall from the peak that is beyond chance, and a fitted turning point.

A curve holds, for every context, the proxy reward and the gold outcome at growing distances d = sqrt(KL) from the base: of
best-of-n, or of checkpoints of a training run. Gao, Schulman & Hilton (2022, arXiv:2210.10760) found the gain of gold to follow

    R(d) = d (alpha - beta d)       for best-of-n, with its peak at d = alpha / (2 beta),
    R(d) = d (alpha - beta log d)   for reinforcement learning, with its peak at d = exp(alpha / beta - 1).

Both are linear in alpha and beta, so a least-squares fit of the mean over contexts is the mean of the contexts' fits, and the
bootstrap over contexts is a product of matrices. We differ in fitting all distances alike, and in treating d of a trained
policy (an estimate) as known.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from scipy import special, stats

from align.audit.probes.base import LEVEL, POWER
from align.audit.statistics import Float64, Rate, bootstrap_weights

Kind = Literal["best of n", "training"]
NUM_FLIPS = 4999


@dataclass(frozen=True, eq=False)
class Curve:
    """Proxy and gold at K growing distances from the base, context by context.

    Attributes:
        kind: Which of the two forms is fitted.
        labels: What each point is called, such as ``n = 8``.
        distances: float64 [K], sqrt(KL) in sqrt(nats), rising; the first is 0, the base.
        proxy: float64 [C, K].
        gold: float64 [C, K], higher is better.
    """

    kind: Kind
    labels: tuple[str, ...]
    distances: Float64
    proxy: Float64
    gold: Float64

    @property
    def is_rate(self) -> bool:
        """Whether gold is a share, so that its unit is known."""
        return bool(((self.gold >= -1e-9) & (self.gold <= 1 + 1e-9)).all())

    @property
    def num_contexts(self) -> int:
        return len(self.gold)


@dataclass(frozen=True)
class Fall:
    """How far gold lies below its peak at the end of a curve.

    Attributes:
        peak: Where gold was best, among all points but the last.
        drop: Gold there less gold at the end (above 0: it fell). The interval holds for all points at once, so choosing the
            peak by looking does not spoil it.
        rise: Of the proxy from there to the end, 95 %.
        p_value: That gold did not fall from any earlier point, or that the proxy did not rise meanwhile.
        detectable: Smallest drop that would have been found with a chance of ``POWER``; NaN where not even the largest would.
    """

    peak: str
    drop: Rate
    rise: Rate
    p_value: float
    detectable: float


@dataclass(frozen=True)
class TurningPoint:
    """The fitted law; all intervals are 95 % percentiles over resampled contexts, None where an end lies at infinity.

    Attributes:
        alpha: What the first step brings, gold per sqrt(nat).
        beta: What bends the curve.
        distance: Where the fitted gold is highest, in sqrt(nats); infinite where it never turns.
        share_inside: Of resamples, in how many it turns within the distances that were measured.
        residual: Root mean square of mean gold about the fit.
    """

    alpha: Rate
    beta: Rate
    distance: Rate
    share_inside: float
    residual: float

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON."""
        rates = {name: getattr(self, name).as_dict() for name in ("alpha", "beta", "distance")}
        return {**rates, "share_inside": self.share_inside, "residual": self.residual}


def find_fall(curve: Curve, *, level: float = LEVEL, power: float = POWER, seed: int = 0) -> Fall:
    """Test whether gold falls from its peak while the proxy rises.

    The contexts' drops from every earlier point to the last are flipped in sign together, and the largest t statistic over the
    points is held against its own distribution (max-T), so searching for the peak costs what it should.

    Args:
        curve: At least two points and two contexts.
        level: Of the one-sided test, for ``detectable``.
        power: For ``detectable``.
        seed: Of the flips.
    """
    drops = np.round(curve.gold[:, :-1] - curve.gold[:, -1:], 12)
    num = len(drops)
    rng = np.random.default_rng(seed)
    flips = rng.integers(0, 2, (NUM_FLIPS, num)) * 2.0 - 1
    observed = _t_values(drops.mean(0)[None], drops)[0]
    chance = _t_values(flips @ drops / num, drops).max(1)
    p_fall = float((1 + (chance >= observed.max() - 1e-9).sum()) / (1 + NUM_FLIPS))
    centred = drops - drops.mean(0)
    wide = np.abs(_t_values(flips @ centred / num, centred)).max(1)
    peak = int(np.argmax(drops.mean(0)))
    value, error = float(drops[:, peak].mean()), _error(drops[:, peak], is_rate=curve.is_rate)
    half = _critical(wide, 0.025, 0.05, num) * error
    rise, p_rise = _rise(curve.proxy[:, -1] - curve.proxy[:, peak])
    detectable = (_critical(chance, level, level, num) + float(special.ndtri(power))) * error
    most = 1.0 if curve.is_rate else math.inf
    drop = Rate(value, max(-most, value - half), min(most, value + half), num, num)
    return Fall(curve.labels[peak], drop, rise, max(p_fall, p_rise), detectable if detectable < most else math.nan)


def _critical(draws: Float64, tail: float, share: float, num: int) -> float:
    """What a share of the draws exceeds, but no less than Student's t for one point; some draws may be infinite."""
    return max(float(np.quantile(draws, 1 - share, method="higher")), float(stats.t.isf(tail, num - 1)))


def _t_values(means: Float64, values: Float64) -> Float64:
    """t [B, K] of means [B, K] of sign-flipped values [C, K], whose squares the flips leave as they are; 0 where all are 0."""
    num = len(values)
    variance = ((values**2).sum(0) - num * means**2).clip(min=0) / (num - 1) / num
    tiny = np.sqrt(variance) < 1e-12
    t = np.divide(means, np.sqrt(variance), out=np.zeros_like(means), where=~tiny)
    # All contexts fell by exactly as much.
    return np.where(tiny & (means > 1e-12), np.inf, t)


def _error(values: Float64, *, is_rate: bool) -> float:
    """Standard error of a mean; for shares with two more contexts of which one differs: a few zeros make nobody certain."""
    num, squares = len(values), float(((values - values.mean()) ** 2).sum())
    variance = (squares + 1) / (num + 2) if is_rate else squares / (num - 1)
    return math.sqrt(variance / num)


def _rise(values: Float64) -> tuple[Rate, float]:
    num, mean = len(values), float(values.mean())
    error = float(values.std(ddof=1)) / math.sqrt(num)
    half = float(stats.t.isf(0.025, num - 1)) * error
    p_value = float(stats.t.sf(mean / error, num - 1)) if error > 0 else float(mean <= 0)
    return Rate(mean, mean - half, mean + half, num, num), p_value


def fit_turning_point(curve: Curve, *, num_resamples: int = 2000, seed: int = 0) -> TurningPoint | None:
    """Fit the law of the curve's kind; None with fewer than two points beyond the base, which can't tell alpha from beta."""
    beyond = curve.distances > 0
    if beyond.sum() < 2:
        return None
    form = _form(curve.kind, curve.distances[beyond])
    gains = curve.gold[:, beyond] - curve.gold[:, :1]
    fits = gains @ np.linalg.pinv(form).T
    weights = bootstrap_weights(len(fits), num_resamples, seed) / len(fits)
    drawn = weights @ fits
    mean = fits.mean(0)
    where = _turn(curve.kind, drawn)
    value = float(_turn(curve.kind, mean[None])[0])
    n = len(fits)
    alpha, beta = (Rate(float(mean[k]), *_ends(drawn[:, k]), n, n) for k in (0, 1))
    residual = float(np.sqrt(((gains.mean(0) - form @ mean) ** 2).mean()))
    inside = float((where < curve.distances[-1]).mean())
    return TurningPoint(alpha, beta, Rate(value, *_ends(where), n, n), inside, residual)


def fitted_gold(curve: Curve, fit: TurningPoint, distances: Float64) -> Float64:
    """Gold of the fitted law at distances above 0, for drawing."""
    base = float(curve.gold[:, 0].mean())
    return np.asarray(base + _form(curve.kind, distances) @ np.array([fit.alpha.value, fit.beta.value]))


def _form(kind: Kind, distances: Float64) -> Float64:
    """float64 [K, 2]: what alpha and beta are multiplied by."""
    bend = distances if kind == "best of n" else np.log(distances)
    return np.stack([distances, -distances * bend], axis=1)


def _turn(kind: Kind, fits: Float64) -> Float64:
    """Distances [R] of the highest gold for rows of (alpha, beta): infinite where it rises for ever, 0 where it only falls."""
    alpha, beta = fits.T
    bends = beta > 1e-12
    safe = np.where(bends, beta, 1.0)
    turn = alpha / (2 * safe) if kind == "best of n" else np.exp(np.minimum(alpha / safe - 1, 50.0))
    straight = np.where((beta < -1e-12) | (alpha > 1e-12), np.inf, 0.0)
    return np.where(bends, np.maximum(turn, 0.0), straight)


def _ends(draws: Float64) -> tuple[float, float]:
    """95 % percentiles that are draws themselves, since some may be infinite."""
    low, high = np.quantile(draws, [0.025, 0.975], method="inverted_cdf")
    return float(low), float(high)
