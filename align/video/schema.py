"""The one table schema of clip and rollout folders, and how a clip becomes a row of it."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from align.types import Clip, UInt8

METADATA_NAME = "metadata.parquet"
INFO_NAME = "info.json"

COLUMNS: dict[str, pa.DataType] = {
    "rollout_id": pa.string(),
    "file_name": pa.string(),
    "context_id": pa.string(),
    "scene": pa.string(),
    "task": pa.string(),
    "seed": pa.int64(),
    "model_id": pa.string(),
    "adapter_id": pa.string(),
    "fps_hz": pa.float64(),
    "num_frames": pa.int32(),
    "context_frames": pa.int32(),
    "attributes": pa.string(),
    "actions": pa.list_(pa.list_(pa.float32())),
    "tokens": pa.list_(pa.int32()),
    "tokenizer_id": pa.string(),
    "sha256": pa.string(),
    "pixel_scale": pa.int32(),
}
"""Columns every folder has, in this order. ``pixel_scale`` says how often the file repeats each pixel (see codec)."""

REQUIRED = ("rollout_id", "file_name", "context_id", "fps_hz", "num_frames")
"""Without these a folder can't be read; the others get ``DEFAULTS``."""

DEFAULTS: dict[str, Any] = {
    "scene": "",
    "task": "",
    "seed": -1,
    "model_id": "",
    "adapter_id": "",
    "context_frames": 1,
    "attributes": "{}",
    "actions": None,
    "tokens": None,
    "tokenizer_id": "",
    "sha256": "",
    "pixel_scale": 1,
}

_NUMBER_PREFIXES = ("outcome_", "severity_")
_SAFE_ID = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._=+-]{0,199}")


def make_row(clip: Clip, **columns: Any) -> dict[str, Any]:
    """The row of a clip, without the columns that only the written file knows.

    Args:
        clip: The clip; its outcome becomes ``outcome_<axis>``, ``severity_<axis>`` and ``success``.
        **columns: Values that override or add, for instance ``context_frames`` or ``model_id``.
    """
    row: dict[str, Any] = {
        "rollout_id": clip.clip_id,
        "context_id": clip.context_id,
        "scene": clip.scene,
        "task": clip.task,
        "seed": clip.seed,
        "model_id": "simulator" if clip.outcome is not None else "real",
        "fps_hz": clip.fps_hz,
        "attributes": dict(clip.attributes),
        "actions": clip.actions,
    }
    if clip.outcome is not None:
        row.update({f"outcome_{axis}": float(value) for axis, value in clip.outcome.hazards.items()})
        row.update({f"severity_{axis}": float(value) for axis, value in clip.outcome.severity.items()})
        row["success"] = float(clip.outcome.success)
    return row | columns


def complete_row(row: Mapping[str, Any], video: UInt8) -> dict[str, Any]:
    """Check a row against its video, fill in defaults and turn arrays into plain lists.

    Raises:
        ValueError: The id isn't fit for a file name, or lengths disagree.
    """
    row_id = str(row.get("rollout_id", ""))
    if not _SAFE_ID.fullmatch(row_id):
        raise ValueError(f"rollout_id must be 1 to 200 letters, digits or ._=+- (not beginning with a sign), got {row_id!r}")
    if not row.get("context_id"):
        raise ValueError(f"row {row_id} must have a context_id")
    full = {**DEFAULTS, **row, "file_name": f"videos/{row_id}.mp4", "num_frames": len(video)}
    if not 1 <= int(full["context_frames"]) <= len(video):
        raise ValueError(f"context_frames of {row_id} must be 1 to {len(video)}, got {full['context_frames']}")
    if full["actions"] is not None:
        actions = np.asarray(full["actions"], np.float32)
        if actions.ndim != 2 or len(actions) != len(video) - 1:
            raise ValueError(f"actions of {row_id} must be [T-1 = {len(video) - 1}, A], got {list(actions.shape)}")
        if not np.isfinite(actions).all():
            raise ValueError(f"actions of {row_id} must be finite numbers")
        full["actions"] = actions.tolist()
    if full["tokens"] is not None:
        full["tokens"] = np.asarray(full["tokens"]).astype(np.int32).reshape(-1).tolist()
    if not isinstance(full["attributes"], str):
        full["attributes"] = json.dumps(full["attributes"], sort_keys=True, default=_plain)
    return {key: _plain(value) if isinstance(value, np.generic) else value for key, value in full.items()}


def make_table(rows: Sequence[Mapping[str, Any]]) -> pa.Table:
    """Rows to an arrow table: known columns first and typed, others after them in order of appearance."""
    extra = list(dict.fromkeys(key for row in rows for key in row if key not in COLUMNS))
    arrays: dict[str, pa.Array] = {}
    for name in [*COLUMNS, *extra]:
        number = name == "success" or name.startswith(_NUMBER_PREFIXES)
        dtype = COLUMNS.get(name, pa.float64() if number else None)
        values = [row.get(name, DEFAULTS.get(name)) for row in rows]
        try:
            arrays[name] = pa.array(values, type=dtype)
        except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
            raise ValueError(f"column {name} must hold values of one type ({dtype or 'any'}): {error}") from error
    return pa.table(arrays)


def _plain(value: Any) -> Any:
    """Numpy values as JSON knows them."""
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.ndarray):
        return value.tolist()
    raise TypeError(f"attributes must be JSON values, got {type(value).__name__}")
