"""Where the pages of this package come from: Jinja templates that share one style, and the small drawings in their tables."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jinja2 import Environment

WIDTH = 200.0
"""Of the drawing beside a row of a table, in its own units."""


def make_environment() -> Environment:
    """An environment in which all text is escaped and an undefined name is an error."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    return Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def ends_of(rate: Mapping[str, Any]) -> list[float]:
    """Lower end, value and upper end of a plain rate, those that are defined."""
    return [rate[key] for key in ("low", "value", "high") if rate[key] is not None]


def draw_whisker(rate: Mapping[str, Any], low: float, high: float) -> dict[str, str] | None:
    """Where the line of a row begins and ends and its dot lies on an axis; None where the value is undefined."""
    if rate["value"] is None:
        return None
    ends = ends_of(rate)
    return {"from": _place(ends[0], low, high), "to": _place(ends[-1], low, high), "dot": _place(rate["value"], low, high)}


def draw_band(tolerance: float, reach: float) -> tuple[str, str]:
    """Where the band of what is tolerated begins on an axis from -reach to reach, and how wide it is."""
    start = _place(-tolerance, -reach, reach)
    return start, f"{WIDTH - 2 * float(start):.1f}"


def _place(value: float, low: float, high: float) -> str:
    return f"{min(max(WIDTH * (value - low) / (high - low), 0.0), WIDTH):.1f}"
