from __future__ import annotations

import math
from datetime import UTC, datetime
from html.parser import HTMLParser

import pytest
from markupsafe import Markup

from ui.web.markup import (
    badge,
    button,
    facts,
    notice,
    section,
    show_age,
    show_interval,
    show_moment,
    show_number,
    table,
    unbroken,
)

EVIL = "\"><img src=x onerror=alert(1)> ' {{value}} ${alert(1)}"


class Found(HTMLParser):
    """What a browser makes of a piece."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.names: set[str] = set()
        self.values: set[str | None] = set()
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.names |= {name for name, _ in attrs}
        self.values |= {value for _, value in attrs}

    def handle_data(self, data: str) -> None:
        self.text += data


def test_everything_is_escaped() -> None:
    made = [
        table(EVIL, [EVIL, "b"], [(EVIL, EVIL)]),
        table(EVIL, ["a"], [], empty=EVIL),
        button(EVIL, EVIL, kind=EVIL, act=EVIL),
        badge(EVIL, EVIL),
        facts({EVIL: EVIL}),
        notice(EVIL),
        section(EVIL, EVIL, hint=EVIL),
        show_moment(EVIL),
        unbroken(EVIL),
    ]
    for piece in made:
        assert isinstance(piece, Markup)
        found = Found()
        found.feed(str(piece))
        assert "img" not in found.tags and not found.names & {"onerror", "src"}
        assert found.text.count(EVIL) or EVIL in found.values


def test_tables_mark_names_and_numbers() -> None:
    made = table("People", ["Name", "Votes"], [("ann", 1234), ("bea", None)])
    assert '<th role="rowheader" scope="row">ann</th>' in made
    assert '<td role="cell" data-label="Votes" class="number"><span>1,234</span></td>' in made
    assert "<span>–</span>" in made and "<caption>People</caption>" in made


@pytest.mark.parametrize(
    ("value", "text"), [(None, "–"), (math.nan, "–"), (3, "3"), (12345, "12,345"), (0.126, "0.13"), (-0.5, "−0.50")]
)
def test_numbers(value: float | None, text: str) -> None:
    assert show_number(value) == text


def test_intervals() -> None:
    assert show_interval(0.5, 0.4, 0.6) == "0.50 [0.40, 0.60]"
    assert show_interval(0.5, math.nan, None) == "0.50"
    assert show_interval(math.nan, 0.1, 0.2) == "–"


@pytest.mark.parametrize(
    ("then", "words"),
    [
        ("2026-01-31T11:59:30.000000Z", "just now"),
        ("2026-01-31T12:00:05.000000Z", "just now"),
        ("2026-01-31T11:55:00.000000Z", "5 min ago"),
        ("2026-01-31T09:00:00.000000Z", "3 h ago"),
        ("2026-01-30T11:00:00.000000Z", "1 day ago"),
        ("2026-01-21T12:00:00.000000Z", "10 days ago"),
    ],
)
def test_ages(then: str, words: str) -> None:
    assert f">{words}</time>" in show_age(then, datetime(2026, 1, 31, 12, tzinfo=UTC))


def test_no_age_without_a_time() -> None:
    assert show_age("") == "never" and show_moment(None) == "–"
