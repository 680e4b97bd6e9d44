from __future__ import annotations

import math
import re
import threading
import xml.etree.ElementTree as ElementTree

import matplotlib
import pytest

from align.preferences.statistics.alpha import ONE_VALUE
from ui.web.plots import Estimate, draw_bars, draw_forest, draw_lines


def parse(svg: str) -> ElementTree.Element:
    return ElementTree.fromstring(re.sub(r"xlink:href", "href", svg))


def texts(svg: str) -> list[str]:
    return [element.text or "" for element in parse(svg).iter("text")]


def test_forest_names_what_is_known_and_says_why_the_rest_is_not() -> None:
    svg = draw_forest(
        [Estimate("spill", 0.7, 0.6, 0.8), Estimate("care", math.nan, reason="no overlap")], "alpha", {0.67: "0.67"}
    )
    assert {"spill", "care", "no overlap", "0.67", "alpha"} <= set(texts(svg))
    assert "nan" not in svg


def test_a_long_reason_leaves_room_for_the_plot() -> None:
    rows = [
        Estimate("spill", 0.7, 0.6, 0.8),
        Estimate("care", math.nan, reason=ONE_VALUE),
        Estimate("x", math.nan, reason="y" * 200),
    ]
    drawn = texts(draw_forest(rows, "alpha", {0.67: "0.67"}))  # matplotlib warns where there is none
    assert "perfect agreement on one single value" in drawn


def test_other_peoples_names_stay_text() -> None:
    names = ["<script>alert(1)</script>", 'style="font-family: x', "$\\frac{1}{2}$", "日本 \x07", "", "a" * 60]
    drawn = texts(draw_forest([Estimate(name, 1.0) for name in names[:3]], "x"))
    assert "$\\frac{1}{2}$" in drawn and "<script>a…rt(1)</script>"[:9] in "".join(drawn)
    svg = draw_forest([Estimate(name, 1.0) for name in names], "x")
    assert "<script" not in svg and "(no name)" in svg and "a" * 23 not in svg


def test_colours_and_letters_are_the_pages() -> None:
    svg = draw_bars([("a", 1), ("a", 2)], "answers") + draw_lines(
        {"s": [(0.1, 0.2, 0.1, 0.3), (1, 0.5, 0.4, 0.6)]}, "x", "y", True
    )
    assert not re.search(r"#0[0-9a-f]{5}\b", svg), "a stand-in colour is left"
    assert set(re.findall(r"font-family: ([^;\"]+)", svg)) == {"inherit"}
    assert "<style" not in svg and "<metadata" not in svg and "http" not in svg


def test_bars_stand_for_their_counts() -> None:
    svg = draw_bars([("x", 3), ("x", 0), ("y", 6)], "answers")
    bars = [element.get("d", "") for element in parse(svg).iter("path") if "--accent" in element.get("style", "")]
    heights = [
        max(ys) - min(ys) for ys in ([float(line.split()[2]) for line in bar.splitlines() if line[:1] in "ML"] for bar in bars)
    ]
    assert heights[2] == pytest.approx(2 * heights[0]) and heights[1] == 0
    assert texts(svg).count("x") == 2 and "y" in texts(svg)


def test_lines_leave_gaps_where_nothing_is_known() -> None:
    svg = draw_lines(
        {"alpha": [(0.04, math.nan, math.nan, math.nan), (0.1, 0.3, 0.2, 0.4), (0.5, 0.4, 0.3, 0.5)]}, "x", "y", True
    )
    assert "nan" not in svg.lower() and "0.04" in texts(svg)


def test_threads_draw_alike_and_leave_the_settings_alone() -> None:
    before = dict(matplotlib.rcParams)
    drawn: list[str] = []
    threads = [threading.Thread(target=lambda: drawn.append(draw_bars([("a", 1)], "n"))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(drawn) == 4 and len(set(drawn)) == 1
    assert dict(matplotlib.rcParams) == before
