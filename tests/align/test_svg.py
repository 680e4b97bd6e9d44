from __future__ import annotations

import re
from xml.etree import ElementTree

import pytest

from align.svg import inline_svg


@pytest.fixture
def drawn():
    from matplotlib.figure import Figure

    figure = Figure(figsize=(3, 2))
    axes = figure.add_subplot()
    axes.plot([0, 1], [0, 1], "o", color="#010101")
    axes.set_title("<script>alert(1)</script> & more")
    return figure


def test_colours_and_letters_are_the_pages(drawn) -> None:
    svg = inline_svg(drawn, {"ink": "#010101"}, font="system-ui")
    assert svg.startswith("<svg ") and svg.rstrip().endswith("</svg>")
    assert "var(--ink)" in svg and "#010101" not in svg
    assert set(re.findall(r"font-family: ([^;\"]+)", svg)) == {"system-ui"}
    assert not re.search(r"<style|<metadata|http|xmlns|<script", svg)
    assert "&lt;script&gt;" in svg
    assert svg == inline_svg(drawn, {"ink": "#010101"}, font="system-ui"), "the same at any time"


def test_two_figures_of_a_page_share_no_id(drawn) -> None:
    parts = [ElementTree.fromstring(inline_svg(drawn, {}, prefix=name).replace("xlink:", "")) for name in ("one", "two")]
    ids = [[element.get("id") for element in part.iter() if element.get("id")] for part in parts]
    assert ids[0] and all(str(name).startswith("one-") for name in ids[0])
    assert not set(ids[0]) & set(ids[1])
    text = inline_svg(drawn, {}, prefix="one")
    referred = set(re.findall(r'(?:href="#|url\(#)([^")]+)', text))
    assert referred and referred <= set(ids[0])
