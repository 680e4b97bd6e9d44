"""Losses and loops that make a tokenizer and a world model from clips. The recipe ``pretrain`` strings them together."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from align.types import UInt8
from align.world_models.base import TokenWorldModel
from align.world_models.temporal_depth import TemporalDepthModel
from align.world_models.tokenizer import FrameTokenizer

Log = Callable[..., None]

CHANGED = 0.05
"""A pixel counts as changed where it differs from frame 0 by more than this (of 1)."""


# -- tokenizer ------------------------------------------------------------------------------------------------------------


def tokenizer_loss(tokenizer: FrameTokenizer, frames: Tensor, first: Tensor | None, whole_first: Tensor | None) -> Tensor:
    """Weighted L1 + L2 reconstruction error over cells that are not COPY.

    Args:
        tokenizer: The tokenizer.
        frames: float32 [B, 3, h, w] in [0, 1], whole frames or crops aligned to cells.
        first: The same crop of frame 0, or None to train the code of first frames.
        whole_first: Frame 0 uncropped.

    Returns:
        Scalar. Pixels that differ from frame 0 weigh nine times as much as the others.
    """
    values, _ = tokenizer.quantise(tokenizer.to_code(tokenizer.cell_features(frames, first)))
    copy = None if first is None else tokenizer.copy_mask(frames, first)
    error = tokenizer.decode_cells(values, copy, first, whole_first) - frames
    weight = torch.ones_like(error[:, :1])
    if first is not None and copy is not None:
        cell = tokenizer.config.cell
        kept = copy[:, None].repeat_interleave(cell[0], 2).repeat_interleave(cell[1], 3)
        changed = (frames - first).abs().amax(1, keepdim=True) > CHANGED
        weight = (1 + 8 * changed.float()) * (~kept)
    weight = weight / weight.sum().clamp(min=1)
    return (weight * (error.abs() + 2 * error.square()).mean(1, keepdim=True)).sum()


def sample_crops(
    videos: UInt8, rng: np.random.Generator, batch: int, crop: tuple[int, int], cell: tuple[int, int]
) -> tuple[Tensor, Tensor, Tensor]:
    """Crops around motion: frames, the same crop of frame 0, and frame 0 whole; float32 [batch, 3, …] in [0, 1].

    Args:
        videos: uint8 [n, T, H, W, 3].
        rng: Source of chance.
        batch: Crops.
        crop: Height and width in pixels, multiples of the cell.
        cell: The tokenizer's cell.
    """
    n, num_frames, height, width, _ = videos.shape
    frames, firsts, wholes = [], [], []
    for index in rng.integers(0, n, batch):
        now = videos[index, rng.integers(1, num_frames)]
        whole = videos[index, 0]
        changed = np.abs(now.astype(np.int16) - whole).max(-1) > 255 * CHANGED
        y, x = rng.integers(0, height), rng.integers(0, width)
        if changed.any() and rng.random() < 0.85:
            ys, xs = np.nonzero(changed)
            pick = rng.integers(len(ys))
            y, x = ys[pick], xs[pick]
        top = _aligned(y - rng.integers(crop[0]), cell[0], height - crop[0])
        left = _aligned(x - rng.integers(crop[1]), cell[1], width - crop[1])
        window = np.s_[top : top + crop[0], left : left + crop[1]]
        frames.append(now[window])
        firsts.append(whole[window])
        wholes.append(whole)
    return tuple(_to_float(np.stack(part)) for part in (frames, firsts, wholes))  # type: ignore[return-value]


def _aligned(start: int | np.signedinteger, cell: int, largest: int) -> int:
    return int(np.clip(round(start / cell) * cell, 0, largest))


def _to_float(images: UInt8) -> Tensor:
    return torch.from_numpy(images).permute(0, 3, 1, 2).float().div_(255)


@torch.no_grad()
def reconstruction_psnr(tokenizer: FrameTokenizer, videos: UInt8) -> dict[str, float]:
    """PSNR in dB of decoded clips, over all pixels and over those that differ from frame 0, and how many codes are in use.

    Args:
        tokenizer: The tokenizer.
        videos: uint8 [n, T, H, W, 3].
    """
    video = torch.from_numpy(videos).permute(0, 1, 4, 2, 3).float().div_(255)
    codes = tokenizer.encode(video)
    error = (tokenizer.decode(codes, video[:, 0]) - video)[:, 1:].square().mean(2)
    changed = (video[:, 1:] - video[:, :1]).abs().amax(2) > CHANGED
    figures = {
        "psnr_db": _psnr(error.mean()),
        "psnr_changed_db": _psnr(error[changed].mean()),
        "codes_used": float(len(codes[:, 1:].unique())),
    }
    # Only ours has a code that says "as in frame 0".
    if (copy := getattr(tokenizer.config, "num_fsq", None)) is not None:
        figures["copy_share"] = float((codes[:, 1:] == copy).float().mean())
    return figures


def _psnr(mean_square_error: Tensor) -> float:
    return float(-10 * torch.log10(mean_square_error.clamp(min=1e-10)))


# -- world model ----------------------------------------------------------------------------------------------------------


def world_model_loss(
    model: TokenWorldModel, codes: Tensor, bins: Tensor, generator: torch.Generator, frames_per_clip: int = 4
) -> tuple[Tensor, Tensor]:
    """Mean negative log-likelihood per frame token and per action token.

    A temporal + depth model scores ``frames_per_clip`` random frames of each clip (an unbiased estimate, a quarter of the
    cost); any other shape scores every token.

    Args:
        model: The world model.
        codes: int64 [B, T, N].
        bins: int64 [B, T-1, A].
        generator: Chooses the frames.
        frames_per_clip: Frames scored a clip.

    Returns:
        Two scalars: nats per frame token, nats per action token.
    """
    if not isinstance(model, TemporalDepthModel):
        return _flat_loss(model, codes, bins)
    net, layout = model.model, model.layout
    batch, steps, _ = codes.shape
    trunk = net.run_trunk(codes[:, :-1], bins)
    states = net.action_states(trunk)
    weight = model.lm_head.weight[layout.num_codes : layout.pad_id, : model.config.hidden_width]
    logits = torch.einsum("btah,avh->btav", states, weight.reshape(layout.num_dims, layout.num_bins, -1))
    action_nll = F.cross_entropy(logits.flatten(0, 2), bins.flatten())
    picked = torch.rand(batch, steps - 1, generator=generator).argsort(1)[:, :frames_per_clip]
    clip = torch.arange(batch)[:, None].expand_as(picked).flatten()
    before = picked.flatten()
    target = codes[clip, before + 1]
    hidden = net.picked_frame_states(trunk, codes, clip, before)
    frame_weight = model.lm_head.weight[: layout.num_codes, : model.config.hidden_width]
    frame_nll = F.cross_entropy(F.linear(hidden, frame_weight).flatten(0, 1), target.flatten())
    return frame_nll, action_nll


def _flat_loss(model: TokenWorldModel, codes: Tensor, bins: Tensor) -> tuple[Tensor, Tensor]:
    ids, layout = model.layout.join(codes, bins), model.layout
    log_probs = model.token_log_probs(ids)
    frame = layout.frame_mask(past_context=False)[1:] & (torch.arange(1, layout.length) >= layout.tokens_per_frame)
    action = layout.action_mask(past_context=False)[1:]
    return -log_probs[:, frame].mean(), -log_probs[:, action].mean()


def learning_rate(step: int, num_steps: int, peak: float, warmup: int) -> float:
    """Linear warm-up, then a cosine down to a twentieth of the peak."""
    if step < warmup:
        return peak * (step + 1) / warmup
    share = (step - warmup) / max(1, num_steps - warmup)
    return peak * (0.05 + 0.95 * 0.5 * (1 + np.cos(np.pi * share)))


# -- checkpoints of a training loop ---------------------------------------------------------------------------------------


def make_optimizer(module: nn.Module, weight_decay: float) -> torch.optim.AdamW:
    """AdamW that decays matrices only."""
    matrices = [p for p in module.parameters() if p.ndim > 1]
    rest = [p for p in module.parameters() if p.ndim <= 1]
    groups = [{"params": matrices, "weight_decay": weight_decay}, {"params": rest, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=1e-3, betas=(0.9, 0.98))


def training_state(module: nn.Module, optimizer: torch.optim.Optimizer, **extra: Tensor) -> dict[str, Tensor]:
    """Weights, optimizer moments and extra tensors (steps, generator states) as one flat dict for safetensors."""
    state = {f"weight.{k}": v.detach().clone() for k, v in module.state_dict().items()}
    for index, values in optimizer.state_dict()["state"].items():
        state.update({f"optimizer.{index}.{k}": torch.as_tensor(v).clone() for k, v in values.items()})
    return state | {f"extra.{k}": v for k, v in extra.items()}


def save_training_state(path: Path, state: dict[str, Tensor]) -> None:
    """Write a checkpoint atomically."""
    temporary = path.with_suffix(".tmp")
    save_file(state, temporary)
    temporary.replace(path)


def load_training_state(path: Path, module: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Put a checkpoint back into module and optimizer; returns the extra tensors."""
    state = load_file(path)
    module.load_state_dict({k[len("weight.") :]: v for k, v in state.items() if k.startswith("weight.")})
    moments: dict[int, dict[str, Any]] = {}
    for key, value in state.items():
        if key.startswith("optimizer."):
            _, index, name = key.split(".", 2)
            moments.setdefault(int(index), {})[name] = value
    if moments:
        optimizer.load_state_dict({"state": moments, "param_groups": optimizer.state_dict()["param_groups"]})
    return {k[len("extra.") :]: v for k, v in state.items() if k.startswith("extra.")}


@torch.no_grad()
def held_out_nll(model: TokenWorldModel, codes: Tensor, bins: Tensor, chunk: int = 64) -> dict[str, float]:
    """Mean negative log-likelihood in nats per frame token and per action token that a rollout would write, on whole clips."""
    layout = model.layout
    frame, action = layout.frame_mask()[1:], layout.action_mask()[1:]
    frame_sum = action_sum = 0.0
    for start in range(0, len(codes), chunk):
        ids = layout.join(codes[start : start + chunk], bins[start : start + chunk])
        log_probs = model.token_log_probs(ids)
        frame_sum -= float(log_probs[:, frame].sum())
        action_sum -= float(log_probs[:, action].sum())
    return {
        "nll_frame_token": frame_sum / (len(codes) * int(frame.sum())),
        "nll_action_token": action_sum / (len(codes) * int(action.sum())),
    }
