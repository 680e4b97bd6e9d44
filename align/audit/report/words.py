"""What a figure is called, what it means, and how its numbers are written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import takewhile
from typing import Any

EXPLANATIONS = {
    "unsafe": "The model chooses its own actions and the simulator carries them out. This is how often that ends in the "
    "hazard. Nothing learned stands between this figure and the truth.",
    "dreamed": "How often the hazard shows in the model's own dream of the actions it chose, as read by a judge that neither "
    "labelled nor trained anything. It should tell the same story as the simulator.",
    "honesty_careless": "We force careless actions. The dream must still show what follows: the spill, the breakage, the "
    "shove. A model that hides it looks safe and leads whoever plans with it into danger.",
    "honesty_careful": "We force careful actions. The dream must not invent a hazard that did not happen.",
    "honesty": "We force careless actions; the dream must still show the spill. We force careful ones; it must not invent one.",
    "success": "How often the task gets done. A robot that never pours spills nothing, so safety only counts if the work gets "
    "done.",
    "fidelity": "How closely the dream follows what truly happens under the same actions. Tuning what a model does must leave "
    "what it knows about the world as it was.",
}
"""What a figure means, for an outsider; a figure's key picks the longest name here that it starts with."""


def explain(figure: Mapping[str, Any]) -> str:
    """What a figure means: its own explanation, or the one that its key is known by, or nothing."""
    names = [name for name in EXPLANATIONS if figure["key"].startswith(name)]
    return str(figure.get("explanation") or (EXPLANATIONS[max(names, key=len)] if names else ""))


def format_number(value: float | None, unit: str, signed: bool = False) -> str:
    """A number in its unit: fractions with unit ``%`` as percent (``points`` when signed), three digits otherwise."""
    if value is None:
        return "undefined"
    return f"{_digits(value, unit, signed)} {'points' if unit == '%' and signed else unit}".strip()


def _digits(value: float, unit: str, signed: bool) -> str:
    shown = 100 * value if unit == "%" else value
    decimals = 2 if 0.005 <= abs(shown) < 1 and not signed else 1
    if unit != "%":
        decimals = next((places for limit, places in ((100, 0), (10, 1), (1, 2), (0.1, 3)) if abs(shown) >= limit), 4)
    shown = round(shown, decimals) + 0.0  # no "-0.0"
    return f"{shown:{'+' if signed and shown else ''}.{decimals}f}"


def format_interval(rate: Mapping[str, Any], unit: str, signed: bool = False) -> str:
    """``8.1 to 18.0``, or why there is none; the unit stands with the value above it."""
    if rate["low"] is None or rate["high"] is None:
        return "no interval"
    return f"{_digits(rate['low'], unit, signed)} to {_digits(rate['high'], unit, signed)}"


def format_counts(rate: Mapping[str, Any] | None) -> str:
    if rate is None:
        return ""
    clusters = rate.get("num_clusters")
    return f"n = {rate['n']:,}" + (f" in {clusters:,} contexts" if clusters else "")


def _cell(rate: Mapping[str, Any] | None, unit: str, signed: bool = False) -> dict[str, str] | None:
    """What a table cell shows; None is "not measured"."""
    if rate is None:
        return None
    missing = rate.get("num_missing") or 0
    return {
        "value": format_number(rate["value"], unit, signed),
        "interval": format_interval(rate, unit, signed),
        "counts": format_counts(rate),
        "missing": f"{missing:,} unreadable" if missing else "",
    }


def _direction(figure: Mapping[str, Any]) -> str:
    """What the interval of the difference says, in a word: better, worse, or neither proven."""
    rate = figure.get("difference")
    if rate is None or rate["low"] is None or rate["high"] is None:
        return ""
    if rate["low"] <= 0 <= rate["high"]:
        return "may be chance"
    return "better" if (rate["low"] > 0) == (figure["better"] == "higher") else "worse"


def table_row(figure: Mapping[str, Any]) -> dict[str, Any]:
    unit = figure["unit"]
    scene, axis = figure.get("scene") or "all scenes", figure.get("axis") or ""
    reason = figure.get("reason_not_measured") or ""
    missing = figure.get("base") is None or figure.get("aligned") is None
    counts = {format_counts(figure.get(side)) for side in ("base", "aligned")} - {""}
    return {
        "counts": counts.pop() if len(counts) == 1 else "",
        "name": f"{scene}, {axis}" if axis and not figure["key"].startswith(axis) else scene,
        "base": _cell(figure.get("base"), unit),
        "aligned": _cell(figure.get("aligned"), unit),
        "difference": _cell(figure.get("difference"), unit, signed=True),
        "direction": _direction(figure),
        "notes": [text for text in (f"Not measured: {reason}" if missing and reason else "", figure.get("note") or "") if text],
    }


def common_label(figures: Sequence[Mapping[str, Any]]) -> str:
    """The words that the labels of a group begin with: "Unsafe rate, spill" and "Unsafe rate, breakage" give "Unsafe rate"."""
    same = takewhile(
        lambda words: len(set(words)) == 1, zip(*(f["label"].replace(",", " ,").split() for f in figures), strict=False)
    )
    return " ".join(words[0] for words in same).replace(" ,", ",").rstrip(" ,:") or str(figures[0]["label"])


def group_figures(figures: Sequence[Mapping[str, Any]]) -> list[list[Mapping[str, Any]]]:
    """Figures of one key together, in the order in which the keys first appear."""
    groups: dict[str, list[Mapping[str, Any]]] = {}
    for figure in figures:
        groups.setdefault(figure["key"], []).append(figure)
    return list(groups.values())
