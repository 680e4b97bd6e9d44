"""Planted faults that a training would hide, and that it starts where there is none."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from align.errors import ConfigError, RunError
from align.tuning.policy import use_compact_head
from align.tuning.preflight import (
    Preflight,
    check_data,
    check_gradients,
    check_policy,
    check_resumed,
    digest,
    measure_gradients,
    random_clips,
)
from align.world_models.adapters import add_lora

Make = Callable[..., Any]
ROOT = Path(__file__).parents[3]


@pytest.fixture
def policy(model: Any) -> Any:
    """A fresh adapter on a model of each shape, as a trainer holds it."""
    made = add_lora(model, 2, 4, 0)
    use_compact_head(made.get_base_model())
    return made.train()


def test_a_sound_policy_may_be_trained_and_is_left_as_it_was(policy: Any) -> None:
    before = {name: tensor.clone() for name, tensor in policy.state_dict().items()}
    torch.manual_seed(5)
    drawn = torch.rand(1)
    torch.manual_seed(5)
    check_policy(policy)
    assert torch.equal(torch.rand(1), drawn), "later draws are what they would have been"
    assert policy.training and all(p.grad is None for p in policy.parameters())
    assert all(torch.equal(tensor, before[name]) for name, tensor in policy.state_dict().items())


def test_random_clips_are_valid_and_always_the_same(layout: Any) -> None:
    ids = random_clips(layout, 3)
    assert ids.shape == (3, layout.length) and torch.equal(ids, random_clips(layout, 3))
    assert layout.allowed_ids()[layout.kinds, ids].all()


def test_an_adapter_without_trainable_weights_is_empty(policy: Any) -> None:
    policy.requires_grad_(False)
    with pytest.raises(RunError, match="the adapter is empty: nothing in the policy is trainable"):
        check_policy(policy)


def test_an_adapter_of_zeros_throughout_is_empty(policy: Any) -> None:
    with torch.no_grad():
        for name, tensor in policy.named_parameters():
            if ".lora_A." in name:
                tensor.zero_()
    with pytest.raises(RunError, match="the adapter is empty: no gradient"):
        check_policy(policy)


def test_an_adapter_on_modules_that_choose_nothing_is_empty(make_model: Make) -> None:
    """LoRA on the depth decoder, which only dreams frames."""
    from peft import LoraConfig, get_peft_model

    policy = get_peft_model(make_model("temporal_depth"), LoraConfig(r=2, target_modules=r".*\.depth\.0\.up_proj"))
    use_compact_head(policy.get_base_model())
    with pytest.raises(RunError, match="the adapter is empty: no gradient"):
        check_policy(policy)


def test_dropout_makes_the_ratio_differ_from_one(make_model: Make) -> None:
    from peft import LoraConfig, get_peft_model

    class Noise(nn.Module):
        def forward(self, x: Any) -> Any:
            return x * (1.0 + 0.1 * self.training)

    policy = get_peft_model(make_model("temporal_depth"), LoraConfig(r=2, target_modules=r".*\.trunk\.\d\.up_proj"))
    base: Any = policy.get_base_model()
    base.model.action_norm = nn.Sequential(base.model.action_norm, Noise())
    use_compact_head(base)
    with pytest.raises(RunError, match="turn dropout off"):
        check_policy(policy)


def test_an_old_adapter_with_the_base_as_reference_has_another_ratio(policy: Any, tune_a_little: Make) -> None:
    with pytest.raises(RunError, match="the policy differs from its reference"):
        check_policy(tune_a_little(policy))


def test_weights_that_answer_otherwise_once_merged_are_refused(policy: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from peft.tuners.lora import Linear

    plain = Linear.get_delta_weight
    monkeypatch.setattr(Linear, "get_delta_weight", lambda self, adapter: -plain(self, adapter))
    with pytest.raises(RunError, match="merged into the weights answers otherwise"):
        check_policy(policy)


def test_a_resumed_adapter_must_have_an_effect(policy: Any, tune_a_little: Make) -> None:
    with pytest.raises(RunError, match="the adapter of step 7 changes nothing"):
        check_resumed(policy, 7)
    check_resumed(tune_a_little(policy), 7)


def test_ranks_with_the_same_batch_are_named() -> None:
    batch = {"input_ids": torch.tensor([[1, 2]]), "prompt": ["3"], "frames": False, "margin": torch.tensor(0.5)}
    other = batch | {"input_ids": torch.tensor([[1, 3]])}
    again = {name: value.clone() if isinstance(value, torch.Tensor) else value for name, value in batch.items()}
    check_data([digest(batch), digest(other)])
    with pytest.raises(RunError, match="processes 0 and 2 see the same data"):
        check_data([digest(batch), digest(other), digest(again)])


def test_gradients_of_ranks_must_agree(policy: Any) -> None:
    for tensor in (p for p in policy.parameters() if p.requires_grad):
        tensor.grad = torch.ones_like(tensor)
    same = measure_gradients(policy)
    check_gradients([same, list(same)])
    tensor.grad = None
    with pytest.raises(RunError, match="gradients differ between processes"):
        check_gradients([same, measure_gradients(policy)])
    tensor.grad = torch.full_like(tensor, 1.01)
    with pytest.raises(RunError, match="gradients differ between processes"):
        check_gradients([same, measure_gradients(policy)])


def test_a_trainer_that_needs_whole_weights_refuses_shared_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    trainer = SimpleNamespace(
        accelerator=SimpleNamespace(num_processes=1), is_fsdp_enabled=True, is_deepspeed_enabled=False, anchor=lambda: None
    )
    with pytest.raises(ConfigError, match="the anchor on frames needs the whole model"):
        Preflight(trainer).attach()
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(RunError, match="2 processes were started but the trainer knows of 1"):
        Preflight(trainer).attach()


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_faults_between_two_ranks_are_refused_before_a_weight_changes(tmp_path: Path) -> None:
    script = Path(__file__).with_name("faulty_ranks.py")
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc_per_node",
        "2",
        str(script),
        str(tmp_path),
    ]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    subprocess.run(command, check=True, env=environment, capture_output=True)
    for rank in (0, 1):
        told = json.loads((tmp_path / f"{rank}.json").read_text())
        assert told["none"] == {"error": "", "changed": True}
        assert told["same data"]["error"].startswith("processes 0 and 1 see the same data")
        assert told["apart"]["error"].startswith("gradients differ between processes")
        assert not told["same data"]["changed"] and not told["apart"]["changed"]
