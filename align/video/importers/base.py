"""What every importer gives: episodes, and problems where an episode can't be had."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from align.io import sha256_file
from align.types import Float32, UInt8
from align.video.frames import FITS, Fit, Size

DEFAULT_FPS_HZ = 8.0
"""Taken, and said so, where neither the files nor the user name a rate."""


@dataclass(frozen=True)
class ImportOptions:
    """How foreign clips become ours.

    Attributes:
        size: Target (height, width); None keeps each clip's own.
        fit: What happens to another aspect ratio, see ``frames.resize_frame``.
        num_frames: Frames of a window; 0 takes whole clips.
        stride: Source frames from one window frame to the next.
        window_step: Source frames from one window's start to the next; 0 means windows that don't overlap.
        context_frames: Leading frames that a model is shown.
        camera: Camera, array or video stream name; empty takes the first and says so.
        fps_hz: Overrides the rate of the source; 0 believes the files.
        action_rule: How the actions of ``stride`` source steps become one: ``first`` is the action at the window
            frame, whatever came between is dropped; ``mean`` suits velocities; ``sum`` suits displacements.
        stacked: Which picture to keep from frames of 3 k channels: ``last``, ``first``, or empty to refuse them.
    """

    size: Size | None = (128, 128)
    fit: Fit = "pad"
    num_frames: int = 16
    stride: int = 1
    window_step: int = 0
    context_frames: int = 2
    camera: str = ""
    fps_hz: float = 0.0
    action_rule: str = "first"
    stacked: str = ""

    def __post_init__(self) -> None:
        wrong = []
        if self.size is not None and not all(8 <= side <= 4096 for side in self.size):
            wrong.append(f"size must be 8 to 4096 pixels, got {self.size[1]}x{self.size[0]}")
        if self.fit not in FITS:
            wrong.append(f"fit must be one of {', '.join(FITS)}, got {self.fit!r}")
        if self.num_frames != 0 and self.num_frames < 2:
            wrong.append(f"num_frames must be 0 (whole clips) or at least 2, got {self.num_frames}")
        if self.stride < 1:
            wrong.append(f"stride must be at least 1, got {self.stride}")
        if self.window_step < 0:
            wrong.append(f"window_step must be at least 1, or 0 for windows that don't overlap, got {self.window_step}")
        if self.context_frames < 1 or (self.num_frames and self.context_frames >= self.num_frames):
            limit = self.num_frames or "the clip's number of frames"
            wrong.append(f"context_frames must be at least 1 and below {limit}, got {self.context_frames}")
        if not 0 <= self.fps_hz <= 1000:
            wrong.append(f"fps_hz must be above 0 and at most 1000, got {self.fps_hz}")
        if self.action_rule not in ("first", "mean", "sum"):
            wrong.append(f"action_rule must be one of first, mean, sum, got {self.action_rule!r}")
        if self.stacked not in ("", "first", "last"):
            wrong.append(f"stacked must be first or last, got {self.stacked!r}")
        if wrong:
            raise ValueError("; ".join(wrong))

    @property
    def span(self) -> int:
        """Source frames that one window covers; 1 for whole clips."""
        return max(0, self.num_frames - 1) * self.stride + 1


@dataclass(frozen=True)
class Problem:
    """A file that can't be imported, and why."""

    file: str
    reason: str

    def __str__(self) -> str:
        return f"{self.file}: {self.reason}"


@dataclass(frozen=True)
class Episode:
    """One recorded clip before it is cut into windows.

    Attributes:
        name: Path-like and unique within the source.
        file: The file that problems are blamed on.
        frames: Gives the frames, uint8 [H, W, 3], resized to the options; raises ClipError where they are broken.
        fps_hz: Rate of the source.
        num_frames: What the metadata promises; None where nothing does.
        actions: float32 [T, A] (the last one leads nowhere and is dropped) or [T-1, A].
        action_names: One name a dim; empty lets the import number them.
        digest: Tells this episode from one of the same name in another data set.
        task: One sentence.
        scene: Overrides the name of the source.
        seed: Seed, -1 where there is none.
        attributes: Whatever else is known, JSON values.
        outcomes: ``outcome_<axis>``, ``severity_<axis>`` and ``success`` of the whole clip.
    """

    name: str
    file: str
    frames: Callable[[], Iterator[UInt8]]
    fps_hz: float
    num_frames: int | None = None
    actions: Float32 | None = None
    action_names: tuple[str, ...] = ()
    digest: str = ""
    task: str = ""
    scene: str = ""
    seed: int = -1
    attributes: dict[str, Any] = field(default_factory=dict)
    outcomes: dict[str, float] = field(default_factory=dict)


@dataclass
class Source:
    """What an importer found.

    Attributes:
        format: Name of the format, for the report.
        episodes: Lazily read; a Problem stands in for an episode that can't be read.
        total: Number of entries, for the progress bar.
        notes: Choices that were made for the user.
        action_low: Smallest declared value per action dim, None where nothing is declared.
        action_high: Largest.
        info: Further entries for ``info.json``.
    """

    format: str
    episodes: Iterator[Episode | Problem]
    total: int
    notes: list[str] = field(default_factory=list)
    action_low: list[float] | None = None
    action_high: list[float] | None = None
    info: dict[str, Any] = field(default_factory=dict)


class Importer(Protocol):
    """A module of this package, or anything like it that is registered in ``importing``."""

    def matches(self, src: Path) -> bool:
        """Whether ``src`` holds this format."""
        ...

    def read(self, src: Path, options: ImportOptions) -> Source:
        """Find the episodes; raises DataError where the whole source can't be read."""
        ...


@functools.lru_cache(maxsize=4096)
def compute_file_digest(path: Path) -> str:
    """Short sha256 of a file's bytes."""
    return sha256_file(path)[:16]
