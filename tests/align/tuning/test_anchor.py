"""The anchor: what it measures, and that it pulls back."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from align.tuning.anchor import frame_log_probs, make_frame_anchor
from align.world_models.adapters import add_lora

Make = Callable[..., Any]


@pytest.fixture
def anchor(layout: Any, random_ids: Make) -> Any:
    return make_frame_anchor(*layout.split(random_ids(16, seed=5)), clips_per_step=8, seed=0)


def test_frame_log_probs_are_the_models_own(model: Any, layout: Any, random_ids: Make) -> None:
    ids = random_ids(3)
    codes, bins = layout.split(ids)
    picks = torch.tensor([[0, 3], [1, 2], [3, 0]])
    got = frame_log_probs(model, codes, bins, picks)
    assert got.shape == (6, layout.tokens_per_frame, layout.num_codes)
    torch.testing.assert_close(got.exp().sum(-1), torch.ones(6, layout.tokens_per_frame))
    wanted = model(ids).logits.log_softmax(-1)[..., : layout.num_codes]
    for row, (clip, before) in enumerate((c, int(b)) for c in range(3) for b in picks[c]):
        start = (before + 1) * layout.stride - 1
        torch.testing.assert_close(got[row], wanted[clip, start : start + layout.tokens_per_frame], atol=2e-5, rtol=0)


def test_anchor_is_0_at_first_and_pulls_back_afterwards(model: Any, anchor: Any, tune_a_little: Make) -> None:
    policy = add_lora(model, 2, 4, 0)
    assert float(anchor(policy, 0).detach()) == pytest.approx(0, abs=1e-7)
    tune_a_little(policy, 0.1)
    value = anchor(policy, 0)
    assert float(value.detach()) > 1e-4
    value.backward()
    learned = [p for p in policy.parameters() if p.requires_grad]
    length = torch.stack([p.grad.square().sum() for p in learned if p.grad is not None]).sum()
    with torch.no_grad():
        for p in learned:
            if p.grad is not None:
                p -= 0.05 * float(value) / float(length) * p.grad
    assert float(anchor(policy, 0).detach()) < float(value.detach())


def test_anchor_draws_the_same_clips_at_the_same_step(model: Any, anchor: Any, tune_a_little: Make) -> None:
    policy = tune_a_little(add_lora(model, 2, 4, 0))
    first, again, other = (float(anchor(policy, step).detach()) for step in (3, 3, 4))
    assert first == again != other
