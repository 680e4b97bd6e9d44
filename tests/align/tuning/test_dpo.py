"""DPO on action tokens: what is scored, what is not, and that TRL's own numbers are kept."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from trl import DPOConfig, DPOTrainer

from align.tuning.anchor import make_frame_anchor
from align.tuning.dpo import BehaviourCollator, BehaviourDPOTrainer, preference_rows
from align.tuning.policy import id_tokenizer
from align.world_models.adapters import add_lora, save_adapter

Make = Callable[..., Any]
BETA, CHOSEN_WEIGHT = 0.3, 0.5


@pytest.fixture
def pairs(layout: Any, random_ids: Make) -> Any:
    """``pairs(n)``: chosen and rejected int64 [n, L] of the same contexts."""

    def make(num: int) -> tuple[Any, Any]:
        chosen, rejected = random_ids(num, seed=1), random_ids(num, seed=2)
        rejected[:, : layout.prompt_length] = chosen[:, : layout.prompt_length]
        return chosen, rejected

    return make


@pytest.fixture
def make_trainer(tmp_path: Path, layout: Any) -> Make:
    """``make_trainer(policy, chosen, rejected, …)``: a trainer that has done nothing yet."""

    def make(
        policy: Any, chosen: Any, rejected: Any, *, frames: bool = False, scored: Any = None, kind: Any = None, **wishes: Any
    ) -> Any:
        extra = {key: wishes.pop(key) for key in ("anchor", "anchor_weight") if key in wishes}
        arguments: dict[str, Any] = {
            "per_device_train_batch_size": len(chosen),
            "max_steps": 1,
            "learning_rate": 1e-2,
            "lr_scheduler_type": "constant",
            "loss_type": ["sigmoid", "sft"],
            "loss_weights": [1.0, CHOSEN_WEIGHT],
            "beta": BETA,
            "logging_steps": 1,
            **wishes,
        }
        config = DPOConfig(
            output_dir=str(tmp_path / "trainer"),
            max_length=None,
            remove_unused_columns=False,
            activation_checkpointing=False,
            bf16=False,
            use_cpu=True,
            save_strategy="no",
            report_to=[],
            disable_tqdm=True,
            **arguments,
        )
        return (kind or BehaviourDPOTrainer)(
            model=policy,
            args=config,
            train_dataset=preference_rows(layout, chosen, rejected),
            processing_class=id_tokenizer(layout),
            data_collator=BehaviourCollator(
                layout.pad_id, scored=layout.action_mask() if scored is None else scored, frames=frames
            ),
            **extra,
        )

    return make


@pytest.fixture
def moved(tune_a_little: Make) -> Make:
    """``moved(trainer)``: its policy moves away from its reference, which TRL takes when it is made."""

    def move(trainer: Any) -> Any:
        tune_a_little(trainer.model)
        return trainer

    return move


def compute(trainer: Any) -> tuple[Any, dict[str, float]]:
    """The loss on the first batch as training computes it, and the metrics it logs."""
    trainer.model.train()
    batch = next(iter(torch.utils.data.DataLoader(trainer.train_dataset, 64, collate_fn=trainer.data_collator)))
    trainer._metrics["train"].clear()
    loss = trainer.compute_loss(trainer.model, batch)
    return loss, {key: values[-1] for key, values in trainer._metrics["train"].items()}


def test_pairs_share_their_context(layout: Any, random_ids: Make, pairs: Any) -> None:
    rows = preference_rows(layout, *pairs(2))
    assert len(rows) == 2 and set(rows.column_names) == {"prompt_ids", "chosen_ids", "rejected_ids"}
    assert len(rows[0]["prompt_ids"]) == layout.prompt_length
    with pytest.raises(ValueError, match="same context"):
        preference_rows(layout, random_ids(2, seed=1), random_ids(2, seed=2))


def test_collator_scores_chosen_and_rejected_actions_only(layout: Any, pairs: Any) -> None:
    chosen, rejected = pairs(2)
    rows = preference_rows(layout, chosen, rejected)
    batch = BehaviourCollator(layout.pad_id, scored=layout.action_mask())(list(rows))
    assert torch.equal(batch["input_ids"], torch.cat([chosen, rejected]))
    assert torch.equal(batch["completion_mask"], layout.action_mask().long().expand(4, -1))
    assert batch["frames"] is False


def test_margin_at_step_0_is_exactly_0(model: Any, pairs: Any, make_trainer: Make) -> None:
    loss, metrics = compute(make_trainer(add_lora(model, 2, 4, 0), *pairs(3), loss_type=["sigmoid"], loss_weights=[1.0]))
    assert metrics["rewards/margins"] == metrics["rewards/chosen"] == 0
    assert float(loss.detach()) == pytest.approx(float(-F.logsigmoid(torch.tensor(0.0))))


def test_loss_by_hand(model: Any, pairs: Any, make_trainer: Make, moved: Make) -> None:
    chosen, rejected = pairs(2)
    policy = add_lora(model, 2, 4, 0)
    loss, metrics = compute(moved(make_trainer(policy, chosen, rejected)))
    action = model.layout.action_mask()[1:]
    with torch.no_grad():
        now = [policy.get_base_model().token_log_probs(ids)[:, action] for ids in (chosen, rejected)]
        was = [model.token_log_probs(ids)[:, action] for ids in (chosen, rejected)]
    gain = [(n - w).sum(1) for n, w in zip(now, was, strict=True)]
    margin = BETA * (gain[0] - gain[1])
    by_hand = (-torch.log(1 / (1 + torch.exp(-margin)))).mean() - CHOSEN_WEIGHT * now[0].mean()
    assert margin.abs().min() > 1e-2
    torch.testing.assert_close(loss.detach(), by_hand, atol=1e-5, rtol=1e-5)
    assert metrics["rewards/margins"] == pytest.approx(float(margin.mean()), abs=1e-5)
    assert metrics["logps/chosen"] == pytest.approx(float(now[0].sum(1).mean()), abs=1e-4)


class Stock(DPOTrainer):
    """TRL's trainer with nothing changed but that rows are ids already."""

    def _prepare_dataset(self, dataset: Any, *args: Any, **kwargs: Any) -> Any:
        return dataset


