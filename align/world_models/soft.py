"""Reading clips softly: every token is a row of weights over ids, so that gradients pass from one token to the next.

A one-hot row is the token itself, and a reader then computes what the model computes. One reader for each shape. What a reader
has read is a :class:`Past` that is never changed in place, so that a step may be computed twice (``torch.utils.checkpoint``).

The tokens of one frame are predicted in one pass, given the drawn ones before them: no gradient passes from a token to a later
one of the same frame. From frame to frame, and between actions and frames, it passes whole.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import DynamicCache

from align.errors import ConfigError
from align.world_models.base import TokenWorldModel
from align.world_models.flat import FlatModel
from align.world_models.temporal_depth import Block, TemporalDepthModel
from align.world_models.tokenizer import FrameTokenizer

SURE = 0.999
"""A cell that is copied with at least this probability is taken as copied for sure."""

Part = tuple[tuple[Tensor, Tensor], ...]
"""Keys and values [B, heads, P, width] of some positions, one pair a layer."""


@dataclass(frozen=True)
class Past:
    """What a reader has read.

    Attributes:
        parts: Keys and values in the order of reading.
        length: Positions in them.
        state: float [B, d], what predicts the next token.
        frames: Embedded frame 0, the frame before the last and the last one, float [B, N, e] (temporal + depth only).
    """

    parts: tuple[Part, ...] = ()
    length: int = 0
    state: Tensor | None = None
    frames: tuple[Tensor, ...] = ()

    def layer(self, index: int) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
        """Keys and values of one layer, part by part."""
        return tuple(part[index][0] for part in self.parts), tuple(part[index][1] for part in self.parts)


class SoftReader(Protocol):
    """A world model that reads weights, [B, N, num_codes] of a frame and [B, num_bins] of an action dim."""

    def read_frame(self, past: Past, weights: Tensor) -> Past:
        """Take in a frame."""
        ...

    def read_action(self, past: Past, dim: int, weights: Tensor) -> Past:
        """Take in one action dim."""
        ...

    def action_logits(self, past: Past, dim: int) -> Tensor:
        """Logits [B, num_bins] of the next token, an action dim."""
        ...

    def frame_logits(self, past: Past, codes: Tensor) -> Tensor:
        """Logits [B, N, num_codes] of the next frame's tokens, each given the drawn ones before it, int64 [B, N]."""
        ...


class TemporalDepthReader:
    """Reader of the temporal + depth shape."""

    def __init__(self, model: TokenWorldModel) -> None:
        assert isinstance(model, TemporalDepthModel)
        self.layout, self.net, width = model.layout, model.model, model.config.hidden_width
        self.blocks: Sequence[Block] = list(self.net.trunk)
        self.head = model.lm_head.weight[: self.layout.pad_id, :width]

    def read_frame(self, past: Past, weights: Tensor) -> Past:
        embedded = weights @ self.net.codes.weight[: self.layout.num_codes]
        read = self._advance(past, self.net.frame_in(embedded.flatten(1)))
        first, last = (past.frames[0], past.frames[-1]) if past.frames else (embedded, self._empty(embedded))
        return Past(read.parts, read.length, read.state, (first, last, embedded))

    def _empty(self, like: Tensor) -> Tensor:
        return self.net.codes.weight[self.layout.num_codes].expand_as(like)

    def read_action(self, past: Past, dim: int, weights: Tensor) -> Past:
        start = dim * self.layout.num_bins
        return self._advance(past, weights @ self.net.actions.weight[start : start + self.layout.num_bins])

    def _advance(self, past: Past, x: Tensor) -> Past:
        """One position, x [B, d]; see ``Block.forward``, of which this is the last row."""
        x = (x + self.net.trunk_position[past.length])[:, None]
        part = []
        for index, block in enumerate(self.blocks):
            y = block.norm_attention(x)
            q, k, v = (
                proj(y).unflatten(-1, (block.num_heads, -1)).transpose(1, 2)
                for proj in (block.q_proj, block.k_proj, block.v_proj)
            )
            part.append((k, v))
            keys, values = past.layer(index)
            y = F.scaled_dot_product_attention(q, torch.cat([*keys, k], 2), torch.cat([*values, v], 2))
            x = x + block.o_proj(y.transpose(1, 2).flatten(2))
            x = x + block.down_proj(F.gelu(block.up_proj(block.norm_mlp(x))))
        return Past((*past.parts, tuple(part)), past.length + 1, self.net.trunk_norm(x)[:, 0], past.frames)

    def action_logits(self, past: Past, dim: int) -> Tensor:
        start = self.layout.num_codes + dim * self.layout.num_bins
        hidden = self.net.action_norm(self.net.action_out(past.state))
        return F.linear(hidden, self.head[start : start + self.layout.num_bins])

    def frame_logits(self, past: Past, codes: Tensor) -> Tensor:
        first, earlier, last = past.frames
        padded = torch.cat([last, self._empty(last[:, :1])], dim=1)
        known = torch.cat([padded[:, self.net.around], earlier[:, :, None], first[:, :, None]], dim=2).flatten(2)
        inputs = self.net.depth_around(known) + self.net.depth_condition(past.state)[:, None] + self.net.depth_position
        return F.linear(self.net.run_depth(inputs, codes), self.head[: self.layout.num_codes])


