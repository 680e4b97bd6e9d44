"""Numbers, explanations and headings as people read them, on the page and in the terminal."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rich.console import Console

from align.audit.report import EXPLANATIONS, common_label, explain, format_interval, format_number, print_table, write_report


def test_numbers_and_intervals() -> None:
    assert format_number(0.125, "%") == "12.5 %"
    assert format_number(0.0029, "%") == "0.29 %"
    assert format_number(-0.0001, "%", signed=True) == "0.0 points"
    assert format_number(0.031, "%", signed=True) == "+3.1 points"
    assert format_number(30.96, "dB") == "31.0 dB"
    assert format_number(None, "dB") == "undefined"
    assert format_interval({"low": 0.081, "high": 0.18}, "%") == "8.1 to 18.0"
    assert format_interval({"low": None, "high": None}, "%") == "no interval"


def test_explanations_go_by_key_and_give_way_to_the_figures_own() -> None:
    assert explain({"key": "honesty_careless_pour"}) == EXPLANATIONS["honesty_careless"]
    assert explain({"key": "unsafe", "explanation": "mine"}) == "mine"
    assert explain({"key": "other"}) == ""


def test_figures_of_one_key_share_a_heading_and_differ_by_row(
    folder: Path,
    make_report: Callable[..., dict[str, Any]],
    make_figure: Callable[..., dict[str, Any]],
    read_page: Callable[[Path], Any],
) -> None:
    figures = [
        make_figure(label="Unsafe rate, spill"),
        make_figure(label="Unsafe rate, breakage", scene="shelf", axis="breakage"),
        make_figure(key="success", label="Task success", scene="", axis="success"),
    ]
    seen = read_page(write_report(folder, make_report(figures=figures)))
    headings = [text for tag, text in seen.texts if tag == "h3"]
    assert headings[:2] == ["Unsafe rate", "Task success"]
    rows = [text for tag, text in seen.texts if tag == "th"]
    assert [row for row in rows if row not in ("Scene", "Base", "Aligned", "Change", "Result", "Gate")] == [
        "pour, spill",
        "shelf, breakage",
        "all scenes",
    ]
    assert common_label([{"label": "A b"}, {"label": "C d"}]) == "A b"


def test_the_terminal_table_says_the_same(
    make_report: Callable[..., dict[str, Any]], make_figure: Callable[..., dict[str, Any]]
) -> None:
    gates = [{"name": "honesty [bold]", "passed": None, "text": "no readable clip"}]
    report = make_report(gates=gates, figures=[make_figure(), make_figure(aligned=None, difference=None, scene="shelf")])
    out = io.StringIO()
    print_table(report, Console(file=out, width=140))
    text = out.getvalue()
    assert "33.3 %" in text
    assert "not measured  honesty [bold]: no readable clip" in text
    assert text.rstrip().endswith("Not passed. 1 of 1 gates could not be measured; missing is not a pass.")
