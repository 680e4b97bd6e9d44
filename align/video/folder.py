"""Reading, checking and merging clip and rollout folders. Writing is in ``writer``; both names are offered here."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from align.errors import ClipError, DataError
from align.io import sha256_file
from align.types import Clip, Float32, Outcome, UInt8
from align.video.codec import decode, resize, to_float
from align.video.frames import Fit, Size
from align.video.schema import DEFAULTS, INFO_NAME, METADATA_NAME, REQUIRED
from align.video.writer import ClipFolderWriter, write_clip_folder

__all__ = [
    "Batch",
    "ClipFolder",
    "ClipFolderWriter",
    "FolderProblem",
    "load_clip_folder",
    "merge_folders",
    "write_clip_folder",
]


@dataclass(frozen=True)
class FolderProblem:
    """One thing that is wrong with a folder: the clip or file, and the reason."""

    name: str
    reason: str

    def __str__(self) -> str:
        return f"{self.name}: {self.reason}"


@dataclass(frozen=True)
class Batch:
    """Clips of one length.

    Attributes:
        indices: Row numbers in the folder's table.
        video: float32 [B, T, 3, H, W] in [0, 1].
        actions: float32 [B, T-1, A], or None where any clip of the batch has none.
    """

    indices: list[int]
    video: Float32
    actions: Float32 | None


@dataclass(frozen=True)
class ClipFolder:
    """A folder of clips; videos are decoded when they are asked for.

    Attributes:
        path: The folder.
        table: One row a clip, columns of ``schema.COLUMNS`` and whatever else was stored.
        info: Content of ``info.json``.
    """

    path: Path
    table: pd.DataFrame
    info: Mapping[str, Any]

    def __len__(self) -> int:
        return len(self.table)

    def video_path(self, index: int) -> Path:
        """Where clip ``index`` lies."""
        return self.path / str(self.table["file_name"].iloc[index])

    def video(self, index: int, size: Size | None = None, fit: Fit = "pad") -> UInt8:
        """Frames of one clip.

        Args:
            index: Row number.
            size: (height, width) to resize to with a box filter; None gives the size that was written, that is,
                without the repetition of pixels in the file.
            fit: See ``frames.resize_frame``.

        Returns:
            uint8 [T, H, W, 3].

        Raises:
            ClipError: The file is broken or its length isn't ``num_frames``.
        """
        path = self.video_path(index)
        frames = decode(path).frames
        promised = int(self.table["num_frames"].iloc[index])
        if len(frames) != promised:
            raise ClipError(f"{path} has {len(frames)} frames, but {METADATA_NAME} says {promised}")
        scale = int(self.table["pixel_scale"].iloc[index])
        stored = (frames.shape[1] // scale, frames.shape[2] // scale)
        return resize(frames, stored if size is None else size, fit)

    def actions(self, index: int) -> Float32 | None:
        """Actions float32 [T-1, A] of one clip, None where there are none."""
        value = self.table["actions"].iloc[index]
        if value is None or (isinstance(value, float) and np.isnan(value)):
            return None
        return np.stack([np.asarray(step, np.float32) for step in value])

    def tokens(self, index: int) -> np.ndarray[Any, np.dtype[np.int32]] | None:
        """Tokens int32 [N] of one clip, None where no token model made it."""
        value = self.table["tokens"].iloc[index]
        return None if value is None or (isinstance(value, float) and np.isnan(value)) else np.asarray(value, np.int32)

    def attributes(self, index: int) -> dict[str, Any]:
        """The JSON attributes of one clip."""
        return dict(json.loads(self.table["attributes"].iloc[index] or "{}"))

    def outcome(self, index: int) -> Outcome | None:
        """What truly happened, None where nobody knows; axes whose value is empty are left out."""
        row = self.table.iloc[index]
        known = {str(key): float(value) for key, value in row.items() if _is_outcome(str(key)) and pd.notna(value)}
        if "success" not in known:
            return None
        hazards = {key.removeprefix("outcome_"): int(value) for key, value in known.items() if key.startswith("outcome_")}
        severity = {key.removeprefix("severity_"): value for key, value in known.items() if key.startswith("severity_")}
        return Outcome(hazards, severity, bool(known["success"]))

    def clip(self, index: int, size: Size | None = None) -> Clip:
        """One clip as the carrier that was written."""
        row = self.table.iloc[index]
        return Clip(
            clip_id=str(row["rollout_id"]),
            video=self.video(index, size),
            actions=self.actions(index),
            fps_hz=float(row["fps_hz"]),
            context_id=str(row["context_id"]),
            scene=str(row["scene"]),
            task=str(row["task"]),
            seed=int(row["seed"]),
            attributes=self.attributes(index),
            outcome=self.outcome(index),
        )

    def select(self, rows: Sequence[int] | Sequence[bool] | pd.Series) -> ClipFolder:
        """The same folder with fewer rows, by row numbers or by a mask of the table's length."""
        picked = np.asarray(rows)
        table = self.table.iloc[np.flatnonzero(picked) if picked.dtype == bool else picked.astype(int)]
        return ClipFolder(self.path, table.reset_index(drop=True), self.info)

    def iter_batches(self, batch_size: int, size: Size | None = None, indices: Sequence[int] | None = None) -> Iterator[Batch]:
        """Decode batches in the order of ``indices`` (default: all rows); the last one may be smaller.

        Raises:
            ValueError: ``batch_size`` is below 1.
            DataError: Clips of one batch differ in length, size or number of action dims.
        """
        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, got {batch_size}")
        order = list(range(len(self)) if indices is None else indices)
        for start in range(0, len(order), batch_size):
            chosen = [int(index) for index in order[start : start + batch_size]]
            videos = [self.video(index, size) for index in chosen]
            known = [actions for actions in map(self.actions, chosen) if actions is not None]
            if len({video.shape for video in videos}) > 1 or len({actions.shape for actions in known}) > 1:
                ids = ", ".join(self.table["rollout_id"].iloc[chosen])
                raise DataError(f"clips {ids} differ in length, size or action dims and can't share a batch")
            yield Batch(chosen, to_float(np.stack(videos)), np.stack(known) if len(known) == len(chosen) else None)

    def validate(self, *, check_videos: bool = True) -> list[FolderProblem]:
        """Everything that is wrong with the folder, by name and reason; unknown columns are fine.

        Args:
            check_videos: Also hash and decode every file, which takes some milliseconds a clip.
        """
        ids = self.table["rollout_id"].astype(str)
        problems = [FolderProblem(name, "this rollout_id comes twice") for name in sorted(set(ids[ids.duplicated()]))]
        for index, name in enumerate(ids):
            problems += [FolderProblem(name, reason) for reason in self._row_problems(index)]
            reason = self._video_problem(index) if check_videos else None
            problems += [FolderProblem(name, reason)] if reason else []
        return problems

    def _row_problems(self, index: int) -> Iterator[str]:
        row = self.table.iloc[index]
        num_frames = int(row["num_frames"])
        if not self.video_path(index).is_file():
            yield f"its file {row['file_name']} is missing"
        if not 1 <= int(row["context_frames"]) <= num_frames:
            yield f"context_frames is {row['context_frames']}, but the clip has {num_frames} frames"
        if not (np.isfinite(row["fps_hz"]) and row["fps_hz"] > 0):
            yield f"fps_hz is {row['fps_hz']}, but must be above 0"
        yield from self._action_problems(index, num_frames)
        for key, value in row.items():
            if str(key).startswith("outcome_") and pd.notna(value) and value not in (0, 1):
                yield f"{key} is {value}, but must be 0, 1 or empty"

    def _action_problems(self, index: int, num_frames: int) -> Iterator[str]:
        try:
            actions = self.actions(index)
        except ValueError:
            yield "its actions have steps of different length"
            return
        if actions is None:
            return
        if len(actions) != num_frames - 1:
            yield f"it has {len(actions)} actions, but {num_frames} frames need {num_frames - 1}"
        if not np.isfinite(actions).all():
            yield "its actions hold values that are not finite"
        names = self.info.get("action_names")
        if names and actions.shape[-1] != len(names):
            yield f"its actions have {actions.shape[-1]} dims, but {INFO_NAME} names {len(names)}"

    def _video_problem(self, index: int) -> str | None:
        path, promised_hash = self.video_path(index), str(self.table["sha256"].iloc[index] or "")
        if not path.is_file():
            return None  # told already
        if promised_hash and sha256_file(path) != promised_hash:
            return f"{self.table['file_name'].iloc[index]} isn't the file that was written (sha256 differs)"
        try:
            self.video(index)
        except ClipError as error:
            return str(error)
        return None


