"""Plots of the admin's page: matplotlib figures as inline SVG, whose colours and letters are those of the page around them."""

from __future__ import annotations

import math
import threading
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from align.svg import inline_svg

if TYPE_CHECKING:
    from matplotlib.axes import Axes

WIDTH = 5.2
"""Inches, of 72 units of the SVG each: as wide as a telephone, so that the letters stay legible there."""
MAX_NAME = 22

# Stand-ins that matplotlib writes and the page's own colours replace.
_COLOURS = {"ink": "#010101", "line": "#020202", "accent": "#030303", "bad": "#040404", "soft": "#050505"}
_STYLE: Any = {
    "text.parse_math": False,
    "font.size": 9.5,
    **dict.fromkeys(("text.color", "axes.labelcolor", "xtick.color", "ytick.color"), _COLOURS["ink"]),
}
_DRAWING = threading.Lock()
"""Matplotlib's settings belong to the whole process."""


@dataclass(frozen=True)
class Estimate:
    """One line of a forest plot.

    Attributes:
        value: NaN where it is undefined; then ``reason`` stands in its place.
        low, high: Its interval; NaN where it has none.
        bad: Drawn in the colour of warnings.
    """

    name: str
    value: float
    low: float = math.nan
    high: float = math.nan
    bad: bool = False
    reason: str = ""


def draw_forest(
    rows: Sequence[Estimate], label: str, guides: Mapping[float, str] | None = None, limits: tuple[float, float] | None = None
) -> Markup:
    """Points with intervals, one line each, the first on top.

    Args:
        rows: What to draw.
        label: Of the axis.
        guides: Where to draw dashed lines, and what they are called.
        limits: Least range of the axis; what lies beyond widens it.
    """

    def draw(axes: Axes) -> None:
        for place, row in enumerate(rows):
            if not math.isfinite(row.value):
                short = row.reason.partition(":")[0]  # what stands behind the colon explains, and the table has it
                told = axes.annotate(short, (0.01, place), xycoords=("axes fraction", "data"), va="center", fontsize=8.5)
                told.set_in_layout(False)  # else a long one leaves no room for the plot
                continue
            colour = _COLOURS["bad" if row.bad else "accent"]
            if math.isfinite(row.low) and math.isfinite(row.high):
                axes.plot([row.low, row.high], [place, place], color=colour, linewidth=2)
            axes.plot([row.value], [place], "D" if row.bad else "o", color=colour, markersize=6)
        for x, name in (guides or {}).items():
            axes.axvline(x, color=_COLOURS["ink"], linewidth=1, linestyle=(0, (4, 3)))
            axes.annotate(name, (x, 1), xycoords=("data", "axes fraction"), ha="center", va="bottom", fontsize=8.5)
        known = [end for row in rows for end in (row.low, row.value, row.high) if math.isfinite(end)]
        known += [*(limits or ()), *(guides or {})]
        if known:
            pad = 0.04 * (max(known) - min(known)) or 0.5
            axes.set_xlim(min(known) - pad, max(known) + pad)
        axes.set_yticks(range(len(rows)), [_shorten(row.name) for row in rows])
        axes.set_ylim(len(rows) - 0.5, -0.5)
        axes.set_xlabel(label)
        axes.grid(axis="x", color=_COLOURS["line"], linewidth=0.8)

    return _render(draw, 0.8 + 0.3 * len(rows))


def draw_bars(bars: Sequence[tuple[str, int]], label: str, num_ticks: int = 6) -> Markup:
    """One bar a name, in their order, and some of the names below; the same name may come again."""
    from matplotlib.ticker import MaxNLocator

    def draw(axes: Axes) -> None:
        names, counts = [name for name, _ in bars], [count for _, count in bars]
        axes.bar(range(len(bars)), counts, color=_COLOURS["accent"], width=0.8)
        places = range(len(bars) - 1, -1, -max(1, math.ceil(len(bars) / num_ticks)))  # the newest has its name
        axes.set_xticks(list(places), [names[place] for place in places])
        axes.set_xlim(-0.7, len(bars) - 0.3)
        ticks = MaxNLocator(nbins=5, integer=True).tick_values(0, max([4, *counts]))
        axes.set_yticks(ticks)
        axes.set_ylim(0, ticks[-1])
        axes.set_ylabel(label)
        axes.grid(axis="y", color=_COLOURS["line"], linewidth=0.8)

    return _render(draw, 2.0)


def draw_lines(
    series: Mapping[str, Sequence[tuple[float, float, float, float]]], x_label: str, y_label: str, log_x: bool = False
) -> Markup:
    """Lines with bands.

    Args:
        series: Name of each line, up to three, to its points: x, value, low, high; NaN leaves a gap.
        x_label: Of the axis below.
        y_label: Of the axis beside.
        log_x: Whether x grows by factors.
    """
    from matplotlib.ticker import NullLocator, ScalarFormatter

    def draw(axes: Axes) -> None:
        for (name, points), dash in zip(series.items(), ("-", "--", ":"), strict=False):
            x, value, low, high = zip(*points, strict=True)
            axes.plot(x, value, color=_COLOURS["accent"], linestyle=dash, marker="o", markersize=4, label=_shorten(name))
            axes.fill_between(x, low, high, color=_COLOURS["soft"], linewidth=0)
        if log_x:
            axes.set_xscale("log")
            ticks = sorted({point[0] for points in series.values() for point in points})
            axes.set_xticks(ticks[:: max(1, math.ceil(len(ticks) / 7))])
            axes.xaxis.set_major_formatter(ScalarFormatter())
            axes.xaxis.set_minor_locator(NullLocator())
        if len(series) > 1:
            axes.legend(frameon=False)
        axes.set_xlabel(x_label)
        axes.set_ylabel(y_label)
        axes.grid(color=_COLOURS["line"], linewidth=0.8)

    return _render(draw, 2.4)


def _shorten(name: str) -> str:
    flat = " ".join(name.split()) or "(no name)"
    if len(flat) <= MAX_NAME:
        return flat
    half = MAX_NAME // 2  # names of models often differ in their ends only
    return f"{flat[: half - 1]}…{flat[-half:]}"


def _render(draw: Callable[[Axes], None], height: float) -> Markup:
    import matplotlib
    from matplotlib.figure import Figure

    with _DRAWING, matplotlib.rc_context(_STYLE), warnings.catch_warnings():
        # The browser draws the letters, so those that matplotlib's own font lacks are no loss.
        warnings.filterwarnings("ignore", "Glyph .* missing from", UserWarning)
        figure = Figure(figsize=(WIDTH, height), layout="constrained")
        axes = figure.add_subplot()
        axes.tick_params(length=0, pad=5)
        axes.set_axisbelow(True)
        axes.spines[:].set_visible(False)
        draw(axes)
        # Every text in it was escaped when it was written.
        return Markup(inline_svg(figure, _COLOURS).replace("<svg", '<svg aria-hidden="true"', 1))