def test_compact_head_is_trls_own(model: Any, pairs: Any, make_trainer: Make, moved: Make) -> None:
    stock_loss, stock = compute(moved(make_trainer(add_lora(model, 2, 4, 0), *pairs(3), kind=Stock, frames=True)))
    ours_loss, ours = compute(moved(make_trainer(add_lora(model, 2, 4, 0), *pairs(3))))
    assert abs(ours["rewards/margins"]) > 1e-3
    torch.testing.assert_close(ours_loss, stock_loss, atol=1e-5, rtol=1e-5)
    assert ours.keys() == stock.keys()
    for key in ours:
        assert ours[key] == pytest.approx(stock[key], abs=1e-4, nan_ok=True), key


def test_frame_tokens_carry_no_loss(make_model: Make, pairs: Any, make_trainer: Make, moved: Make) -> None:
    base, other = make_model("temporal_depth"), make_model("temporal_depth")
    with torch.no_grad():
        other.lm_head.weight[: base.layout.num_codes, : base.config.hidden_width] += 3.0
        for tensor in other.model.depth.parameters():
            tensor.mul_(-2)
    first, second = (compute(moved(make_trainer(add_lora(m, 2, 4, 0), *pairs(3))))[0] for m in (base, other))
    assert torch.equal(first, second)
    everything = torch.arange(base.layout.length) >= base.layout.prompt_length
    whole = [
        compute(moved(make_trainer(add_lora(m, 2, 4, 0), *pairs(3), frames=True, scored=everything)))[0] for m in (base, other)
    ]
    assert not torch.allclose(whole[0], whole[1]), "where frames are scored, they matter"


def test_swapping_a_pair_flips_the_sign(model: Any, pairs: Any, make_trainer: Make, moved: Make) -> None:
    chosen, rejected = pairs(3)
    margins = [
        compute(moved(make_trainer(add_lora(model, 2, 4, 0), *pair)))[1]["rewards/margins"]
        for pair in ((chosen, rejected), (rejected, chosen))
    ]
    assert abs(margins[0]) > 1e-3 and margins[0] == pytest.approx(-margins[1], abs=1e-6)


def test_eight_small_steps_are_one_large_one(make_model: Make, pairs: Any, make_trainer: Make, tune_a_little: Make) -> None:
    base, tuned = make_model("temporal_depth"), []
    for batch, accumulate in ((8, 1), (1, 8)):
        policy = tune_a_little(add_lora(base, 2, 4, 0))
        sizes = {"per_device_train_batch_size": batch, "gradient_accumulation_steps": accumulate}
        make_trainer(policy, *pairs(8), optim="sgd", max_grad_norm=0.0, **sizes).train()
        tuned.append({name: p.detach() for name, p in policy.named_parameters() if p.requires_grad})
    start = dict(tune_a_little(add_lora(base, 2, 4, 0)).named_parameters())
    for name, tensor in tuned[0].items():
        assert not torch.equal(tensor, start[name]), name
        torch.testing.assert_close(tuned[1][name], tensor, atol=1e-6, rtol=0)


def test_training_prefers_the_chosen_and_leaves_the_base(model: Any, pairs: Any, make_trainer: Make, tmp_path: Path) -> None:
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    policy = add_lora(model, 4, 8, 0)
    trainer = make_trainer(policy, *pairs(4), max_steps=25)
    trainer.train()
    margins = [row["rewards/margins"] for row in trainer.state.log_history if "loss" in row]
    assert margins[0] == 0 and margins[-1] > 0.3
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert all((p != 0).any() for name, p in policy.named_parameters() if "lora_B.default" in name)
    save_adapter(policy, tmp_path / "adapter", "shared", "")
    assert sorted(path.name for path in (tmp_path / "adapter").iterdir() if path.is_dir()) == []


@pytest.fixture
def anchor(layout: Any, random_ids: Make) -> Any:
    return make_frame_anchor(*layout.split(random_ids(16, seed=5)), clips_per_step=8, seed=0)


def test_anchor_is_added_with_its_weight(make_model: Make, pairs: Any, make_trainer: Make, anchor: Any, moved: Make) -> None:
    base = make_model("temporal_depth")
    plain, _ = compute(moved(make_trainer(add_lora(base, 2, 4, 0), *pairs(2))))
    held, metrics = compute(moved(make_trainer(add_lora(base, 2, 4, 0), *pairs(2), anchor=anchor, anchor_weight=2.5)))
    assert float((held - plain).detach()) == pytest.approx(2.5 * metrics["anchor"], rel=1e-4)
    assert metrics["anchor"] > 1e-4
