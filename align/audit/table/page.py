"""The audit as two files: report.json for machines, and a self-contained page for people that is made from it alone.

Every interval is drawn as a line beside its numbers, by hand rather than with matplotlib: an audit of forty outcomes has a
thousand of them, and this way the page takes a tenth of a second.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from align.audit.pages import draw_band, draw_whisker, ends_of, make_environment
from align.audit.table.verdicts import CANNOT_TELL, PASS, VIOLATION
from align.audit.table.words import HEADS, METHODS, show_ends, show_gap, show_mean, show_p
from align.io import atomic_write, write_json

_SHOWN = {VIOLATION: 50, CANNOT_TELL: 12, PASS: 0}


def write_audit(folder: str | Path, report: Mapping[str, Any]) -> Path:
    """Writes report.json and report.html into a folder and returns the path of the page.

    Raises:
        RunError: They can't be written.
    """
    page = render_audit(report)
    write_json(Path(folder) / "report.json", report)
    atomic_write(Path(folder) / "report.html", page)
    return Path(folder) / "report.html"


def render_audit(report: Mapping[str, Any]) -> str:
    """The page as text; it asks no server for anything."""
    findings = report["findings"]
    groups = []
    for verdict, limit in _SHOWN.items():
        chosen = [finding for finding in findings if finding["verdict"] == verdict]
        groups.append({"head": HEADS[verdict], "verdict": verdict, "shown": chosen[:limit], "count": len(chosen)})
    return (
        make_environment()
        .get_template("audit.html.jinja")
        .render(
            report=report,
            groups=groups,
            outcomes=[_outcome(outcome, findings) for outcome in report["outcomes"]],
            methods=METHODS,
            policy=json.dumps(report["policy"], indent=2, sort_keys=True, ensure_ascii=False),
        )
    )


def _outcome(outcome: Mapping[str, Any], findings: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    own = [finding for finding in findings if finding["outcome"] == outcome["name"]]
    is_rate = outcome["is_rate"]
    gaps = [finding for finding in own if finding["kind"] == "gap"]
    low, high = _span(outcome["rates"], is_rate)
    reach = max([abs(end) for finding in gaps for end in ends_of(finding["gap"])] + [1.3 * (outcome["tolerance"] or 0.0), 1e-9])
    return {
        "name": outcome["name"],
        "better": outcome["better"],
        "tolerance": show_gap(outcome["tolerance"], is_rate),
        "axis": (show_mean(low, is_rate), show_mean(high, is_rate)),
        "reach": show_gap(reach, is_rate, signed=True),
        "rates": [_rate_row(rate, is_rate, low, high) for rate in outcome["rates"]],
        "gaps": [_gap_row(finding, is_rate, reach) for finding in gaps],
        "others": [finding for finding in own if finding["kind"] != "gap"],
    }


def _span(rates: Sequence[Mapping[str, Any]], is_rate: bool) -> tuple[float, float]:
    """The axis of all rows. A narrow axis would make much of little: a rate's spans ten points at least."""
    seen = [end for rate in rates for end in ends_of(rate)] or [0.0, 1.0]
    low, high = min(seen), max(seen)
    pad = max(0.05 * (high - low), (0.1 - (high - low)) / 2 if is_rate else 1e-9)
    return (max(0.0, low - pad), min(1.0, high + pad)) if is_rate else (low - pad, high + pad)


def _rate_row(rate: Mapping[str, Any], is_rate: bool, low: float, high: float) -> dict[str, Any]:
    return {
        "attribute": rate["attribute"],
        "group": rate["group"],
        "value": show_mean(rate["value"], is_rate),
        "interval": show_ends(rate, is_rate),
        "n": f"{rate['n']:,}",
        "contexts": f"{rate['num_clusters']:,}",
        "missing": f"{rate['num_missing']:,}" if rate["num_missing"] else "",
        "drawing": draw_whisker(rate, low, high),
    }


def _gap_row(finding: Mapping[str, Any], is_rate: bool, reach: float) -> dict[str, Any]:
    gap, tolerance = finding["gap"], finding["tolerance"] or 0.0
    return {
        "attribute": " & ".join(finding["attributes"]),
        "groups": f"{finding['b']} less {finding['a']}",
        "value": show_gap(gap["value"], is_rate, signed=True),
        "interval": show_ends(gap, is_rate, signed=True),
        "p": show_p(finding["adjusted_p_value"]),
        "smallest": "none" if finding["smallest_detectable"] is None else show_gap(finding["smallest_detectable"], is_rate),
        "verdict": finding["verdict"],
        "method": finding["method"],
        "reason": finding["reason"],
        "band": draw_band(tolerance, reach),
        "drawing": draw_whisker(gap, -reach, reach),
    }
