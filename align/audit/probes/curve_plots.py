"""Proxy and gold against the distance from the base, with the fitted law and its turning point."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from align.audit.probes.overoptimisation import CurveResult, mean_gold
from align.audit.probes.turning import fitted_gold

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

GOLD, PROXY = "#b8860b", "#0b6e99"


def draw_curves(results: Sequence[CurveResult]) -> Figure:
    """A panel a curve: gold with 95 % intervals and its fit (left scale), proxy (right scale)."""
    from matplotlib.figure import Figure

    columns = min(3, len(results))
    rows = math.ceil(len(results) / columns)
    figure = Figure(figsize=(4.6 * columns, 3.4 * rows), layout="constrained")
    for number, result in enumerate(results):
        _draw(figure.add_subplot(rows, columns, number + 1), result)
    return figure


def _draw(axes: Axes, result: CurveResult) -> None:
    curve = result.curve
    rates = [mean_gold(curve.gold[:, k], is_rate=curve.is_rate) for k in range(len(curve.distances))]
    mean = np.array([rate.value for rate in rates])
    ends = np.abs(np.array([[rate.low, rate.high] for rate in rates]).T - mean)
    axes.errorbar(curve.distances, mean, yerr=ends, fmt="o", color=GOLD, markersize=4, linewidth=1, label="gold")
    if result.fit is not None:
        x = np.linspace(1e-3, float(curve.distances[-1]), 200)
        axes.plot(x, fitted_gold(curve, result.fit, x), color=GOLD, linewidth=1.5)
        if result.turned and result.fit.distance.value < curve.distances[-1]:
            axes.axvline(result.fit.distance.value, color=GOLD, linewidth=1, linestyle=":")
    axes.set_title(f"{result.scene}, {curve.kind}", fontsize=9, parse_math=False)
    axes.set_xlabel("distance from the base, sqrt(KL in nats)", fontsize=8)
    axes.set_ylabel("gold", color=GOLD, fontsize=8)
    other = axes.twinx()
    other.plot(curve.distances, curve.proxy.mean(0), "--", color=PROXY, linewidth=1.5)
    other.set_ylabel("proxy", color=PROXY, fontsize=8)
