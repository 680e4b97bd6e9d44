"""Contexts that a policy is tuned on while it acts, and those that are held out to watch it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from align.errors import DataError
from align.tuning.ranks import map_over_ranks
from align.types import UInt8
from align.video.folder import ClipFolder
from align.world_models.world_model import WorldModel

CHUNK = 64
"""Clips encoded at a time."""


@dataclass(frozen=True)
class Contexts:
    """Real clips whose first frames are dreamed on.

    Attributes:
        ids: int64 [n, L] of the whole clips; the first ``prompt_length`` of each are its prompt.
        first: uint8 [n, h, w, 3], frame 0 at the world model's size.
        scenes: Scene of each.
        names: Context id of each.
    """

    ids: Tensor
    first: UInt8
    scenes: tuple[str, ...]
    names: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.names)

    def take(self, rows: Sequence[int]) -> Contexts:
        """Some of them, in the order of ``rows``."""
        picked = list(rows)
        scenes, names = (tuple(values[row] for row in picked) for values in (self.scenes, self.names))
        return Contexts(self.ids[picked], self.first[picked], scenes, names)

    def first_input(self) -> Tensor:
        """Frame 0 as the tokenizer takes it: float32 [n, 3, h, w] in [0, 1]."""
        return torch.from_numpy(self.first).permute(0, 3, 1, 2).float().div(255)


def encode_folder(world_model: WorldModel, folder: ClipFolder) -> tuple[Tensor, UInt8]:
    """Whole clips as ids int64 [n, L], and frame 0 of each, uint8 [n, h, w, 3] at the world model's size; ranks share the work.

    Raises:
        DataError: If a clip has no actions, or is of another length than the world model's.
    """

    def encode(start: int) -> tuple[Tensor, UInt8]:
        part = range(start, min(start + CHUNK, len(folder)))
        videos = [folder.video(row) for row in part]
        known = [folder.actions(row) for row in part]
        for row, video, actions in zip(part, videos, known, strict=True):
            if actions is None or len(video) != world_model.layout.num_frames:
                raise DataError(
                    f"{folder.path}: clip {folder.table['rollout_id'].iloc[row]} must have {world_model.layout.num_frames} "
                    "frames and the actions between them; give a folder that gptsim run simulate or clips import wrote"
                )
        stacked = np.stack(videos)
        shown = world_model.to_input(stacked[:, 0]).permute(0, 2, 3, 1)
        ids = world_model.encode(stacked, np.stack([actions for actions in known if actions is not None]))
        return ids, (shown * 255).round().byte().numpy()

    parts = map_over_ranks(encode, range(0, len(folder), CHUNK))
    return torch.cat([ids for ids, _ in parts]), np.concatenate([first for _, first in parts])


def load_contexts(world_model: WorldModel, folder: ClipFolder) -> Contexts:
    """Every clip of a folder as a context; see :func:`encode_folder` for what it must hold."""
    ids, first = encode_folder(world_model, folder)
    scenes, names = (tuple(map(str, folder.table[column])) for column in ("scene", "context_id"))
    return Contexts(ids, first, scenes, names)


def split_held_out(contexts: Contexts, per_scene: int, seed: int) -> tuple[list[int], list[int]]:
    """Rows to train on and rows to watch; clips of one context stay on one side.

    Args:
        contexts: All of them.
        per_scene: Contexts of each scene that are held out.
        seed: Seed of the draw.

    Raises:
        DataError: If a scene would have none left to train on.
    """
    held: set[str] = set()
    chance = np.random.default_rng(seed)
    for scene in sorted(set(contexts.scenes)):
        names = sorted({name for name, there in zip(contexts.names, contexts.scenes, strict=True) if there == scene})
        if len(names) <= per_scene:
            raise DataError(
                f"scene {scene} has {len(names)} contexts and {per_scene} are held out to watch the tuning; "
                "give more contexts or lower held_out"
            )
        held.update(chance.permutation(names)[:per_scene].tolist())
    rows = range(len(contexts))
    return [row for row in rows if contexts.names[row] not in held], [row for row in rows if contexts.names[row] in held]


def plan_rows(scenes: Sequence[str], count: int, seed: int) -> list[int]:
    """Which row comes when: scenes take turns, and each goes through its rows in a new order every time round.

    The whole training is planned in one list, so that a resumed run goes on with the same rows.

    Args:
        scenes: Scene of each row.
        count: Length of the plan.
        seed: Seed of the orders.
    """
    chance = np.random.default_rng(seed)
    kinds = sorted(set(scenes))
    queues: dict[str, list[int]] = {kind: [] for kind in kinds}
    plan: list[int] = []
    while len(plan) < count:
        kind = kinds[len(plan) % len(kinds)]
        if not queues[kind]:
            rows = [row for row, scene in enumerate(scenes) if scene == kind]
            queues[kind] = [rows[i] for i in chance.permutation(len(rows))]
        plan.append(queues[kind].pop())
    return plan