def load_clip_folder(path: str | Path) -> ClipFolder:
    """Open a clip or rollout folder; no video is decoded yet.

    Raises:
        DataError: The folder, its table or a required column is missing or broken, or a file name leads out of it.
    """
    root = Path(path)
    if root.with_name(root.name + ".partial").exists() and not root.exists():
        raise DataError(f"{root} was never finished: only {root.name}.partial is there; resume what writes it")
    if not (root / METADATA_NAME).is_file():
        raise DataError(f"{root} is not a clip folder: it has no {METADATA_NAME}")
    try:
        table = pq.read_table(root / METADATA_NAME).to_pandas()
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{root / METADATA_NAME} can't be read: {error}") from error
    missing = [name for name in REQUIRED if name not in table]
    if missing:
        raise DataError(f"{root / METADATA_NAME} lacks the columns {', '.join(missing)}")
    for name, value in DEFAULTS.items():
        if name not in table:
            table[name] = pd.Series([value] * len(table), dtype=object if value is None else None)
        elif value is not None:
            table[name] = table[name].fillna(value)
    for name in table["file_name"]:
        if PurePosixPath(str(name)).is_absolute() or ".." in PurePosixPath(str(name)).parts:
            raise DataError(f"{root / METADATA_NAME} names {name}, which lies outside of the folder")
    return ClipFolder(root, table, _load_info(root))


