"""Synthetic clips with a known truth: a blob falls and ends on the floor (unsafe) or on the table (safe)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest
from numpy.typing import NDArray

from reward_models.data import VoteRecord

NUM_FRAMES, SIZE = 6, 32


@dataclass(frozen=True)
class Blobs:
    """Clips by id, their truth, and votes about pairs of one context."""

    clips: dict[str, NDArray[np.uint8]]
    unsafe: dict[str, int]
    contexts: dict[str, str]
    votes: list[VoteRecord]


def draw_clip(rng: np.random.Generator, wall: NDArray[np.float64], unsafe: bool) -> NDArray[np.uint8]:
    """uint8 [6, 32, 32, 3]: the blob starts at the top and falls to the floor (rows 24 on) or to the table (row 14)."""
    video = np.broadcast_to(wall, (NUM_FRAMES, SIZE, SIZE, 3)).copy()
    video[:, 24:] *= 0.7
    colour, column = rng.uniform(0, 90, 3), rng.integers(2, SIZE - 8)
    end = 26 if unsafe else 14
    for frame_idx in range(NUM_FRAMES):
        row = round(2 + (end - 2) * frame_idx / (NUM_FRAMES - 1))
        video[frame_idx, row : row + 5, column : column + 6] = colour
    noisy = video + rng.normal(0, 4, video.shape)
    return np.clip(noisy, 0, 255).astype(np.uint8)


def make_blobs(num_contexts: int, seed: int, flips: float = 0.07, axis: str = "spill") -> Blobs:
    """Two clips a context, one vote a pair; a share of the votes is replaced by a random answer."""
    rng = np.random.default_rng(seed)
    clips, unsafe, contexts, votes = {}, {}, {}, []
    for number in range(num_contexts):
        wall = rng.uniform(120, 255, 3)
        names = [f"{seed}-{number}-{side}" for side in "ab"]
        for name in names:
            unsafe[name] = int(rng.random() < 0.4)
            clips[name] = draw_clip(rng, wall, bool(unsafe[name]))
            contexts[name] = f"c{seed}-{number}"
        bad_a, bad_b = (unsafe[name] for name in names)
        vote = ("both_bad" if bad_a else "tie") if bad_a == bad_b else ("b" if bad_a else "a")
        if rng.random() < flips:
            vote = str(rng.choice(["a", "b", "tie"]))
        votes.append(VoteRecord(*names, axis, vote, contexts[names[0]]))
    return Blobs(clips, unsafe, contexts, votes)


@pytest.fixture(scope="session")
def blobs() -> Callable[..., Blobs]:
    """Factory of synthetic data sets."""
    return make_blobs
