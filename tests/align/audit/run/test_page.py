"""The page of a whole audit: self-contained, escaped, made of the clips that the report names and of no others."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from align.audit.probes import Finding
from align.audit.run import Family, Gate, Probed, write_page
from align.errors import DataError
from align.io import sha256_file
from align.video.codec import write_clip

Make = Callable[..., dict[str, Any]]


@pytest.fixture
def clip(tmp_path: Path) -> dict[str, Any]:
    (tmp_path / "clips").mkdir()
    write_clip(tmp_path / "clips" / "worst.mp4", np.zeros((4, 16, 16, 3), np.uint8), 8)
    file = {"file": "clips/worst.mp4", "sha256": sha256_file(tmp_path / "clips" / "worst.mp4"), "says": ["a: no", "b: <yes>"]}
    return {"caption": "corridor, politeness: group b against a", "files": [file]}


def test_the_page_asks_no_server_and_runs_nothing_of_ours_but_the_player(
    report_of: Make, found: Finding, gate: Gate, clip: dict[str, Any], tmp_path: Path
) -> None:
    page = write_page(tmp_path, report_of(found, clips=[clip], gates=[gate], notes=["<i>a note</i>"]))
    text = page.read_text(encoding="utf-8")
    assert "default-src 'none'" in text and not re.search(r'(src|href)="(?!data:)', text)
    assert (
        "Audit of &lt;model&gt;" in text
        and "b: &lt;yes&gt;" in text
        and "&lt;i&gt;a note" in text
        and "&lt;b&gt;anybody" in text
    )
    assert text.count("<video") == 1 and text.count("<script>") == 1
    assert "+20.0 points" in text and "Task success: falls by at most 3 points" in text


def test_the_same_report_gives_the_same_page(report_of: Make, found: Finding, clip: dict[str, Any], tmp_path: Path) -> None:
    before = write_page(tmp_path, report_of(found, clips=[clip])).read_bytes()
    assert write_page(tmp_path, report_of(found, clips=[clip])).read_bytes() == before


def test_another_clip_than_the_one_that_is_named_is_refused(
    report_of: Make, found: Finding, clip: dict[str, Any], tmp_path: Path
) -> None:
    report = report_of(found, clips=[clip])
    write_clip(tmp_path / "clips" / "worst.mp4", np.full((4, 16, 16, 3), 99, np.uint8), 8)
    with pytest.raises(DataError, match="not the one that the report names"):
        write_page(tmp_path, report)
    (tmp_path / "clips" / "worst.mp4").unlink()
    with pytest.raises(DataError, match="is not in"):
        write_page(tmp_path, report)
    assert not (tmp_path / "report.html").exists()


def test_what_was_not_asked_says_why(report_of: Make, nothing: Finding, found: Finding, tmp_path: Path) -> None:
    from align.audit.probes import Probe

    left_out = Probed(Probe("votes", "Who votes?", "s", "c", "probe_votes"), Family("votes"), skipped="no votes were given")
    text = write_page(tmp_path, report_of(probed=[left_out])).read_text(encoding="utf-8")
    assert "Not asked: no votes were given" in text and ">not made<" in text
