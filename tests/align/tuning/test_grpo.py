"""GRPO on action tokens: rollouts, what is scored, the loss by hand, and that what is sampled is what is trained."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from trl import GRPOConfig, GRPOTrainer

from align.errors import RunError
from align.tuning.anchor import make_frame_anchor
from align.tuning.constraints import Multipliers
from align.tuning.grpo import BehaviourGRPOTrainer, DreamRollouts, check_on_policy, make_rewards, prompt_rows
from align.tuning.policy import id_tokenizer
from align.world_models.adapters import add_lora, policy_of
from align.world_models.engine import roll_out

Make = Callable[..., Any]
BETA, EPSILON = 0.3, 0.2


@pytest.fixture(params=["temporal_depth", "flat"])
def world_model(request: pytest.FixtureRequest, make_world_model: Make) -> Any:
    return make_world_model(request.param)


@pytest.fixture
def make_trainer(tmp_path: Path, make_contexts: Make, brightness: Any) -> Make:
    """``make_trainer(world_model, …)``: groups of 4 for each of 4 contexts; one step unless wished otherwise."""

    def make(world_model: Any, *, path: str = "action", rewards: Any = None, score: Any = brightness, **wishes: Any) -> Any:
        extra = {key: wishes.pop(key) for key in ("anchor", "anchor_weight") if key in wishes}
        layout, contexts, multipliers = world_model.layout, make_contexts(4), Multipliers()
        multipliers.begin({"spill": 0.1})
        arguments: dict[str, Any] = {"max_steps": 1, "learning_rate": 1e-2, "lr_scheduler_type": "constant", **wishes}
        config = GRPOConfig(
            output_dir=str(tmp_path / "trainer"),
            per_device_train_batch_size=16,
            num_generations=4,
            max_completion_length=layout.length - layout.prompt_length,
            loss_type="grpo",
            scale_rewards="none",
            beta=BETA,
            epsilon=EPSILON,
            shuffle_dataset=False,
            activation_checkpointing=False,
            remove_unused_columns=False,
            bf16=False,
            use_cpu=True,
            save_strategy="no",
            logging_steps=1,
            report_to=[],
            disable_tqdm=True,
            **arguments,
        )
        return BehaviourGRPOTrainer(
            model=add_lora(world_model.model, 4, 8, 0),
            reward_funcs=rewards or make_rewards("success", multipliers, ["spill"]),
            args=config,
            train_dataset=prompt_rows([0, 1, 2, 3] * config.max_steps),
            processing_class=id_tokenizer(layout),
            rollout_func=DreamRollouts(world_model, path, contexts, score, seed=5),
            **extra,
        )

    return make


@pytest.fixture
def make_batch(tune_a_little: Make) -> Make:
    """``make_batch(trainer)``: rollouts of a policy that has left its reference, as the loss takes them."""

    def make(trainer: Any) -> dict[str, Any]:
        tune_a_little(trainer.model, 0.5)
        trainer.model.train()
        trainer.current_gradient_accumulation_steps = 1  # set by the training loop
        rows: dict[str, Any] = trainer._prepare_inputs([{"prompt": str(row)} for row in range(4) for _ in range(4)])
        return rows

    return make


def whole(batch: dict[str, Any]) -> Any:
    return torch.cat([batch["prompt_ids"], batch["completion_ids"]], dim=1)


def test_pass_is_trls_own_on_action_tokens(world_model: Any, make_trainer: Make, make_batch: Make) -> None:
    trainer = make_trainer(world_model)
    ids, layout = whole(make_batch(trainer)), world_model.layout
    keep = layout.length - layout.prompt_length
    question = (trainer.model, ids, torch.ones_like(ids), keep)
    ours, our_entropy, _ = trainer._get_per_token_logps_and_entropies(*question, batch_size=5, compute_entropy=True)
    stock, stock_entropy, _ = GRPOTrainer._get_per_token_logps_and_entropies(trainer, *question, compute_entropy=True)
    action = layout.action_mask()[layout.prompt_length :]
    torch.testing.assert_close(ours[:, action], stock[:, action], atol=1e-5, rtol=0)
    torch.testing.assert_close(our_entropy[:, action], stock_entropy[:, action], atol=1e-5, rtol=0)
    assert (ours[:, ~action] == 0).all() and (stock[:, ~action] != 0).any()


def test_depth_decoder_is_skipped(make_world_model: Make, make_trainer: Make, make_batch: Make) -> None:
    trainer = make_trainer(make_world_model("temporal_depth"))
    ids = whole(make_batch(trainer))
    trainer.model.get_base_model().model.run_depth = None
    trainer._get_per_token_logps_and_entropies(trainer.model, ids, torch.ones_like(ids), 10)


@pytest.mark.parametrize("path", ["action", "shared"])
def test_engine_and_trainer_agree(path: str, world_model: Any, make_trainer: Make, tune_a_little: Make) -> None:
    trainer = make_trainer(world_model, path=path)
    tune_a_little(trainer.model, 0.5)
    policy = policy_of(trainer.model, world_model.model, path)
    made = roll_out(policy, trainer.rollout_func.contexts.ids[:, : world_model.layout.prompt_length], range(4))
    log_probs = made.log_probs * world_model.layout.action_mask()
    check_on_policy(trainer, made.ids, log_probs)
    with pytest.raises(RunError, match="the policy that samples differs from the one that is trained by 0"):
        check_on_policy(trainer, made.ids, log_probs + 0.01 * world_model.layout.action_mask())
    with pytest.raises(RunError, match="nan nats"):
        check_on_policy(trainer, made.ids, log_probs * torch.nan)


@pytest.mark.parametrize("updates", [1, 2])
def test_old_and_new_policy_start_alike(updates: int, world_model: Any, make_trainer: Make, make_batch: Make) -> None:
    trainer = make_trainer(world_model, num_iterations=updates, max_steps=2)
    batch = make_batch(trainer)
    assert ("old_per_token_logps" in batch) == (updates == 2)
    trainer._compute_loss(trainer.model, batch)
    assert trainer._metrics["train"]["clip_ratio/region_mean"] == [0.0]
    ids = whole(batch)
    now, _, _ = trainer._get_per_token_logps_and_entropies(
        trainer.model, ids, torch.ones_like(ids), batch["completion_ids"].shape[1]
    )
    torch.testing.assert_close(batch["sampling_per_token_logps"], now.detach(), atol=2e-5, rtol=0)
    if updates == 2:
        assert torch.equal(batch["old_per_token_logps"], now.detach())


def test_loss_by_hand(world_model: Any, make_trainer: Make, make_batch: Make) -> None:
    trainer = make_trainer(world_model)
    batch = make_batch(trainer)
    torch.manual_seed(1)
    batch["old_per_token_logps"] = batch["sampling_per_token_logps"] + 0.3 * torch.randn(batch["completion_ids"].shape)
    loss = trainer._compute_loss(trainer.model, batch).detach()
    layout = world_model.layout
    action = layout.action_mask()[1:]
    with torch.no_grad():
        now = trainer.model.get_base_model().token_log_probs(whole(batch))[:, action]
        was = world_model.model.token_log_probs(whole(batch))[:, action]
    old = batch["old_per_token_logps"][:, layout.action_mask()[layout.prompt_length :]]
    ratio, advantage = (now - old).exp(), batch["advantages"][:, None]
    gain = torch.minimum(ratio * advantage, ratio.clamp(1 - EPSILON, 1 + EPSILON) * advantage)
    divergence = (was - now).exp() - (was - now) - 1
    assert ((ratio - 1).abs() > EPSILON).any() and (divergence > 1e-3).any()
    torch.testing.assert_close(loss, (BETA * ratio * divergence - gain).mean(), atol=1e-5, rtol=1e-4)


def test_advantages_are_weighted_passes_minus_the_groups_mean(world_model: Any, make_trainer: Make, make_batch: Make) -> None:
    trainer = make_trainer(world_model)
    trainer.reward_weights[1] = 3.0
    seen: dict[str, Any] = {}
    score = trainer.rollout_func.score
    trainer.rollout_func.score = lambda video, scenes: seen.setdefault("passes", score(video, scenes))
    batch = make_batch(trainer)
    success, spill = (torch.tensor([v or 0.0 for v in seen["passes"][axis]]) for axis in ("success", "spill"))
    reward = (success + 3 * spill).reshape(4, 4)
    wanted = (reward - reward.mean(1, keepdim=True)).flatten()
    torch.testing.assert_close(batch["advantages"].sort().values, wanted.sort().values, atol=1e-6, rtol=1e-5)
    assert seen["passes"]["spill"][4:8] == [None] * 4 and wanted.abs().max() > 1e-3
    assert trainer._metrics["train"]["multiplier/spill"] == [1.0]
    assert trainer._metrics["train"]["rewards/spill/mean"] == [pytest.approx(float(spill[[*range(4), *range(8, 12)]].mean()))]


def test_frame_tokens_carry_no_loss(make_world_model: Make, make_trainer: Make, make_batch: Make) -> None:
    trainer = make_trainer(make_world_model("temporal_depth"))
    batch = make_batch(trainer)
    before = trainer._compute_loss(trainer.model, batch)
    before.backward()
    base = trainer.model.get_base_model()
    assert all(p.grad is None for name, p in base.named_parameters() if "depth" in name)
    assert int(batch["tool_mask"][0].sum()) == 3 * base.layout.num_dims
    batch["old_per_token_logps"] = batch["sampling_per_token_logps"] + 5.0 * (1 - batch["tool_mask"])
    torch.testing.assert_close(trainer._compute_loss(trainer.model, batch).detach(), before.detach(), atol=1e-5, rtol=0)


def test_rollouts_depend_on_seed_step_and_place_alone(make_world_model: Make, make_contexts: Make, brightness: Any) -> None:
    world_model = make_world_model("temporal_depth")
    model = add_lora(world_model.model, 2, 4, 0)

    def dream(rows: list[int], *, step: int = 3, rank: int = 0, seed: int = 5) -> list[Any]:
        rollouts = DreamRollouts(world_model, "action", make_contexts(4), brightness, seed)
        rollouts.checked = True
        accelerator = SimpleNamespace(unwrap_model=lambda model: model, process_index=rank)
        trainer: Any = SimpleNamespace(accelerator=accelerator, model=model, state=SimpleNamespace(global_step=step))
        made: list[Any] = rollouts([str(row) for row in rows], trainer)["completion_ids"]
        return made

    both = dream([0, 0, 1, 1])
    assert both == dream([0, 0, 1, 1]) and both[0] != both[1]
    assert dream([1, 1], rank=1) == both[2:], "two ranks draw what one draws with twice the batch"
    assert dream([0, 0, 1, 1], step=4) != both != dream([0, 0, 1, 1], seed=6)


def test_training_raises_the_reward_and_leaves_the_base(world_model: Any, make_trainer: Make) -> None:
    layout = world_model.layout
    before = {name: tensor.clone() for name, tensor in world_model.model.state_dict().items()}
    kinds = layout.kinds[layout.prompt_length :]

    def low_first_dim(completion_ids: Any, **_: Any) -> list[float]:
        low = (torch.tensor(completion_ids) == layout.num_codes) & (kinds == 1)
        return (low.sum(1) / (kinds == 1).sum()).tolist()

    trainer = make_trainer(world_model, rewards=[low_first_dim], max_steps=12, learning_rate=3e-2)
    trainer.beta = 0.01
    trainer.train()
    rewards = [row["rewards/low_first_dim/mean"] for row in trainer.state.log_history if "loss" in row]
    assert sum(rewards[-3:]) / 3 > rewards[0] + 0.3
    assert all(torch.equal(tensor, before[name]) for name, tensor in world_model.model.state_dict().items())


def test_anchor_is_added_with_its_weight(
    make_world_model: Make, make_trainer: Make, make_batch: Make, random_ids: Make
) -> None:
    world_model = make_world_model("temporal_depth")
    anchor = make_frame_anchor(*world_model.layout.split(random_ids(8, seed=5)), clips_per_step=4, seed=0)
    trainer = make_trainer(world_model, path="shared", anchor=anchor, anchor_weight=2.5)
    batch = make_batch(trainer)
    held = trainer._compute_loss(trainer.model, batch)
    logged = trainer._metrics["train"]["anchor"][-1]
    trainer.anchor = None
    plain = trainer._compute_loss(trainer.model, batch)
    assert float((held - plain).detach()) == pytest.approx(2.5 * logged, rel=1e-3) and logged > 1e-4


def test_another_temperature_is_refused(make_world_model: Make, make_trainer: Make) -> None:
    with pytest.raises(ValueError, match="temperature must be 1"):
        make_trainer(make_world_model("flat"), temperature=0.7)
