"""The report as a page: self-contained, safe with hostile names, and honest about what it does not show."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from align.audit.table.page import render_audit, write_audit
from align.audit.table.words import show_ends, show_gap, show_mean, show_p

HOSTILE = "<script>alert('$x^{')</script>--> &amp; ]]> \u202e\u2028 漢字"


@pytest.fixture
def report(audit: Callable[..., dict[str, Any]], make_frame: Callable[..., pd.DataFrame]) -> dict[str, Any]:
    rng = np.random.default_rng(5)
    frame = make_frame(60, 6, 0.3).assign(light=lambda table: rng.choice(["dim", HOSTILE], len(table)), calm=0)
    frame = frame.rename(columns={"group": HOSTILE})
    wishes = {"attributes": (HOSTILE, "light"), "outcomes": ("bumped", "calm")}
    policy = {"max_missing": 0.1, "outcomes": {"bumped": {"at_most": 0.9, "at_least": 0.01}}}
    found = audit(frame, policy, **wishes)
    about = {"title": HOSTILE, "software": "1", "file": {"name": HOSTILE, "sha256": "0" * 64}}
    return {**found, **about, "policy_file": {"name": HOSTILE, "sha256": "1" * 64}}


def test_the_page_is_self_contained_and_runs_nothing(
    report: dict[str, Any], tmp_path: Path, read_page: Callable[[Path], Any]
) -> None:
    page = write_audit(tmp_path, report)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["report.html", "report.json"]
    seen = read_page(page)
    assert not seen.named("script")
    assert not re.search(r"https?://", page.read_text(encoding="utf-8"))
    policies = [meta["content"] for meta in seen.named("meta") if meta.get("http-equiv") == "Content-Security-Policy"]
    assert policies == ["default-src 'none'; style-src 'unsafe-inline'"]
    assert not [a for _, a in seen.elements if {"src", "href"} & a.keys()]
    assert ("h1", HOSTILE) in seen.texts
    assert json.loads((tmp_path / "report.json").read_text(encoding="utf-8")) == report


def test_the_same_report_gives_the_same_page(report: dict[str, Any]) -> None:
    assert render_audit(report) == render_audit(json.loads(json.dumps(report, sort_keys=True)))


def test_verdict_findings_and_every_comparison_stand_on_the_page(
    report: dict[str, Any], tmp_path: Path, read_page: Callable[[Path], Any]
) -> None:
    seen = read_page(write_audit(tmp_path, report))
    texts = [text for _, text in seen.texts]
    assert ("strong", "Violation") in seen.texts
    sentences = [finding["sentence"] for finding in report["findings"] if finding["verdict"] == "violation"]
    assert sentences
    assert all(sentence in texts for sentence in sentences)
    states = [a["class"] for a in seen.named("span") if a.get("class", "").startswith("state")]
    assert len(states) == sum(finding["kind"] == "gap" for finding in report["findings"])
    assert states.count("state violation") == sum(
        finding["kind"] == "gap" and finding["verdict"] == "violation" for finding in report["findings"]
    )


def test_drawings_stay_inside_and_are_told_in_numbers_too(
    report: dict[str, Any], tmp_path: Path, read_page: Callable[[Path], Any]
) -> None:
    seen = read_page(write_audit(tmp_path, report))
    places = [
        float(a[key])
        for name, a in seen.elements
        if name in ("line", "circle", "rect")
        for key in ("x1", "x2", "cx", "x")
        if key in a
    ]
    assert places
    assert all(0 <= place <= 200 for place in places)
    assert all(a.get("aria-hidden") == "true" for a in seen.named("svg"))
    assert all("scope" in a for a in seen.named("th"))
    assert all(a.get("aria-label") for _, a in seen.elements if a.get("role") == "region")


def test_numbers_as_people_write_them() -> None:
    assert [show_mean(value, True) for value in (0.125, 0.0029, 0.0, None)] == ["12.5 %", "0.29 %", "0.0 %", "undefined"]
    assert [show_gap(value, True, signed=True) for value in (0.031, -0.2, -0.00001, 0.0)] == [
        "+3.1 points",
        "-20.0 points",
        "0.0 points",
        "0.0 points",
    ]
    assert show_gap(0.2, False) == "0.2"
    assert show_ends({"low": -0.012, "high": 0.12}, True, signed=True) == "-1.2 to +12.0"
    assert show_ends({"low": None, "high": None}, True) == "no interval"
    assert [show_p(value) for value in (0.0004, 0.0213, None)] == ["< 0.001", "0.021", "none"]
