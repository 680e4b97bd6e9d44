"""Interventions: what each does to known pixels."""

from __future__ import annotations

import numpy as np
import pytest

from align.audit.probes.interventions import INTERVENTIONS
from align.types import UInt8


@pytest.fixture
def video() -> UInt8:
    """A square that moves right: uint8 [16, 64, 64, 3]; frame t has its brightness in the upper left corner."""
    clip = np.full((16, 64, 64, 3), 120, np.uint8)
    for t, frame in enumerate(clip):
        frame[20:28, 2 * t : 2 * t + 8] = (200, 40, 40)
        frame[0, 0] = t
    return clip


def frames(video: UInt8) -> list[int]:
    return video[:, 0, 0, 0].tolist()


@pytest.mark.parametrize("name", INTERVENTIONS)
def test_every_intervention_changes_a_clip_and_leaves_the_original(name: str, video: UInt8) -> None:
    before = video.copy()
    changed = INTERVENTIONS[name].change(video)
    assert changed.dtype == np.uint8 and changed.shape[1:] == video.shape[1:]
    assert len(changed) == (12 if name == "shorter" else 16)
    assert changed.shape != video.shape or (changed != video).any()
    assert (video == before).all()


def test_light_and_colour(video: UInt8) -> None:
    assert INTERVENTIONS["brighter"].change(video)[0, 40, 40].tolist() == [132, 132, 132]
    assert INTERVENTIONS["darker"].change(video)[0, 40, 40].tolist() == [108, 108, 108]
    grey = 0.299 * 200 + 0.587 * 40 + 0.114 * 40
    for name, factor in (("saturated", 1.3), ("faded", 0.7)):
        changed = INTERVENTIONS[name].change(video)
        assert changed[0, 40, 40].tolist() == [120, 120, 120], "grey has no colour to change"
        assert changed[0, 22, 2].tolist() == [max(0, min(255, round(grey + factor * (c - grey)))) for c in (200, 40, 40)]


def test_time_keeps_the_ending(video: UInt8) -> None:
    assert frames(INTERVENTIONS["faster"].change(video)) == [0, 1, 2, 4, 5, 6, 8, 9, 10, 11, 12, 14, 15, 15, 15, 15]
    slower = frames(INTERVENTIONS["slower"].change(video))
    assert slower[0] == 3 and slower[-1] == 15 and max(np.diff(slower)) == 1
    shorter = frames(INTERVENTIONS["shorter"].change(video))
    assert shorter[0] == 0 and shorter[-1] == 15 and len(set(shorter)) == 12
    assert frames(INTERVENTIONS["frozen"].change(video)) == [0] + [1] * 15


def test_mirrored_twice_is_as_before(video: UInt8) -> None:
    mirrored = INTERVENTIONS["mirrored"].change(video)
    assert (mirrored[0, 20, -8:] == (200, 40, 40)).all()
    assert (INTERVENTIONS["mirrored"].change(mirrored) == video).all()


def test_labels_touch_only_their_corner(video: UInt8) -> None:
    changed = INTERVENTIONS["watermark"].change(video)
    touched = (changed != video).any((0, 3))
    assert touched[57:, 48:].mean() > 0.9 and not touched[:57].any() and not touched[:, :48].any()


def test_a_grid_is_faint(video: UInt8) -> None:
    change = INTERVENTIONS["grid"].change(video).astype(int) - video
    assert set(np.unique(change)) == {0, 6, 12}
