"""The loss, what training moves and what it must not move, and gradients for planners."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from scipy import stats
from transformers import TrainingArguments

from align.errors import ConfigError
from align.tuning.anchor import make_frame_anchor
from align.tuning.reward_gradient import (
    RewardGradientTrainer,
    action_divergence,
    action_gradients,
    combine_log_odds,
    context_rows,
)
from align.tuning.unroll import Relaxation
from align.world_models.adapters import add_lora, policy_of
from align.world_models.engine import roll_out

Make = Callable[..., Any]


def darkness(video: Any, scenes: Sequence[str]) -> dict[str, Any]:
    """Log-odds that a clip ends dark; asked of half of the scenes under another name as well."""
    dark = 20 * (0.5 - video[:, -2:].mean((1, 2, 3, 4)))
    asked = torch.tensor([scene == "pour" for scene in scenes])
    return {"success": dark, "spill": dark.masked_fill(~asked, math.nan)}


@pytest.fixture
def make_trainer(tmp_path: Path, make_contexts: Make) -> Make:
    """``make_trainer(world_model, steps, …)``: 8 contexts a step."""

    def make(world_model: Any, steps: int, path: str = "action", **wishes: Any) -> Any:
        settings: dict[str, Any] = {"learning_rate": 0.02, "lr_scheduler_type": "constant", "save_strategy": "no"}
        arguments = TrainingArguments(
            output_dir=str(tmp_path / "trainer"),
            max_steps=steps,
            per_device_train_batch_size=8,
            remove_unused_columns=False,
            use_cpu=True,
            logging_steps=1,
            report_to=[],
            disable_tqdm=True,
            **settings,
        )
        given: dict[str, Any] = {"score": darkness, "weights": {}, "beta": 0.0, "how": Relaxation(), **wishes}
        return RewardGradientTrainer(
            model=add_lora(world_model.model, 4, 8, 0),
            args=arguments,
            train_dataset=context_rows(list(range(8)) * steps),
            world_model=world_model,
            path=path,
            contexts=make_contexts(8),
            **given,
        )

    return make


def end_dark(world_model: Any, policy: Any, contexts: Any) -> Any:
    """Rewards of 8 rollouts of each context, on seeds that no training uses."""
    cut, samples = world_model.layout.prompt_length, 8
    prompts = contexts.ids[:, :cut].repeat_interleave(samples, 0)
    ids = roll_out(policy, prompts, range(10_000, 10_000 + len(prompts))).ids
    first = contexts.first_input().repeat_interleave(samples, 0)
    video = torch.from_numpy(world_model.decode(ids, first)).permute(0, 1, 4, 2, 3).float() / 255
    return darkness(video, ["pour"] * len(prompts))["success"].reshape(-1, samples).mean(1)


def test_a_planted_reward_rises(make_world_model: Make, make_trainer: Make, make_contexts: Make) -> None:
    world_model, contexts = make_world_model("temporal_depth"), make_contexts(24)
    trainer = make_trainer(world_model, 12)
    frozen = policy_of(trainer.model, world_model.model, "action")
    trainer.train()
    tuned = policy_of(trainer.model, world_model.model, "action")
    gained = (end_dark(world_model, tuned, contexts) - end_dark(world_model, frozen, contexts)).numpy()
    flipped = stats.permutation_test((gained,), lambda x: x.mean(), permutation_type="samples", n_resamples=999, rng=0)
    assert gained.mean() > 0 and flipped.pvalue < 0.01
    logged = [row for row in trainer.state.log_history if "loss" in row]
    assert len(logged) == 12 and logged[0]["kl"] == pytest.approx(0, abs=1e-6) and logged[-1]["kl"] > 0.01
    assert {"reward", "entropy", "passes/success", "passes/spill"} <= logged[0].keys()


@pytest.mark.parametrize("shape", ["temporal_depth", "flat"])
@pytest.mark.parametrize("path", ["action", "shared"])
def test_training_changes_the_adapter_and_no_bit_of_the_base(
    shape: str, path: str, make_world_model: Make, make_trainer: Make
) -> None:
    world_model = make_world_model(shape)
    parts = {"model": world_model.model, "tokenizer": world_model.tokenizer}
    before = {f"{part}.{key}": value.clone() for part, m in parts.items() for key, value in m.state_dict().items()}
    trainer = make_trainer(world_model, 2, path=path)
    trainer.train()
    after = {f"{part}.{key}": value for part, m in parts.items() for key, value in m.state_dict().items()}
    assert all(torch.equal(after[name], value) for name, value in before.items())
    learned = {name: p for name, p in trainer.model.named_parameters() if p.requires_grad}
    assert all("lora_" in name for name in learned)
    assert any(bool((p != 0).any()) for name, p in learned.items() if "lora_B" in name)


def test_divergence_holds_the_policy_back(make_world_model: Make, make_trainer: Make) -> None:
    world_model = make_world_model("temporal_depth")
    last = []
    for beta in (0.0, 20.0):
        trainer = make_trainer(world_model, 5, beta=beta)
        trainer.train()
        last.append([row["kl"] for row in trainer.state.log_history if "loss" in row][-1])
    assert last[1] < 0.3 * last[0]


def test_the_anchor_is_added_on_the_shared_path(make_world_model: Make, make_trainer: Make, random_ids: Make) -> None:
    world_model = make_world_model("temporal_depth")
    anchor = make_frame_anchor(*world_model.layout.split(random_ids(4)), 2, 0)
    trainer = make_trainer(world_model, 3, path="shared", anchor=anchor, anchor_weight=2.0)
    trainer.train()
    rows = [row for row in trainer.state.log_history if "loss" in row]
    assert rows[-1]["anchor"] > 1e-4
    for row in rows:
        assert row["loss"] == pytest.approx(2 * row["anchor"] - row["reward"], abs=2e-3)


def test_axes_are_combined_by_hand() -> None:
    scores = {"success": torch.tensor([2.0, -1.0]), "spill": torch.tensor([math.nan, 0.0])}
    for tensor in scores.values():
        tensor.requires_grad_()
    combined = combine_log_odds(scores, {"spill": 3.0})
    by_hand = [-math.log1p(math.exp(-2.0)), -math.log1p(math.e) - 3 * math.log(2)]
    assert combined.tolist() == pytest.approx(by_hand)
    combined.sum().backward()
    assert scores["spill"].grad is not None and scores["spill"].grad.tolist() == pytest.approx([0.0, 1.5])


def test_divergence_is_exact(make_world_model: Make, random_ids: Make, tune_a_little: Make) -> None:
    base, ids = make_world_model("flat").model, random_ids(2)
    layout = base.layout
    peft = add_lora(base, 2, 4, 0)
    divergence, entropy = action_divergence(peft.get_base_model(), base, ids)
    assert float(divergence.detach()) == pytest.approx(0, abs=1e-6)
    tuned = tune_a_little(peft, 0.3).get_base_model()
    divergence, entropy = action_divergence(tuned, base, ids)
    terms, entropies = [], []
    for place in layout.action_mask().nonzero()[:, 0].tolist():
        start = layout.num_codes + int(layout.kinds[place] - 1) * layout.num_bins
        rows = slice(start, start + layout.num_bins)
        now, before = (model(input_ids=ids).logits[:, place - 1, rows].log_softmax(-1) for model in (tuned, base))
        terms.append((now.exp() * (now - before)).sum(-1))
        entropies.append(-(now.exp() * now).sum(-1))
    assert float(divergence.detach()) == pytest.approx(float(torch.stack(terms).mean().detach()), rel=1e-4)
    assert float(entropy) == pytest.approx(float(torch.stack(entropies).mean().detach()), rel=1e-4)


# -- gradients for planners -----------------------------------------------------------------------------------------------


def ends_bright(video: Any, scenes: Sequence[str]) -> Any:
    return video[:, -1].mean((1, 2, 3))


def test_action_gradients_have_the_units_of_the_actions(make_world_model: Make, make_contexts: Make) -> None:
    """Where all is relaxed and noise-free, a step in one action changes the reward by gradient times step."""
    world_model, contexts = make_world_model("temporal_depth"), make_contexts(2)
    layout = world_model.layout
    low, high = (torch.tensor(end) for end in (layout.action_space.low, layout.action_space.high))
    actions = low + (high - low) * torch.rand(2, 4, 2, generator=torch.Generator().manual_seed(3))
    how = Relaxation(straight_through=False)
    found = action_gradients(world_model, ends_bright, contexts, actions, [1, 2], how)
    assert found.gradient.shape == actions.shape and (found.gradient[:, 0] == 0).all()
    for dim, unit in ((0, 2.0), (1, 4.0)):
        shift = torch.zeros_like(actions)
        shift[0, 1, dim] = 1e-3 * unit
        moved = [action_gradients(world_model, ends_bright, contexts, actions + s, [1, 2], how) for s in (shift, -shift)]
        assert all(torch.equal(m.ids, found.ids) for m in moved), "the same dream, or the test says nothing"
        slope = float(moved[0].reward[0] - moved[1].reward[0]) / (2e-3 * unit)
        assert float(found.gradient[0, 1, dim]) == pytest.approx(slope, rel=0.05, abs=2e-5)


def test_action_gradients_follow_last_steps_and_name_a_wrong_shape(make_world_model: Make, make_contexts: Make) -> None:
    world_model, contexts = make_world_model("flat"), make_contexts(2)
    actions = torch.full((2, 4, 2), 0.3)
    cut = action_gradients(world_model, ends_bright, contexts, actions, [1, 2], Relaxation(last_steps=1))
    whole = action_gradients(world_model, ends_bright, contexts, actions, [1, 2])
    assert torch.equal(cut.ids, whole.ids) and torch.equal(cut.reward, whole.reward)
    assert (cut.gradient[:, :-1] == 0).all() and (whole.gradient[:, 1:] != 0).all()
    torch.testing.assert_close(cut.gradient[:, -1], whole.gradient[:, -1])
    with pytest.raises(ValueError, match=r"actions must be \[2, 4, 2\], got \[2, 3, 2\]"):
        action_gradients(world_model, ends_bright, contexts, actions[:, :3], [1, 2])
    with pytest.raises(ConfigError, match="SimpleNamespace can't decode codes softly"):
        action_gradients(replace(world_model, tokenizer=SimpleNamespace()), ends_bright, contexts, actions, [1, 2])
