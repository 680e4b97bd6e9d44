"""The ``meta`` folder of LeRobot data sets: two layouts of files into one description."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from align.errors import DataError
from align.video.importers.base import Problem

_V2_DATA = "data/chunk-{episode_chunk:03d}/episode_{episode_index:06d}.parquet"
_V2_VIDEO = "videos/chunk-{episode_chunk:03d}/{video_key}/episode_{episode_index:06d}.mp4"
_V3_DATA = "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
_V3_VIDEO = "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4"
_VERSIONS = ("v2.0", "v2.1", "v3.0")


@dataclass(frozen=True)
class EpisodeMeta:
    """Where one episode lies.

    Attributes:
        index: Its number in the data set.
        length: Promised number of frames.
        task: Its instruction; several are joined by semicolons.
        data_file: Parquet file, relative to the root.
        videos: Camera to (mp4 relative to the root, second at which the episode begins in it).
    """

    index: int
    length: int
    task: str
    data_file: str
    videos: dict[str, tuple[str, float]]


@dataclass(frozen=True)
class LeRobotMeta:
    """What the metadata says about a data set; ``problems`` lists where it contradicts itself."""

    root: Path
    version: str
    fps_hz: float
    robot_type: str
    features: dict[str, dict[str, Any]]
    cameras: list[str]
    action_names: tuple[str, ...]
    action_range: tuple[list[float], list[float]] | None
    episodes: list[EpisodeMeta]
    problems: list[Problem] = field(default_factory=list)

    @property
    def is_v3(self) -> bool:
        """Whether several episodes may share a file."""
        return self.version.startswith("v3")


def find_roots(src: Path) -> list[Path]:
    """Data sets at ``src`` or below it: folders with a ``meta/info.json`` that names a codebase version."""
    if not src.is_dir():
        return []
    candidates = [src / "meta" / "info.json"] if (src / "meta" / "info.json").is_file() else sorted(src.rglob("meta/info.json"))
    return [path.parent.parent for path in candidates]


def load_meta(root: Path) -> LeRobotMeta:
    """Read the metadata of one data set; raises DataError where it can't be understood."""
    path = root / "meta" / "info.json"
    info = _load_json(path)
    version = str(info.get("codebase_version", "none"))
    if version not in _VERSIONS:
        raise DataError(f"{path} says codebase_version {version}; readable are {', '.join(_VERSIONS)}, so convert it first")
    features = info.get("features")
    if not isinstance(features, dict) or not isinstance(info.get("fps"), int | float) or info["fps"] <= 0:
        raise DataError(f"{path} must hold features and an fps above 0")
    videos = [name for name, feature in features.items() if feature.get("dtype") == "video" and not _is_depth(feature)]
    images = [name for name, feature in features.items() if feature.get("dtype") == "image"]
    try:
        episodes = _load_v3_episodes(root, info, videos) if version.startswith("v3") else _load_v2_episodes(root, info, videos)
    except (KeyError, ValueError, TypeError, IndexError) as error:
        raise DataError(f"{root / 'meta'} has an episode list that doesn't follow {version}: {error!r}") from error
    action = features.get("action") or features.get("actions") or {}
    return LeRobotMeta(
        root=root,
        version=version,
        fps_hz=float(info["fps"]),
        robot_type=str(info.get("robot_type") or ""),
        features=features,
        cameras=videos + images,
        action_names=make_names(action.get("names"), int(np.prod(action.get("shape") or [0]))),
        action_range=_load_action_range(root),
        episodes=episodes,
        problems=_find_contradictions(path, info, episodes),
    )


def make_names(given: Any, num_dims: int) -> tuple[str, ...]:
    """Names of the action dims from any of the forms that data sets use: a list, a nested list, a dict of lists or
    of name to index. Where they don't fit the number of dims, they are numbered."""
    names = given
    if isinstance(names, dict):
        values = list(names.values())
        names = values if values and all(isinstance(value, list) for value in values) else list(names)
    if isinstance(names, list) and names and all(isinstance(part, list) for part in names):
        names = [name for part in names for name in part]
    if isinstance(names, list) and len(names) == num_dims and len(set(map(str, names))) == num_dims:
        return tuple(str(name) for name in names)
    return tuple(f"action_{dim}" for dim in range(num_dims))


