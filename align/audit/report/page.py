"""The report as one web page that asks no server for anything."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from align.audit.pages import make_environment
from align.audit.report.plots import draw_curve, draw_rates
from align.audit.report.schema import compute_headline, compute_verdict, gate_state
from align.audit.report.words import common_label, explain, group_figures, table_row


def render_html(folder: str | Path, report: Mapping[str, Any]) -> str:
    """The page as text. ``report`` is checked and plain; its clips lie at their paths under ``folder``."""
    from markupsafe import Markup

    groups = [
        {
            "label": common_label(group),
            "better": group[0]["better"],
            "explanation": explain(group[0]),
            "rows": [table_row(figure) for figure in group],
            "plot": Markup(draw_rates(group, f"rates{i}")) if any(f.get("base") or f.get("aligned") for f in group) else None,
        }
        for i, group in enumerate(group_figures(report.get("figures", [])))
    ]
    curves = [{**curve, "plot": Markup(draw_curve(curve, f"curve{i}"))} for i, curve in enumerate(report.get("curves", []))]
    return (
        make_environment()
        .get_template("report.html.jinja")
        .render(
            report=report,
            verdict=compute_verdict(report),
            headline=compute_headline(report),
            gates=[{**gate, "state": gate_state(report, gate)} for gate in report.get("gates", [])],
            groups=groups,
            curves=curves,
            clips=[_page_clip(Path(folder), clip) for clip in report.get("clips", [])],
            provenance=_page_provenance(report.get("provenance", {})),
        )
    )


def _page_clip(root: Path, clip: Mapping[str, Any]) -> dict[str, Any]:
    from align.video.codec import probe

    sides = {side: root / clip[side] for side in ("base", "aligned")}
    probes = [probe(path) for path in sides.values()]
    data = {f"{side}_data": base64.b64encode(path.read_bytes()).decode() for side, path in sides.items()}
    return {**clip, **data, "fps_hz": probes[0].fps_hz, "num_frames": max(p.num_frames for p in probes)}


def _page_provenance(provenance: Mapping[str, Any]) -> dict[str, Any]:
    """Known keys by name, the rest as readable JSON."""
    known = ("config", "versions", "seeds", "votes_spent", "votes_simulated", "commands")
    rest = {key: value for key, value in provenance.items() if key not in known}
    as_text = {
        key: value if isinstance(value, str) else json.dumps(value, indent=2, sort_keys=True) for key, value in rest.items()
    }
    config, seeds = provenance.get("config"), provenance.get("seeds")
    return {
        "config": json.dumps(config, indent=2, sort_keys=True, ensure_ascii=False) if config else "",
        "versions": provenance.get("versions") or {},
        "seeds": json.dumps(seeds, sort_keys=True) if seeds is not None else "",
        "votes_spent": provenance.get("votes_spent"),
        "votes_simulated": bool(provenance.get("votes_simulated")),
        "commands": provenance.get("commands") or [],
        "rest": as_text,
    }
