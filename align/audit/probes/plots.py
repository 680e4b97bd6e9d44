"""The probes' plots: gaps with whiskers, score changes, and curves of proxy against gold. Figures without global state."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from align.audit.statistics import Rate
from align.io import atomic_path

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from align.audit.probes.twins import TwinGap

COLOURS = {"base": "#666666", "tuned": "#0b6e99"}


def draw_whiskers(names: Sequence[str], rates: Sequence[Rate], groups: Sequence[str], unit: str, scale: float = 1.0) -> Figure:
    """A line a comparison: its estimate and interval, coloured by group; what is undefined is left empty."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 1.0 + 0.3 * len(names)), layout="constrained")
    axes = figure.add_subplot()
    axes.axvline(0, color="#999999", linewidth=1)
    shown: set[str] = set()
    for row, (rate, group) in enumerate(zip(rates, groups, strict=True)):
        if not math.isfinite(rate.value):
            continue
        colour = COLOURS.get(group, "#0b6e99")
        axes.plot([scale * rate.low, scale * rate.high], [row, row], color=colour, linewidth=2)
        axes.plot([scale * rate.value], [row], "o", color=colour, label=None if group in shown else group)
        shown.add(group)
    axes.set_yticks(range(len(names)), names, fontsize=8, parse_math=False)
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.set_xlabel(unit)
    if len(shown) > 1:
        axes.legend(frameon=False, fontsize=8)
    return figure


def draw_gaps(gaps: Sequence[TwinGap]) -> Figure:
    """Gaps of twins in points, base and tuned in their colours."""
    names = ["{setting} {scene}, {attribute}: {right} - {left}".format(**gap.keys) for gap in gaps]
    groups = [gap.keys["policy"] for gap in gaps]
    unit = f"points more {gaps[0].keys['outcome']}" if gaps else "points"
    return draw_whiskers(names, [gap.gap for gap in gaps], groups, unit, 100.0)


def save_figure(figure: Figure, path: Path) -> None:
    """Write a PNG whole or not at all, the same bytes every time."""
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=120, metadata={"Software": None})
