"""Contexts: how they are read, which are held out, and which comes when."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from align.errors import DataError
from align.tuning.contexts import load_contexts, plan_rows, split_held_out

Make = Callable[..., Any]


class Folder:
    """A clip folder of noise, in memory."""

    path = "clips"

    def __init__(self, num: int, frames: int = 5, actions: bool = True) -> None:
        chance = np.random.default_rng(1)
        self.videos = chance.integers(0, 256, (num, frames, 16, 24, 3), dtype=np.uint8)
        self.known = chance.uniform(0, 1, (num, frames - 1, 2)).astype(np.float32) if actions else [None] * num
        names = [f"c{row}" for row in range(num)]
        self.table = pd.DataFrame({"rollout_id": names, "context_id": names, "scene": ["pour"] * num})

    def __len__(self) -> int:
        return len(self.videos)

    def video(self, row: int) -> Any:
        return self.videos[row]

    def actions(self, row: int) -> Any:
        return self.known[row]


def test_contexts_are_whole_clips_and_their_first_frames(make_world_model: Make) -> None:
    world_model, folder = make_world_model("temporal_depth"), Folder(70)
    contexts = load_contexts(world_model, folder)
    assert torch.equal(contexts.ids, world_model.encode(folder.videos, folder.known))
    torch.testing.assert_close(contexts.first_input(), world_model.to_input(folder.videos[:, 0]), atol=1e-6, rtol=0)
    prefix = world_model.encode(folder.videos[:, :2], folder.known[:, :1])
    assert torch.equal(contexts.ids[:, : world_model.layout.prompt_length], prefix), "a prompt is what a rollout is given"
    few = contexts.take([69, 3])
    assert few.names == ("c69", "c3") and torch.equal(few.ids, contexts.ids[[69, 3]]) and len(few.first) == 2


@pytest.mark.parametrize("folder", [Folder(2, frames=4), Folder(2, actions=False)])
def test_half_clips_are_refused(folder: Folder, make_world_model: Make) -> None:
    with pytest.raises(DataError, match="clip c0 must have 5 frames and the actions between them"):
        load_contexts(make_world_model("flat"), folder)


def some(scenes: list[str], names: list[str]) -> Any:
    class Few(SimpleNamespace):
        def __len__(self) -> int:
            return len(self.names)

    return Few(scenes=tuple(scenes), names=tuple(names))


def test_held_out_contexts_are_whole_contexts_of_every_scene() -> None:
    scenes = ["pour"] * 12 + ["shelf"] * 6
    names = [f"p{row // 2}" for row in range(12)] + [f"s{row}" for row in range(6)]
    contexts = some(scenes, names)
    tuned, held = split_held_out(contexts, 2, seed=3)
    assert sorted(tuned + held) == list(range(18))
    assert not {names[row] for row in tuned} & {names[row] for row in held}
    assert Counter(scenes[row] for row in held) == {"pour": 4, "shelf": 2}
    assert split_held_out(contexts, 2, seed=3) == (tuned, held) != split_held_out(contexts, 2, seed=4)
    with pytest.raises(DataError, match="scene pour has 6 contexts and 6 are held out"):
        split_held_out(contexts, 6, seed=0)


def test_scenes_take_turns_and_every_row_comes_before_one_comes_again() -> None:
    scenes = ["pour"] * 4 + ["shelf"] * 3
    plan = plan_rows(scenes, 24, seed=0)
    assert [scenes[row] for row in plan] == ["pour", "shelf"] * 12
    assert sorted(plan[0:8:2]) == sorted(plan[8:16:2]) == [0, 1, 2, 3]
    assert sorted(plan[1:6:2]) == sorted(plan[7:12:2]) == [4, 5, 6]
    assert plan_rows(scenes, 10, seed=0) == plan[:10] and plan_rows(scenes, 24, seed=1) != plan
