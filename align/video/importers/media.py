"""Single videos and folders of videos (mp4, webm, mkv, gif ...), with an optional metadata table as *videofolder* has it.

``metadata.csv``, ``metadata.jsonl`` or ``metadata.parquet`` beside the videos holds one row per ``file_name``. The
columns ``task`` (or ``caption``, ``text``, ``prompt``), ``scene``, ``seed``, ``actions`` (lists, in CSV as JSON),
``attributes`` (JSON), ``success``, ``outcome_*`` and ``severity_*`` are understood; every other one is kept in the
attributes. A clip folder of ours is such a folder too.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from align.errors import ClipError, DataError
from align.types import Float32
from align.video.codec import iter_frames, probe
from align.video.importers.base import Episode, ImportOptions, Problem, Source, compute_file_digest

SUFFIXES = frozenset({".mp4", ".m4v", ".mov", ".webm", ".mkv", ".avi", ".gif"})

_METADATA = ("metadata.parquet", "metadata.jsonl", "metadata.csv")
_TASK_COLUMNS = ("task", "caption", "text", "prompt")
_OWN_COLUMNS = frozenset(
    {*_TASK_COLUMNS[:1], "file_name", "scene", "seed", "actions", "attributes", "success", "sha256", "tokens"}
    | {"tokenizer_id", "pixel_scale", "fps_hz", "num_frames", "context_frames", "model_id", "adapter_id"}
)


def matches(src: Path) -> bool:
    """Whether ``src`` is a video or a folder with one somewhere below."""
    return bool(_list_videos(src))


def read(src: Path, options: ImportOptions) -> Source:
    """Every video below ``src``, in the order of their paths, and a problem for every row without a video."""
    root = src if src.is_dir() else src.parent
    videos = _list_videos(src)
    rows, problems = _load_metadata(root, videos) if src.is_dir() else ({}, [])
    source = Source("media", iter(()), len(videos) + len(problems))
    if rows and len(rows) < len(videos):
        source.notes.append(f"{len(videos) - len(rows)} of {len(videos)} videos have no row in the metadata")
    if options.camera:
        raise DataError(f"{src} has no camera {options.camera!r}: plain videos have no camera names; leave --camera out")

    def episodes() -> Iterator[Episode | Problem]:
        yield from problems
        for path in videos:
            yield _make_episode(path, root, rows.get(path, {}), options)

    source.episodes = episodes()
    return source


def _list_videos(src: Path) -> list[Path]:
    if src.is_file():
        return [src] if src.suffix.lower() in SUFFIXES else []
    found = (path for path in src.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file())
    return sorted(path for path in found if not any(part.startswith(".") for part in path.relative_to(src).parts))


def _make_episode(path: Path, root: Path, row: dict[str, Any], options: ImportOptions) -> Episode | Problem:
    name = path.relative_to(root).as_posix()
    try:
        seen = probe(path)
        return Episode(
            name=name,
            file=str(path),
            frames=functools.partial(iter_frames, path, size=options.size, fit=options.fit),
            fps_hz=options.fps_hz or seen.fps_hz,
            num_frames=_promised_frames(row, seen.num_frames),
            actions=_parse_actions(row.get("actions")),
            digest=compute_file_digest(path),
            task=next((str(row[column]) for column in _TASK_COLUMNS if row.get(column)), ""),
            scene=str(row.get("scene") or ""),
            seed=int(row.get("seed", -1)),
            attributes=_collect_attributes(row),
            outcomes=_collect_outcomes(row),
        )
    except (ClipError, ValueError) as error:
        return Problem(str(path), str(error).removeprefix(f"{path} "))


def _promised_frames(row: dict[str, Any], header: int) -> int | None:
    return int(row["num_frames"]) if "num_frames" in row else header or None


def _parse_actions(value: Any) -> Float32 | None:
    if value is None or (isinstance(value, str) and not value.strip()):
        return None
    try:
        steps = json.loads(value) if isinstance(value, str) else value
        return np.asarray([list(step) for step in steps], np.float32)
    except (TypeError, ValueError) as error:
        raise ClipError(f"its actions in the metadata aren't a list of equally long lists of numbers: {error}") from error


def _collect_attributes(row: dict[str, Any]) -> dict[str, Any]:
    given = row.get("attributes") or "{}"
    try:
        known = json.loads(given) if isinstance(given, str) else dict(given)
    except (json.JSONDecodeError, TypeError) as error:
        raise ClipError(f"its attributes in the metadata aren't a JSON object: {error}") from error
    if not isinstance(known, dict):
        raise ClipError(f"its attributes in the metadata aren't a JSON object, but a {type(known).__name__}")
    other = {key: _as_json(value) for key, value in row.items() if key not in _OWN_COLUMNS and not _is_outcome(key)}
    return {**known, **other}


def _collect_outcomes(row: dict[str, Any]) -> dict[str, float]:
    return {key: float(value) for key, value in row.items() if key == "success" or _is_outcome(key)}


def _is_outcome(key: str) -> bool:
    return key.startswith(("outcome_", "severity_"))


def _as_json(value: Any) -> Any:
    if isinstance(value, np.generic):
        value = value.item()
    elif isinstance(value, np.ndarray):
        value = value.tolist()
    return value if isinstance(value, str | int | float | bool | list | dict) else str(value)


def _load_metadata(root: Path, videos: list[Path]) -> tuple[dict[Path, dict[str, Any]], list[Problem]]:
    """Rows by video path (empty cells left out), and rows that have no video or come twice."""
    rows: dict[Path, dict[str, Any]] = {}
    problems: list[Problem] = []
    known = set(videos)
    for table_path in sorted(path for name in _METADATA for path in root.rglob(name)):
        for number, row in enumerate(_load_table(table_path)):
            path = table_path.parent / str(row["file_name"])
            where = f"row {number + 1} of {table_path.name}"
            if path not in known:
                reason = "isn't a video that can be imported" if path.exists() else "does not exist"
                problems.append(Problem(str(path), f"{reason}, but {where} names it"))
            elif path in rows:
                problems.append(Problem(str(path), f"is named a second time by {where}"))
            else:
                rows[path] = row
    return rows, problems


def _load_table(path: Path) -> list[dict[str, Any]]:
    try:
        if path.suffix == ".csv":
            table = pd.read_csv(path, dtype={"file_name": str})
        else:
            table = pd.read_parquet(path) if path.suffix == ".parquet" else pd.read_json(path, lines=True)
    except (ValueError, OSError) as error:  # pandas, arrow and unicode errors are ValueErrors or OSErrors
        raise DataError(f"{path} can't be read: {error}") from error
    if "file_name" not in table:
        raise DataError(f"{path} has no column file_name, which must name the video of each row")
    records = table.to_dict("records")
    return [{str(key): value for key, value in record.items() if not _is_empty(value)} for record in records]


def _is_empty(value: Any) -> bool:
    return value is None or (not isinstance(value, list | dict | np.ndarray) and bool(pd.isna(value)))
