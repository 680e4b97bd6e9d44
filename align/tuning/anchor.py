"""The anchor: what the world does in answer to given actions stays what it was, while behaviour is tuned."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from align.world_models.base import TokenWorldModel
from align.world_models.temporal_depth import TemporalDepthModel

Anchor = Callable[[nn.Module, int], Tensor]
"""Gives a scalar loss for the policy (a PeftModel) at a step; the same step draws the same clips, so a run can be resumed."""


def add_anchor(trainer: Any, model: nn.Module, loss: Any) -> Any:
    """The loss of a trainer with ``anchor`` and ``anchor_weight``, the anchor added (and logged) while it trains."""
    if trainer.anchor is None or not model.training:
        return loss
    step = trainer.state.global_step * trainer.accelerator.num_processes + trainer.accelerator.process_index
    anchor = trainer.anchor(trainer.accelerator.unwrap_model(model), step)
    trainer._metrics["train"]["anchor"].append(float(anchor.detach()))
    return loss + trainer.anchor_weight * anchor


def make_frame_anchor(codes: Tensor, bins: Tensor, clips_per_step: int, seed: int, frames_per_clip: int = 4) -> Anchor:
    """Keep the dynamics what they were: KL(base || policy) per frame token under given actions, on real clips.

    The clips include unsafe ones, so hazards stay what they were too.

    Args:
        codes: int64 [n, T, N] of real clips.
        bins: int64 [n, T-1, A], their actions.
        clips_per_step: Clips drawn each step.
        seed: Seed of the draws.
        frames_per_clip: Frames scored a clip (temporal + depth models).

    Returns:
        A function of the policy (a PeftModel), differentiable, in nats per frame token.
    """

    def anchor(policy: Any, step: int) -> Tensor:
        generator = torch.Generator().manual_seed(seed * 1_000_003 + step)
        rows = torch.randint(len(codes), (clips_per_step,), generator=generator)
        picks = torch.rand(clips_per_step, codes.shape[1] - 1, generator=generator).argsort(1)[:, :frames_per_clip]
        model = policy.get_base_model()
        now = frame_log_probs(model, codes[rows], bins[rows], picks)
        with torch.no_grad(), policy.disable_adapter():
            base = frame_log_probs(model, codes[rows], bins[rows], picks)
        return (base.exp() * (base - now)).sum(-1).mean()

    return anchor


def frame_log_probs(model: TokenWorldModel, codes: Tensor, bins: Tensor, picks: Tensor) -> Tensor:
    """Distributions over codes of frames ``picks + 1`` under given actions.

    Args:
        model: The world model.
        codes: int64 [B, T, N].
        bins: int64 [B, T-1, A].
        picks: int64 [B, F], frames before the ones that are scored.

    Returns:
        float [B·F, N, num_codes], log-probabilities.
    """
    layout, batch = model.layout, len(codes)
    clip = torch.arange(batch)[:, None].expand_as(picks).flatten()
    before = picks.flatten()
    if isinstance(model, TemporalDepthModel):
        net = model.model
        trunk = net.run_trunk(codes[:, :-1], bins)
        hidden = net.picked_frame_states(trunk, codes, clip, before)
        weight = model.lm_head.weight[: layout.num_codes, : model.config.hidden_width]
        return torch.log_softmax(F.linear(hidden, weight), dim=-1)
    hidden = model.base_model(layout.join(codes, bins)).last_hidden_state
    start = (before + 1) * layout.stride - 1
    places = start[:, None] + torch.arange(layout.tokens_per_frame)
    logits = model.lm_head(hidden[clip[:, None], places])
    return torch.log_softmax(logits[..., : layout.num_codes], dim=-1)
