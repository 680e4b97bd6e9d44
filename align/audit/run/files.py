"""A whole audit's page beside its report, written whole or not at all."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from align.audit.run.page import render_audit
from align.io import atomic_write


def write_page(folder: str | Path, report: Mapping[str, Any]) -> Path:
    """Write ``report.html`` into the folder that ``report.json`` lies in, or will; returns its path.

    Raises:
        DataError: A clip that the report names is missing or another one.
        RunError: It can't be written.
    """
    page = render_audit(folder, report)
    path = Path(folder) / "report.html"
    atomic_write(path, page)
    return path