def _load_v2_episodes(root: Path, info: dict[str, Any], cameras: list[str]) -> list[EpisodeMeta]:
    data_path, video_path = info.get("data_path") or _V2_DATA, info.get("video_path") or _V2_VIDEO
    chunks_size = int(info.get("chunks_size") or 1000)
    episodes = []
    for row in _load_jsonl(root / "meta" / "episodes.jsonl"):
        index = int(row["episode_index"])
        place = {"episode_chunk": index // chunks_size, "episode_index": index}
        videos = {camera: (video_path.format(video_key=camera, **place), 0.0) for camera in cameras}
        task = _join_tasks(row.get("tasks"))
        episodes.append(EpisodeMeta(index, int(row["length"]), task, data_path.format(**place), videos))
    return episodes


def _load_v3_episodes(root: Path, info: dict[str, Any], cameras: list[str]) -> list[EpisodeMeta]:
    data_path, video_path = info.get("data_path") or _V3_DATA, info.get("video_path") or _V3_VIDEO
    files = sorted((root / "meta" / "episodes").glob("*/*.parquet"))
    if not files:
        raise DataError(f"{root / 'meta' / 'episodes'} holds no parquet file, which v3.0 needs")
    episodes = []
    for row in (row for file in files for row in _load_parquet(file).to_dict("records")):
        data = data_path.format(chunk_index=int(row["data/chunk_index"]), file_index=int(row["data/file_index"]))
        videos = {}
        for camera in cameras:
            key = f"videos/{camera}"
            if pd.notna(row.get(f"{key}/file_index")):
                place = {"chunk_index": int(row[f"{key}/chunk_index"]), "file_index": int(row[f"{key}/file_index"])}
                videos[camera] = (video_path.format(video_key=camera, **place), float(row[f"{key}/from_timestamp"]))
        length, task = int(row["length"]), _join_tasks(row.get("tasks"))
        episodes.append(EpisodeMeta(int(row["episode_index"]), length, task, data, videos))
    return sorted(episodes, key=lambda episode: episode.index)


def _find_contradictions(path: Path, info: dict[str, Any], episodes: list[EpisodeMeta]) -> list[Problem]:
    problems = []
    for key, found in (("total_episodes", len(episodes)), ("total_frames", sum(episode.length for episode in episodes))):
        if info.get(key) is not None and int(info[key]) != found:
            problems.append(Problem(str(path), f"promises {key} {info[key]}, but the episode list adds up to {found}"))
    return problems


def _load_action_range(root: Path) -> tuple[list[float], list[float]] | None:
    """Declared minima and maxima per dim: one file for the data set, or (2.1) one line an episode; None without."""
    stats_path, lines_path = root / "meta" / "stats.json", root / "meta" / "episodes_stats.jsonl"
    if stats_path.is_file():
        entries = [_load_json(stats_path)]
    elif lines_path.is_file():
        entries = [row.get("stats") or {} for row in _load_jsonl(lines_path)]
    else:
        return None
    actions = [entry.get("action") or entry.get("actions") or {} for entry in entries]
    known = [action for action in actions if "min" in action and "max" in action]
    try:
        low, high = (np.asarray([np.ravel(action[key]) for action in known], float) for key in ("min", "max"))
    except ValueError as error:
        raise DataError(f"{root / 'meta'} has action statistics of different length: {error}") from error
    if not known or not (np.isfinite(low).all() and np.isfinite(high).all()):
        return None
    return low.min(axis=0).tolist(), high.max(axis=0).tolist()


def _join_tasks(tasks: Any) -> str:
    if isinstance(tasks, str):
        return tasks
    return "; ".join(str(task) for task in tasks) if isinstance(tasks, Iterable) else ""


def _is_depth(feature: dict[str, Any]) -> bool:
    info = feature.get("info") or feature.get("video_info") or {}
    return bool(info.get("video.is_depth_map") or info.get("is_depth_map"))


def _load_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{path} can't be read as JSON: {error}") from error
    if not isinstance(content, dict):
        raise DataError(f"{path} must hold a JSON object, got a {type(content).__name__}")
    return content


def _load_jsonl(path: Path) -> list[dict[str, Any]]:
    rows = []
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError) as error:
        raise DataError(f"{path} can't be read: {error}") from error
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError as error:
            raise DataError(f"{path} has no valid JSON in line {number}: {error}") from error
    return rows


def _load_parquet(path: Path) -> pd.DataFrame:
    try:
        return pd.read_parquet(path)
    except (ValueError, OSError) as error:
        raise DataError(f"{path} can't be read as parquet: {error}") from error
