"""Matplotlib figures as SVG inside a page, in the page's own colours and letters."""

from __future__ import annotations

import io
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def inline_svg(figure: Figure, colours: Mapping[str, str], font: str = "inherit", prefix: str = "") -> str:
    """The figure as an ``<svg>`` element without a trace of the drawing's time or of another server.

    Args:
        figure: What to draw; its texts stay texts, and are escaped.
        colours: Names of the page's CSS variables to the stand-ins that were drawn with, for example ``#010101``.
        font: The ``font-family`` of all texts.
        prefix: Put before ids, where a page holds several figures that may have the same parts.
    """
    import matplotlib

    buffer = io.StringIO()
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": prefix or "gptsim"}):
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    svg = buffer.getvalue()
    svg = re.sub(r"<metadata>.*?</metadata>|<style.*?</style>", "", svg[svg.index("<svg") :], flags=re.DOTALL)
    head, body = svg.split(">", 1)
    head = re.sub(r'\s(xmlns(:xlink)?|width|height|version)="[^"]*"', "", head)
    # Names of groups would be there twice where a page holds two plots; ids that are referred to follow from their content.
    body = re.sub(r'<g id="[^"]*"', "<g", body)
    if prefix:
        body = re.sub(r'\b(id="|href="#|url\(#)', rf"\g<1>{prefix}-", body)
    return f"{head}>" + re.sub(r'style="[^"<>]*"', lambda found: _restyle(found[0], colours, font), body)


def _restyle(style: str, colours: Mapping[str, str], font: str) -> str:
    style = re.sub(r"font-family: [^;\"]*", f"font-family: {font}", style)
    style = re.sub(r"font: ([\d.]+px) [^;\"]*", rf"font-size: \1; font-family: {font}", style)
    for name, code in colours.items():
        style = style.replace(f": {code}", f": var(--{name})")
    return style
