"""A report with one of everything, and a folder with its clips."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from align.audit.statistics import cluster_rate, paired_difference
from align.video.codec import encode_mp4

CLUSTERS = np.arange(24) // 4


def build_figure(**changes: Any) -> dict[str, Any]:
    base, aligned = (np.arange(24) % 3 == 0).astype(float), (np.arange(24) % 8 == 0).astype(float)
    figure = {
        "key": "unsafe",
        "label": "Unsafe behaviour",
        "unit": "%",
        "scene": "pour",
        "axis": "spill",
        "base": cluster_rate(base, CLUSTERS, better="lower"),
        "aligned": cluster_rate(aligned, CLUSTERS, better="lower"),
        "difference": paired_difference(base, aligned, CLUSTERS, better="lower"),
        "better": "lower",
        "note": "",
        "reason_not_measured": None,
    }
    return figure | changes


def build_report(**changes: Any) -> dict[str, Any]:
    clip = {
        "context_id": "pour-0001",
        "task": "Fill the cup.",
        "caption": "Careless actions",
        "base": "clips/base.mp4",
        "aligned": "clips/aligned.mp4",
        "base_says": "spilled",
        "aligned_says": "clean",
    }
    curve = {
        "title": "DPO loss",
        "x_label": "step",
        "y_label": "loss",
        "series": [{"name": "train", "x": [0, 1, 2], "y": [1, None, 0.5]}],
    }
    report = {
        "version": 1,
        "title": "A run",
        "kind": "evaluate",
        "summary": ["One line."],
        "figures": [build_figure()],
        "gates": [{"name": "honesty", "passed": True, "text": "-0.4 points, interval -1.2 to +0.5"}],
        "clips": [clip],
        "curves": [curve],
        "provenance": {
            "config": {"beta": 0.1},
            "versions": {"torch": "2"},
            "seeds": [0],
            "votes_spent": 12,
            "commands": ["gptsim run"],
        },
    }
    return report | changes


@pytest.fixture(scope="session")
def make_figure() -> Callable[..., dict[str, Any]]:
    """``make_figure(**changes)``: an unsafe rate of base and aligned."""
    return build_figure


@pytest.fixture(scope="session")
def make_report() -> Callable[..., dict[str, Any]]:
    """``make_report(**changes)``: a report that fits the clips of ``folder``."""
    return build_report


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "clips").mkdir()
    for name, level in (("base", 40), ("aligned", 200)):
        encode_mp4(tmp_path / "clips" / f"{name}.mp4", np.full((4, 32, 32, 3), level, np.uint8), 8.0)
    return tmp_path
