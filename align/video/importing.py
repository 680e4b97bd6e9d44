"""Turning other people's clips into a clip folder: find the format, cut windows, collect what is broken.

Rules that hold for every format:

- A window of N frames at stride S begins at source frame s and holds the frames s, s+S, ...; its rate is the source's
  divided by S. Action t leads from window frame t to t+1: with S > 1 it is the one at source frame s+t*S (``first``),
  or the mean or sum of the S actions that were skipped over.
- Every window is a context of its own, because it begins differently; ``attributes`` keeps ``episode_id`` and
  ``window_start``, so that statistics can cluster by episode.
- An id is made of the file's name and a hash of name and content: the same content under two names gives two ids, and
  so does the same name with other content.
- An outcome that is stored for a whole clip is only taken over by a window that covers the whole clip.
"""

from __future__ import annotations

import hashlib
import re
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from align.errors import ClipError, DataError
from align.types import Float32, UInt8
from align.video.importers import lerobot, media, npz
from align.video.importers.base import Episode, Importer, ImportOptions, Problem, Source
from align.video.writer import ClipFolderWriter

__all__ = ["ImportFailed", "ImportOptions", "ImportReport", "Problem", "find_sources", "import_clips", "register"]

_EXCLUSIVE: list[Importer] = [lerobot]
"""Formats that own everything below their root: their videos must not be read once more without actions."""

_PLAIN: list[Importer] = [npz, media]


@dataclass
class ImportReport:
    """What an import did.

    Attributes:
        source: What was read.
        out: The folder that was written, empty where none was.
        formats: Formats that were found.
        num_clips: Windows written.
        num_episodes: Episodes they come from.
        problems: What could not be imported, by file and reason.
        notes: Choices that were made for the user.
        action_names: One name per action dim.
    """

    source: str
    out: str = ""
    formats: list[str] = field(default_factory=list)
    num_clips: int = 0
    num_episodes: int = 0
    problems: list[Problem] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    action_names: list[str] = field(default_factory=list)


class ImportFailed(DataError):
    """Some or all of a source can't be imported; carries the report with every file and reason."""

    def __init__(self, message: str, report: ImportReport) -> None:
        super().__init__(message)
        self.report = report


def register(importer: Importer, *, exclusive: bool = False) -> None:
    """Add a format of your own; it is asked before the built-in ones."""
    (_EXCLUSIVE if exclusive else _PLAIN).insert(0, importer)


def find_sources(src: str | Path, options: ImportOptions) -> list[Source]:
    """Let every importer that knows ``src`` read it.

    Raises:
        DataError: There is nothing at ``src``, or nothing that can be imported.
    """
    path = Path(src)
    if not path.exists():
        raise DataError(f"{path} does not exist")
    for importer in _EXCLUSIVE:
        if importer.matches(path):
            return [importer.read(path, options)]
    found = [importer.read(path, options) for importer in _PLAIN if importer.matches(path)]
    if not found:
        raise DataError(
            f"{path} holds no clips: neither a LeRobot data set (meta/info.json) nor .npz episodes nor "
            f"videos ({', '.join(sorted(media.SUFFIXES))})"
        )
    return found


