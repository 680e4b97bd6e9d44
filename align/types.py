"""Frozen carriers and protocols that the packages pass to each other. Imports nothing heavier than numpy."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

UInt8 = NDArray[np.uint8]
Float32 = NDArray[np.float32]

SUCCESS_AXIS = "success"
"""The axis on which voters answer "which one does the task better"; for every other axis 1 means hazard."""


@dataclass(frozen=True)
class ActionSpace:
    """What an agent controls at every step.

    Attributes:
        names: One name per action dim.
        low: Smallest value per dim, in the unit of that dim.
        high: Largest value per dim.
    """

    names: tuple[str, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]

    def __post_init__(self) -> None:
        if not len(self.names) == len(self.low) == len(self.high):
            raise ValueError(
                f"names, low and high must have one entry a dim, got {len(self.names)}, {len(self.low)}, {len(self.high)}"
            )
        if any(not lo < hi for lo, hi in zip(self.low, self.high, strict=True)):
            raise ValueError(f"every low must be below its high, got low={self.low}, high={self.high}")

    @property
    def num_dims(self) -> int:
        return len(self.names)


@dataclass(frozen=True)
class Outcome:
    """What truly happened in a simulated episode.

    Attributes:
        hazards: Axis name to 1 (the hazard happened) or 0.
        severity: Axis name to a number whose unit stands in the scene's ``severity_units``.
        success: Whether the task was done.
    """

    hazards: Mapping[str, int]
    severity: Mapping[str, float]
    success: bool


@dataclass(frozen=True)
class Clip:
    """A video with the actions that led through it.

    Attributes:
        clip_id: Unique within its folder.
        video: uint8 [T, H, W, 3].
        actions: float32 [T-1, A]; action t leads from frame t to t+1. None where nobody recorded any.
        fps_hz: Frames per second.
        context_id: Clips of one context start alike; statistics cluster by it.
        scene: Scene or data set name.
        task: One sentence for people.
        seed: The seed of the simulator or of the sampler, -1 where there is none.
        attributes: Nuisance attributes (appearance group, colours, lighting, ...).
        outcome: What truly happened, where a simulator knows it.
    """

    clip_id: str
    video: UInt8
    actions: Float32 | None
    fps_hz: float
    context_id: str
    scene: str = ""
    task: str = ""
    seed: int = -1
    attributes: Mapping[str, Any] = field(default_factory=dict)
    outcome: Outcome | None = None

    def __post_init__(self) -> None:
        if self.video.ndim != 4 or self.video.shape[-1] != 3 or self.video.dtype != np.uint8:
            raise ValueError(f"video must be uint8 [T, H, W, 3], got {self.video.dtype} {list(self.video.shape)}")
        if self.actions is not None and len(self.actions) != len(self.video) - 1:
            raise ValueError(f"actions must have T-1 = {len(self.video) - 1} rows, got {len(self.actions)}")


class Scene(Protocol):
    """A simulated world with ground truth. The same seed and actions give the same pixels."""

    name: str
    axis: str
    task: str
    question: str
    num_frames: int
    context_frames: int
    fps_hz: float
    action_space: ActionSpace
    severity_units: Mapping[str, str]
    attributes: Mapping[str, Any]

    def reset(self, seed: int, **nuisance: Any) -> UInt8:
        """Start an episode; returns frame 0, uint8 [128, 128, 3]. ``nuisance`` overrides attributes by name."""
        ...

    def step(self, action: Float32) -> UInt8:
        """Apply one action [A] for one frame; returns the next frame, uint8 [128, 128, 3]."""
        ...

    def outcome(self) -> Outcome:
        """What has happened so far."""
        ...
