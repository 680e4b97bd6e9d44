"""The whole audit as one self-contained web page, made from its report and the clips that it names."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from align.audit.pages import draw_band, draw_whisker, ends_of, make_environment
from align.audit.run.words import show_effect, show_interval
from align.audit.table.verdicts import CANNOT_TELL, PASS, VIOLATION
from align.audit.table.words import HEADS, show_p
from align.errors import DataError
from align.io import sha256_file

_SHOWN = {VIOLATION: 30, CANNOT_TELL: 6, PASS: 0}
_ROWS = 12
"""Of a table; the rest can be unfolded."""


def render_audit(folder: str | Path, report: Mapping[str, Any]) -> str:
    """The page as text; it asks no server for anything.

    Args:
        folder: Where the report lies and what its clips' paths are relative to.
        report: See ``align.audit.run.report``.

    Raises:
        DataError: A clip is missing, or is not the one that the report names.
    """
    return (
        make_environment()
        .get_template("audit_run.html.jinja")
        .render(
            report=report,
            groups=[_group(report, verdict, limit) for verdict, limit in _SHOWN.items()],
            probes=[_probe(report, probe) for probe in report["probes"]],
            clips=[_clip(Path(folder), clip) for clip in report["clips"]],
            policy=json.dumps(report["policy"], indent=2, sort_keys=True, ensure_ascii=False),
        )
    )


def _group(report: Mapping[str, Any], verdict: str, limit: int) -> dict[str, Any]:
    """Sentences of one verdict: gates first, for they are few."""
    gates = [{**gate, "sentence": f"{gate['name']}: {gate['text']}"} for gate in report["gates"]]
    chosen = [check for check in (*gates, *report["findings"]) if check["verdict"] == verdict]
    return {"head": HEADS[verdict], "verdict": verdict, "shown": chosen[:limit], "count": len(chosen)}


def _probe(report: Mapping[str, Any], probe: Mapping[str, Any]) -> dict[str, Any]:
    """A probe with its tables, one for each unit."""
    own = [finding for finding in report["findings"] if finding["probe"] == probe["name"]]
    by_unit = groupby(sorted(own, key=lambda finding: str(finding["unit"])), key=lambda finding: str(finding["unit"]))
    return {
        **probe,
        "tables": [_table(unit, list(rows)) for unit, rows in by_unit],
        "gates": [gate for gate in report["gates"] if gate["probe"] == probe["name"]],
        "settings": json.dumps(probe["settings"], sort_keys=True, ensure_ascii=False) if probe["settings"] else "",
    }


def _table(unit: str, findings: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Rows on one axis. What is far out would squeeze all the rest, so the axis ends at eight times what is tolerated."""
    tolerance = findings[0]["tolerance"]
    ends = [abs(end) for finding in findings for end in ends_of(finding["effect"])]
    reach = min(max([*ends, 1.3 * tolerance]), 8 * tolerance)
    rows = [_row(finding, unit, reach) for finding in findings]
    return {
        "tolerance": show_effect(tolerance, unit),
        "reach": show_effect(reach, unit, signed=True),
        "rows": rows[:_ROWS],
        "more": rows[_ROWS:],
    }


def _row(finding: Mapping[str, Any], unit: str, reach: float) -> dict[str, Any]:
    effect, smallest = finding["effect"], finding["smallest_detectable"]
    return {
        "name": finding["name"],
        "value": show_effect(effect["value"], unit, signed=True),
        "interval": show_interval(effect, unit),
        "n": f"{effect['n']:,} in {effect['num_clusters']:,}",
        "missing": f"{effect['num_missing']:,} not scored" if effect["num_missing"] else "",
        "p": show_p(finding["adjusted_p_value"]),
        "smallest": "–" if smallest is None else show_effect(smallest, unit),
        "verdict": finding["verdict"],
        "reason": finding["reason"],
        "band": draw_band(finding["tolerance"], reach),
        "drawing": draw_whisker(effect, -reach, reach),
    }


def _clip(root: Path, clip: Mapping[str, Any]) -> dict[str, Any]:
    from align.video.codec import probe

    files = []
    for file in clip["files"]:
        path = root / file["file"]
        if not path.is_file():
            raise DataError(f"the clip {file['file']} is not in {root}; restore the file, or make the audit again")
        if sha256_file(path) != file["sha256"]:
            raise DataError(f"the clip {file['file']} is not the one that the report names: its SHA-256 differs")
        files.append({**file, "data": base64.b64encode(path.read_bytes()).decode(), "about": probe(path)})
    return {
        **clip,
        "files": files,
        "fps_hz": files[0]["about"].fps_hz,
        "num_frames": max(file["about"].num_frames for file in files),
    }
