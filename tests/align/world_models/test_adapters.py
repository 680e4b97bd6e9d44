"""Adapters: what they may change, what they may not, and what is said when one doesn't fit."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel

from align.errors import AdapterError
from align.world_models import adapters
from align.world_models.adapters import adapter_path, add_lora, export_merged, load_policy, policy_of, save_adapter, start_from

Make = Callable[..., Any]


def make_adapter(model: Any, rank: int = 2) -> Any:
    """A LoRA that has learned something."""
    peft = add_lora(model, rank, 4, seed=0)
    torch.manual_seed(1)
    with torch.no_grad():
        for name, tensor in peft.named_parameters():
            if "lora_B" in name:
                tensor.normal_(std=0.3)
    return peft.eval()


def saved(model: Any, folder: Path, path: str) -> Any:
    peft = make_adapter(model)
    save_adapter(peft, folder, path, "# card\n")
    return peft


def snapshot(model: Any) -> dict[str, Any]:
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


@pytest.mark.parametrize("path", ["shared", "action"])
def test_loaded_is_merged_is_unmerged(model: Any, random_ids: Make, tmp_path: Path, path: str) -> None:
    before, ids = snapshot(model), random_ids(3)
    peft = saved(model, tmp_path / "adapter", path)
    unmerged = peft.get_base_model().token_log_probs(ids).detach()
    assert (unmerged - model.token_log_probs(ids)).abs().max() > 1e-2
    for policy in (policy_of(peft, model, path), load_policy(model, tmp_path / "adapter")):
        torch.testing.assert_close(policy.behaviour.token_log_probs(ids), unmerged, atol=1e-4, rtol=0)
        assert (policy.dynamics is model) == (path == "action")
        assert (policy.dynamics is policy.behaviour) == (path == "shared")
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert any(p.requires_grad for p in peft.parameters()), "the adapter in memory stays trainable"


def test_action_path_leaves_the_dynamics_exactly(model: Any, random_ids: Make, tmp_path: Path) -> None:
    ids = random_ids(3)
    before = model.token_log_probs(ids)
    saved(model, tmp_path / "adapter", "action")
    policy = load_policy(model, tmp_path / "adapter")
    assert torch.equal(policy.dynamics.token_log_probs(ids), before)


def test_a_deep_flat_model_keeps_its_action_adapter(make_model: Make, random_ids: Make, tmp_path: Path) -> None:
    """PEFT shortens the module names of models with many layers."""
    model, ids = make_model("flat", num_hidden_layers=4), random_ids(2)
    peft = saved(model, tmp_path / "adapter", "action")
    got = load_policy(model, tmp_path / "adapter").behaviour.token_log_probs(ids)
    torch.testing.assert_close(got, peft.get_base_model().token_log_probs(ids).detach(), atol=1e-4, rtol=0)


def test_a_fresh_adapter_is_the_base(model: Any, random_ids: Make) -> None:
    ids = random_ids(2)
    peft = add_lora(model, 2, 4, seed=0)
    assert torch.equal(peft.get_base_model().token_log_probs(ids).detach(), model.token_log_probs(ids))


def test_the_seed_fixes_an_adapter(make_model: Make) -> None:
    model = make_model("temporal_depth")
    first, same, other = (
        {name: p.detach() for name, p in add_lora(model, 2, 4, seed=seed).named_parameters() if "lora_A" in name}
        for seed in (0, 0, 1)
    )
    assert first and all(torch.equal(first[name], same[name]) for name in first)
    assert all(not torch.equal(first[name], other[name]) for name in first)


def test_lora_leaves_the_depth_decoder_and_the_head_alone(make_model: Make) -> None:
    names = [name for name, p in add_lora(make_model("temporal_depth"), 2, 4, 0).named_parameters() if p.requires_grad]
    assert names and not any(".depth" in name or "lm_head" in name for name in names)
    flat = [name for name, p in add_lora(make_model("flat"), 2, 4, 0).named_parameters() if p.requires_grad]
    assert flat and not any("lm_head" in name for name in flat)


def test_no_adapter_is_the_base(model: Any) -> None:
    policy = load_policy(model, None)
    assert policy.behaviour is model and policy.dynamics is model


def test_plain_peft_loads_a_shared_adapter_but_not_an_action_one(make_model: Make, random_ids: Make, tmp_path: Path) -> None:
    base, ids = make_model("temporal_depth"), random_ids(2)
    peft = saved(base, tmp_path / "shared", "shared")
    plain = PeftModel.from_pretrained(make_model("temporal_depth"), str(tmp_path / "shared"))
    wanted = peft.get_base_model().token_log_probs(ids).detach()
    torch.testing.assert_close(plain.get_base_model().token_log_probs(ids), wanted)
    saved(base, tmp_path / "action", "action")
    with pytest.raises(ValueError, match="not found in the base model"):
        PeftModel.from_pretrained(make_model("temporal_depth"), str(tmp_path / "action"))


def test_export_merges_shared_and_refuses_action(make_model: Make, random_ids: Make, tmp_path: Path) -> None:
    base, ids = make_model("temporal_depth"), random_ids(2)
    peft = saved(base, tmp_path / "shared", "shared")
    merged = export_merged(base, tmp_path / "shared")
    assert set(merged.state_dict()) == set(base.state_dict())
    wanted = peft.get_base_model().token_log_probs(ids).detach()
    torch.testing.assert_close(merged.token_log_probs(ids), wanted, atol=1e-4, rtol=0)
    saved(base, tmp_path / "action", "action")
    with pytest.raises(AdapterError, match="actions only"):
        export_merged(base, tmp_path / "action")


@pytest.mark.parametrize("path", ["shared", "action"])
@pytest.mark.parametrize("sizes", [{"trunk_width": 16}, {"trunk_layers": 1}, {"trunk_layers": 3}])
def test_an_adapter_of_another_size_is_one_sentence(make_model: Make, tmp_path: Path, path: str, sizes: dict[str, int]) -> None:
    saved(make_model("temporal_depth"), tmp_path / "adapter", path)
    other = make_model("temporal_depth", **sizes)
    with pytest.raises(AdapterError, match="does not fit this world model") as caught:
        load_policy(other, tmp_path / "adapter")
    assert "\n" not in str(caught.value)


def test_an_adapter_of_the_other_shape_does_not_fit(make_model: Make, tmp_path: Path) -> None:
    saved(make_model("flat"), tmp_path / "adapter", "shared")
    with pytest.raises(AdapterError, match="does not fit"):
        load_policy(make_model("temporal_depth"), tmp_path / "adapter")


def test_what_is_no_adapter_is_named(make_model: Make, tmp_path: Path) -> None:
    with pytest.raises(AdapterError, match=r"adapter_config\.json is missing"):
        adapter_path(tmp_path)
    with pytest.raises(ValueError, match="path must be one of"):
        save_adapter(add_lora(make_model("temporal_depth"), 2, 4, 0), tmp_path, "both", "")


def test_an_action_adapter_without_its_note_is_not_taken_for_shared(make_model: Make, tmp_path: Path) -> None:
    saved(make_model("temporal_depth"), tmp_path / "adapter", "action")
    assert adapter_path(tmp_path / "adapter") == "action"
    (tmp_path / "adapter" / "gptsim_adapter.json").unlink()
    with pytest.raises(AdapterError, match="missing or wrong"):
        load_policy(make_model("temporal_depth"), tmp_path / "adapter")
    (tmp_path / "adapter" / "gptsim_adapter.json").write_text('{"path": "sideways"}')
    with pytest.raises(AdapterError, match="sideways"):
        adapter_path(tmp_path / "adapter")


@pytest.mark.parametrize("cut", ["safetensors", "rename"])
def test_an_action_adapter_that_was_cut_off_is_never_taken_for_shared(
    make_model: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cut: str
) -> None:
    def stop(*_: Any) -> None:
        raise KeyboardInterrupt

    def rename_some(source: Path, target: Path) -> None:
        renamed.append(target)
        if len(renamed) > 2:
            raise KeyboardInterrupt
        rename(source, target)

    renamed: list[Path] = []
    rename = os.replace
    with monkeypatch.context() as patch:
        if cut == "safetensors":
            patch.setattr(adapters, "save_file", stop)
        else:
            patch.setattr(os, "replace", rename_some)
        with pytest.raises(KeyboardInterrupt):
            saved(make_model("temporal_depth"), tmp_path / "adapter", "action")
    with pytest.raises(AdapterError, match="is no adapter"):
        adapter_path(tmp_path / "adapter")
    saved(make_model("temporal_depth"), tmp_path / "adapter", "action")
    assert adapter_path(tmp_path / "adapter") == "action"
    assert [file.name for file in tmp_path.iterdir()] == ["adapter"], "nothing is left beside it"


def test_a_peft_folder_that_says_nothing_is_shared(make_model: Make, tmp_path: Path) -> None:
    make_adapter(make_model("temporal_depth")).save_pretrained(tmp_path / "adapter")
    assert adapter_path(tmp_path / "adapter") == "shared"
    assert (tmp_path / "adapter" / "adapter_model.safetensors").exists()


@pytest.mark.parametrize("path", ["shared", "action"])
def test_tuning_can_go_on_from_a_saved_adapter(model: Any, random_ids: Make, tmp_path: Path, path: str) -> None:
    ids = random_ids(2)
    peft = saved(model, tmp_path / "adapter", path)
    fresh = add_lora(model, 2, 4, seed=5)
    start_from(fresh, tmp_path / "adapter", path)
    wanted, got = (lora.get_base_model().token_log_probs(ids) for lora in (peft, fresh.eval()))
    torch.testing.assert_close(got, wanted)
    assert any(p.requires_grad for p in fresh.parameters())


def test_an_adapter_that_doesnt_fit_is_no_start(make_model: Make, tmp_path: Path) -> None:
    model = make_model("flat")
    saved(model, tmp_path / "adapter", "shared")
    with pytest.raises(AdapterError, match="works on the path shared; set path=shared"):
        start_from(add_lora(model, 2, 4, 0), tmp_path / "adapter", "action")
    with pytest.raises(AdapterError, match="has rank 2 and alpha 4; set rank and alpha to these"):
        start_from(add_lora(model, 3, 4, 0), tmp_path / "adapter", "shared")
    with pytest.raises(AdapterError, match="does not fit this world model"):
        start_from(add_lora(make_model("temporal_depth"), 2, 4, 0), tmp_path / "adapter", "shared")
