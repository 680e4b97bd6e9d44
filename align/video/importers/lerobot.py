"""LeRobot data sets, codebase versions 2.0, 2.1 and 3.0, read without the lerobot package.

    v2.x  meta/{info.json, episodes.jsonl, tasks.jsonl, stats.json (2.0), episodes_stats.jsonl (2.1)}
          data/chunk-000/episode_000000.parquet, videos/chunk-000/<camera>/episode_000000.mp4: one file an episode
    v3.0  meta/{info.json, stats.json, tasks.parquet, episodes/chunk-000/file-000.parquet}
          data/chunk-000/file-000.parquet, videos/<camera>/chunk-000/file-000.mp4: many episodes a file; a row of
          meta/episodes says in which file, from which second and for how many frames

The paths are templates in ``info.json``. A camera is a feature of dtype ``video``, or ``image`` for pictures inside
the parquet. Row t of ``action`` is what was commanded at frame t, so it leads to frame t+1.
"""

from __future__ import annotations

import functools
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image, UnidentifiedImageError

from align.errors import ClipError, DataError
from align.types import Float32, UInt8
from align.video.codec import iter_frames
from align.video.frames import resize_frame
from align.video.importers.base import Episode, ImportOptions, Problem, Source, compute_file_digest
from align.video.importers.lerobot_meta import EpisodeMeta, LeRobotMeta, find_roots, load_meta

ACTION_KEYS = ("action", "actions")


def matches(src: Path) -> bool:
    """Whether ``src`` is a LeRobot data set or a folder with some of them."""
    return bool(find_roots(src))


def read(src: Path, options: ImportOptions) -> Source:
    """All episodes of all data sets at or below ``src``.

    Raises:
        DataError: The metadata can't be read, is of another version, or has no such camera.
    """
    metas = [load_meta(root) for root in find_roots(src)]
    cameras = [_choose_camera(meta, options.camera) for meta in metas]
    problems = [problem for meta in metas for problem in meta.problems]
    total = len(problems) + sum(len(meta.episodes) for meta in metas)
    source = Source(f"lerobot {', '.join(sorted({meta.version for meta in metas}))}", iter(()), total)
    for meta, camera in zip(metas, cameras, strict=True):
        if not options.camera and len(meta.cameras) > 1:
            source.notes.append(f"{meta.root.name}: camera {camera} of {', '.join(meta.cameras)} is read (--camera chooses)")
    ranges = [meta.action_range for meta in metas if meta.action_range is not None]
    if ranges and len({len(low) for low, _ in ranges}) == 1:
        source.action_low = np.min([low for low, _ in ranges], axis=0).tolist()
        source.action_high = np.max([high for _, high in ranges], axis=0).tolist()

    def episodes() -> Iterator[Episode | Problem]:
        yield from problems
        for meta, camera in zip(metas, cameras, strict=True):
            prefix = "" if meta.root == src else meta.root.relative_to(src).as_posix() + "/"
            for episode in meta.episodes:
                yield _make_episode(meta, episode, camera, prefix, options)

    source.episodes = episodes()
    return source


def _choose_camera(meta: LeRobotMeta, wanted: str) -> str:
    """The full name of a camera; its last part (``top`` for ``observation.images.top``) is enough to ask for it."""
    if not meta.cameras:
        raise DataError(f"{meta.root} has no camera: no feature of its meta/info.json is of dtype video or image")
    if not wanted:
        return meta.cameras[0]
    fitting = [name for name in meta.cameras if wanted in (name, name.rsplit(".", 1)[-1])]
    if len(fitting) != 1:
        raise DataError(f"{meta.root} has no camera {wanted!r}; its meta/info.json names {', '.join(meta.cameras)}")
    return fitting[0]


