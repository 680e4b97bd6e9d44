"""The verdict, and every way in which a report can be wrong."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from align.audit.report import compute_headline, compute_verdict, write_report
from align.errors import DataError


@pytest.mark.parametrize(
    ("kind", "states", "verdict"),
    [
        ("evaluate", [True, True], "pass"),
        ("evaluate", [True, None], "not measured"),
        ("evaluate", [None, False], "fail"),
        ("evaluate", [], "no verdict"),
        ("quickstart", [True], "no verdict"),
    ],
)
def test_verdicts(kind: str, states: list[bool | None], verdict: str) -> None:
    report = {"kind": kind, "gates": [{"name": "g", "passed": state, "text": ""} for state in states]}
    assert compute_verdict(report) == verdict
    assert (compute_headline(report)[0] == "Pass") == (verdict == "pass")


def test_every_problem_of_a_report_is_named_at_once(
    folder: Path, make_report: Callable[..., dict[str, Any]], make_figure: Callable[..., dict[str, Any]]
) -> None:
    report = make_report(version=2, kind="other", title=None, summary="text", provenance=[])
    report["figures"] = [make_figure(better="up", base={"value": 1})]
    report["gates"] = [{"name": "g", "passed": "yes", "text": ""}, {"name": "h", "text": ""}]
    report["clips"] = [{}]
    report["curves"] = [{"title": "t", "x_label": "", "y_label": "", "series": [{"name": "s", "x": [1], "y": []}]}]
    with pytest.raises(DataError) as caught:
        write_report(folder, report)
    for part in (
        "version must",
        "kind must",
        "title must",
        "summary must",
        "provenance must",
        "figures[0].better",
        "figures[0].base",
    ):
        assert part in str(caught.value)
    for part in ("gates[0].passed", "gates[1].passed", "clips[0].context_id", "curves[0].series 's'"):
        assert part in str(caught.value)


@pytest.mark.parametrize("passed", [1, 0, "true", math.nan])
def test_only_true_counts_as_passed(folder: Path, passed: Any, make_report: Callable[..., dict[str, Any]]) -> None:
    report = make_report(gates=[{"name": "g", "passed": passed, "text": ""}])
    if isinstance(passed, float):
        write_report(folder, report)  # an undefined gate: NaN is null
        assert json.loads((folder / "report.json").read_text())["verdict"] == "not measured"
    else:
        with pytest.raises(DataError, match=r"gates\[0\]\.passed must be true, false or null"):
            write_report(folder, report)
