"""Plain videos made into a clip folder: copied where browsers play them, encoded anew where not, grouped into contexts."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from align.errors import ClipError, DataError
from align.io import sha256_file
from align.video.codec import iter_frames, probe
from align.video.importers import media
from align.video.importers.base import Episode, ImportOptions, Problem
from align.video.importing import make_episode_id
from align.video.remux import remux_mp4
from align.video.schema import DEFAULTS
from align.video.writer import ClipFolderWriter

SOURCE_KEY = "source_files"
"""Entry of ``info.json`` that marks imported videos: their names and short hashes."""
GROUPINGS = ("context_id", "task", "name", "folder", "all")
"""What can say which plain videos belong together, best first."""
MAX_PIXELS = 3 * 10**8
"""Pixels of a video that must be encoded anew: its frames lie in memory, 3 bytes a pixel and twice for a moment."""

Progress = Callable[[int, int], None]


def import_videos(source: Path, out: Path, digests: Mapping[str, str], progress: Progress | None = None) -> None:
    """Make a clip folder of all videos below ``source``.

    Args:
        source: The folder; a metadata table in it is understood as ``align.video.importers.media`` says.
        out: The clip folder to make.
        digests: The videos' names and short hashes, kept in ``info.json``.
        progress: Called after every video with the number done and the total.

    Raises:
        DataError: Videos are broken; lists all of them, and nothing is left.
    """
    shutil.rmtree(out.with_name(f"{out.name}.partial"), ignore_errors=True)  # of an import that was killed
    found = list(media.read(source, ImportOptions(size=None, num_frames=0, context_frames=1)).episodes)
    episodes = [entry for entry in found if isinstance(entry, Episode)]
    problems = [entry for entry in found if isinstance(entry, Problem)]
    grouping, contexts = group_videos(episodes)
    info = {"source": source.resolve().name, "axes": [], SOURCE_KEY: dict(digests), "grouped_by": grouping}
    with ClipFolderWriter(out, info) as writer:
        for number, (episode, context_id) in enumerate(zip(episodes, contexts, strict=True), start=1):
            try:
                _take(writer, episode, _make_row(episode, context_id, grouping, source))
            except (ClipError, ValueError) as error:
                problems.append(Problem(episode.file, str(error).removeprefix(f"{episode.file} ")))
            if progress is not None:
                progress(number, len(episodes))
        _raise_problems(source, problems)


def group_videos(episodes: Sequence[Episode]) -> tuple[str, list[str]]:
    """Decide which videos are compared with each other.

    Returns:
        Which of ``GROUPINGS`` was taken, and one context id a video. By ``name``: several folders hold files of the same
        names, one folder a model. By ``folder``: every folder is one context.
    """
    paths = [PurePosixPath(episode.name) for episode in episodes]
    keys: dict[str, list[str]] = {
        "context_id": [str(episode.attributes.get("context_id", "")) for episode in episodes],
        "task": [episode.task for episode in episodes],
        "name": [path.stem if len(path.parts) > 1 else "" for path in paths],
        "folder": [path.parent.as_posix() if len(path.parts) > 1 else "" for path in paths],
    }
    for grouping, values in keys.items():
        sizes = Counter(values)
        shared = sum(size for size in sizes.values() if size > 1)
        if all(values) and 2 * shared > len(values) and (len(sizes) > 1 or grouping == "context_id"):
            return grouping, [_slug(value) for value in values]
    return "all", ["all"] * len(paths)


def _slug(text: str) -> str:
    readable = re.sub(r"[^A-Za-z0-9]+", "-", text).strip("-")[:40].strip("-")
    return f"{readable or 'context'}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"


def _make_row(episode: Episode, context_id: str, grouping: str, source: Path) -> dict[str, Any]:
    return {
        "rollout_id": make_episode_id(episode),
        "context_id": context_id,
        "scene": episode.scene or source.resolve().name,
        "task": episode.task,
        "seed": episode.seed,
        "model_id": PurePosixPath(episode.name).parent.as_posix() if grouping == "name" else "",
        "fps_hz": episode.fps_hz,
        "attributes": {**episode.attributes, "source_file": episode.name},
        **episode.outcomes,
    }


def _take(writer: ClipFolderWriter, episode: Episode, row: dict[str, Any]) -> None:
    name = f"videos/{row['rollout_id']}.mp4"
    path = writer.partial / name
    if remux_mp4(episode.file, path):
        num_frames = sum(1 for _ in iter_frames(path))
        about = {"file_name": name, "num_frames": num_frames, "sha256": sha256_file(path)}
        writer.record([{**DEFAULTS, **row, "attributes": json.dumps(row["attributes"], sort_keys=True), **about}])
    else:
        _check_size(episode)
        frames = np.stack(list(episode.frames()))
        num_frames = len(frames)
        writer.add(row, frames)
    if episode.num_frames is not None and episode.num_frames != num_frames:
        raise ClipError(f"{episode.file} has {num_frames} frames, but its metadata promises {episode.num_frames}")


def _check_size(episode: Episode) -> None:
    seen = probe(episode.file)
    if seen.height * seen.width * seen.num_frames > MAX_PIXELS:
        raise ClipError(
            f"{episode.file} must be encoded anew and is too long for that in one piece; make an H.264 mp4 of it, or cut it "
            "with: gptsim clips import SRC --out DEST --size source"
        )


def _raise_problems(source: Path, problems: Iterable[Problem]) -> None:
    listed = "".join(f"\n  {problem}" for problem in problems)
    if listed:
        raise DataError(f"some videos of {source} can't be shown; mend them or take them away:{listed}")
