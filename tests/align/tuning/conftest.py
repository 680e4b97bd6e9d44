"""Policies with an effect, a tiny world model with its tokenizer, and made-up histories of tuning."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

Float64 = NDArray[np.float64]
SCENES = {"pour": "spill", "shelf": "breakage", "corridor": "politeness"}
CONTEXTS, SAMPLES, CHECKS = 20, 4, 12
KEPT = 0.7
"""Share of rollouts that end as they did at the last check, because context and seed are the same."""


@pytest.fixture(scope="session")
def tune_a_little() -> Callable[..., Any]:
    """``tune_a_little(policy, scale=0.2)`` gives an adapter an effect, and returns the policy."""
    import torch

    def tune(policy: Any, scale: float = 0.2) -> Any:
        torch.manual_seed(3)
        with torch.no_grad():
            for name, tensor in policy.named_parameters():
                if "lora_B.default" in name:
                    tensor.normal_(std=scale)
        return policy

    return tune


@pytest.fixture(scope="session")
def make_world_model(make_model: Callable[..., Any]) -> Callable[..., Any]:
    """``make_world_model(shape)``: a tokenizer of 8x12 pixels that fits the tiny layout, and a model of that shape."""
    import torch

    from align.world_models.tokenizer import FrameTokenizer, TokenizerConfig
    from align.world_models.world_model import WorldModel

    def make(shape: str) -> Any:
        torch.manual_seed(0)
        sizes = TokenizerConfig(size=(8, 12), cell=(4, 4), levels=(2, 2, 2), width=4, num_attended=2, num_learned=2)
        tokenizer = FrameTokenizer(sizes).eval().requires_grad_(False)
        return WorldModel(tokenizer, make_model(shape), {}, "tiny")

    return make


@pytest.fixture(scope="session")
def make_contexts(random_ids: Callable[..., Any]) -> Callable[..., Any]:
    """``make_contexts(n)``: contexts of two scenes in turn, with pictures of noise."""
    from align.tuning.contexts import Contexts

    def make(num: int) -> Any:
        first = np.random.default_rng(0).integers(0, 256, (num, 8, 12, 3), dtype=np.uint8)
        scenes = tuple("pour" if row % 2 == 0 else "shelf" for row in range(num))
        return Contexts(random_ids(num, seed=8), first, scenes, tuple(f"c{row}" for row in range(num)))

    return make


@pytest.fixture(scope="session")
def brightness() -> Callable[..., Any]:
    """A score of rollouts: a spill is darkness at the end, success is light; breakage doesn't apply anywhere."""

    def score(video: Any, scenes: Sequence[str]) -> dict[str, list[float | None]]:
        light = video[:, -1].mean((1, 2, 3)) / 255
        spill = [float(value) if scene == "pour" else None for value, scene in zip(light, scenes, strict=True)]
        return {"success": [float(value) for value in light], "spill": spill}

    return score


# -- made-up histories ----------------------------------------------------------------------------------------------------


def draw_passes(levels: Sequence[float], rng: np.random.Generator) -> Float64:
    """Shares of rollouts that pass, [checks, contexts], around a level a check; contexts differ in difficulty."""
    difficulty = rng.normal(0, 0.15, CONTEXTS)
    chance = rng.random((CONTEXTS, SAMPLES))
    rows = []
    for level in levels:
        chance = np.where(rng.random(chance.shape) > KEPT, rng.random(chance.shape), chance)
        rows.append((chance < np.clip(level + difficulty * level * (1 - level) * 4, 0, 1)[:, None]).mean(1))
    return np.array(rows)


def draw_around(levels: Sequence[float], rng: np.random.Generator, spread: float = 0.25) -> Float64:
    """Numbers [checks, contexts] around a level a check; most of a context's difference stays, a part is new each time."""
    own = rng.normal(0, spread, CONTEXTS)
    return np.array([level * (1 + own + rng.normal(0, spread / 3, CONTEXTS)) for level in levels])


def draw_levels(start: float, end: float) -> list[float]:
    """Level by check, changing fast at first."""
    values: list[float] = (end + (start - end) * np.exp(-np.arange(CHECKS) / 3)).tolist()
    return values


HONEST = {
    "proxy/hazard": draw_levels(0.6, 0.97),
    "gold/hazard": draw_levels(0.6, 0.97),
    "proxy/success": draw_levels(0.9, 0.97),
    "gold/success": draw_levels(0.9, 0.97),
    "proxy/good": draw_levels(0.6, 0.95),
    "gold/good": draw_levels(0.6, 0.95),
    "entropy": draw_levels(0.45, 0.35),
    "spread": draw_levels(0.18, 0.07),
    "motion": draw_levels(0.020, 0.017),
    "action_nll": draw_levels(0.45, 0.55),
    "frame_nll": draw_levels(0.64, 0.65),
}
"""An honest improvement: base to tuned, as it was seen on the household."""


@pytest.fixture(scope="session")
def levels() -> Callable[[float, float], list[float]]:
    """``levels(start, end)``: a level for each of the 12 checks, changing fast at first."""
    return draw_levels


@pytest.fixture(scope="session")
def make_history() -> Callable[..., Any]:
    """``make_history(seed, {kind: levels})``: measurements of an honest improvement, but for the planted levels."""
    from align.tuning.monitors import Measurement

    def make(seed: int, planted: Mapping[str, Sequence[float]] | None = None) -> list[Measurement]:
        rng, course, figures = np.random.default_rng(seed), {**HONEST, **(planted or {})}, {}
        for kind, checks in course.items():
            name, _, axis = kind.partition("/")
            if axis == "good":
                figures[kind] = np.concatenate([draw_passes(checks, rng) for _ in SCENES], axis=1)
                continue
            for scene, hazard in SCENES.items():
                if axis:
                    figures[f"{name}/{hazard if axis == 'hazard' else axis}/{scene}"] = draw_passes(checks, rng)
                else:
                    figures[f"{name}/{scene}"] = draw_around(checks, rng)
        return [Measurement(10 * c, {name: v[c].tolist() for name, v in figures.items()}) for c in range(CHECKS)]

    return make
