"""The admin's tab with downloads."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import gradio as gr
from markupsafe import Markup

from align.preferences.accounts import Account
from align.preferences.campaign.overview import count_rows
from align.preferences.exchange import KINDS
from ui.web.desk import Desk
from ui.web.exports import FORMATS
from ui.web.markup import join, section, table

_WHAT = {
    "votes": "One row a pair, axis and annotator",
    "judgements": "Verdicts about single clips",
    "flags": "Harm and broken clips, raised and taken back",
    "breakpoints": "Where a clip stops making sense",
}
_HINT = (
    "Raw rows, corrections included, with names and comments: keep the files as you keep other personal data. In CSV a "
    "text that a spreadsheet would run as a formula has an apostrophe before it; gptsim votes import takes it away again."
)


def build(desk: Desk, message: gr.HTML) -> Sequence[tuple[Any, Sequence[Any]]]:
    """Lay the tab out; returns what reads its numbers again, with where they go."""
    downloads = gr.HTML(elem_id="downloads", apply_default_css=False)
    return [(show_downloads, [downloads])]


def show_downloads(desk: Desk, account: Account) -> list[Any]:
    """The tables with their sizes and links."""
    rows = count_rows(desk.store.engine)
    cells = [(name, _WHAT[name], getattr(rows, name), join(_link(name, form) for form in FORMATS)) for name in KINDS]
    return [section("Export", table("Tables", ["Table", "What it holds", "Rows", "Download"], cells), hint=_HINT)]


def _link(name: str, form: str) -> Markup:
    return Markup('<a class="download" href="/export/{}.{}" download aria-label="{} as {}">{}</a> ').format(
        name, form, name, form, form.upper()
    )
