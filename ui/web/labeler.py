"""The labeler's page: one empty root in a Gradio page, filled by the scripts in ``static/label``.

Nothing on it goes through Gradio's queue. The clips are ``<video>`` elements that the scripts make and keep themselves,
because a component that renders anew destroys them, and answers are posted to ``/api`` (see ``ui.web.api``).
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import gradio as gr

ROOT_ID = "gptsim-label"
_MODULES = Path(__file__).parent / "static" / "label"


def make_blocks() -> gr.Blocks:
    """The page; mount it behind a sign-in, beside the API, with ``static`` served under ``/static``."""
    import gradio as gr

    with gr.Blocks(title="Label clips", analytics_enabled=False) as blocks:
        gr.HTML(
            html_template=f'<div id="{ROOT_ID}"></div>',
            head=_make_head(),
            js_on_load=None,
            apply_default_css=False,
            padding=False,
        )
    return blocks


def _make_head() -> str:
    """Stylesheet and script. Gradio makes the script a classic one, which then imports the modules it hints at here."""
    modules = sorted(path.name for path in _MODULES.glob("*.js"))
    hints = [f'<link rel="modulepreload" href="/static/label/{name}">' for name in modules]
    return "".join(['<link rel="stylesheet" href="/static/label.css">', *hints, '<script src="/static/label.js"></script>'])
