"""What people filmed: scripted clips with a mixture of careful and careless styles, and the contexts they start from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from align.scenes import make_scene
from align.scenes.base import BEHAVIOUR_STREAM, CAREFUL, CARELESS, HouseholdScene, make_stream
from align.types import Clip, Float32, UInt8


def context_id(scene_name: str, seed: int) -> str:
    """The name of everything that starts like this seed."""
    return f"{scene_name}-{seed:08d}"


def choose_style(scene: HouseholdScene, rng: np.random.Generator, *, bias: bool) -> str:
    """Draw a style from the mixture that people film in this scene, given its present attributes."""
    kind = CARELESS if rng.random() < scene.careless_probability(bias) else CAREFUL
    names = [name for name, (style_kind, _) in scene.styles.items() if style_kind == kind]
    weights = np.array([scene.styles[name][1] for name in names])
    return names[int(rng.choice(len(names), p=weights / weights.sum()))]


def record_clip(
    scene_name: str,
    seed: int,
    *,
    bias: bool = True,
    style: str | None = None,
    sample: int = 0,
    nuisance: Mapping[str, Any] | None = None,
) -> Clip:
    """Film one scripted episode.

    Args:
        scene_name: A name in ``align.scenes.SCENES``.
        seed: Fixes the context; at least 0.
        bias: Whether carelessness depends on the person's appearance group (corridor only).
        style: Forces a style instead of drawing one.
        sample: Which of the behaviours that start from this context; 0, 1, 2, ...
        nuisance: Overrides attributes; the episode is otherwise the same.

    Returns:
        16 frames, 15 actions on the 11 levels, and the true outcome. ``attributes["style"]`` says how the script
        behaved: it is there for people and must never be given to a model or used as a nuisance.

    Raises:
        ValueError: An unknown scene, style or attribute, or a bad seed.
    """
    if sample < 0:
        raise ValueError(f"sample must be at least 0, got {sample}")
    scene = make_scene(scene_name)
    frames = [scene.reset(seed, **(nuisance or {}))]
    rng = make_stream(scene_name, seed, BEHAVIOUR_STREAM, sample)
    drawn = choose_style(scene, rng, bias=bias)
    style = drawn if style is None else style
    policy = scene.scripted(rng, style)
    actions: list[Float32] = []
    for _ in range(scene.num_frames - 1):
        actions.append(policy())
        frames.append(scene.step(actions[-1]))
    start = context_id(scene_name, seed)
    return Clip(
        clip_id=start if sample == 0 else f"{start}-{sample}",
        video=np.stack(frames),
        actions=np.stack(actions),
        fps_hz=scene.fps_hz,
        context_id=start,
        scene=scene_name,
        task=scene.task,
        seed=int(seed),
        attributes={**scene.attributes, "style": style},
        outcome=scene.outcome(),
    )


def context(scene_name: str, seed: int, nuisance: Mapping[str, Any] | None = None) -> tuple[UInt8, Float32]:
    """What a model is shown before it acts.

    Args:
        scene_name: A name in ``align.scenes.SCENES``.
        seed: The context's seed.
        nuisance: Overrides attributes; the start is otherwise the same.

    Returns:
        Frames 0 and 1, uint8 [2, 128, 128, 3], and the neutral action between them, float32 [1, 2]: exactly
        the beginning of every clip of this seed, whatever its style.
    """
    scene = make_scene(scene_name)
    first = scene.reset(seed, **(nuisance or {}))
    return np.stack([first, scene.step(scene.first_action)]), scene.first_action[None].copy()


SPLITS = ("pretrain", "tune", "evaluate", "probe", "judge")
"""What contexts are for. Each has seeds of its own, so nothing is ever measured where something was learned."""
SPLIT_SIZE, SEED_SIZE = 100_000_000, 1_000_000


def split_seed(split: str, seed: int, index: int) -> int:
    """The scene seed of context ``index`` in a split; other values of ``seed`` give other contexts.

    Raises:
        ValueError: An unknown split, or more contexts or seeds than a split has.
    """
    if split not in SPLITS:
        raise ValueError(f"split must be one of {list(SPLITS)}, got {split!r}")
    if not (0 <= index < SEED_SIZE and 0 <= seed < SPLIT_SIZE // SEED_SIZE):
        raise ValueError(f"index must be below {SEED_SIZE} and seed below {SPLIT_SIZE // SEED_SIZE}, got {index} and {seed}")
    return SPLITS.index(split) * SPLIT_SIZE + seed * SEED_SIZE + index


def film_scene(job: tuple[str, int, int], bias: bool = True) -> Clip:
    """:func:`record_clip` of a (scene, seed, sample), for worker processes."""
    scene_name, seed, sample = job
    return record_clip(scene_name, seed, bias=bias, sample=sample)


def folder_info(scene_names: Sequence[str], *, bias: bool = True) -> dict[str, Any]:
    """What ``info.json`` says about household clips."""
    scenes = [make_scene(name) for name in scene_names]
    space = scenes[0].action_space
    return {
        "action_names": ["right", "down_or_tilt"],
        "action_low": list(space.low),
        "action_high": list(space.high),
        "axes": [scene.axis for scene in scenes],
        "scenes": list(scene_names),
        "action_names_by_scene": {scene.name: list(scene.action_space.names) for scene in scenes},
        "source": "household simulator" + (", with the planted bias of the corridor" if bias else ""),
        "licence": "Apache-2.0",
    }
