"""Pieces of HTML for the admin's page. Whatever is put into them is escaped: names and comments are other people's text."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from markupsafe import Markup, escape

EMPTY = "–"


def join(parts: Iterable[Any]) -> Markup:
    """Pieces one after the other."""
    return Markup("").join(parts)


def table(caption: str, header: Sequence[str], rows: Sequence[Sequence[Any]], empty: str = "Nothing yet.") -> Markup:
    """A table; numbers stand to the right, and on a narrow screen every row becomes a card.

    Args:
        caption: What the table shows.
        header: Names of the columns; the first column names its row.
        rows: Cells: text, numbers (None and NaN are a dash) or ``Markup``.
        empty: Shown where there are no rows.
    """
    if not rows:
        return Markup('<p class="empty"><b>{}:</b> {}</p>').format(caption, empty)
    # The roles are what a table has anyway; browsers forget it where the style sheet makes cards of its rows.
    head = join(Markup('<th role="columnheader" scope="col">{}</th>').format(name) for name in header)
    body = join(
        Markup('<tr role="row">{}</tr>').format(join(_cell(name, cell, place) for place, (name, cell) in enumerate(named)))
        for named in (list(zip(header, row, strict=True)) for row in rows)
    )
    return Markup(
        '<table role="table"><caption>{}</caption><thead role="rowgroup"><tr role="row">{}</tr></thead>'
        '<tbody role="rowgroup">{}</tbody></table>'
    ).format(caption, head, body)


def _cell(name: str, cell: Any, place: int) -> Markup:
    number = cell is None or (isinstance(cell, int | float) and not isinstance(cell, bool))
    shown = show_number(cell) if number else cell
    if place == 0:
        return Markup('<th role="rowheader" scope="row">{}</th>').format(shown)
    kind = Markup(' class="number"') if number else ""
    return Markup('<td role="cell" data-label="{}"{}><span>{}</span></td>').format(name, kind, shown)


def show_number(value: float | None, digits: int = 2) -> str:
    """A whole number with its thousands apart, another one rounded, a dash where there is none."""
    if value is None or math.isnan(value):
        return EMPTY
    return f"{value:,}" if isinstance(value, int) else f"{value:.{digits}f}".replace("-", "−")


def show_interval(value: float | None, low: float | None, high: float | None) -> str:
    """An estimate with its interval, for example ``0.71 [0.60, 0.80]``."""
    if value is None or math.isnan(value):
        return EMPTY
    known = all(end is not None and not math.isnan(end) for end in (low, high))
    return f"{show_number(value)} [{show_number(low)}, {show_number(high)}]" if known else show_number(value)


def unbroken(text: str) -> Markup:
    """A text that stays in one line."""
    return Markup('<span class="nowrap">{}</span>').format(text)


def show_moment(text: str | None) -> Markup:
    """A stored time (ISO 8601, UTC) as a reader wants it."""
    if not text:
        return Markup(EMPTY)
    return Markup('<time datetime="{}">{}</time>').format(text, text[:16].replace("T", " "))


def show_age(text: str | None, now: datetime | None = None) -> Markup:
    """How long ago a stored time was, with the time itself as its title."""
    if not text:
        return Markup("never")
    seconds = ((now or datetime.now(UTC)) - datetime.fromisoformat(text)).total_seconds()
    steps = ((60, "s"), (60, "min"), (24, "h"), (math.inf, "days"))
    value, unit = max(seconds, 0.0), ""
    for size, name in steps:
        unit = name
        if value < size:
            break
        value /= size
    words = "just now" if unit == "s" else f"{value:.0f} {unit if value >= 1.5 or unit != 'days' else 'day'} ago"
    return Markup('<time datetime="{}" title="{} UTC">{}</time>').format(text, text[:19].replace("T", " "), words)


def button(label: str, name: str, *, kind: str = "", **data: str) -> Markup:
    """A button of a table's row. Its ``data`` is what the handler gets; ``name`` says to screen readers what it is about."""
    attributes = join(Markup(' data-{}="{}"').format(key.replace("_", "-"), value) for key, value in data.items())
    return Markup('<button type="button" class="row-button {}"{} aria-label="{}: {}">{}</button>').format(
        kind, attributes, label, name, label
    )


def badge(text: str, kind: str = "") -> Markup:
    """A short word with a border; ``kind`` is ``good``, ``bad`` or nothing."""
    return Markup('<span class="badge {}">{}</span>').format(kind, text)


def facts(pairs: Mapping[str, Any]) -> Markup:
    """Large figures with their names."""
    items = join(Markup("<div><dt>{}</dt><dd>{}</dd></div>").format(name, _plain(value)) for name, value in pairs.items())
    return Markup('<dl class="facts">{}</dl>').format(items)


def _plain(value: Any) -> Any:
    return show_number(value) if isinstance(value, int | float) else value


def notice(text: Any, kind: str = "good") -> Markup:
    """What came of an action; ``kind`` is ``good`` or ``bad``."""
    return Markup(
        '<div class="notice {}" role="{}">{} <button type="button" data-close aria-label="Close">×</button></div>'
    ).format(kind, "alert" if kind == "bad" else "status", Markup("<div>{}</div>").format(text))


def section(title: str, *parts: Any, hint: str = "") -> Markup:
    """A heading, a sentence that explains what follows, and what follows."""
    about = Markup('<p class="hint">{}</p>').format(hint) if hint else ""
    return Markup("<section><h2>{}</h2>{}{}</section>").format(title, about, join(escape(part) for part in parts))


def figure(svg: Markup, label: str) -> Markup:
    """A plot; ``label`` says in words what it shows."""
    return Markup('<figure role="img" aria-label="{}">{}</figure>').format(label, svg)
