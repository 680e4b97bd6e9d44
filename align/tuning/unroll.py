"""A rollout once more, differentiably: from the actions' probabilities, or from given actions, to the pixels.

Our engine draws a rollout without gradients. Here it is read again token by token (``world_models.soft``):

- An **action** token is its one-hot in the forward pass and softmax((log π + g) / τ) in the backward pass: straight-through
  Gumbel-softmax (Jang et al. 2017, arXiv:1611.01144; Maddison et al. 2017, arXiv:1611.00712). The Gumbel noise g is drawn
  *given* that the drawn token wins (Paulus et al. 2021, arXiv:2010.04838), so token and noise are as if drawn together.
- A **frame** token is its one-hot forward and its own softmax backward, without noise (Bengio et al. 2013, arXiv:1308.3432):
  what the world does in answer is nearly certain, and noise would only add variance.
- Given continuous **actions** lie between two levels, whose embeddings are mixed linearly.

All of this is biased: a one-hot is treated as if it were a softmax, and tokens of one frame don't pass gradients to each other.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from align.world_models.engine import FRAME_TEMPERATURE, Policy
from align.world_models.layout import TokenLayout
from align.world_models.soft import Past, make_reader, paint_frame
from align.world_models.tokenizer import FrameTokenizer


@dataclass(frozen=True)
class Relaxation:
    """How a rollout is made differentiable.

    Attributes:
        temperature: τ of the actions' softmax; smaller is less biased and noisier.
        frame_temperature: Of the frame tokens' softmax; by default that of the engine's draw.
        straight_through: One-hot forward, so that the reward is that of the very rollout; False is soft forward as well, which
            is exactly differentiable and a picture that the model never dreams.
        last_steps: Gradients pass through the last so many steps (an action and the frame it leads to); those before are
            constants, and so is the context, unless all steps count. None takes all.
        checkpointed: Keep only what passes from step to step, and compute each step again in the backward pass.
    """

    temperature: float = 1.0
    frame_temperature: float = FRAME_TEMPERATURE
    straight_through: bool = True
    last_steps: int | None = None
    checkpointed: bool = True

    def __post_init__(self) -> None:
        if not (self.temperature > 0 and self.frame_temperature > 0):
            raise ValueError(f"temperatures must be above 0, got {self.temperature} and {self.frame_temperature}")
        if self.last_steps is not None and self.last_steps < 1:
            raise ValueError(f"last_steps must be at least 1, got {self.last_steps}")


def draw_exponentials(seeds: Sequence[int], layout: TokenLayout) -> Tensor:
    """The chance behind the Gumbel noise, of each rollout from its own seed: float32 [B, T-1, A, num_bins], above 0."""
    shape = (layout.num_frames - 1, layout.num_dims, layout.num_bins)
    sources = [np.random.Philox(np.random.SeedSequence([int(seed), 1])) for seed in seeds]
    draws = [np.random.Generator(source).standard_exponential(shape, dtype=np.float32) for source in sources]
    return torch.from_numpy(np.stack(draws)).clamp_(min=1e-20)


def gumbel_noise(log_probs: Tensor, drawn: Tensor, exponentials: Tensor) -> Tensor:
    """Gumbel noise given which index won: that of ``drawn`` makes log_probs + noise largest.

    In a race where j arrives after an exponential time of rate p_j, the first arrival takes Exp(1) whoever wins, and the others
    still need Exp(1) / p_j from then on. Minus the logarithm of the arrival times is log p + Gumbel noise.

    Args:
        log_probs: float [B, K], normalised.
        drawn: int64 [B].
        exponentials: float [B, K], independent Exp(1).

    Returns:
        float [B, K], without gradients.
    """
    fixed, waits = log_probs.detach(), exponentials.log()
    first = waits.gather(1, drawn[:, None])
    arrivals = torch.logaddexp(first, waits - fixed).scatter(1, drawn[:, None], first)
    return -arrivals - fixed


def interpolate_levels(levels: Tensor, num_bins: int) -> Tensor:
    """Weights [..., num_bins] of the two levels around each, float [...] in 0..num_bins-1: linear, one-hot on a level.

    On a level the gradient is the slope to the next one (on the last level, from the one before).
    """
    below = levels.detach().floor().clamp(0, num_bins - 2).long()
    share = (levels - below)[..., None]
    return (1 - share) * F.one_hot(below, num_bins) + share * F.one_hot(below + 1, num_bins)


def unroll(
    policy: Policy,
    tokenizer: FrameTokenizer,
    ids: Tensor,
    first: Tensor,
    how: Relaxation,
    *,
    exponentials: Tensor | None = None,
    levels: Tensor | None = None,
) -> Tensor:
    """The pictures of rollouts, differentiable in the policy's weights or in given actions.

    Args:
        policy: What chose and what dreamed, with adapters that may be trained.
        tokenizer: Decodes.
        ids: int64 [B, L] that the engine drew.
        first: Frame 0, float [B, 3, H, W] in [0, 1].
        how: The relaxation.
        exponentials: From :func:`draw_exponentials`; gradients then pass through the chosen actions.
        levels: float [B, T-1, A] in 0..num_bins-1; gradients then pass to these actions instead.

    Returns:
        float [B, T, 3, H, W] in [0, 1]; straight-through and without ``levels`` these are the engine's pictures.
    """
    if (exponentials is None) == (levels is None):
        raise ValueError("give exponentials, for actions that the policy chooses, or levels, for given ones, not both")
    replay = _Replay(policy, tokenizer, ids, first, how, exponentials, levels)
    return replay.run()


class _Replay:
    """One batch on its way through time; a reader for what acts and one for what dreams, if they differ."""

    def __init__(
        self,
        policy: Policy,
        tokenizer: FrameTokenizer,
        ids: Tensor,
        first: Tensor,
        how: Relaxation,
        exponentials: Tensor | None,
        levels: Tensor | None,
    ) -> None:
        self.layout, self.tokenizer, self.first, self.how = policy.layout, tokenizer, first, how
        self.codes, self.bins = self.layout.split(ids)
        self.exponentials, self.levels = exponentials, levels
        self.readers = [make_reader(policy.dynamics)]
        if levels is None and policy.behaviour is not policy.dynamics:
            self.readers.append(make_reader(policy.behaviour))

    def run(self) -> Tensor:
        """float [B, T, 3, H, W]."""
        last, context = self.layout.num_frames - 1, self.layout.context_frames
        live = 0 if self.how.last_steps is None else last - self.how.last_steps
        known = max(context, live + 1) if self.how.straight_through else context
        # The weights that gradients go to have read the context, too.
        with torch.set_grad_enabled(torch.is_grad_enabled() and live < context):
            pasts = self._read_frame(tuple(Past() for _ in self.readers), self._one_hot(self.codes[:, 0]))
            for step in range(known - 1):
                pasts = self._pass(pasts, step)
        pictures = [self._decode(known)]
        for step in range(known - 1, last):
            with torch.set_grad_enabled(torch.is_grad_enabled() and step >= live):
                pasts, picture = self._take(pasts, step)
            pictures.append(picture[:, None])
        return torch.cat(pictures, dim=1)

    def _decode(self, count: int) -> Tensor:
        return self.first[:, None] if count == 1 else self.tokenizer.decode(self.codes[:, :count], self.first)

    def _one_hot(self, codes: Tensor) -> Tensor:
        return F.one_hot(codes, self.layout.num_codes).to(self.first.dtype)

    def _pass(self, pasts: tuple[Past, ...], step: int) -> tuple[Past, ...]:
        """Read a step as it was drawn."""
        for dim in range(self.layout.num_dims):
            pasts = self._read_action(pasts, dim, self._given(step, dim))
        return self._read_frame(pasts, self._one_hot(self.codes[:, step + 1]))

    def _take(self, pasts: tuple[Past, ...], step: int) -> tuple[tuple[Past, ...], Tensor]:
        move = partial(self._move, pasts, step)
        if self.how.checkpointed and torch.is_grad_enabled():
            taken: tuple[tuple[Past, ...], Tensor] = checkpoint(move, use_reentrant=False, preserve_rng_state=False)
            return taken
        return move()

    def _move(self, pasts: tuple[Past, ...], step: int) -> tuple[tuple[Past, ...], Tensor]:
        """Act, and read and paint the frame that the world answers with."""
        for dim in range(self.layout.num_dims):
            chosen = self._choose(pasts[-1], step, dim) if self.levels is None else self._given(step, dim)
            pasts = self._read_action(pasts, dim, chosen)
        drawn = self.codes[:, step + 1]
        logits = self.readers[0].frame_logits(pasts[0], drawn)
        chances = torch.softmax(logits / self.how.frame_temperature, dim=-1)
        if not self.how.straight_through:
            return self._read_frame(pasts, chances), paint_frame(self.tokenizer, chances, self.first)
        weights = _straight_through(drawn, chances)
        picture = paint_frame(self.tokenizer, weights, self.first, drawn, chances.detach())
        return self._read_frame(pasts, weights), picture

    def _choose(self, past: Past, step: int, dim: int) -> Tensor:
        assert self.exponentials is not None
        log_probs = torch.log_softmax(self.readers[-1].action_logits(past, dim), dim=-1)
        drawn = self.bins[:, step, dim]
        noise = gumbel_noise(log_probs, drawn, self.exponentials[:, step, dim].to(log_probs.dtype))
        soft = torch.softmax((log_probs + noise) / self.how.temperature, dim=-1)
        return _straight_through(drawn, soft) if self.how.straight_through else soft

    def _given(self, step: int, dim: int) -> Tensor:
        if self.levels is None or step + 1 < self.layout.context_frames:
            return F.one_hot(self.bins[:, step, dim], self.layout.num_bins).to(self.first.dtype)
        return interpolate_levels(self.levels[:, step, dim], self.layout.num_bins).to(self.first.dtype)

    def _read_action(self, pasts: tuple[Past, ...], dim: int, weights: Tensor) -> tuple[Past, ...]:
        return tuple(r.read_action(past, dim, weights) for r, past in zip(self.readers, pasts, strict=True))

    def _read_frame(self, pasts: tuple[Past, ...], weights: Tensor) -> tuple[Past, ...]:
        return tuple(r.read_frame(past, weights) for r, past in zip(self.readers, pasts, strict=True))


def _straight_through(drawn: Tensor, soft: Tensor) -> Tensor:
    """One-hot of ``drawn`` [...] forward, ``soft`` [..., K] backward."""
    return F.one_hot(drawn, soft.shape[-1]).to(soft.dtype) + (soft - soft.detach())
