"""What the household scenes share: the episode clock, random streams, checks, and the scripted agent's rhythm.

A scene owns its physics and its drawing; this module only calls them in order. Three random streams of one seed keep
apart what must not influence each other: geometry (where things stand, how people move), nuisance (colours, light,
appearance) and behaviour (the scripted agent). So a nuisance can be overridden and everything else stays as it was.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import numpy as np
import pymunk

from align.scenes.render import WALL_COLOURS, Canvas
from align.types import ActionSpace, Float32, Outcome, UInt8

Policy = Callable[[], Float32]
"""Gives the action [2] for the scene's present state, each value one of the 11 levels."""

NUM_LEVELS = 11
"""Scripted actions take evenly spaced values from -1 to 1."""
FRAME_S = 0.125
"""Seconds between two frames."""
SUBSTEPS = 8
"""Physics steps a frame; fixed, so that an episode is exactly repeatable."""
CAREFUL, CARELESS = "careful", "careless"

GEOMETRY_STREAM, NUISANCE_STREAM, BEHAVIOUR_STREAM = 0, 1, 2


def make_stream(scene_name: str, seed: int, *key: int) -> np.random.Generator:
    """A random generator of its own for (scene, seed, key).

    Raises:
        ValueError: ``seed`` is not a whole number of at least 0.
    """
    if isinstance(seed, bool) or not isinstance(seed, int | np.integer) or seed < 0:
        raise ValueError(f"seed must be a whole number of at least 0, got {seed!r}")
    return np.random.default_rng([int(seed), zlib.crc32(scene_name.encode()), *key])


def quantise(action: tuple[float, float]) -> Float32:
    """Round to the 11 levels -1, -0.8, ..., 1; float32 [2]."""
    half = (NUM_LEVELS - 1) // 2
    levels: Float32 = (np.round(np.clip(np.array(action), -1, 1) * half) / half + 0.0).astype(np.float32)  # + 0.0: no -0
    return levels


def check_action(action: Any, num_dims: int) -> tuple[float, ...]:
    """Check an action and clip rounding dust.

    Args:
        action: Anything array-like, [num_dims], every value in [-1, 1].

    Raises:
        ValueError: Wrong shape, not a number, or outside [-1, 1].
    """
    values = np.asarray(action, dtype=np.float64)
    if values.shape != (num_dims,):
        raise ValueError(f"action must have the shape [{num_dims}], got {list(values.shape)}")
    if not np.isfinite(values).all() or np.abs(values).max() > 1 + 1e-3:
        raise ValueError(f"action must hold numbers from -1 to 1, got {values.tolist()}")
    return tuple(float(value) for value in np.clip(values, -1, 1))


def approach(error: float, speed: float, limit: float) -> float:
    """The action that closes ``error`` (units) in one frame at ``speed`` (units a frame at 1), at most ``limit``."""
    return max(-limit, min(limit, error / speed))