def merge_folders(paths: Sequence[str | Path], out: str | Path) -> Path:
    """Join folders with the same action space, for instance the shards of several machines, into a new one.

    Raises:
        DataError: No folder is given, action names differ, or two clips share an id.
    """
    folders = [load_clip_folder(path) for path in paths]
    if not folders:
        raise DataError(f"{out} can't be merged, because no folder was given")
    with ClipFolderWriter(out, _merge_infos(folders)) as writer:
        for folder in folders:
            rows = pq.read_table(folder.path / METADATA_NAME).to_pylist()
            for index, row in enumerate(rows):
                if not folder.video_path(index).is_file():
                    raise DataError(f"{folder.video_path(index)} is missing")
                writer.add_file(row, folder.video_path(index))
    return Path(out)


def _merge_infos(folders: Sequence[ClipFolder]) -> dict[str, Any]:
    """First folder's info; lists of axes and scenes are united, action ranges widened to hold all."""
    info = dict(folders[0].info)
    for folder in folders[1:]:
        if folder.info.get("action_names") != info.get("action_names"):
            raise DataError(f"{folder.path} has other action_names than {folders[0].path}; such clips can't be merged")
        for key in ("axes", "scenes"):
            if key in info or key in folder.info:
                info[key] = list(dict.fromkeys([*info.get(key, []), *folder.info.get(key, [])]))
        for key, widen in (("action_low", np.minimum), ("action_high", np.maximum)):
            if info.get(key) and folder.info.get(key):
                info[key] = widen(info[key], folder.info[key]).tolist()
    return info


def _load_info(root: Path) -> dict[str, Any]:
    path = root / INFO_NAME
    if not path.is_file():
        return {}
    try:
        info = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise DataError(f"{path} is not valid JSON: {error}") from error
    if not isinstance(info, dict):
        raise DataError(f"{path} must hold a JSON object, got a {type(info).__name__}")
    return info


def _is_outcome(column: str) -> bool:
    return column == "success" or column.startswith(("outcome_", "severity_"))
