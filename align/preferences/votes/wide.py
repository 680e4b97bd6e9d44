"""Votes as a wide table, one row a pair and one column an axis, as VideoAlign reads it.

    path_A, path_B, prompt, <axis>, …, fps_A, num_frames_A, fps_B, num_frames_B          cells of an axis: A, B, same or empty

(github.com/KwaiVGI/VideoAlign, datasets/train/README.md). The answer of a pair is the majority's, as in
``align.preferences.votes.export``; what isn't clearly one side's is ``same``. Single votes and who cast them aren't in it.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from align.errors import DataError
from align.io import atomic_path
from align.preferences.votes.export import preference_rows
from align.preferences.votes.schema import Vote
from align.preferences.votes.tables import neutralise, raise_problems

_OTHERS = ("path_A", "path_B", "prompt", "fps_A", "num_frames_A", "fps_B", "num_frames_B")


@dataclass(frozen=True)
class ClipFacts:
    """What the table says of a clip.

    Attributes:
        path: Of its file, as the reader of the table shall find it.
        prompt: What was to be done in it.
        fps_hz: Frames a second.
        num_frames: How many there are.
    """

    path: str
    prompt: str
    fps_hz: float
    num_frames: int


def wide_rows(votes: Iterable[Vote], clips: Mapping[str, ClipFacts] | None = None) -> list[dict[str, Any]]:
    """One row a pair.

    Args:
        votes: Raw votes; superseded ones, skips and catch trials don't count.
        clips: Rollout id to its clip; None writes the ids for paths and the context for the prompt, and no rates.

    Raises:
        DataError: A rollout isn't among the clips, or an axis is called like another column; lists all of them.
    """
    listed = list(votes)
    pairs = {vote.pair_id: vote for vote in listed}
    found = preference_rows(listed)
    answers: dict[str, dict[str, str]] = {}
    for row in (*found.preferences, *found.ties):
        first = row.get("chosen") == pairs[row["pair_id"]].rollout_a
        answers.setdefault(row["pair_id"], {})[row["axis"]] = ("A" if first else "B") if "chosen" in row else "same"
    axes = sorted({axis for said in answers.values() for axis in said})
    problems = [f"the axis {axis!r} is called like another column; leave it out" for axis in axes if axis in _OTHERS]
    if clips is not None:
        names = dict.fromkeys(name for key in answers for name in (pairs[key].rollout_a, pairs[key].rollout_b))
        problems += [f"the rollout {name!r} is not in the rollout folder" for name in names if name not in clips]
    raise_problems("the table", problems)
    return [_make_row(pairs[key], {axis: said.get(axis, "") for axis in axes}, clips) for key, said in answers.items()]


def _make_row(pair: Vote, said: Mapping[str, str], clips: Mapping[str, ClipFacts] | None) -> dict[str, Any]:
    if clips is None:
        return {"path_A": pair.rollout_a, "path_B": pair.rollout_b, "prompt": pair.context_id, **said}
    a, b = clips[pair.rollout_a], clips[pair.rollout_b]
    rates = {"fps_A": a.fps_hz, "num_frames_A": a.num_frames, "fps_B": b.fps_hz, "num_frames_B": b.num_frames}
    return {"path_A": a.path, "path_B": b.path, "prompt": a.prompt, **said, **rates}


def write_wide(path: str | Path, rows: list[dict[str, Any]]) -> None:
    """Write the table as CSV, whole or not at all.

    Raises:
        DataError: The suffix isn't ``.csv``, or there is no row.
    """
    path = Path(path)
    if path.suffix.lower() != ".csv":
        raise DataError(f"{path} has the suffix {path.suffix!r}; this table is a .csv")
    if not rows:
        raise DataError("there is no vote that counts, so the table would be empty")
    with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows({key: neutralise(cell) for key, cell in row.items()} for row in rows)
