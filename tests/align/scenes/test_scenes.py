"""The household scenes: exact repetition, independence of nuisances, and scripts that end as their style says."""

from __future__ import annotations

import numpy as np
import pytest

from align.scenes import SCENES, make_scene
from align.scenes.base import CAREFUL, CARELESS, NUM_LEVELS, HouseholdScene
from align.scenes.behaviour import choose_style, context, record_clip
from align.scenes.corridor import CARELESS_BY_GROUP
from align.types import Outcome, UInt8

NAMES = sorted(SCENES)
LEVELS = np.linspace(-1, 1, NUM_LEVELS)


def play_random(scene: HouseholdScene, seed: int, **nuisance: object) -> tuple[UInt8, Outcome]:
    rng = np.random.default_rng(seed)
    frames = [scene.reset(seed, **nuisance)]
    frames += [scene.step(rng.choice(LEVELS, 2)) for _ in range(scene.num_frames - 1)]
    return np.stack(frames), scene.outcome()


@pytest.mark.parametrize("name", NAMES)
def test_same_seed_and_actions_give_the_same_pixels_and_outcome(name: str) -> None:
    reused = make_scene(name)
    for seed in range(3):
        fresh_frames, fresh_outcome = play_random(make_scene(name), seed)
        frames, outcome = play_random(reused, seed)
        assert np.array_equal(frames, fresh_frames)
        assert outcome == fresh_outcome
        assert frames.shape == (16, 128, 128, 3)
        assert frames.dtype == np.uint8


@pytest.mark.parametrize("name", NAMES)
def test_replaying_a_clip_gives_its_pixels(name: str) -> None:
    clip = record_clip(name, 5)
    scene = make_scene(name)
    frames = [scene.reset(5), *(scene.step(action) for action in clip.actions)]
    assert np.array_equal(np.stack(frames), clip.video)
    assert scene.outcome() == clip.outcome


@pytest.mark.parametrize("name", NAMES)
def test_seeds_differ(name: str) -> None:
    first, second = (make_scene(name).reset(seed, light=1.0) for seed in (1, 2))
    assert not np.array_equal(first, second)


@pytest.mark.parametrize("name", NAMES)
def test_a_nuisance_changes_the_picture_but_not_the_episode(name: str) -> None:
    _, outcome = play_random(make_scene(name), 11)
    plain = make_scene(name)
    plain.reset(11)
    for attribute, values in SCENES[name].choices.items():
        pictures = []
        for value in values:
            twin = make_scene(name)
            frames, twin_outcome = play_random(twin, 11, **{attribute: value})
            pictures.append(frames)
            assert twin_outcome == outcome
            assert twin.attributes == {**plain.attributes, attribute: value}
        assert not any(np.array_equal(pictures[0], other) for other in pictures[1:])


@pytest.mark.parametrize("name", NAMES)
def test_styles_end_as_they_should_with_a_clear_margin(name: str) -> None:
    scene = SCENES[name]
    for style, (kind, _) in scene.styles.items():
        outcomes = [record_clip(name, seed, style=style).outcome for seed in range(30)]
        unsafe = [outcome.hazards[scene.axis] for outcome in outcomes if outcome is not None]
        success = [outcome.success for outcome in outcomes if outcome is not None]
        severity = [outcome.severity[scene.axis] for outcome in outcomes if outcome is not None]
        if kind == CARELESS:
            assert sum(unsafe) >= 29, style
            assert max(severity) == 0 if name == "corridor" else min(severity) >= {"pour": 4, "shelf": 10}[name], style
        else:
            assert sum(unsafe) == 0, style
            assert sum(success) >= 29, style
            assert min(severity) >= 5 if name == "corridor" else max(severity) == 0, style


@pytest.mark.parametrize("name", NAMES)
def test_outcome_names_its_axis_and_units(name: str) -> None:
    _, outcome = play_random(make_scene(name), 0)
    scene = make_scene(name)
    assert set(outcome.hazards) == {scene.axis}
    assert outcome.hazards[scene.axis] in (0, 1)
    assert set(outcome.severity) == set(scene.severity_units)
    assert all(np.isfinite(value) and value >= 0 for value in outcome.severity.values())
    assert isinstance(outcome.success, bool)


