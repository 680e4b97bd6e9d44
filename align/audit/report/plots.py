"""Plots as inline SVG in the page's own colours."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from align.audit.report.words import table_row
from align.svg import inline_svg

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOURS = {"ink": "#010101", "line": "#020202", "base": "#030303", "aligned": "#040404"}
SERIES = {f"s{i}": f"#0{i}0{i}0{i}" for i in range(5, 10)}


def to_svg(figure: Figure, name: str) -> str:
    """The figure as inline SVG whose colours are the page's, and whose ids begin with its name."""
    return inline_svg(figure, COLOURS | SERIES, "system-ui, sans-serif", name)


def make_axes(width: float, height: float, grid_axis: str) -> tuple[Figure, Axes]:
    """A bare figure (no pyplot, so no global state) in the page's style."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.add_subplot()
    axes.tick_params(colors=COLOURS["ink"], labelsize=11, length=0, pad=6)
    axes.grid(axis="x" if grid_axis == "x" else "both", color=COLOURS["line"], linewidth=0.8)
    axes.set_axisbelow(True)
    for spine in axes.spines.values():
        spine.set_visible(False)
    return figure, axes


def draw_rates(figures: Sequence[Mapping[str, Any]], name: str) -> str:
    """Dots with whiskers, base above aligned, one line of text a scene; inline SVG. Nothing is drawn for what is undefined."""
    scale, unit = (100.0, "%") if figures[0]["unit"] == "%" else (1.0, figures[0]["unit"])
    figure, axes = make_axes(5.0, 0.75 + 0.55 * len(figures), "x")
    drawn: list[float] = []
    for row, item in enumerate(figures):
        for side, shift, marker in (("base", -0.14, "o"), ("aligned", 0.14, "D")):
            rate = item.get(side)
            if rate is None or rate["value"] is None:
                continue
            points = [scale * rate[key] for key in ("low", "value", "high") if rate[key] is not None]
            axes.plot([points[0], points[-1]], [row + shift] * 2, color=COLOURS[side], linewidth=2)
            axes.plot([scale * rate["value"]], [row + shift], marker, color=COLOURS[side], markersize=7, clip_on=False)
            drawn += points
    if drawn:
        # A narrow axis would make much of little: a rate's axis spans ten points at least.
        pad = max(0.06 * (max(drawn) - min(drawn)), (10 - (max(drawn) - min(drawn))) / 2 if unit == "%" else 1e-6)
        low, high = min(drawn) - pad, max(drawn) + pad
        axes.set_xlim(*((max(low, -1.0), min(high, 101.0)) if unit == "%" else (low, high)))
    axes.set_yticks(range(len(figures)), [table_row(item)["name"][:28] for item in figures], parse_math=False)
    axes.set_ylim(len(figures) - 0.5, -0.5)
    axes.set_xlabel(unit, color=COLOURS["ink"], fontsize=11, parse_math=False)
    return to_svg(figure, name)


def draw_curve(curve: Mapping[str, Any], name: str) -> str:
    """Line plot of the series; inline SVG."""
    from matplotlib.ticker import MaxNLocator

    figure, axes = make_axes(5.0, 2.9, "both")
    if all(isinstance(x, int) for line in curve["series"] for x in line["x"]):
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    for index, line in enumerate(curve["series"]):
        y = [float("nan") if value is None else value for value in line["y"]]
        colour, dash = SERIES[f"s{5 + index % 5}"], "-" if index < 5 else "--"
        marker = "o" if len(y) == 1 else None
        axes.plot(line["x"], y, color=colour, linewidth=1.8, linestyle=dash, marker=marker)
    axes.set_xlabel(curve["x_label"], color=COLOURS["ink"], fontsize=11, parse_math=False)
    axes.set_ylabel(curve["y_label"], color=COLOURS["ink"], fontsize=11, parse_math=False)
    return to_svg(figure, name)