def _make_episode(
    meta: LeRobotMeta, episode: EpisodeMeta, camera: str, prefix: str, options: ImportOptions
) -> Episode | Problem:
    data_path = meta.root / episode.data_file
    try:
        rows = _episode_rows(data_path, episode, meta)
        frames, file = _find_frames(meta, episode, camera, rows, options)
        action_key = next((key for key in ACTION_KEYS if key in rows), None)
        return Episode(
            name=f"{prefix}episode_{episode.index:06d}" + (f"/{camera}" if len(meta.cameras) > 1 else ""),
            file=str(file),
            frames=frames,
            fps_hz=options.fps_hz or meta.fps_hz,
            num_frames=episode.length,
            actions=None if action_key is None else _stack_actions(rows[action_key], data_path),
            action_names=meta.action_names,
            digest=compute_file_digest(data_path) + compute_file_digest(file),
            task=episode.task,
            attributes=_make_attributes(meta, episode, camera, rows),
        )
    except ClipError as error:
        path, _, reason = str(error).partition(" ")
        return Problem(path, f"{reason} (episode {episode.index})")


def _episode_rows(path: Path, episode: EpisodeMeta, meta: LeRobotMeta) -> pd.DataFrame:
    """The rows of one episode in the order of its frames; their number must be what the metadata says."""
    if not path.is_file():
        raise ClipError(f"{path} does not exist, but the metadata promises it")
    table = _load_data(path, path.stat().st_mtime_ns)
    rows = table[table["episode_index"] == episode.index] if "episode_index" in table else table
    if "frame_index" in rows:
        rows = rows.sort_values("frame_index", kind="stable")
    if len(rows) != episode.length:
        raise ClipError(f"{path} has {len(rows)} rows, but the metadata of {meta.root.name} says {episode.length} frames")
    return rows


@functools.lru_cache(maxsize=2)
def _load_data(path: Path, modified_ns: int) -> pd.DataFrame:
    """A data file; in v3.0 the next episode is mostly in the same one."""
    try:
        return pd.read_parquet(path)
    except (ValueError, OSError) as error:
        raise ClipError(f"{path} can't be read as parquet: {error}") from error


def _find_frames(
    meta: LeRobotMeta, episode: EpisodeMeta, camera: str, rows: pd.DataFrame, options: ImportOptions
) -> tuple[Any, Path]:
    """A function that gives the frames, and the file they come from."""
    if meta.features[camera].get("dtype") == "image":
        data_path = meta.root / episode.data_file
        if camera not in rows:
            raise ClipError(f"{data_path} has no column {camera}, which meta/info.json promises")
        return functools.partial(_iter_pictures, rows[camera].tolist(), meta.root, data_path, options), data_path
    if camera not in episode.videos:
        raise ClipError(f"{meta.root / 'meta'} doesn't say where the video of {camera} is")
    relative, start_s = episode.videos[camera]
    path = meta.root / relative
    if not path.is_file():
        raise ClipError(f"{path} does not exist, but meta/info.json promises the camera {camera}")
    # a file of its own is read to the end, which also finds surplus frames; a shared one only as far as promised
    num_frames = episode.length if meta.is_v3 else None
    read = functools.partial(iter_frames, path, size=options.size, fit=options.fit, start_s=start_s, num_frames=num_frames)
    return read, path


def _iter_pictures(cells: list[Any], root: Path, data_path: Path, options: ImportOptions) -> Iterator[UInt8]:
    for number, cell in enumerate(cells):
        try:
            content = cell.get("bytes") or (root / cell["path"]).read_bytes()
            frame = np.asarray(Image.open(io.BytesIO(content)).convert("RGB"))
        except (AttributeError, KeyError, TypeError, OSError, UnidentifiedImageError) as error:
            raise ClipError(f"{data_path} holds no readable picture in row {number}: {error}") from error
        yield frame if options.size is None else resize_frame(frame, options.size, options.fit)


def _stack_actions(column: pd.Series, path: Path) -> Float32:
    try:
        actions = np.asarray([np.atleast_1d(value) for value in column], np.float32)
    except (TypeError, ValueError) as error:
        raise ClipError(f"{path} has actions that aren't equally long lists of numbers: {error}") from error
    return actions.reshape(len(actions), -1)


def _make_attributes(meta: LeRobotMeta, episode: EpisodeMeta, camera: str, rows: pd.DataFrame) -> dict[str, Any]:
    attributes: dict[str, Any] = {"episode_index": episode.index, "camera": camera, "robot_type": meta.robot_type}
    if "next.success" in rows:
        attributes["episode_success"] = bool(np.any([np.any(value) for value in rows["next.success"]]))
    return {key: value for key, value in attributes.items() if value not in ("", None)}
