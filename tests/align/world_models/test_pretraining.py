"""The losses and the loop's helpers behind ``pretrain``. The tokenizer's loss is tested with the tokenizer."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from align.world_models.pretraining import (
    held_out_nll,
    learning_rate,
    load_training_state,
    make_optimizer,
    save_training_state,
    training_state,
    world_model_loss,
)

Make = Callable[..., Any]


def chance() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def test_loss_over_all_frames_is_the_models_own_likelihood(model: Any, random_ids: Make) -> None:
    """The quick estimate of the temporal + depth shape and the flat ids give the same numbers."""
    layout, ids = model.layout, random_ids(4)
    frame_nll, action_nll = world_model_loss(model, *layout.split(ids), chance(), frames_per_clip=layout.num_frames - 1)
    log_probs = model.token_log_probs(ids)
    after_first = torch.arange(1, layout.length) >= layout.tokens_per_frame
    frame = layout.frame_mask(past_context=False)[1:] & after_first
    torch.testing.assert_close(frame_nll, -log_probs[:, frame].mean())
    torch.testing.assert_close(action_nll, -log_probs[:, layout.action_mask(past_context=False)[1:]].mean())


def test_fewer_frames_are_an_unbiased_estimate(make_model: Make, random_ids: Make) -> None:
    model = make_model("temporal_depth")
    clips = model.layout.split(random_ids(64))
    exact = world_model_loss(model, *clips, chance(), frames_per_clip=4)[0]
    source = chance()
    draws = torch.stack([world_model_loss(model, *clips, source, frames_per_clip=1)[0] for _ in range(40)])
    assert abs(draws.mean() - exact) < 4 * draws.std() / 40**0.5
    assert draws.std() > 0


def test_held_out_figures_count_what_a_rollout_writes(model: Any, random_ids: Make) -> None:
    layout, ids = model.layout, random_ids(5)
    log_probs = model.token_log_probs(ids)
    figures = held_out_nll(model, *layout.split(ids), chunk=2)
    assert figures["nll_frame_token"] == pytest.approx(-float(log_probs[:, layout.frame_mask()[1:]].mean()), abs=1e-4)
    assert figures["nll_action_token"] == pytest.approx(-float(log_probs[:, layout.action_mask()[1:]].mean()), abs=1e-4)


@pytest.mark.parametrize("shape", ["temporal_depth", "flat"])
def test_a_few_steps_learn_what_always_happens(make_model: Make, random_ids: Make, shape: str) -> None:
    model = make_model(shape).requires_grad_(True).train()
    codes, bins = model.layout.split(random_ids(1).repeat(8, 1))
    optimizer, source = make_optimizer(model, 0.0), chance()
    losses = []
    for _ in range(25):
        loss = sum(world_model_loss(model, codes, bins, source))
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.7 * losses[0]


def test_learning_rate_by_hand() -> None:
    assert [learning_rate(step, 100, 1.0, 4) for step in range(4)] == [0.25, 0.5, 0.75, 1.0]
    assert learning_rate(4, 100, 1.0, 4) == pytest.approx(1.0)
    assert learning_rate(52, 100, 2.0, 4) == pytest.approx(2 * (0.05 + 0.95 / 2))
    assert learning_rate(100, 100, 1.0, 4) == pytest.approx(0.05)


def test_only_matrices_decay() -> None:
    groups = make_optimizer(nn.Linear(3, 2), 0.1).param_groups
    assert [(group["weight_decay"], [p.ndim for p in group["params"]]) for group in groups] == [(0.1, [2]), (0.0, [1])]


def train(module: nn.Linear, optimizer: Any, steps: range) -> None:
    for step in steps:
        x = torch.randn(4, 3, generator=torch.Generator().manual_seed(step))
        module(x).square().sum().backward()
        optimizer.step()
        optimizer.zero_grad()


def test_resumed_is_uninterrupted(tmp_path: Path) -> None:
    def fresh(seed: int) -> tuple[nn.Linear, Any]:
        torch.manual_seed(seed)
        module = nn.Linear(3, 2)
        return module, make_optimizer(module, 0.1)

    whole, optimizer = fresh(0)
    train(whole, optimizer, range(6))
    part, optimizer = fresh(0)
    train(part, optimizer, range(3))
    save_training_state(tmp_path / "c.safetensors", training_state(part, optimizer, step=torch.tensor(3)))
    resumed, optimizer = fresh(1)
    extra = load_training_state(tmp_path / "c.safetensors", resumed, optimizer)
    train(resumed, optimizer, range(int(extra["step"]), 6))
    assert torch.equal(resumed.weight, whole.weight) and torch.equal(resumed.bias, whole.bias)
    assert not (tmp_path / "c.tmp").exists()
