"""The report's two files, written whole or not at all."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from align.audit.report.page import render_html
from align.audit.report.schema import check_report, compute_verdict
from align.errors import DataError
from align.io import atomic_write, sha256_file, to_jsonable, write_json


def write_report(folder: str | Path, report: Mapping[str, Any]) -> Path:
    """Write ``report.json`` and ``report.html`` into a folder; both whole or not at all.

    Args:
        folder: Where the files go and what the clips' paths are relative to.
        report: See the package's docstring.

    Returns:
        The path of the page.

    Raises:
        DataError: The report breaks the schema (all problems at once), or a clip is missing or has another hash.
        ClipError: A clip is no video.
    """
    root = Path(folder)
    plain = to_jsonable(report)
    check_report(plain)
    plain["clips"] = [_pin_clip(root, clip) for clip in plain.get("clips", [])]
    plain["verdict"] = compute_verdict(plain)
    page = render_html(root, plain)
    write_json(root / "report.json", plain)
    atomic_write(root / "report.html", page)
    return root / "report.html"


def _pin_clip(root: Path, clip: Mapping[str, Any]) -> dict[str, Any]:
    """The clip with its paths relative to the folder and both hashes filled in or checked."""
    pinned = dict(clip)
    for side in ("base", "aligned"):
        path = root / clip[side]
        if not path.is_file():
            raise DataError(f"the {side} clip {clip[side]} of context {clip['context_id']} is not in {root}; restore the file")
        digest, expected = sha256_file(path), clip.get(f"{side}_sha256")
        if expected not in (None, digest):
            raise DataError(f"the {side} clip {clip[side]} has changed: its SHA-256 is {digest}, the report says {expected}")
        pinned[f"{side}_sha256"] = digest
        resolved, home = path.resolve(), root.resolve()
        pinned[side] = resolved.relative_to(home).as_posix() if resolved.is_relative_to(home) else clip[side]
    return pinned
