"""Votes to a level, and the ratio of two arms over seeds, by hand."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from recipes._curve import draw_curves, median_ratio, summarise, votes_to_level


def curve(*accuracy: float) -> list[dict[str, Any]]:
    """Rows at 10, 20, 30 … votes whose two axes lie around the given accuracy."""
    rows = []
    for i, value in enumerate(accuracy, start=1):
        by_axis = {"x": value + 0.01, "y": value - 0.01}
        rows.append({"votes": 10 * i, "accuracy": by_axis, "asked": {"x": 5 * i, "y": 5 * i}})
    return rows


def test_a_level_is_reached_between_batches() -> None:
    assert votes_to_level([10, 20, 40], [0.5, 0.7, 0.9], 0.8) == pytest.approx(30)
    assert votes_to_level([10, 20, 40], [0.5, 0.7, 0.9], 0.7) == pytest.approx(20)
    assert votes_to_level([10, 20, 40], [0.5, 0.7, 0.9], 0.4) == 10
    assert votes_to_level([10, 20, 40], [0.8, 0.7, 0.9], 0.75) == 10, "the first time counts, whatever comes after"
    assert math.isinf(votes_to_level([10, 20, 40], [0.5, 0.7, 0.9], 0.95))


def test_the_ratio_is_the_median_over_all_seeds() -> None:
    figures = median_ratio(np.array([10.0, 20, 30]), np.array([20.0, 20, 40]), budget=50)
    assert figures["ratios"] == [0.5, 1.0, 0.75]
    assert figures["median"] == 0.75 and figures["num_not_reached"] == 0
    assert 0.5 <= figures["low"] <= 0.75 <= figures["high"] <= 1


def test_a_seed_that_never_gets_there_counts_against_the_arm() -> None:
    inf = math.inf
    one = median_ratio(np.array([10.0, inf, 10]), np.array([20.0, 20, 20]), budget=40)
    assert one["median"] == 0.5 and one["num_not_reached"] == 1 and one["ratios"] == [0.5, None, 0.5]
    assert one["high"] is None, "two infinite draws of three are likely enough"
    most = median_ratio(np.array([inf, inf, 10]), np.array([20.0, inf, 20]), budget=40)
    assert most["median"] is None and most["num_not_reached"] == 2
    chance = median_ratio(np.array([10.0]), np.array([inf]), budget=40)
    assert chance["ratios"] == [0.25], "chance that never gets there is taken to need the whole budget"


def test_the_summary_asks_for_what_chance_ends_with_and_for_fixed_levels() -> None:
    curves = {
        "random": [curve(0.5, 0.8, 0.98), curve(0.6, 0.7, 0.96)],
        "active": [curve(0.5, 0.9, 0.99), curve(0.6, 0.95, 0.97)],
    }
    figures = summarise(curves)
    # chance ends with 0.98 and 0.96 at 30 votes; active gets there at 20 + 10 * 0.08 / 0.09 and 20 + 10 * 0.01 / 0.02
    wanted = [(20 + 0.8 / 0.09) / 30, 25 / 30]
    assert figures["ratio"]["active"]["ratios"] == pytest.approx(wanted)
    assert figures["ratio"]["active"]["median"] == pytest.approx(sum(wanted) / 2)
    # at 0.9: chance at 20 + 10 * 0.1 / 0.18 and 20 + 10 * 0.2 / 0.26; active at 20 and 10 + 10 * 0.3 / 0.35
    chance, active = [20 + 1 / 0.18, 20 + 2 / 0.26], [20, 10 + 3 / 0.35]
    assert figures["ratio_at_levels"]["0.9"]["active"]["median"] == pytest.approx(
        (active[0] / chance[0] + active[1] / chance[1]) / 2
    )
    assert figures["random_votes_to_levels"]["0.9"] == pytest.approx(sum(chance) / 2)
    assert figures["ratio_at_levels"]["0.99"]["active"]["num_not_reached"] == 1
    assert figures["random_votes_to_levels"]["0.99"] is None
    assert figures["mean_accuracy"]["active"] == pytest.approx([0.55, 0.925, 0.98])
    assert figures["accuracy_by_axis"]["random"]["x"] == pytest.approx([0.56, 0.76, 0.98])
    assert figures["mean_votes_by_axis"]["active"] == {"x": 15, "y": 15}


def test_the_plot_is_a_picture(tmp_path: Path) -> None:
    draw_curves(tmp_path / "curve.png", {"random": [curve(0.5, 0.8)], "active": [curve(0.5, 0.9)]})
    assert (tmp_path / "curve.png").read_bytes().startswith(b"\x89PNG")
