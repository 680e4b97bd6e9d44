"""Tastes of reward models: known ones are found in their size, honest models are not accused."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest

from align.audit.probes import judge_findings
from align.audit.probes.interventions import INTERVENTIONS
from align.audit.probes.reward import (
    Score,
    Scored,
    beyond_p_value,
    compute_shifts,
    intervene,
    left_gain,
    ratio_of_means,
    score_clips,
    shift_findings,
)
from align.errors import DataError
from align.types import UInt8

UNITS = {"room": {"spill": ("good", "bad")}}
NUM = 24


def make_clips() -> list[Scored]:
    """Of each context a clip that ends with a dark stain on the floor and one that does not; rooms differ in brightness."""
    rng = np.random.default_rng(0)
    clips = []
    for context in range(NUM):
        wall = rng.uniform(120, 200)
        for side in ("good", "bad"):
            video = np.full((8, 32, 32, 3), wall) + rng.normal(0, 1, (8, 32, 32, 3))
            if side == "bad":
                video[4:, 24:, 8:24] = 20
            clips.append(Scored("room", f"c{context}", side, np.clip(video, 0, 255).astype(np.uint8)))
    return clips


def stain(video: UInt8) -> np.ndarray:
    """float [B]: 10 minus 10 for a whole stain; mirrored, blurred or brighter rooms make little of a difference."""
    last = video[:, -1].astype(float).mean(-1)
    wall = np.median(last, axis=(1, 2), keepdims=True)
    return 10 - 10 * (last[:, 24:, 8:24] < 0.6 * wall).mean((1, 2))


def scorer(brightness: float = 0.0, stillness: float = 0.0) -> Score:
    """A model that sees stains, with a taste for bright pictures (units a grey level) and for still ones."""

    def score(video: UInt8) -> dict[str, np.ndarray]:
        light = video.astype(float).mean((1, 2, 3, 4))
        still = (np.abs(np.diff(video[:, 1:].astype(float), axis=1)).mean((1, 2, 3, 4)) == 0).astype(float)
        return {"spill": stain(video) + brightness * light + stillness * still}

    return score


def probe(score: Score, names: tuple[str, ...] = (), tolerance: float = 0.1) -> dict[str, tuple[str, float]]:
    """Intervention to its status and shift."""
    table = pd.DataFrame(score_clips(intervene(make_clips(), names), score))
    shifts = compute_shifts(table, UNITS, tolerance)
    judged = judge_findings(shift_findings(shifts), tolerance)
    return {shift.intervention: (finding.status, shift.shift.value) for shift, finding in zip(shifts, judged, strict=True)}


def test_an_honest_model_is_not_accused() -> None:
    statuses = probe(scorer())
    assert set(statuses) == set(INTERVENTIONS)
    assert {name: status for name, (status, _) in statuses.items() if status != "not found"} == {}


def test_a_taste_for_light_is_found_in_its_size() -> None:
    results = probe(scorer(brightness=0.2), ("brighter", "darker", "mirrored", "watermark"))
    level = np.mean([clip.video.mean() for clip in make_clips()])
    assert results["brighter"][0] == results["darker"][0] == "found"
    # 0.2 a grey level, 10 % of the level, of a unit of 10 (and what the stain itself darkens).
    assert results["brighter"][1] == pytest.approx(0.2 * 0.1 * level / 10, rel=0.15)
    assert results["darker"][1] == pytest.approx(-results["brighter"][1], rel=0.1)
    assert results["mirrored"] == ("not found", pytest.approx(0, abs=1e-9))


def test_a_model_that_likes_freezing_is_found_and_one_that_dislikes_it_is_not_accused() -> None:
    assert probe(scorer(stillness=5), ("frozen",))["frozen"][0] == "found"
    assert probe(scorer(stillness=-5), ("frozen",))["frozen"][0] == "not found"
    assert probe(scorer(), ("frozen",))["frozen"][0] == "not found"


def test_twins_are_compared_with_each_other() -> None:
    clips = make_clips()
    twins = [
        Scored(c.scene, c.context_id, c.side, np.clip(c.video.astype(int) + shade, 0, 255).astype(np.uint8), f"light={name}")
        for name, shade in (("dim", -20), ("bright", 20))
        for c in clips
    ]
    table = pd.DataFrame(score_clips([*clips, *twins], scorer(brightness=0.1)))
    (shift,) = compute_shifts(table, UNITS, 0.1)
    assert shift.intervention == "light: dim - bright" and shift.shift.value == pytest.approx(-0.1 * 40 / 10, rel=0.2)


def test_a_blind_model_has_no_unit() -> None:
    def blind(video: UInt8) -> dict[str, np.ndarray]:
        return {"spill": np.random.default_rng(1).normal(size=len(video))}

    table = pd.DataFrame(score_clips(intervene(make_clips(), ("brighter", "blurred")), blind))
    shifts = compute_shifts(table, UNITS, 0.1)
    (finding,) = judge_findings(shift_findings(shifts), 0.1)
    assert finding.status == "cannot tell" and "does not tell good clips from bad" in finding.text


def test_a_length_that_the_model_refuses_is_not_measured() -> None:
    def fixed(video: UInt8) -> dict[str, np.ndarray]:
        if video.shape[1] != 8:
            raise ValueError("8 frames are needed")
        return {"spill": stain(video)}

    results = probe(fixed, ("shorter", "brighter"))
    assert results["shorter"][0] == "cannot tell" and math.isnan(results["shorter"][1])
    assert results["brighter"][0] == "not found"


def test_accuracy_under_an_intervention() -> None:
    """A model that looks at the right half only loses track in mirrored clips with a stain on the left."""

    def half(video: UInt8) -> dict[str, np.ndarray]:
        last = video[:, -1].astype(float).mean(-1)
        return {"spill": -(last[:, 24:, 16:] < 60).mean((1, 2)) * 10}

    clips = []
    for clip in make_clips():
        video = clip.video.copy()
        if clip.side == "bad":
            video[:, 24:, :16] = video[:, :1, :1]
        clips.append(Scored(clip.scene, clip.context_id, clip.side, video))
    table = pd.DataFrame(score_clips(intervene(clips, ("mirrored",)), half))
    (shift,) = compute_shifts(table, UNITS, 0.1)
    assert shift.accuracy == 1 and shift.accuracy_change is not None and shift.accuracy_change.value == -0.5
    assert shift.shift.value == pytest.approx(0.5), "bad clips gain a unit, good ones nothing"


def test_fieller_agrees_with_the_bootstrap_and_knows_its_limits() -> None:
    rng = np.random.default_rng(2)
    units = rng.normal(4, 2, 200)
    values = 0.3 * units + rng.normal(0, 1, 200)
    rate = ratio_of_means(values, units)
    draws = rng.integers(0, 200, (4000, 200))
    low, high = np.quantile(values[draws].mean(1) / units[draws].mean(1), (0.025, 0.975))
    assert (rate.low, rate.high) == (pytest.approx(low, abs=0.01), pytest.approx(high, abs=0.01))
    assert ratio_of_means(3 * units, units).value == pytest.approx(3)
    assert math.isnan(ratio_of_means(values, rng.normal(0, 2, 200)).value), "a unit that may be 0"
    assert math.isnan(ratio_of_means(values[:2], units[:2]).value)


def test_a_shift_within_the_tolerance_is_no_alarm() -> None:
    rng = np.random.default_rng(3)
    units = rng.normal(5, 1, 100)
    p_values = [beyond_p_value(0.1 * units + rng.normal(0, 0.5, 100), units, 0.1) for _ in range(400)]
    assert np.mean(np.array(p_values) <= 0.05) <= 0.05, "at the edge of the tolerance the level is kept"
    assert beyond_p_value(0.3 * units, units, 0.1) < 1e-6 and beyond_p_value(-0.3 * units, units, 0.1) < 1e-6
    assert beyond_p_value(-0.3 * units, units, 0.1, one_sided=True) == 1


def test_the_side_that_is_shown_first() -> None:
    videos = np.zeros((3, 2, 4, 4, 3), np.uint8)

    def fair(left: UInt8, right: UInt8) -> dict[str, np.ndarray]:
        return {"spill": np.full(3, 0.5)}

    def left_handed(left: UInt8, right: UInt8) -> dict[str, np.ndarray]:
        return {"spill": np.full(3, 0.6)}

    assert left_gain(fair, videos, videos)["spill"].tolist() == [0, 0, 0]
    assert left_gain(left_handed, videos, videos)["spill"] == pytest.approx(np.full(3, 0.1))


def test_bad_input_is_one_sentence() -> None:
    with pytest.raises(ValueError, match="interventions must be among"):
        intervene(make_clips()[:1], ("upside down",))
    with pytest.raises(DataError, match="lacks the columns score_spill"):
        compute_shifts(pd.DataFrame(columns=["scene", "context_id", "pair_id", "side", "intervention"]), UNITS, 0.1)
