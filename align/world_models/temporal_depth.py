"""The household's world model: a causal trunk over frames and actions, and a small decoder inside each frame.

The shape that Moshi (Défossez et al. 2024) and CSM use for audio, over pictures. The trunk has 1 + A positions a step: the
frame, then each action dim. Its state at the frame predicts the first action dim, at each action dim the next one, and at
the last dim it hands a vector to the depth decoder, which writes the next frame token by token. The depth decoder also sees
the 3x3 neighbours of each cell in the previous frame, the cell one frame earlier and the cell of frame 0.

A whole clip so costs one short trunk pass, and losses on actions alone skip the depth decoder.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers.modeling_outputs import BaseModelOutputWithPast

from align.world_models.base import (
    TokenWorldModel,
    WorldModelConfig,
    as_base_output,
    check_right_padding,
    kind_embedding,
    next_kinds,
)


class TemporalDepthConfig(WorldModelConfig):
    """Sizes of a :class:`TemporalDepthModel`; ``grid`` is rows and columns of tokens in a frame."""

    model_type = "gptsim_temporal_depth"

    def __init__(
        self,
        layout: dict[str, Any] | None = None,
        grid: tuple[int, int] = (8, 4),
        code_width: int = 32,
        trunk_width: int = 256,
        trunk_layers: int = 3,
        depth_layers: int = 3,
        num_heads: int = 4,
        **kwargs: Any,
    ) -> None:
        self.grid = tuple(grid)
        self.code_width = code_width
        self.trunk_width = trunk_width
        self.trunk_layers = trunk_layers
        self.depth_layers = depth_layers
        self.num_heads = num_heads
        super().__init__(layout, **kwargs)


class Block(nn.Module):
    """Pre-norm causal transformer block; the engine runs it one position at a time."""

    def __init__(self, width: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.norm_attention = nn.LayerNorm(width)
        self.q_proj, self.k_proj, self.v_proj, self.o_proj = (nn.Linear(width, width) for _ in range(4))
        self.norm_mlp = nn.LayerNorm(width)
        self.up_proj, self.down_proj = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm_attention(x)
        q, k, v = (self._heads(proj(y)) for proj in (self.q_proj, self.k_proj, self.v_proj))
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.o_proj(y.transpose(1, 2).flatten(2))
        return x + self.down_proj(F.gelu(self.up_proj(self.norm_mlp(x))))

    def _heads(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.num_heads, -1)).transpose(1, 2)


class TemporalDepthBackbone(nn.Module):
    """Trunk and depth decoder; flat ids in, one hidden state a position out."""

    around: Tensor

    def __init__(self, config: TemporalDepthConfig) -> None:
        super().__init__()
        layout = self.layout = config.token_layout
        self.config = config
        rows, cols = config.grid
        if rows * cols != layout.tokens_per_frame:
            raise ValueError(f"grid {config.grid} does not hold the layout's {layout.tokens_per_frame} tokens a frame")
        e, d, h = config.code_width, config.trunk_width, config.hidden_width
        n, steps = layout.tokens_per_frame, layout.num_frames
        self.codes = nn.Embedding(layout.num_codes + 1, e)
        self.frame_in = nn.Sequential(nn.Linear(n * e, d), nn.GELU(), nn.Linear(d, d))
        self.actions = nn.Embedding(layout.num_dims * layout.num_bins, d)
        self.trunk_position = nn.Parameter(torch.randn(steps * (1 + layout.num_dims), d) * 0.02)
        self.trunk = nn.ModuleList(Block(d, config.num_heads) for _ in range(config.trunk_layers))
        self.trunk_norm = nn.LayerNorm(d)
        self.action_out = nn.Linear(d, h)
        self.frame_start = nn.Parameter(torch.zeros(d))
        self.depth_condition = nn.Linear(d, h)
        self.depth_around = nn.Linear(11 * e, h)
        self.depth_token = nn.Linear(e, h)
        self.depth_position = nn.Parameter(torch.randn(n, h) * 0.02)
        self.depth = nn.ModuleList(Block(h, config.num_heads) for _ in range(config.depth_layers))
        self.depth_norm = nn.LayerNorm(h)
        self.action_norm = nn.LayerNorm(h)
        self.register_buffer("around", neighbour_index(rows, cols), persistent=False)

    # -- pieces, shared with the engine and the pretraining loss ----------------------------------------------------------

    def embed_frame(self, codes: Tensor) -> Tensor:
        """Trunk input [..., d] of frames [..., N]."""
        return self.frame_in(self.codes(codes).flatten(-2))

    def embed_actions(self, bins: Tensor) -> Tensor:
        """Trunk inputs [..., A, d] of action bins [..., A]."""
        return self.actions(bins + torch.arange(self.layout.num_dims, device=bins.device) * self.layout.num_bins)

    def run_trunk(self, codes: Tensor, bins: Tensor) -> Tensor:
        """States [B, T', 1 + A, d] of frames [B, T', N] and actions [B, T', A] (the last row may be anything)."""
        x = torch.cat([self.embed_frame(codes)[:, :, None], self.embed_actions(bins)], dim=2)
        batch, steps, width = x.shape[0], x.shape[1], 1 + self.layout.num_dims
        x = x.flatten(1, 2) + self.trunk_position[: steps * width]
        for block in self.trunk:
            x = block(x)
        return self.trunk_norm(x).reshape(batch, steps, width, -1)

    def action_states(self, trunk: Tensor) -> Tensor:
        """What predicts each action dim: trunk states [..., 1 + A, d] to [..., A, h]."""
        return self.action_norm(self.action_out(trunk[..., :-1, :]))

    def depth_inputs(self, condition: Tensor, before: Tensor, earlier: Tensor, first: Tensor) -> Tensor:
        """The part of the depth decoder's input that is known before the frame is written.

        Args:
            condition: float [F, d], the trunk's state at the last action dim.
            before: int64 [F, N], the previous frame's codes; the frame before that is ``earlier``; ``first`` is frame 0.

        Returns:
            float [F, N, h].
        """
        padded = F.pad(before, (0, 1), value=self.layout.num_codes)
        known = torch.cat([padded[:, self.around].flatten(0, 1), earlier.reshape(-1, 1), first.reshape(-1, 1)], dim=1)
        known = self.codes(known).flatten(1).reshape(*before.shape, -1)
        return self.depth_around(known) + self.depth_condition(condition)[:, None] + self.depth_position

    def run_depth(self, inputs: Tensor, codes: Tensor) -> Tensor:
        """States [F, N, h] that predict the tokens of frames [F, N], given what :meth:`depth_inputs` knows."""
        written = F.pad(codes[:, :-1], (1, 0), value=self.layout.num_codes)
        x = inputs + self.depth_token(self.codes(written))
        for block in self.depth:
            x = block(x)
        return self.depth_norm(x)

    def picked_frame_states(self, trunk: Tensor, codes: Tensor, clip: Tensor, before: Tensor) -> Tensor:
        """States [F, N, h] that predict single frames of a batch, for losses that score only some.

        Args:
            trunk: float [B, T-1, 1 + A, d] from :meth:`run_trunk`.
            codes: int64 [B, T, N].
            clip: int64 [F], which clip each frame is of.
            before: int64 [F], the index of the frame before it.
        """
        empty = torch.full_like(codes[:, 0], self.layout.num_codes)
        earlier = torch.where((before > 0)[:, None], codes[clip, (before - 1).clamp(min=0)], empty[clip])
        inputs = self.depth_inputs(trunk[clip, before, -1], codes[clip, before], earlier, codes[clip, 0])
        return self.run_depth(inputs, codes[clip, before + 1])

    # -- flat ids ---------------------------------------------------------------------------------------------------------

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        frames: bool = True,
        **kwargs: Any,
    ) -> BaseModelOutputWithPast:
        """Hidden states [B, L, h + 1 + A] of flat ids [B, L]; L may be any prefix of a clip."""
        check_right_padding(attention_mask)
        layout, length = self.layout, input_ids.shape[1]
        num_frames = -(-length // layout.stride)
        full = F.pad(input_ids, (0, num_frames * layout.stride - length), value=layout.pad_id)
        grid = full.reshape(len(full), num_frames, layout.stride)
        codes = grid[..., : layout.tokens_per_frame].clamp(max=layout.num_codes)
        offsets = layout.num_codes + torch.arange(layout.num_dims, device=full.device) * layout.num_bins
        bins = (grid[..., layout.tokens_per_frame :] - offsets).clamp(0, layout.num_bins - 1)
        trunk = self.run_trunk(codes, bins)
        hidden = torch.cat([self._frame_states(trunk, codes, frames), self.action_states(trunk)], dim=2)
        # Each state stands where its token is; the state that predicts a token belongs one position earlier.
        hidden = hidden.flatten(1, 2)[:, 1:]
        following = self._following_state(trunk, codes, frames and length == num_frames * layout.stride)
        hidden = torch.cat([hidden, following], dim=1)[:, :length]
        kinds = next_kinds(layout, length, hidden.device)
        return as_base_output(torch.cat([hidden, kinds.expand(len(hidden), -1, -1)], dim=-1))

    def _frame_states(self, trunk: Tensor, codes: Tensor, frames: bool) -> Tensor:
        """[B, T', N, h]: states that predict each frame's own tokens."""
        batch, steps, n = codes.shape
        if not frames:
            return trunk.new_zeros(batch, steps, n, self.config.hidden_width)
        start = self.frame_start.expand(batch, 1, -1)
        condition = torch.cat([start, trunk[:, :-1, -1]], dim=1)
        empty = torch.full_like(codes[:, :1], self.layout.num_codes)
        before = torch.cat([empty, codes[:, :-1]], dim=1)
        earlier = torch.cat([empty, before[:, :-1]], dim=1)
        first = torch.cat([empty, codes[:, :1].expand(-1, steps - 1, -1)], dim=1)
        inputs = self.depth_inputs(condition.flatten(0, 1), before.flatten(0, 1), earlier.flatten(0, 1), first.flatten(0, 1))
        return self.run_depth(inputs, codes.flatten(0, 1)).reshape(batch, steps, n, -1)

    def _following_state(self, trunk: Tensor, codes: Tensor, wanted: bool) -> Tensor:
        """[B, 1, h]: the state that predicts the first token after a sequence that ends on a whole step."""
        if not wanted:
            return trunk.new_zeros(len(trunk), 1, self.config.hidden_width)
        before, last = codes[:, -1], trunk[:, -1, -1]
        earlier = codes[:, -2] if codes.shape[1] > 1 else torch.full_like(before, self.layout.num_codes)
        inputs = self.depth_inputs(last, before, earlier, codes[:, 0])[:, :1]
        return self.run_depth(inputs, torch.full_like(before[:, :1], self.layout.num_codes))


def neighbour_index(rows: int, cols: int) -> Tensor:
    """int64 [N, 9]: the 3x3 neighbours of each cell; N (one past the end) where there is none."""
    index = torch.full((rows + 2, cols + 2), rows * cols)
    index[1:-1, 1:-1] = torch.arange(rows * cols).reshape(rows, cols)
    patches = [index[dy : dy + rows, dx : dx + cols].reshape(-1) for dy in range(3) for dx in range(3)]
    return torch.stack(patches, dim=1)


class TemporalDepthModel(TokenWorldModel):
    """Causal LM over the flat ids of a clip, in the temporal + depth shape."""

    config_class = TemporalDepthConfig
    LORA_TARGETS = r"model\.trunk\.\d+\.(q_proj|k_proj|v_proj|o_proj|up_proj|down_proj)|model\.action_out"
    """Modules that an adapter of the behaviour changes: the trunk and the way out to actions, not the depth decoder."""

    def __init__(self, config: TemporalDepthConfig) -> None:
        super().__init__(config)
        self.model = TemporalDepthBackbone(config)
        self.lm_head = kind_embedding(self.layout, config.hidden_width)
        self.post_init()