class FlatReader:
    """Reader of any Hugging Face causal LM that takes embeddings and keeps every key and value."""

    def __init__(self, model: TokenWorldModel) -> None:
        assert isinstance(model, FlatModel)
        self.layout, self.inner = model.layout, model.model.inner
        self.head = model.lm_head.weight[:, : model.config.hidden_width]
        # Called rather than read: some families scale in the embedding.
        self.table = self.inner.get_input_embeddings()(torch.arange(self.layout.pad_id, device=self.head.device))

    def read_frame(self, past: Past, weights: Tensor) -> Past:
        return self._advance(past, weights @ self.table[: self.layout.num_codes])[0]

    def read_action(self, past: Past, dim: int, weights: Tensor) -> Past:
        start = self.layout.num_codes + dim * self.layout.num_bins
        return self._advance(past, (weights @ self.table[start : start + self.layout.num_bins])[:, None])[0]

    def _advance(self, past: Past, x: Tensor) -> tuple[Past, Tensor]:
        """Positions x [B, P, d]; returns their states [B, P, d] too."""
        cache = DynamicCache()
        for index in range(len(past.parts[0]) if past.parts else 0):
            keys, values = past.layer(index)
            cache.update(torch.cat(keys, 2), torch.cat(values, 2), index)
        end = past.length + x.shape[1]
        positions = torch.arange(past.length, end, device=x.device)[None]
        out = self.inner(inputs_embeds=x, past_key_values=cache, position_ids=positions, use_cache=True)
        layers: Sequence[Any] = cache.layers
        part = tuple((layer.keys[:, :, past.length :], layer.values[:, :, past.length :]) for layer in layers)
        states = out.last_hidden_state
        return Past((*past.parts, part), end, states[:, -1]), states

    def action_logits(self, past: Past, dim: int) -> Tensor:
        start = self.layout.num_codes + dim * self.layout.num_bins
        return F.linear(_known(past), self.head[start : start + self.layout.num_bins])

    def frame_logits(self, past: Past, codes: Tensor) -> Tensor:
        states = _known(past)[:, None]
        if codes.shape[1] > 1:
            states = torch.cat([states, self._advance(past, self.table[codes[:, :-1]])[1]], dim=1)
        return F.linear(states, self.head[: self.layout.num_codes])


def _known(past: Past) -> Tensor:
    assert past.state is not None, "something was read before anything is predicted"
    return past.state


READERS: dict[type[TokenWorldModel], Callable[[TokenWorldModel], SoftReader]] = {
    TemporalDepthModel: TemporalDepthReader,
    FlatModel: FlatReader,
}


def make_reader(model: TokenWorldModel) -> SoftReader:
    """A reader of a world model, whatever its shape; adapters in it may be trained through it."""
    return READERS[type(model)](model)


def check_tokenizer(tokenizer: object) -> None:
    """Raise ConfigError unless :func:`paint_frame` can decode with this tokenizer."""
    if not isinstance(tokenizer, FrameTokenizer):
        raise ConfigError(
            f"{type(tokenizer).__name__} can't decode codes softly, so no gradient gets from pixels to tokens; "
            "tune with dpo or grpo, or pretrain with the tokenizer fsq"
        )


def paint_frame(
    tokenizer: FrameTokenizer, weights: Tensor, first: Tensor, drawn: Tensor | None = None, chances: Tensor | None = None
) -> Tensor:
    """Pixels of one frame, differentiable in its weights.

    COPY is a mixture of frame 0 and what is painted. Where a drawn token is COPY the decoder never learned to paint, so what
    the cell would show instead is painted from its most likely other code, as a constant.

    Args:
        tokenizer: Decodes.
        weights: float [B, N, num_codes], rows sum to 1.
        first: Frame 0, float [B, 3, H, W] in [0, 1].
        drawn: int64 [B, N], the tokens that one-hot weights stand for; None where weights are truly soft.
        chances: float [B, N, num_codes], how likely each code was; needed with ``drawn``.

    Returns:
        float [B, 3, H, W] in [0, 1]; with ``drawn``, the very picture that the tokenizer decodes.
    """
    config, soft = tokenizer.config, weights.unflatten(1, tokenizer.config.grid)
    table = tokenizer.code_values(torch.arange(config.num_fsq, device=weights.device))
    copied, embed = soft[..., -1:], tokenizer.from_code
    cells = F.linear(soft[..., :-1] @ table, embed.weight) + (1 - copied) * embed.bias + copied * tokenizer.copy_embedding
    pixels = tokenizer.paint_cells(cells, first, first).clamp(0, 1)
    if drawn is not None and chances is not None:
        hidden = _spread(tokenizer, drawn == config.num_fsq)
        pixels = torch.where(hidden > 0, _paint_likely(tokenizer, drawn, chances, first), pixels)
    keep = _spread(tokenizer, weights[..., -1])
    return keep * first + (1 - keep) * pixels


@torch.no_grad()
def _paint_likely(tokenizer: FrameTokenizer, drawn: Tensor, chances: Tensor, first: Tensor) -> Tensor:
    """The frame with every COPY that is not sure replaced by the most likely other code."""
    copy = tokenizer.config.num_fsq
    unsure = (drawn == copy) & (chances[..., -1] < SURE)
    codes = torch.where(unsure, chances[..., :-1].argmax(-1), drawn).unflatten(1, tokenizer.config.grid)
    return tokenizer.decode_cells(tokenizer.code_values(codes), codes == copy, first, first).clamp(0, 1)


def _spread(tokenizer: FrameTokenizer, cells: Tensor) -> Tensor:
    """A number a cell [B, N] to its pixels, [B, 1, H, W]."""
    height, width = tokenizer.config.cell
    grid = cells.unflatten(1, tokenizer.config.grid)[:, None]
    return grid.repeat_interleave(height, 2).repeat_interleave(width, 3)