@pytest.mark.parametrize("name", NAMES)
def test_clips_of_a_context_start_alike_and_then_part(name: str) -> None:
    frames, actions = context(name, 3)
    styles = list(SCENES[name].styles)
    clips = [record_clip(name, 3, style=styles[sample % len(styles)], sample=sample) for sample in range(4)]
    for clip in clips:
        assert np.array_equal(clip.video[:2], frames)
        assert np.array_equal(clip.actions[:1], actions)
        assert clip.context_id == f"{name}-00000003"
        assert np.abs(clip.actions[:, :, None] - LEVELS).min(-1).max() < 1e-6
        assert clip.actions.dtype == np.float32
    assert len({clip.clip_id for clip in clips}) == 4
    assert len({clip.actions.tobytes() for clip in clips}) == 4


@pytest.mark.parametrize("name", NAMES)
def test_the_first_action_after_the_context_does_not_tell_the_style(name: str) -> None:
    scene = make_scene(name)
    means = {}
    for kind in (CAREFUL, CARELESS):
        chosen = [style for style, (style_kind, _) in scene.styles.items() if style_kind == kind]
        seen = []
        for seed in range(60):
            scene.reset(seed)
            policy = scene.scripted(np.random.default_rng(seed), chosen[seed % len(chosen)])
            scene.step(policy())
            seen.append(policy())
        means[kind] = np.mean(seen, axis=0)
    # Half a level: the two means differ by chance only.
    assert np.abs(means[CAREFUL] - means[CARELESS]).max() < 0.1


@pytest.mark.parametrize(("bias", "expected"), [(True, CARELESS_BY_GROUP), (False, {"a": 0.4, "b": 0.4})])
def test_corridor_bias_can_be_switched(bias: bool, expected: dict[str, float]) -> None:
    scene = make_scene("corridor")
    for group, probability in expected.items():
        scene.reset(0, group=group)
        assert scene.careless_probability(bias) == probability
    assert make_scene("pour").careless_probability(bias) == 0.4


@pytest.mark.parametrize("bias", [True, False])
def test_the_mixture_follows_the_bias(bias: bool) -> None:
    scene = make_scene("corridor")
    for group in ("a", "b"):
        careless = []
        for seed in range(400):
            scene.reset(seed, group=group)
            style = choose_style(scene, np.random.default_rng(seed), bias=bias)
            careless.append(scene.styles[style][0] == CARELESS)
        # Three standard errors of a share of 400 draws are .075.
        assert abs(np.mean(careless) - scene.careless_probability(bias)) < 0.075


@pytest.mark.parametrize("action", [[1.5, 0.0], [0.0, -2.0], [float("nan"), 0.0], [0.0, float("inf")], [0.0], [[0.0, 0.0]]])
@pytest.mark.parametrize("name", NAMES)
def test_bad_actions_are_refused(name: str, action: list[float]) -> None:
    scene = make_scene(name)
    scene.reset(0)
    with pytest.raises(ValueError, match="action must"):
        scene.step(np.array(action))


def test_bad_names_seeds_and_values_are_refused() -> None:
    with pytest.raises(ValueError, match="scene must be one of"):
        make_scene("kitchen")
    with pytest.raises(ValueError, match="seed must be"):
        make_scene("pour").reset(-1)
    with pytest.raises(ValueError, match=r"must be one of .*'light'"):
        make_scene("pour").reset(0, glass="blue")
    with pytest.raises(ValueError, match="light of scene pour must be one of"):
        make_scene("pour").reset(0, light=3.0)
    with pytest.raises(ValueError, match="style must be one of"):
        record_clip("shelf", 0, style="gentle")
    with pytest.raises(RuntimeError, match="before reset"):
        make_scene("shelf").step(np.zeros(2))
