"""The folder of a reward model: ``config.json``, ``model.safetensors`` and ``votes_used.json``.

Written all or nothing, read without pickle. ``votes_used.json`` lists, sorted, the ids of the votes that the model was trained
on: when somebody withdraws, it tells whether the model learned from them.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from align import __version__
from align.errors import DataError
from align.io import write_json

FORMAT = "gptsim-reward-model"
FORMAT_VERSION = 1
CONFIG_NAME, WEIGHTS_NAME, VOTES_NAME = "config.json", "model.safetensors", "votes_used.json"


def save_folder(
    folder: str | Path,
    config: dict[str, Any],
    tensors: dict[str, Tensor],
    overwrite: bool = False,
    votes_used: Sequence[str] | None = None,
) -> None:
    """Write to a temporary folder beside and rename it, so that no half-written model is ever seen.

    Args:
        folder: Where to.
        config: What ``config.json`` holds besides format and version.
        tensors: The weights.
        overwrite: Whether an older reward model may be replaced.
        votes_used: Ids of the votes of training; None, where nobody knows them, writes no ``votes_used.json``.

    Raises:
        DataError: The folder exists and may not be replaced.
    """
    folder = Path(folder)
    occupied = folder.exists() and (not folder.is_dir() or any(folder.iterdir()))
    if occupied and not (overwrite and (folder / CONFIG_NAME).is_file() and _is_ours(folder)):
        raise DataError(f"{folder} already exists and isn't replaced; choose another folder or remove it")
    folder.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        record = {"format": FORMAT, "format_version": FORMAT_VERSION, "gptsim_align": __version__, **config}
        (scratch / CONFIG_NAME).write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
        save_file({name: value.detach().contiguous() for name, value in tensors.items()}, str(scratch / WEIGHTS_NAME))
        if votes_used is not None:
            write_json(scratch / VOTES_NAME, sorted(set(votes_used)))
        scratch.chmod(0o755)
        if occupied:
            # a folder can't be renamed over a full one: move the old one aside first
            old = Path(tempfile.mkdtemp(prefix=f".{folder.name}-old-", dir=folder.parent))
            os.replace(folder, old)
            os.replace(scratch, folder)
            shutil.rmtree(old)
        else:
            os.replace(scratch, folder)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _is_ours(folder: Path) -> bool:
    try:
        record = json.loads((folder / CONFIG_NAME).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(record, dict) and record.get("format") == FORMAT


def load_folder(folder: str | Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Read config and tensors.

    Raises:
        DataError: In one sentence what is wrong: missing, foreign, of a newer format, or damaged.
    """
    folder = Path(folder)
    if not (folder / CONFIG_NAME).is_file() or not (folder / WEIGHTS_NAME).is_file():
        raise DataError(f"{folder} is not a reward model: it needs {CONFIG_NAME} and {WEIGHTS_NAME}")
    if not _is_ours(folder):
        raise DataError(f"{folder} is not a reward model: its {CONFIG_NAME} doesn't say format {FORMAT!r}")
    config = json.loads((folder / CONFIG_NAME).read_text(encoding="utf-8"))
    if config.get("format_version") != FORMAT_VERSION:
        version = config.get("format_version")
        raise DataError(f"{folder} has reward-model format {version}, this version reads {FORMAT_VERSION}; update gptsim-align")
    try:
        tensors = load_file(folder / WEIGHTS_NAME)
    except (SafetensorError, OSError) as err:
        raise DataError(f"{folder / WEIGHTS_NAME} is damaged: {err}; restore or retrain it") from err
    return config, tensors
