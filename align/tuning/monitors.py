"""When tuning should stop: small functions over a history of measurements on held-out contexts.

A measurement holds, for each figure, one number a held-out context. Contexts and seeds are the same every time, so two
measurements are compared context by context, and the spread of those differences over the contexts says how much is noise.
An alarm needs a change that is beyond its bound by ``evidence`` standard errors (a Student t statistic of the same tail, so
that few contexts need more). The latest two checks are taken together, which halves the noise and costs a check at most.

Figures are named ``kind/…``: ``proxy/AXIS/SCENE`` and ``gold/AXIS/SCENE`` are probabilities that a rollout passes, by the
reward that is optimised and by one that is not; ``proxy/good`` and ``gold/good`` that it passes everything; ``entropy``,
``spread``, ``motion``, ``action_nll`` and ``frame_nll`` come by scene.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Float64 = NDArray[np.float64]

BASE = 0
"""The first measurement of a history is the base's."""


@dataclass(frozen=True)
class Measurement:
    """What was seen on the held-out contexts after so many steps.

    Attributes:
        step: Optimiser steps; 0 is the base.
        figures: Name to one number a context.
    """

    step: int
    figures: Mapping[str, Sequence[float]]


@dataclass(frozen=True)
class Limits:
    """How far tuning may go."""

    evidence: float = 3.3
    """Standard errors that a change must lie beyond its bound."""
    gold_fall: float = 0.01
    """A fall of the gold reward from its best by more than this (of 1), while the proxy rises, is over-optimisation."""
    axis_fall: float = 0.05
    """An axis may pass less often than the base's by at most this (of 1)."""
    entropy_floor: float = 0.4
    """Share of the base's action entropy that must be left."""
    spread_floor: float = 0.15
    """Share of the base's spread of actions within a group that must be left."""
    motion_floor: float = 0.5
    """Share of the base's motion between frames that must be left."""
    action_nll_rise: float = 0.5
    """Most that actions of good real clips may lose, in nats a token."""
    frame_nll_rise: float = 0.05
    """Most that frames of real clips may lose, in nats a token."""


@dataclass(frozen=True)
class Alarm:
    """A reason to stop.

    Attributes:
        monitor: Which monitor, in words.
        figure: What it watched.
        last_good: Step of the last measurement that was still good; 0 is the base.
        why: A sentence with the numbers.
    """

    monitor: str
    figure: str
    last_good: int
    why: str


def watch(history: Sequence[Measurement], limits: Limits) -> list[Alarm]:
    """All alarms that the latest measurement raises."""
    return [alarm for monitor in MONITORS for alarm in monitor(history, limits)] if len(history) > 1 else []


def over_optimised(history: Sequence[Measurement], limits: Limits) -> list[Alarm]:
    """The gold reward has fallen from an earlier level while the proxy rose (Gao et al. 2022, arXiv:2210.10760)."""
    alarms = []
    for name in _names(history, "gold/"):
        gold, proxy = _values(history, name), _values(history, name.replace("gold/", "proxy/", 1))
        falls = [i for i in range(len(history) - 1) if _fell(gold, i, limits) and _since(proxy, i).mean() > 0]
        if falls:
            # Not only among those falls: from a peak that fewer contexts share the fall may be less sure, and is no smaller.
            peak = max(range(len(history) - 1), key=lambda i: (gold[i].mean(), i))
            before, now = gold[peak].mean(), gold[-1].mean()
            why = (
                f"gold reward {name[5:]} fell from {before:.3f} at step {history[peak].step} to {now:.3f} while the proxy rose"
            )
            alarms.append(Alarm("over-optimisation", name, history[peak].step, why))
    return alarms


def collapsed(history: Sequence[Measurement], limits: Limits) -> list[Alarm]:
    """An axis passes less often than the base's, by the proxy or by the gold reward."""

    def excess(values: Float64) -> Float64:
        return values[BASE] - values - limits.axis_fall

    return [a for kind in ("proxy/", "gold/") for a in _beyond(history, kind, "collapsing axis", excess, limits)]


def less_diverse(history: Sequence[Measurement], limits: Limits) -> list[Alarm]:
    """The policy hardly chooses any more: too little entropy, or rollouts of a context are all alike."""
    floors = {"entropy/": limits.entropy_floor, "spread/": limits.spread_floor}
    return [a for kind, floor in floors.items() for a in _below(history, kind, "lost diversity", floor, limits)]


def less_motion(history: Sequence[Measurement], limits: Limits) -> list[Alarm]:
    """Little moves any more: doing nothing is safe, and not what was wanted."""
    return _below(history, "motion/", "lost motion", limits.motion_floor, limits)


def forgets_data(history: Sequence[Measurement], limits: Limits) -> list[Alarm]:
    """Real clips have become unlikely: actions of good ones, or frames of any."""
    rises = {"action_nll/": limits.action_nll_rise, "frame_nll/": limits.frame_nll_rise}

    def excess(rise: float) -> Callable[[Float64], Float64]:
        return lambda values: values - values[BASE] - rise

    return [a for kind, rise in rises.items() for a in _beyond(history, kind, "rising data loss", excess(rise), limits)]


MONITORS = (over_optimised, collapsed, less_diverse, less_motion, forgets_data)


def _names(history: Sequence[Measurement], kind: str) -> list[str]:
    return [name for name in history[BASE].figures if name.startswith(kind)]


def _values(history: Sequence[Measurement], name: str) -> Float64:
    """[checks, contexts]."""
    return np.array([measurement.figures[name] for measurement in history], np.float64)


def _late(values: Float64, after: int = BASE) -> Float64:
    """The latest two checks past ``after`` together, [contexts]."""
    return np.asarray(values[max(after + 1, len(values) - 2) :].mean(0))


def _since(values: Float64, check: int) -> Float64:
    """Change from a check (and the one before it) to the latest two, [contexts]."""
    return np.asarray(_late(values, check) - values[max(0, check - 1) : check + 1].mean(0))


def _fell(values: Float64, check: int, limits: Limits) -> bool:
    return _surely_positive(-_since(values, check) - limits.gold_fall, limits.evidence)


def _surely_positive(excess: Float64, evidence: float) -> bool:
    """Whether the mean over contexts is above 0 by ``evidence`` standard errors."""
    from scipy import stats

    mean, count = float(excess.mean()), len(excess)
    if mean <= 0 or count < 2:
        return False
    error = float(excess.std(ddof=1)) / count**0.5
    return mean > error * float(stats.t.isf(stats.norm.sf(evidence), count - 1))


def _beyond(
    history: Sequence[Measurement], kind: str, monitor: str, excess: Callable[[Float64], Float64], limits: Limits
) -> list[Alarm]:
    """Alarms for the figures of a kind whose excess over their bound, [checks, contexts], is surely positive."""
    alarms = []
    for name in _names(history, kind):
        values = _values(history, name)
        over = excess(values)
        if _surely_positive(_late(over), limits.evidence):
            good = max(i for i in range(len(history)) if i == BASE or over[i].mean() <= 0)
            why = f"{name} went from {values[BASE].mean():.3f} to {_late(values).mean():.3f}, beyond its bound"
            alarms.append(Alarm(monitor, name, history[good].step, why))
    return alarms


def _below(history: Sequence[Measurement], kind: str, monitor: str, floor: float, limits: Limits) -> list[Alarm]:
    return _beyond(history, kind, monitor, lambda values: floor * values[BASE] - values, limits)
