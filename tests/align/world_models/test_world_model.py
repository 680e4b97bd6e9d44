"""A world model's folder: pictures in, pictures out, saved and loaded."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from align.errors import DataError
from align.world_models.tokenizer import FrameTokenizer, TokenizerConfig
from align.world_models.world_model import WorldModel, load_world_model, save_world_model, shrink

Make = Callable[..., Any]


@pytest.fixture
def world(model: Any) -> WorldModel:
    """Codes of a 16x24 picture in 2x3 cells; 9 codes with COPY."""
    torch.manual_seed(0)
    tokenizer = FrameTokenizer(TokenizerConfig((16, 24), (8, 8), (4, 2), width=8)).eval().requires_grad_(False)
    return WorldModel(tokenizer, model, {"axes": ["spill"]}, "tiny")


def clips(batch: int = 2, num_frames: int = 5, scale: int = 1) -> Any:
    return np.random.default_rng(0).integers(0, 256, (batch, num_frames, 16 * scale, 24 * scale, 3), dtype=np.uint8)


def test_pictures_and_actions_survive_as_far_as_they_can(world: WorldModel) -> None:
    video, layout = clips(), world.layout
    bins = torch.randint(5, (2, 4, 2), generator=torch.Generator().manual_seed(0))
    ids = world.encode(video, layout.bins_to_actions(bins).numpy())
    assert torch.equal(layout.split(ids)[1], bins)
    assert torch.equal(layout.split(ids)[0], world.tokenizer.encode(world.to_input(video)))
    np.testing.assert_allclose(world.actions(ids), layout.bins_to_actions(bins))
    decoded = world.decode(ids, world.to_input(video)[:, 0])
    assert decoded.shape == video.shape and decoded.dtype == np.uint8
    np.testing.assert_array_equal(decoded[:, 0], video[:, 0])


def test_a_prefix_encodes_to_a_prefix(world: WorldModel) -> None:
    video, actions = clips(), np.zeros((2, 4, 2), np.float32)
    whole = world.encode(video, actions)
    assert torch.equal(world.encode(video[:, :2], actions[:, :1]), whole[:, : world.layout.prompt_length])


def test_larger_pictures_are_averaged(world: WorldModel) -> None:
    large = clips(scale=2)
    by_hand = large.reshape(2, 5, 16, 2, 24, 2, 3).mean((3, 5)).round() / 255
    np.testing.assert_allclose(world.to_input(large).permute(0, 1, 3, 4, 2).numpy(), by_hand, atol=1e-6)
    np.testing.assert_array_equal(shrink(large[0], (16, 24)), (by_hand[0] * 255).round().astype(np.uint8))


def test_odd_sizes_are_resized(world: WorldModel) -> None:
    assert world.to_input(np.full((1, 2, 30, 50, 3), 51, np.uint8)).shape == (1, 2, 3, 16, 24)


def test_saved_is_loaded(world: WorldModel, random_ids: Make, tmp_path: Path) -> None:
    save_world_model(tmp_path, world.tokenizer, world.model, {"axes": ["spill"]})
    loaded = load_world_model(tmp_path)
    ids = random_ids(2)
    assert torch.equal(loaded.model(ids).logits, world.model(ids).logits)
    assert loaded.layout == world.layout and loaded.info["axes"] == ["spill"] and loaded.name == str(tmp_path)
    assert not any(p.requires_grad for p in loaded.model.parameters()) and not loaded.model.training


def test_half_precision_rounds_and_keeps_the_forbidden_forbidden(world: WorldModel, random_ids: Make, tmp_path: Path) -> None:
    save_world_model(tmp_path, world.tokenizer, world.model, {}, half=True)
    loaded, ids = load_world_model(tmp_path), random_ids(2)
    for name, tensor in world.model.state_dict().items():
        assert torch.equal(loaded.model.state_dict()[name], tensor.half().float()), name
    width = world.model.config.hidden_width
    assert torch.equal(loaded.model.lm_head.weight[:, width:], world.model.lm_head.weight[:, width:])
    torch.testing.assert_close(loaded.model.token_log_probs(ids), world.model.token_log_probs(ids), atol=5e-2, rtol=0)


@pytest.mark.parametrize("name", ["world_model.json", "config.json", "model.safetensors", "tokenizer.json"])
def test_a_missing_file_is_named(world: WorldModel, tmp_path: Path, name: str) -> None:
    save_world_model(tmp_path, world.tokenizer, world.model, {})
    (tmp_path / name).unlink()
    with pytest.raises(DataError, match=name):
        load_world_model(tmp_path)


def test_an_unknown_name_and_an_unknown_shape_are_told(world: WorldModel, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"nowhere is no world model.*shipped: household"):
        load_world_model("nowhere")
    save_world_model(tmp_path, world.tokenizer, world.model, {})
    (tmp_path / "world_model.json").write_text(json.dumps({"shape": "round"}))
    with pytest.raises(DataError, match="shape round; known: temporal_depth, flat"):
        load_world_model(tmp_path)
