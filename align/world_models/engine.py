"""The rollout engine: many clips at once, static caches, one seed a rollout.

A *stepper* holds a batch of half-written clips and knows three moves: take in a frame that somebody observed, choose the
next action, dream the next frame. Dreams, replays of given actions and episodes in a simulator are all callers of these
three moves. There is one stepper for each shape of world model.

Every rollout has a seed of its own, from which all its random numbers are drawn before it starts, and batches are padded to
a fixed shape: a rollout is the same whatever else is in the batch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from align.types import Float32
from align.world_models.base import TokenWorldModel
from align.world_models.flat import FlatModel
from align.world_models.layout import TokenLayout
from align.world_models.temporal_depth import Block, TemporalDepthModel

FRAME_TEMPERATURE = 0.7
"""Frames are drawn at this temperature, or at the actions' if that is lower. What the world does in answer is nearly certain,
so a sharper draw takes noise out of pictures; it touches no choice of the agent, whose temperature stays 1."""


@dataclass(frozen=True)
class Policy:
    """A world model ready to sample: adapters are merged.

    Attributes:
        behaviour: Chooses actions.
        dynamics: Dreams frames; the same object as ``behaviour`` unless an adapter works on the action path only.
    """

    behaviour: TokenWorldModel
    dynamics: TokenWorldModel

    @property
    def layout(self) -> TokenLayout:
        return self.dynamics.layout


@dataclass(frozen=True)
class Rollouts:
    """Finished clips.

    Attributes:
        ids: int64 [B, L], the prompt included.
        log_probs: float32 [B, L], log-probability of each token that was sampled (temperature 1), 0 on given ones.
    """

    ids: Tensor
    log_probs: Tensor


class Stepper(Protocol):
    """A batch of half-written clips."""

    def observe(self, codes: Tensor) -> None:
        """Take in the next frame, codes int64 [B, N]."""

    def act(self, uniforms: Tensor, temperature: float, given: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Choose (or take as ``given``, int64 [B, A]) the next action; returns bins and log-probabilities, both [B, A]."""

    def dream(self, uniforms: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
        """Write the next frame, which :meth:`observe` must still be told; returns codes and log-probabilities, both [B, N]."""


def pick(logits: Tensor, uniforms: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """Sample by inverting the distribution function: logits [B, V] and uniforms [B] to indices and log-probabilities [B].

    Log-probabilities are those of temperature 1. Temperature 0 takes the most likely index.
    """
    log_probs = torch.log_softmax(logits, dim=-1)
    if temperature == 0:
        index = log_probs.argmax(-1)
    else:
        scaled = log_probs if temperature == 1 else torch.log_softmax(logits / temperature, dim=-1)
        cumulative = scaled.exp().cumsum(-1)
        index = torch.searchsorted(cumulative, (uniforms[:, None] * cumulative[:, -1:]).contiguous())[:, 0]
        index = index.clamp(max=logits.shape[-1] - 1)
    return index, log_probs.gather(1, index[:, None])[:, 0]


# -- temporal + depth -----------------------------------------------------------------------------------------------------


class _Cached:
    """A stack of blocks with fused projections and a static key-value cache."""

    def __init__(self, blocks: nn.ModuleList, batch: int, length: int) -> None:
        self.blocks: list[Block] = list(blocks)  # type: ignore[arg-type]
        width = self.blocks[0].q_proj.in_features
        self.heads = self.blocks[0].num_heads
        shape = (len(self.blocks), 2, batch, self.heads, length, width // self.heads)
        self.cache = torch.zeros(shape)
        self.scale = (width // self.heads) ** -0.5
        self.fused = [
            tuple(torch.cat([getattr(p, kind) for p in (b.q_proj, b.k_proj, b.v_proj)]) for kind in ("weight", "bias"))
            for b in self.blocks
        ]

    def step(self, x: Tensor, position: int) -> Tensor:
        """One position, x [B, d], of every clip."""
        batch = len(x)
        for index, block in enumerate(self.blocks):
            weight, bias = self.fused[index]
            q, k, v = F.linear(block.norm_attention(x), weight, bias).view(batch, 3, self.heads, -1).unbind(1)
            keys, values = self.cache[index]
            keys[:, :, position], values[:, :, position] = k, v
            past = slice(0, position + 1)
            # One query: two small matrix products are several times faster on a CPU than the fused attention kernel.
            weights = torch.softmax((q[:, :, None] * self.scale) @ keys[:, :, past].mT, dim=-1)
            x = x + block.o_proj((weights @ values[:, :, past]).flatten(1))
            x = x + block.down_proj(F.gelu(block.up_proj(block.norm_mlp(x))))
        return x


class TemporalDepthStepper:
    """Stepper of the temporal + depth shape; ``behaviour`` and ``dynamics`` have a trunk cache each if they differ."""

    def __init__(self, policy: Policy, batch: int) -> None:
        behaviour, dynamics = policy.behaviour, policy.dynamics
        assert isinstance(behaviour, TemporalDepthModel) and isinstance(dynamics, TemporalDepthModel)
        self.layout = layout = policy.layout
        self.behaviour, self.dynamics = behaviour.model, dynamics.model
        length = layout.num_frames * (1 + layout.num_dims)
        self.trunk = _Cached(self.behaviour.trunk, batch, length)
        self.frame_trunk = None if behaviour is dynamics else _Cached(self.dynamics.trunk, batch, length)
        self.depth = _Cached(self.dynamics.depth, batch, layout.tokens_per_frame)
        width = dynamics.config.hidden_width
        action_rows = behaviour.lm_head.weight[layout.num_codes : layout.pad_id, :width]
        self.action_head = action_rows.reshape(layout.num_dims, layout.num_bins, width)
        self.frame_head = dynamics.lm_head.weight[: layout.num_codes, :width].contiguous()
        self.written = self.dynamics.depth_token(self.dynamics.codes.weight)
        self.codes: list[Tensor] = []
        self.position = 0
        self.state = self.frame_state = torch.empty(0)

    def observe(self, codes: Tensor) -> None:
        self.codes.append(codes)
        self._advance(self.behaviour.embed_frame(codes), self._frame_input(codes))

    def _frame_input(self, codes: Tensor) -> Tensor | None:
        return None if self.frame_trunk is None else self.dynamics.embed_frame(codes)

    def _advance(self, x: Tensor, frame_x: Tensor | None) -> None:
        where = self.position
        self.state = self.behaviour.trunk_norm(self.trunk.step(x + self.behaviour.trunk_position[where], where))
        self.frame_state = self.state
        if self.frame_trunk is not None and frame_x is not None:
            x = self.frame_trunk.step(frame_x + self.dynamics.trunk_position[where], where)
            self.frame_state = self.dynamics.trunk_norm(x)
        self.position += 1

    def act(self, uniforms: Tensor, temperature: float, given: Tensor | None = None) -> tuple[Tensor, Tensor]:
        bins, log_probs = [], []
        for dim in range(self.layout.num_dims):
            hidden = self.behaviour.action_norm(self.behaviour.action_out(self.state))
            logits = F.linear(hidden, self.action_head[dim])
            if given is None:
                index, log_prob = pick(logits, uniforms[:, dim], temperature)
            else:
                index, log_prob = given[:, dim], torch.zeros(len(given))
            bins.append(index)
            log_probs.append(log_prob)
            token = index + dim * self.layout.num_bins
            frame_x = None if self.frame_trunk is None else self.dynamics.actions(token)
            self._advance(self.behaviour.actions(token), frame_x)
        return torch.stack(bins, 1), torch.stack(log_probs, 1)

    def dream(self, uniforms: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
        empty = self.layout.num_codes
        earlier = self.codes[-2] if len(self.codes) > 1 else torch.full_like(self.codes[-1], empty)
        inputs = self.dynamics.depth_inputs(self.frame_state, self.codes[-1], earlier, self.codes[0])
        codes = torch.empty_like(self.codes[-1])
        log_probs = torch.empty(codes.shape)
        token = torch.full((len(codes),), empty)
        for place in range(self.layout.tokens_per_frame):
            hidden = self.depth.step(inputs[:, place] + self.written[token], place)
            logits = F.linear(self.dynamics.depth_norm(hidden), self.frame_head)
            token, log_probs[:, place] = pick(logits, uniforms[:, place], temperature)
            codes[:, place] = token
        return codes, log_probs


# -- flat -----------------------------------------------------------------------------------------------------------------


class FlatStepper:
    """Stepper of any Hugging Face causal LM."""

    def __init__(self, policy: Policy, batch: int) -> None:
        behaviour, dynamics = policy.behaviour, policy.dynamics
        assert isinstance(behaviour, FlatModel) and isinstance(dynamics, FlatModel)
        self.layout = policy.layout
        self.actor = behaviour.incremental()
        self.dreamer = self.actor if behaviour is dynamics else dynamics.incremental()
        self.hidden: Tensor | None = None
        self.pending: Tensor | None = None

    def observe(self, codes: Tensor) -> None:
        """Feeds what was not fed while it was dreamed."""
        if self.pending is None:
            self._feed(codes)
        else:
            self._feed(self.pending)
            self.pending = None

    def _feed(self, ids: Tensor) -> None:
        self.actor.feed(ids)
        if self.dreamer is not self.actor:
            self.dreamer.feed(ids)

    def act(self, uniforms: Tensor, temperature: float, given: Tensor | None = None) -> tuple[Tensor, Tensor]:
        bins, log_probs = [], []
        for dim in range(self.layout.num_dims):
            start = self.layout.num_codes + dim * self.layout.num_bins
            logits = self.actor.logits(start, start + self.layout.num_bins)
            if given is None:
                index, log_prob = pick(logits, uniforms[:, dim], temperature)
            else:
                index, log_prob = given[:, dim], torch.zeros(len(given))
            bins.append(index)
            log_probs.append(log_prob)
            self._feed((start + index)[:, None])
        return torch.stack(bins, 1), torch.stack(log_probs, 1)

    def dream(self, uniforms: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
        codes, log_probs = [], []
        for place in range(self.layout.tokens_per_frame):
            logits = self.dreamer.logits(0, self.layout.num_codes)
            token, log_prob = pick(logits, uniforms[:, place], temperature)
            codes.append(token)
            log_probs.append(log_prob)
            if place + 1 < self.layout.tokens_per_frame:
                self._feed(token[:, None])
        self.pending = codes[-1][:, None]
        return torch.stack(codes, 1), torch.stack(log_probs, 1)


STEPPERS: dict[type[TokenWorldModel], Callable[[Policy, int], Stepper]] = {
    TemporalDepthModel: TemporalDepthStepper,
    FlatModel: FlatStepper,
}


def make_stepper(policy: Policy, batch: int) -> Stepper:
    """A stepper for ``batch`` clips."""
    return STEPPERS[type(policy.dynamics)](policy, batch)


# -- rollouts -------------------------------------------------------------------------------------------------------------


def draw_uniforms(seeds: Sequence[int], layout: TokenLayout) -> Tensor:
    """All random numbers of each rollout, from its own seed alone: float32 [B, T, A + N] in [0, 1)."""
    shape = (layout.num_frames, layout.stride)
    draws = [np.random.Generator(np.random.Philox(int(seed))).random(shape, dtype=np.float32) for seed in seeds]
    return torch.from_numpy(np.stack(draws))


@torch.no_grad()
def roll_out(
    policy: Policy,
    prompts: Tensor,
    seeds: Sequence[int],
    *,
    bins: Tensor | None = None,
    temperature: float = 1.0,
    frame_temperature: float | None = None,
    batch_size: int = 64,
    progress: Callable[[int], None] | None = None,
) -> Rollouts:
    """Dream clips from their contexts.

    Args:
        policy: What chooses and what dreams.
        prompts: int64 [B, prompt_length], context frames and the actions between them.
        seeds: One per rollout.
        bins: Given actions, int64 [B, T-1, A]; those of the context are ignored. None lets the policy choose.
        temperature: Of actions; 0 is greedy.
        frame_temperature: Of frames; None takes :data:`FRAME_TEMPERATURE`, or ``temperature`` if that is lower.
        batch_size: Clips at a time; the last batch is padded to it.
        progress: Called with the number of clips that a batch has finished.

    Returns:
        Ids and log-probabilities, in the order of ``prompts``.
    """
    layout = policy.layout
    sharpness = min(temperature, FRAME_TEMPERATURE) if frame_temperature is None else frame_temperature
    if prompts.shape[1] != layout.prompt_length:
        raise ValueError(f"prompts must have {layout.prompt_length} ids, got {prompts.shape[1]}")
    if len(seeds) != len(prompts):
        raise ValueError(f"seeds must have one entry a prompt, got {len(seeds)} for {len(prompts)}")
    parts = []
    for start in range(0, len(prompts), batch_size):
        rows = _padded_rows(start, len(prompts), batch_size)
        given = None if bins is None else bins[rows]
        uniforms = draw_uniforms([seeds[i] for i in rows], layout)
        done = min(batch_size, len(prompts) - start)
        ids, log_probs = _roll_out_batch(policy, prompts[rows], uniforms, given, (temperature, sharpness))
        parts.append((ids[:done], log_probs[:done]))
        if progress is not None:
            progress(done)
    return Rollouts(torch.cat([p[0] for p in parts]), torch.cat([p[1] for p in parts]))


def _padded_rows(start: int, total: int, batch_size: int) -> list[int]:
    rows = list(range(start, min(start + batch_size, total)))
    return rows + [rows[-1]] * (batch_size - len(rows))


def _roll_out_batch(
    policy: Policy, prompts: Tensor, uniforms: Tensor, given: Tensor | None, temperatures: tuple[float, float]
) -> tuple[Tensor, Tensor]:
    layout = policy.layout
    n, batch = layout.tokens_per_frame, len(prompts)
    stepper = make_stepper(policy, batch)
    context = torch.cat([prompts, prompts.new_zeros(batch, layout.num_dims)], dim=1).reshape(batch, -1, layout.stride)
    offsets = layout.num_codes + torch.arange(layout.num_dims) * layout.num_bins
    frames, actions, action_logs = [context[:, 0, :n]], [], []
    frame_logs = [torch.zeros(batch, n)]
    stepper.observe(frames[0])
    for step in range(layout.num_frames - 1):
        observed = step + 1 < layout.context_frames
        known = context[:, step, n:] - offsets if observed else (None if given is None else given[:, step])
        action, log_prob = stepper.act(uniforms[:, step, n:], temperatures[0], known)
        if observed:
            codes, frame_log = context[:, step + 1, :n], torch.zeros(batch, n)
        else:
            codes, frame_log = stepper.dream(uniforms[:, step, :n], temperatures[1])
        stepper.observe(codes)
        frames.append(codes)
        actions.append(action)
        action_logs.append(log_prob)
        frame_logs.append(frame_log)
    ids = layout.join(torch.stack(frames, 1), torch.stack(actions, 1))
    logs = torch.cat([torch.stack(frame_logs[:-1], 1), torch.stack(action_logs, 1)], dim=2).flatten(1)
    return ids, torch.cat([logs, frame_logs[-1]], dim=1)


@torch.no_grad()
def act_on_true_frames(
    policy: Policy,
    observe: Callable[[int, Float32 | None], Tensor],
    context_bins: Tensor,
    seeds: Sequence[int],
    *,
    temperature: float = 1.0,
) -> Tensor:
    """Let the policy act in a world that answers with true frames; nothing is dreamed.

    Args:
        policy: Only ``behaviour`` is used.
        observe: Called as ``observe(frame_idx, actions)`` with the actions float32 [B, A] that lead to the frame (None for
            frame 0); returns the frame's codes int64 [B, N].
        context_bins: int64 [B, context_frames-1, A], the actions between context frames.
        seeds: One per episode.
        temperature: Of actions.

    Returns:
        int64 [B, T-1, A], the action bins.
    """
    layout = policy.layout
    stepper = make_stepper(Policy(policy.behaviour, policy.behaviour), len(seeds))
    uniforms = draw_uniforms(seeds, layout)
    stepper.observe(observe(0, None))
    chosen = []
    for step in range(layout.num_frames - 1):
        known = context_bins[:, step] if step + 1 < layout.context_frames else None
        bins, _ = stepper.act(uniforms[:, step, layout.tokens_per_frame :], temperature, known)
        chosen.append(bins)
        stepper.observe(observe(step + 1, layout.bins_to_actions(bins).numpy()))
    return torch.stack(chosen, 1)
