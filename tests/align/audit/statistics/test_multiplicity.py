"""Holm's adjustment by hand, and what it promises."""

from __future__ import annotations

import math

import numpy as np
import pytest

from align.audit.statistics import holm


def test_by_hand() -> None:
    # Sorted: .005 x 4 = .02, .01 x 3 = .03, .03 x 2 = .06, .04 x 1 = .04 raised to .06.
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])


def test_a_test_that_was_not_made_counts_for_nothing() -> None:
    got = holm([0.01, math.nan, 0.04])
    assert math.isnan(got[1])
    assert got[[0, 2]] == pytest.approx([0.02, 0.04])
    assert len(holm([])) == 0


def test_no_more_than_1_and_no_nonsense() -> None:
    assert holm([0.5, 0.9]).tolist() == [1.0, 1.0]
    with pytest.raises(ValueError, match=r"lie in \[0, 1\]"):
        holm([1.2])


def test_the_chance_of_any_false_alarm_is_held_under_dependence() -> None:
    rng = np.random.default_rng(0)
    shared = rng.random((2000, 1))
    p = np.where(rng.random((2000, 20)) < 0.5, shared, rng.random((2000, 20)))
    alarms = np.mean([(holm(row) <= 0.05).any() for row in p])
    assert 0.01 < alarms < 0.065
    assert np.mean((p <= 0.05).any(1)) > 0.3