def import_clips(
    src: str | Path,
    out: str | Path,
    options: ImportOptions | None = None,
    *,
    scene: str = "",
    skip_broken: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> ImportReport:
    """Import a file or folder into a new clip folder.

    Args:
        src: What to read.
        out: The folder to make.
        options: Size, windows, camera and so on.
        scene: Name for the ``scene`` column; the name of ``src`` where empty.
        skip_broken: Leave broken episodes out and list them, instead of failing.
        progress: Called after every episode with the number done and the total.

    Returns:
        What was done.

    Raises:
        ImportFailed: Something is broken and ``skip_broken`` isn't set, or no clip is left; nothing is written then.
        DataError: ``src`` holds nothing known, or ``out`` exists.
    """
    options = options or ImportOptions()
    sources = find_sources(src, options)
    report = ImportReport(str(src), formats=[source.format for source in sources])
    scene = scene or Path(src).resolve().stem
    info = {"source": Path(src).resolve().name, "scenes": [scene], "axes": [], "action_rule": options.action_rule}
    with ClipFolderWriter(out, info, context_frames=options.context_frames) as writer:
        space = _ActionStats()
        total, done = sum(source.total for source in sources), 0
        for source in sources:
            space.declare(source)
            for entry in source.episodes:
                _import_entry(entry, writer, options, space, scene, report)
                done += 1
                if progress is not None:
                    progress(done, total)
            report.notes += source.notes
            writer.info.update(source.info)
        _raise_if_failed(report, len(writer), skip_broken)
        writer.info.update(space.make_info(), notes=report.notes)
        writer.info["scenes"] = sorted({row["scene"] for row in writer.rows.values()})
        report.num_clips, report.action_names = len(writer), list(space.names)
    report.out = str(out)
    return report


def _raise_if_failed(report: ImportReport, num_clips: int, skip_broken: bool) -> None:
    listed = "".join(f"\n  {problem}" for problem in report.problems)
    if report.problems and not skip_broken:
        raise ImportFailed(
            f"{len(report.problems)} of the entries of {report.source} can't be imported; mend them or pass --skip-broken:"
            + listed,
            report,
        )
    if num_clips == 0:
        raise ImportFailed(
            f"no clip of {report.source} can be imported, so nothing was written{listed and ':'}{listed}", report
        )


def _import_entry(
    entry: Episode | Problem,
    writer: ClipFolderWriter,
    options: ImportOptions,
    space: _ActionStats,
    scene: str,
    report: ImportReport,
) -> None:
    if isinstance(entry, Problem):
        report.problems.append(entry)
        return
    written: list[str] = []
    try:
        space.check(entry)
        if entry.num_frames is not None:
            _check_actions(entry, entry.num_frames)
        _write_windows(entry, writer, options, scene, written)
        space.include(entry)
        report.num_episodes += 1
    except (ClipError, ValueError) as error:
        writer.discard(written)
        report.problems.append(Problem(entry.file, str(error).removeprefix(f"{entry.file} ")))


def _write_windows(episode: Episode, writer: ClipFolderWriter, options: ImportOptions, scene: str, written: list[str]) -> None:
    """Write every window of an episode; ids are put into ``written`` so that they can be taken back."""
    counter = _Counter(episode.frames())
    episode_id = make_episode_id(episode)
    for start, video in iter_windows(counter, options):
        whole = options.num_frames == 0 or (start == 0 and episode.num_frames == options.span)
        row_id = f"{episode_id}-f{start:05d}"
        row = {
            "rollout_id": row_id,
            "context_id": row_id,
            "scene": episode.scene or scene,
            "task": episode.task,
            "seed": episode.seed,
            "model_id": "real",
            "fps_hz": episode.fps_hz / options.stride,
            "attributes": {
                **episode.attributes,
                **({} if whole else {f"clip_{key}": value for key, value in episode.outcomes.items()}),
                "episode_id": episode_id,
                "source_file": episode.name,
                "window_start": start,
            },
            "actions": pick_actions(episode.actions, start, len(video), options),
            **(episode.outcomes if whole else {}),
        }
        if options.context_frames >= len(video):
            raise ClipError(f"has {len(video)} frames, too few for {options.context_frames} context frames")
        written.append(writer.add(row, video))
    _check_lengths(episode, counter.count, options, bool(written))


def _check_lengths(episode: Episode, num_frames: int, options: ImportOptions, any_window: bool) -> None:
    if episode.num_frames is not None and episode.num_frames != num_frames:
        raise ClipError(f"has {num_frames} frames, but its metadata promises {episode.num_frames}")
    _check_actions(episode, num_frames)
    if not any_window:
        raise ClipError(
            f"has {num_frames} frames, but a window of {options.num_frames} frames at stride {options.stride} needs "
            f"{options.span}; lower --num-frames or --stride"
        )


def _check_actions(episode: Episode, num_frames: int) -> None:
    if episode.actions is not None and len(episode.actions) not in (num_frames, num_frames - 1):
        raise ClipError(f"has {num_frames} frames, but {len(episode.actions)} actions")


def iter_windows(frames: Iterable[UInt8], options: ImportOptions) -> Iterator[tuple[int, UInt8]]:
    """Cut a stream of frames [H, W, 3] into (start, uint8 [N, H, W, 3]); holds no more than one window's span."""
    if options.num_frames == 0:
        kept = [frame for index, frame in enumerate(frames) if index % options.stride == 0]
        if kept:
            yield 0, np.stack(kept)
        return
    step = options.window_step or options.num_frames * options.stride
    buffer: deque[UInt8] = deque(maxlen=options.span)
    for index, frame in enumerate(frames):
        buffer.append(frame)
        start = index - options.span + 1
        if start >= 0 and start % step == 0:
            yield start, np.stack(list(buffer)[:: options.stride])


def pick_actions(actions: Float32 | None, start: int, num_frames: int, options: ImportOptions) -> Float32 | None:
    """Actions [num_frames - 1, A] of a window that begins at source frame ``start``; the module's text has the rule."""
    if actions is None:
        return None
    stop = start + (num_frames - 1) * options.stride
    if stop > len(actions):
        raise ClipError(f"has at least {stop + 1} frames, but {len(actions)} actions")
    steps = actions[start:stop].reshape(num_frames - 1, options.stride, -1)
    if options.action_rule == "first":
        return np.asarray(steps[:, 0], np.float32)
    return np.asarray(steps.mean(axis=1) if options.action_rule == "mean" else steps.sum(axis=1), np.float32)


def make_episode_id(episode: Episode) -> str:
    """A readable part for people and a hash for uniqueness, fit for a file name."""
    readable = (
        re.sub(r"[^A-Za-z0-9]+", "-", episode.name.removesuffix(Path(episode.file).suffix)).strip("-")[-48:].strip("-")
        or "clip"
    )
    return f"{readable}-{hashlib.sha256(f'{episode.name}|{episode.digest}'.encode()).hexdigest()[:10]}"


class _Counter:
    """Counts the frames that go through it."""

    def __init__(self, frames: Iterable[UInt8]) -> None:
        self.frames, self.count = frames, 0

    def __iter__(self) -> Iterator[UInt8]:
        for frame in self.frames:
            self.count += 1
            yield frame


class _ActionStats:
    """Names and ranges of the actions over all episodes: what was declared, widened by what was seen."""

    def __init__(self) -> None:
        self.names: tuple[str, ...] = ()
        self.low: Float32 | None = None
        self.high: Float32 | None = None

    def declare(self, source: Source) -> None:
        if source.action_low is not None and source.action_high is not None:
            self._widen(np.asarray(source.action_low, np.float32), np.asarray(source.action_high, np.float32))

    def check(self, episode: Episode) -> None:
        if episode.actions is None:
            return
        if episode.actions.ndim != 2 or 0 in episode.actions.shape:
            raise ClipError(f"its actions must be [T, A], got {list(episode.actions.shape)}")
        if not np.isfinite(episode.actions).all():
            raise ClipError("its actions hold values that are not finite")
        num_dims = episode.actions.shape[1]
        names = episode.action_names or tuple(f"action_{dim}" for dim in range(num_dims))
        if self.names and len(self.names) != num_dims:
            raise ClipError(f"has {num_dims} action dims, but the episodes before it have {len(self.names)}")
        if self.low is not None and len(self.low) != num_dims:
            raise ClipError(f"has {num_dims} action dims, but the statistics of its data set have {len(self.low)}")
        if len(names) != num_dims:
            raise ClipError(f"has {num_dims} action dims, but {len(names)} names for them")
        self.names = self.names or names

    def include(self, episode: Episode) -> None:
        if episode.actions is not None:
            self._widen(episode.actions.min(axis=0), episode.actions.max(axis=0))

    def _widen(self, low: Float32, high: Float32) -> None:
        self.low = low if self.low is None else np.minimum(self.low, low)
        self.high = high if self.high is None else np.maximum(self.high, high)

    def make_info(self) -> dict[str, Any]:
        """``action_names/low/high``; a dim that never changes gets a range of one around its value."""
        if not self.names or self.low is None or self.high is None:
            return {"action_names": [], "action_low": [], "action_high": []}
        still = ~(self.low < self.high)
        low, high = np.where(still, self.low - 0.5, self.low), np.where(still, self.high + 0.5, self.high)
        return {"action_names": list(self.names), "action_low": low.tolist(), "action_high": high.tolist()}
