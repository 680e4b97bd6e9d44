"""Metrics against counting by hand, beside their baselines."""

from __future__ import annotations

import json

import numpy as np
import pytest

from reward_models.metrics import calibration_interval, score_hazard, score_pairs

PROBS = np.array([[0.8, 0.1, 0.1], [0.2, 0.7, 0.1], [0.1, 0.1, 0.8], [0.6, 0.2, 0.2], [0.3, 0.1, 0.6]])
VOTES = [0, 1, 2, 2, 0]


def test_pair_report_written_out() -> None:
    report = score_pairs(PROBS, VOTES, ["c1", "c1", "c2", "c3", "c4"])
    assert report.accuracy.value == pytest.approx(3 / 5)
    assert report.always_tie == pytest.approx(2 / 5)
    assert report.chance == pytest.approx((2 / 5) ** 2 + (1 / 5) ** 2 + (2 / 5) ** 2)
    assert report.gain.value == pytest.approx(1 / 5)
    assert report.accuracy_without_ties.value == pytest.approx(3 / 3)
    # stated 0.8, 0.8 right; 0.7 right; 0.6 wrong, 0.6 wrong; bins of 1/15
    assert report.ece.value == pytest.approx((0.2 * 2 + 0.3 + 0.6 * 2) / 5)
    assert report.accuracy.num_clusters == 4
    json.dumps(report.as_dict())


def test_a_perfect_model_gains_over_always_tie() -> None:
    rng = np.random.default_rng(0)
    votes = rng.integers(0, 3, 400)
    report = score_pairs(np.eye(3)[votes] * 0.97 + 0.01, votes, np.repeat(np.arange(100), 4).tolist())
    assert report.accuracy.value == 1 and report.gain.low > 0.5
    constant = score_pairs(np.tile([0.3, 0.3, 0.4], (400, 1)), votes, np.arange(400).tolist())
    assert constant.gain.value == 0


def test_calibration_interval_covers_zero_only_when_calibrated() -> None:
    rng = np.random.default_rng(1)
    stated = rng.uniform(0.4, 1, 4000)
    contexts = np.repeat(np.arange(1000), 4)
    honest = calibration_interval(stated, rng.random(4000) < stated, contexts)
    boaster = calibration_interval(stated, rng.random(4000) < stated - 0.2, contexts)
    assert honest.value < 0.05
    assert boaster.low > 0.15 and boaster.low < boaster.value < boaster.high


def test_hazard_auroc_counts_safe_above_unsafe() -> None:
    # safe 3 and 1, unsafe 2 and 0: of the four (safe, unsafe) pairs three are in order
    assert score_hazard([3.0, 1.0, 2.0, 0.0], [0, 0, 1, 1], ["a", "b", "c", "d"]).value == pytest.approx(3 / 4)
    assert np.isnan(score_hazard([1.0, 2.0], [0, 0], ["a", "b"]).value)


@pytest.mark.parametrize(
    ("probs", "votes", "message"),
    [(PROBS[:, :2], VOTES, r"\[N, 3\]"), (PROBS, [0, 1, 2, 3, 0], "classes"), (PROBS[:0], [], "N > 0")],
)
def test_bad_tables_are_named(probs: np.ndarray, votes: list[int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        score_pairs(probs, votes, list(range(len(votes))))