class HouseholdScene:
    """The episode loop; see :class:`align.types.Scene` for the protocol that it fulfils.

    A scene defines the class attributes below and ``_build``, ``_advance``, ``_draw_background``, ``_draw``,
    ``_script`` and ``outcome``.
    """

    name: ClassVar[str]
    axis: ClassVar[str]
    task: ClassVar[str]
    question: ClassVar[str]
    severity_units: ClassVar[Mapping[str, str]]
    choices: ClassVar[Mapping[str, tuple[Any, ...]]]
    """Nuisance attribute to its values, all equally frequent."""
    styles: ClassVar[Mapping[str, tuple[str, float]]]
    """Scripted style to (careful | careless, its share among the styles of that kind)."""
    action_space: ClassVar[ActionSpace]
    num_frames: int = 16
    context_frames: int = 2
    fps_hz: float = 1 / FRAME_S

    attributes: Mapping[str, Any]
    frame_idx: int
    """Index of the frame that was rendered last; -1 before the first reset."""
    first_action: Float32
    """The scripted action from frame 0 to 1, part of the context: the same for every style."""
    space: pymunk.Space

    def __init__(self) -> None:
        self.attributes = {}
        self.frame_idx = -1

    def reset(self, seed: int, **nuisance: Any) -> UInt8:
        """Start an episode.

        Args:
            seed: At least 0; fixes geometry, nuisances and everybody else's movements.
            nuisance: Overrides attributes by name; the rest of the episode stays as it was.

        Returns:
            Frame 0, uint8 [128, 128, 3].

        Raises:
            ValueError: A bad seed, an unknown attribute or a value that it can't have.
        """
        geometry = make_stream(self.name, seed, GEOMETRY_STREAM)
        self.attributes = self._draw_nuisances(seed, nuisance)
        self.frame_idx = 0
        self.space = pymunk.Space()
        self.first_action = quantise(self._build(geometry))
        self._background = Canvas(float(self.attributes["light"]))
        self._draw_background(self._background)
        return self._render()

    def step(self, action: Any) -> UInt8:
        """Apply one action for one frame.

        Args:
            action: Array-like [2], values in [-1, 1].

        Returns:
            The next frame, uint8 [128, 128, 3].

        Raises:
            ValueError: The action has a wrong shape, is not finite or lies outside [-1, 1].
            RuntimeError: ``reset`` has not been called.
        """
        if self.frame_idx < 0:
            raise RuntimeError("step was called before reset; call reset(seed) first")
        first, second = check_action(action, self.action_space.num_dims)
        self._advance(first, second)
        self.frame_idx += 1
        return self._render()

    def outcome(self) -> Outcome:
        """What has happened so far."""
        raise NotImplementedError

    def careless_probability(self, bias: bool) -> float:
        """How often people filmed in this scene (with its present attributes) were careless."""
        return 0.4

    def scripted(self, rng: np.random.Generator, style: str) -> Policy:
        """A behaviour policy with feedback from the scene's own state.

        Args:
            rng: The policy's only source of chance.
            style: One of ``styles``.

        Raises:
            ValueError: An unknown style.
        """
        if style not in self.styles:
            raise ValueError(f"style must be one of {sorted(self.styles)}, got {style!r}")
        controller = self._script(rng, style)

        def policy() -> Float32:
            return self.first_action.copy() if self.frame_idx == 0 else quantise(controller())

        return policy

    def _draw_nuisances(self, seed: int, override: Mapping[str, Any]) -> dict[str, Any]:
        rng = make_stream(self.name, seed, NUISANCE_STREAM)
        drawn = {name: values[int(rng.integers(len(values)))] for name, values in self.choices.items()}
        for name, value in override.items():
            if name not in self.choices:
                raise ValueError(f"attribute of scene {self.name} must be one of {sorted(self.choices)}, got {name!r}")
            if value not in self.choices[name]:
                raise ValueError(f"{name} of scene {self.name} must be one of {list(self.choices[name])}, got {value!r}")
        return {**drawn, **override}

    def _render(self) -> UInt8:
        canvas = Canvas(self._background.light, self._background)
        self._draw(canvas)
        return canvas.pixels()

    def _build(self, rng: np.random.Generator) -> tuple[float, float]:
        """Set up physics for a new episode; returns the neutral first action."""
        raise NotImplementedError

    def _advance(self, first: float, second: float) -> None:
        """Run physics for one frame under the two action values."""
        raise NotImplementedError

    def _draw_background(self, canvas: Canvas) -> None:
        """Draw what never moves."""
        raise NotImplementedError

    def _draw(self, canvas: Canvas) -> None:
        """Draw what may move or change."""
        raise NotImplementedError

    def _script(self, rng: np.random.Generator, style: str) -> Callable[[], tuple[float, float]]:
        """A controller: called at frame 1 and later, gives an action before rounding."""
        raise NotImplementedError


ROOM_CHOICES: Mapping[str, tuple[Any, ...]] = {"wall": tuple(WALL_COLOURS), "light": (1.0, 0.85)}
"""Nuisances that every scene has."""


def move_towards(body: pymunk.Body, target: tuple[float, float]) -> None:
    """Give a kinematic body the velocity that brings it to ``target`` within one frame."""
    body.velocity = ((target[0] - body.position.x) / FRAME_S, (target[1] - body.position.y) / FRAME_S)


def clamp(value: float, low: float, high: float) -> float:
    """Limit ``value`` to [low, high]."""
    return math.nan if math.isnan(value) else max(low, min(high, value))
