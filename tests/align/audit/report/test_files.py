"""Same bytes twice, hashes checked, and nothing written where something is wrong."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from align.audit.report import check_report, write_report
from align.audit.statistics import cluster_rate
from align.errors import ClipError, DataError


def test_the_same_report_gives_the_same_bytes(folder: Path, make_report: Callable[..., dict[str, Any]]) -> None:
    page = write_report(folder, make_report())
    first = (page.read_bytes(), (folder / "report.json").read_bytes())
    shuffled = dict(reversed(make_report().items()))
    write_report(folder, shuffled)
    assert (page.read_bytes(), (folder / "report.json").read_bytes()) == first
    write_report(folder, json.loads(first[1]))
    assert (page.read_bytes(), (folder / "report.json").read_bytes()) == first
    assert sorted(path.name for path in folder.iterdir()) == ["clips", "report.html", "report.json"]


def test_json_holds_verdict_hashes_and_null_for_undefined(
    folder: Path, make_report: Callable[..., dict[str, Any]], make_figure: Callable[..., dict[str, Any]]
) -> None:
    lonely = cluster_rate([1.0], ["a"], better="lower")
    write_report(folder, make_report(figures=[make_figure(base=lonely)]))
    written = json.loads((folder / "report.json").read_text())
    assert written["verdict"] == "pass"
    assert re.fullmatch("[0-9a-f]{64}", written["clips"][0]["base_sha256"])
    assert written["figures"][0]["base"] == {
        "value": 1.0,
        "low": None,
        "high": None,
        "n": 1,
        "num_clusters": 1,
        "num_missing": 0,
    }


def test_absolute_clip_paths_inside_the_folder_become_relative(
    folder: Path, make_report: Callable[..., dict[str, Any]]
) -> None:
    report = make_report()
    report["clips"][0]["base"] = str(folder / "clips" / "base.mp4")
    write_report(folder, report)
    assert str(folder) not in (folder / "report.json").read_text() + (folder / "report.html").read_text()


def test_a_missing_clip_is_named_and_nothing_is_written(folder: Path, make_report: Callable[..., dict[str, Any]]) -> None:
    (folder / "clips" / "aligned.mp4").unlink()
    with pytest.raises(DataError, match=r"aligned clip clips/aligned\.mp4 of context pour-0001"):
        write_report(folder, make_report())
    assert [path.name for path in folder.iterdir()] == ["clips"]


def test_a_changed_clip_is_refused(folder: Path, make_report: Callable[..., dict[str, Any]]) -> None:
    report = make_report()
    report["clips"][0]["base_sha256"] = "0" * 64
    with pytest.raises(DataError, match=r"clips/base\.mp4 has changed"):
        write_report(folder, report)


def test_a_clip_that_is_no_video_is_refused(folder: Path, make_report: Callable[..., dict[str, Any]]) -> None:
    (folder / "clips" / "base.mp4").write_bytes(b"<html>")
    with pytest.raises(ClipError, match=r"base\.mp4"):
        write_report(folder, make_report())
    assert not (folder / "report.json").exists()


def test_a_report_is_not_changed_by_writing_it(folder: Path, make_report: Callable[..., dict[str, Any]]) -> None:
    report = make_report()
    before = copy.deepcopy(report)
    write_report(folder, report)
    assert report == before
    with pytest.raises(DataError, match="must be a mapping"):
        check_report([])
