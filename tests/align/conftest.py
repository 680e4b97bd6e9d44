"""Tiny token world models of both shapes, and random clips for them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

SHAPES = ("temporal_depth", "flat")


@pytest.fixture(scope="session")
def layout() -> Any:
    """5 frames of 2x3 tokens out of 9 codes, 2 action dims of 5 levels, 2 context frames: 38 ids."""
    from align.types import ActionSpace
    from align.world_models.layout import TokenLayout

    return TokenLayout(5, 2, 6, 9, ActionSpace(("x", "y"), (-1.0, 0.0), (1.0, 4.0)), num_bins=5)


@pytest.fixture(scope="session")
def make_model(layout: Any) -> Callable[..., Any]:
    """``make_model(shape, seed=0, **sizes)``: a frozen model with weights large enough that everything matters."""
    import torch

    from align.world_models.flat import FlatConfig, FlatModel
    from align.world_models.temporal_depth import TemporalDepthConfig, TemporalDepthModel

    def make(shape: str, seed: int = 0, **sizes: Any) -> Any:
        torch.manual_seed(seed)
        if shape == "flat":
            inner = {
                "model_type": "llama",
                "hidden_size": 32,
                "num_hidden_layers": 2,
                "num_attention_heads": 4,
                "num_key_value_heads": 2,
                "intermediate_size": 48,
                "vocab_size": layout.vocab_size,
                "max_position_embeddings": layout.length,
                **sizes,
            }
            model: Any = FlatModel(FlatConfig(layout.to_dict(), inner=inner))
        else:
            small = {"code_width": 8, "trunk_width": 32, "trunk_layers": 2, "depth_layers": 2, "hidden_width": 16}
            model = TemporalDepthModel(TemporalDepthConfig(layout.to_dict(), grid=(2, 3), **{**small, **sizes}))
        with torch.no_grad():
            for name, tensor in model.named_parameters():
                if name == "lm_head.weight":
                    tensor[:, : model.config.hidden_width].normal_(std=0.5)
                elif tensor.ndim > 1:
                    tensor.normal_(std=0.25)
        return model.eval().requires_grad_(False)

    return make


@pytest.fixture(scope="session", params=SHAPES)
def model(request: pytest.FixtureRequest, make_model: Callable[..., Any]) -> Any:
    """A tiny model of each shape; never changed by a test."""
    return make_model(request.param)


@pytest.fixture(scope="session")
def random_ids(layout: Any) -> Callable[..., Any]:
    """``random_ids(batch, seed=0)``: whole clips int64 [batch, L] of valid ids."""
    import torch

    def make(batch: int, seed: int = 0) -> Any:
        chance = torch.Generator().manual_seed(seed)
        codes = torch.randint(layout.num_codes, (batch, layout.num_frames, layout.tokens_per_frame), generator=chance)
        bins = torch.randint(layout.num_bins, (batch, layout.num_frames - 1, layout.num_dims), generator=chance)
        return layout.join(codes, bins)

    return make
