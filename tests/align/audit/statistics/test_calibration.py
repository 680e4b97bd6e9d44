"""Calibration errors by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from align.audit.statistics import expected_calibration_error

NAN = math.nan


def test_calibration_error_by_hand() -> None:
    # Bin [0, .5): mean prob .2, mean label .5 (2 items). Bin [.5, 1]: mean prob .8, mean label 1 (2 items).
    got = expected_calibration_error([0.1, 0.3, 0.7, 0.9], [0, 1, 1, 1], num_bins=2)
    assert got.value == pytest.approx((2 * 0.3 + 2 * 0.2) / 4)
    multi = expected_calibration_error([[0.9, 0.1], [0.2, 0.8], [NAN, 0.5]], [0, 0, 1], num_bins=1)
    assert multi.value == pytest.approx(abs(0.85 - 0.5))
    assert (multi.n, multi.num_missing) == (2, 1)


def test_calibration_floor_is_what_a_perfect_score_shows() -> None:
    rng = np.random.default_rng(0)
    prob = rng.random(200)
    perfect = expected_calibration_error(prob, rng.random(200) < prob)
    assert 0.04 < perfect.floor < 0.12
    assert perfect.value < 2 * perfect.floor
    wrong = expected_calibration_error(prob, rng.random(200) < 1 - prob)
    assert wrong.value > 3 * wrong.floor


def test_nothing_to_calibrate_is_undefined_with_its_count() -> None:
    got = expected_calibration_error([NAN], [1])
    assert math.isnan(got.value)
    assert (got.n, got.num_missing) == (0, 1)
