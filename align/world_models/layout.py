"""How frames and actions lie in one flat sequence of token ids.

A clip of T frames, N tokens a frame and A action dims is the sequence

    frame 0 (N ids) · action 0 (A ids) · frame 1 (N ids) · action 1 (A ids) · … · frame T-1 (N ids)

of length L = T·N + (T-1)·A. Frame codes are ids 0 … num_codes-1; the bin b of action dim k is the id
num_codes + k·num_bins + b; the last id is padding. Everything past the world models (trainers, engine, anchor) speaks
these ids and asks this module which position holds what.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from align.types import ActionSpace


@dataclass(frozen=True)
class TokenLayout:
    """The shape of a clip as token ids.

    Attributes:
        num_frames: T, frames in a clip.
        context_frames: Frames that a rollout is given; the prompt is their tokens and the actions between them.
        tokens_per_frame: N.
        num_codes: Size of the frame vocabulary.
        action_space: Names and ranges of the action dims.
        num_bins: Levels per action dim; level 0 is the dim's low and level num_bins-1 its high.
    """

    num_frames: int
    context_frames: int
    tokens_per_frame: int
    num_codes: int
    action_space: ActionSpace
    num_bins: int = 11

    def __post_init__(self) -> None:
        if not 1 <= self.context_frames < self.num_frames:
            raise ValueError(f"context_frames must be in 1..{self.num_frames - 1}, got {self.context_frames}")
        if self.num_bins < 2:
            raise ValueError(f"num_bins must be at least 2, got {self.num_bins}")

    @property
    def num_dims(self) -> int:
        return self.action_space.num_dims

    @property
    def stride(self) -> int:
        """Ids from the start of one frame to the start of the next."""
        return self.tokens_per_frame + self.num_dims

    @property
    def length(self) -> int:
        return self.num_frames * self.tokens_per_frame + (self.num_frames - 1) * self.num_dims

    @property
    def prompt_length(self) -> int:
        """Ids that a rollout is given: the context frames and the actions between them."""
        return self.context_frames * self.stride - self.num_dims

    @property
    def pad_id(self) -> int:
        return self.num_codes + self.num_dims * self.num_bins

    @property
    def vocab_size(self) -> int:
        return self.pad_id + 1

    @cached_property
    def kinds(self) -> Tensor:
        """int64 [L]: what stands at each position, 0 for a frame token, 1 + k for action dim k."""
        offsets = torch.arange(self.length) % self.stride
        return (offsets - self.tokens_per_frame + 1).clamp(min=0)

    def action_mask(self, *, past_context: bool = True) -> Tensor:
        """bool [L]: True on action tokens; with ``past_context`` only on those that a rollout chooses."""
        mask = self.kinds > 0
        return mask & (torch.arange(self.length) >= self.prompt_length) if past_context else mask

    def frame_mask(self, *, past_context: bool = True) -> Tensor:
        """bool [L]: True on frame tokens; with ``past_context`` only on those that a rollout dreams."""
        mask = self.kinds == 0
        return mask & (torch.arange(self.length) >= self.prompt_length) if past_context else mask

    def allowed_ids(self) -> Tensor:
        """bool [1 + A, vocab]: the ids that may stand at a position of each kind."""
        allowed = torch.zeros(1 + self.num_dims, self.vocab_size, dtype=torch.bool)
        allowed[0, : self.num_codes] = True
        for dim in range(self.num_dims):
            start = self.num_codes + dim * self.num_bins
            allowed[1 + dim, start : start + self.num_bins] = True
        return allowed

    def join(self, codes: Tensor, bins: Tensor) -> Tensor:
        """Interleave frame codes int64 [B, T', N] and action bins int64 [B, ≥T'-1, A] into ids [B, L'].

        T' may be smaller than num_frames; action rows past T'-1 are left out.
        """
        batch, frames, _ = codes.shape
        offsets = self.num_codes + torch.arange(self.num_dims, device=codes.device) * self.num_bins
        actions = bins[:, : frames - 1] + offsets
        steps = torch.cat([codes[:, : frames - 1], actions], dim=2).reshape(batch, -1)
        return torch.cat([steps, codes[:, frames - 1]], dim=1)

    def split(self, ids: Tensor) -> tuple[Tensor, Tensor]:
        """Undo :meth:`join`: ids [B, L] to codes [B, T, N] and bins [B, T-1, A]."""
        if ids.shape[1] != self.length:
            raise ValueError(f"ids must have {self.length} positions, got {ids.shape[1]}")
        head = ids[:, : (self.num_frames - 1) * self.stride].reshape(len(ids), self.num_frames - 1, self.stride)
        codes = torch.cat([head[..., : self.tokens_per_frame], ids[:, None, -self.tokens_per_frame :]], dim=1)
        offsets = self.num_codes + torch.arange(self.num_dims, device=ids.device) * self.num_bins
        return codes, head[..., self.tokens_per_frame :] - offsets

    def actions_to_bins(self, actions: Tensor) -> Tensor:
        """Nearest level of each action: float [..., A] in the dims' units to int64 [..., A]; values outside are clipped."""
        low, high = self._range(actions)
        scaled = (actions - low) / (high - low) * (self.num_bins - 1)
        return scaled.round().clamp(0, self.num_bins - 1).long()

    def bins_to_actions(self, bins: Tensor) -> Tensor:
        """The level of each bin: int64 [..., A] to float32 [..., A] in the dims' units."""
        low, high = self._range(bins)
        return low + bins.float() / (self.num_bins - 1) * (high - low)

    def _range(self, like: Tensor) -> tuple[Tensor, Tensor]:
        low, high = np.asarray(self.action_space.low), np.asarray(self.action_space.high)
        return torch.as_tensor(low, dtype=torch.float32, device=like.device), torch.as_tensor(
            high, dtype=torch.float32, device=like.device
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain values for a config file; :meth:`from_dict` reads them."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> TokenLayout:
        space = values["action_space"]
        action_space = ActionSpace(tuple(space["names"]), tuple(space["low"]), tuple(space["high"]))
        return cls(**{**values, "action_space": action_space})
