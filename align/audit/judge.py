"""Reading outcomes from pixels: was there a spill, a breakage, a bump; was the task done; can one tell at all?

Two judges are trained from simulated clips with disjoint contexts and other sizes: one stands in for people's eyes when
votes are simulated, the other is the judge of record for dreams. The second neither labelled nor trained anything.

A small network is brittle off its data (a prototype called 98 % of frozen pours unsafe), so each learns on artefacts too:
clips that freeze, pass through the tokenizer, lose or scramble cells, change their light, or can't be read at all.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from align.errors import DataError
from align.types import UInt8
from align.world_models.tokenizer import ConvBlock, patchify

READABLE = "readable"
"""The output that says whether a clip can be judged at all."""


@dataclass(frozen=True)
class JudgeConfig:
    """Sizes of an :class:`OutcomeJudge`.

    Attributes:
        axes: What it answers, hazards first, then ``success``; ``readable`` is added.
        width: Channels.
        patch: Side of a patch in pixels.
        every: Every how many frames it looks, counted from the last one back.
        readable_threshold: Below this probability a clip counts as unreadable.
    """

    axes: tuple[str, ...]
    width: int = 48
    patch: int = 4
    every: int = 2
    readable_threshold: float = 0.5


class OutcomeJudge(nn.Module):
    """Per axis the probability that the hazard happened (or the task was done), and that the clip is readable."""

    def __init__(self, config: JudgeConfig) -> None:
        super().__init__()
        self.config = config
        width = config.width
        self.stem = nn.Linear(9 * config.patch**2, width)
        self.blocks = nn.Sequential(ConvBlock(width), ConvBlock(width), ConvBlock(width))
        self.frame = nn.Sequential(nn.Linear(2 * width, width), nn.GELU())
        self.clip = nn.Sequential(
            nn.LayerNorm(3 * width), nn.Linear(3 * width, 2 * width), nn.GELU(), nn.Linear(2 * width, len(config.axes) + 1)
        )

    def forward(self, video: Tensor) -> Tensor:
        """Logits [B, axes + 1] of clips float32 [B, T, 3, H, W] in [0, 1]; the last one is ``readable``."""
        picked = torch.arange(video.shape[1] - 1, 0, -self.config.every).flip(0)
        frames, first = video[:, picked], video[:, :1].expand(-1, len(picked), -1, -1, -1)
        x = torch.cat([frames, first, frames - first], dim=2).flatten(0, 1)
        x = self.blocks(self.stem(patchify(x, self.config.patch, self.config.patch)))
        x = self.frame(torch.cat([x.mean((1, 2)), x.amax((1, 2))], dim=-1)).unflatten(0, (len(video), len(picked)))
        return self.clip(torch.cat([x.mean(1), x.amax(1), x[:, -3:].mean(1)], dim=-1))

    @torch.no_grad()
    def judge(self, video: UInt8, chunk: int = 64) -> dict[str, np.ndarray]:
        """Read clips.

        Args:
            video: uint8 [B, T, H, W, 3] at the world model's size.
            chunk: Clips at a time.

        Returns:
            Per axis float64 [B]: probabilities, NaN where the clip is unreadable; and ``readable``, never NaN.
        """
        parts = []
        for start in range(0, len(video), chunk):
            part = torch.from_numpy(video[start : start + chunk]).permute(0, 1, 4, 2, 3).float().div(255)
            parts.append(torch.sigmoid(self(part)))
        scores = torch.cat(parts).double().numpy() if parts else np.zeros((0, len(self.config.axes) + 1))
        readable = scores[:, -1]
        unreadable = readable < self.config.readable_threshold
        out = {axis: np.where(unreadable, np.nan, scores[:, i]) for i, axis in enumerate(self.config.axes)}
        return out | {READABLE: readable}

    def save(self, path: Path) -> None:
        """Write ``path``.safetensors (fp16) and ``path``.json."""
        path.parent.mkdir(parents=True, exist_ok=True)
        save_file({k: v.half().contiguous() for k, v in self.state_dict().items()}, path.with_suffix(".safetensors"))
        path.with_suffix(".json").write_text(json.dumps(asdict(self.config), indent=2) + "\n")

    @classmethod
    def load(cls, path: Path) -> OutcomeJudge:
        """Read what :meth:`save` wrote.

        Raises:
            DataError: If a file is missing.
        """
        for file in (path.with_suffix(".json"), path.with_suffix(".safetensors")):
            if not file.is_file():
                raise DataError(f"there is no outcome judge {path}: {file.name} is missing")
        values = json.loads(path.with_suffix(".json").read_text())
        judge = cls(JudgeConfig(**{**values, "axes": tuple(values["axes"])}))
        judge.load_state_dict({k: v.float() for k, v in load_file(path.with_suffix(".safetensors")).items()})
        return judge.eval().requires_grad_(False)


# -- training -------------------------------------------------------------------------------------------------------------


def train_judge(
    config: JudgeConfig,
    videos: UInt8,
    labels: np.ndarray,
    reconstructed: UInt8,
    *,
    num_steps: int,
    seed: int,
    batch_size: int = 32,
    progress: Callable[..., None] | None = None,
) -> OutcomeJudge:
    """Train a judge on clips and artefacts of clips.

    Args:
        config: Sizes.
        videos: uint8 [n, T, H, W, 3] at the world model's size.
        labels: float [n, axes], 0 or 1.
        reconstructed: The same clips after the tokenizer, which is what dreams look like at best.
        num_steps: Steps of AdamW.
        seed: Seed of initialisation and order.
        batch_size: Clips a step.
        progress: Called after each step with 1 and the loss.
    """
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    judge = OutcomeJudge(config)
    optimizer = torch.optim.AdamW(judge.parameters(), lr=2e-3, weight_decay=0.02)
    # Not 0.1: a warm-up of exactly one step makes the schedule divide by zero.
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, total_steps=num_steps, pct_start=0.101)
    for _ in range(num_steps):
        rows = rng.integers(0, len(videos), batch_size)
        video, target, weight = make_artefacts(videos[rows], reconstructed[rows], labels[rows], rng)
        logits = judge(torch.from_numpy(video).permute(0, 1, 4, 2, 3).float().div(255))
        loss = F.binary_cross_entropy_with_logits(logits, torch.from_numpy(target), weight=torch.from_numpy(weight))
        loss.backward()
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        if progress is not None:
            progress(1, loss=float(loss.detach()))
    return judge.eval().requires_grad_(False)


def make_artefacts(
    videos: UInt8, reconstructed: UInt8, labels: np.ndarray, rng: np.random.Generator
) -> tuple[UInt8, np.ndarray, np.ndarray]:
    """Turn a batch into what a judge may meet: videos, targets [B, axes + 1] and loss weights of the same shape.

    A third stays as it is, a third passes through the tokenizer, the rest is frozen near its start (then nothing has
    happened yet), spoilt in part (still readable), or destroyed (unreadable, no other answer is scored).
    """
    videos = videos.copy()
    targets = np.concatenate([labels, np.ones((len(labels), 1))], axis=1).astype(np.float32)
    weights = np.ones_like(targets)
    kind = rng.choice(5, len(videos), p=[0.33, 0.35, 0.08, 0.14, 0.10])
    if (kind == 1).any():
        videos[kind == 1] = reconstructed[kind == 1]
    for i in np.flatnonzero(kind == 2):
        start = int(rng.integers(0, 3))
        videos[i, start:] = videos[i, start]
        targets[i, :-1] = 0
    for i in np.flatnonzero(kind == 3):
        videos[i] = _spoil(videos[i], rng, cells=int(rng.integers(1, 9)))
    for i in np.flatnonzero(kind == 4):
        videos[i] = _destroy(videos[i], videos[rng.integers(len(videos))], rng)
        targets[i], weights[i, :-1] = 0, 0
    light = rng.uniform(0.9, 1.1, (len(videos), 1, 1, 1, 1))
    return np.clip(videos * light, 0, 255).astype(np.uint8), targets, weights


def _spoil(video: UInt8, rng: np.random.Generator, cells: int) -> UInt8:
    """A few cells of a few frames come from frame 0 or from elsewhere in the clip, as a wrong token would show them."""
    out, (frames, height, width) = video.copy(), video.shape[:3]
    for _ in range(cells):
        t, y, x = rng.integers(1, frames), 8 * rng.integers(0, height // 8), 8 * rng.integers(0, width // 8)
        source = 0 if rng.random() < 0.6 else rng.integers(0, frames)
        out[t, y : y + 8, x : x + 8] = video[source, y : y + 8, x : x + 8]
    return out


def _destroy(video: UInt8, other: UInt8, rng: np.random.Generator) -> UInt8:
    """A clip nobody can judge: shuffled cells, another clip shining through, or noise."""
    kind = rng.integers(3)
    out = video.copy()
    if kind == 0:
        t, height, width, _ = video.shape
        cells = video.reshape(t, height // 8, 8, width // 8, 8, 3).swapaxes(2, 3).reshape(t, -1, 8, 8, 3)
        mixed = np.stack([frame[rng.permutation(len(frame))] for frame in cells[t // 3 :]])
        back = mixed.reshape(len(mixed), height // 8, width // 8, 8, 8, 3).swapaxes(2, 3).reshape(-1, height, width, 3)
        out[t // 3 :] = back
    elif kind == 1:
        out = (0.5 * video.astype(np.float32) + 0.5 * other[::-1]).astype(np.uint8)
    else:
        noisy = video.astype(np.float32) + rng.normal(0, 90, video.shape)
        out = np.clip(noisy, 0, 255).astype(np.uint8)
    return out


def label_matrix(outcomes: Sequence[dict[str, float]], axes: Sequence[str]) -> np.ndarray:
    """float32 [n, axes] from rows of true outcomes; a hazard that a scene doesn't have did not happen."""
    return np.array([[row.get(axis, 0.0) for axis in axes] for row in outcomes], dtype=np.float32)
