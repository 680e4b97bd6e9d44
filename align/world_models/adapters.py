"""Adapters: standard PEFT folders, and what they may change.

An adapter works on one of two *paths*, which its folder states in ``gptsim_adapter.json``:

- ``shared``: it changes the whole model, as any LoRA does. Behaviour and dynamics come from the tuned weights, so the
  dynamics need an anchor. It can be merged and exported.
- ``action``: it changes what the model *does* and nothing else. Actions come from the tuned weights, frames from the base,
  so that what the world does in answer is the base's by construction. Its tensors are named for a module called
  ``action_path``, which only :func:`load_policy` builds: loading it onto the plain base model fails, and merging it into
  one set of weights is refused, because both would let it dream frames too.
"""

from __future__ import annotations

import copy
import json
import os
import re
import tempfile
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch
from safetensors.torch import load_file, save_file
from torch import nn

from align.errors import AdapterError
from align.world_models.base import TokenWorldModel
from align.world_models.engine import Policy

if TYPE_CHECKING:
    from peft import PeftModel

PATHS = ("shared", "action")
WEIGHTS, CONFIG, ABOUT = "adapter_model.safetensors", "adapter_config.json", "gptsim_adapter.json"
_ROOT = "base_model.model."


class ActionPath(nn.Module):
    """Holds the weights that choose actions, so that an action-path adapter has something to hang on to."""

    def __init__(self, model: TokenWorldModel) -> None:
        super().__init__()
        self.action_path = model
        self.config = model.config


def share_weights(model: TokenWorldModel) -> TokenWorldModel:
    """A copy of the modules that uses the very same tensors; an adapter on the copy leaves the original as it is."""
    tensors = [*model.parameters(), *model.buffers()]
    return copy.deepcopy(model, {id(tensor): tensor for tensor in tensors})


def add_lora(model: TokenWorldModel, rank: int, alpha: int, seed: int) -> PeftModel:
    """A trainable LoRA (Hu et al. 2021) on the model's behaviour modules; the base's tensors are shared and frozen.

    Args:
        model: The base; it is not changed.
        rank: r of the low-rank update W + (alpha / r)·B·A.
        alpha: Scale of the update.
        seed: Seed of A; B starts at 0, so the first outputs are the base's.
    """
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(seed)
    targets = getattr(model, "LORA_TARGETS", "all-linear")
    config = LoraConfig(r=rank, lora_alpha=alpha, lora_dropout=0.0, target_modules=targets, exclude_modules=["lm_head"])
    if targets != "all-linear":
        config.exclude_modules = None
    with warnings.catch_warnings():
        # PEFT asks transformers for a property under its old name.
        warnings.filterwarnings("ignore", message="`is_gradient_checkpointing` is deprecated")
        return get_peft_model(share_weights(model), config)


def start_from(policy: PeftModel, folder: Path, path: str) -> None:
    """Give what :func:`add_lora` made the weights of a saved adapter, so that tuning goes on from there.

    Args:
        policy: A LoRA of the adapter's rank and alpha, on the adapter's base.
        folder: The adapter's folder.
        path: ``shared`` or ``action``, on which the tuning will work.

    Raises:
        AdapterError: If the folder is no adapter, works on the other path, or doesn't fit the LoRA.
    """
    from peft import get_peft_model_state_dict, set_peft_model_state_dict

    if (there := adapter_path(folder)) != path:
        raise AdapterError(f"{folder} works on the path {there}; set path={there} to go on from it")
    own: Any = policy.peft_config["default"]
    about = json.loads((folder / CONFIG).read_text())
    if (about["r"], about["lora_alpha"]) != (own.r, own.lora_alpha):
        raise AdapterError(f"{folder} has rank {about['r']} and alpha {about['lora_alpha']}; set rank and alpha to these")
    state = {key.replace(_ROOT + "action_path.", _ROOT, 1): value for key, value in load_file(folder / WEIGHTS).items()}
    wanted = {key: value.shape for key, value in get_peft_model_state_dict(policy).items()}
    if wanted != {key: value.shape for key, value in state.items()}:
        raise AdapterError(f"{folder} does not fit this world model; use the base it was trained on")
    set_peft_model_state_dict(policy, state)


def gather_adapter(model: PeftModel) -> dict[str, torch.Tensor]:
    """The adapter's tensors, whole; where ranks share them out (FSDP2, ZeRO-3) every rank must call this."""
    names = {name: value for name, value in model.named_parameters() if ".lora_" in name}
    return {name: _whole(value).detach().cpu() for name, value in names.items()}


def _whole(tensor: Any) -> torch.Tensor:
    if hasattr(tensor, "full_tensor"):
        return cast(torch.Tensor, tensor.full_tensor())
    if hasattr(tensor, "ds_id"):
        from deepspeed.zero import GatheredParameters

        with GatheredParameters([tensor]):
            return cast(torch.Tensor, tensor.data.clone())
    return cast(torch.Tensor, tensor)


def save_adapter(model: PeftModel, folder: Path, path: str, card: str, state: Mapping[str, torch.Tensor] | None = None) -> None:
    """Write a PEFT folder with a model card; for the action path the names say so.

    One that was cut off leaves what was there, or a folder without its config, which nothing takes for an adapter.

    Args:
        model: What :func:`add_lora` made, trained.
        folder: Where to.
        path: ``shared`` or ``action``.
        card: Text of README.md.
        state: What :func:`gather_adapter` gave; None takes the model's own tensors.
    """
    if path not in PATHS:
        raise ValueError(f"path must be one of {list(PATHS)}, got {path!r}")
    folder.mkdir(parents=True, exist_ok=True)
    # Beside it, because a cut between PEFT's plain names and ours would leave an action adapter that says shared.
    with tempfile.TemporaryDirectory(prefix=f".{folder.name}-", dir=folder.parent) as name:
        written = Path(name)
        # TRL keeps a copy of the adapter as its reference, which is no part of the result.
        model.save_pretrained(name, selected_adapters=["default"], state_dict=None if state is None else dict(state))
        if path == "action":
            _name_action_path(written)
        (written / ABOUT).write_text(json.dumps({"path": path}, indent=2) + "\n")
        (written / "README.md").write_text(card)
        (folder / CONFIG).unlink(missing_ok=True)
        for file in sorted(written.iterdir(), key=lambda file: file.name == CONFIG):
            os.replace(file, folder / file.name)


def _name_action_path(folder: Path) -> None:
    """Rename the tensors of a PEFT folder, and what it says it applies to, for :class:`ActionPath`."""
    state = load_file(folder / WEIGHTS)
    save_file({_ROOT + "action_path." + k.removeprefix(_ROOT): v for k, v in state.items()}, folder / WEIGHTS)
    config = json.loads((folder / CONFIG).read_text())
    targets = config["target_modules"]
    # PEFT writes a pattern, or a list of names or of their last parts.
    pattern = targets if isinstance(targets, str) else r"(.*\.)?(" + "|".join(map(re.escape, sorted(targets))) + ")"
    named = rf"action_path\.({pattern})"
    (folder / CONFIG).write_text(json.dumps({**config, "target_modules": named}, indent=2, sort_keys=True) + "\n")


def adapter_path(folder: Path) -> str:
    """Which path an adapter works on; a PEFT folder that doesn't say is ``shared``.

    Raises:
        AdapterError: If the folder is no adapter.
    """
    for name in (CONFIG, WEIGHTS):
        if not (folder / name).is_file():
            raise AdapterError(f"{folder} is no adapter: {name} is missing")
    about = folder / ABOUT
    path = json.loads(about.read_text())["path"] if about.is_file() else "shared"
    if path == "shared" and any("action_path." in key for key in load_file(folder / WEIGHTS)):
        raise AdapterError(f"{folder} is an action-path adapter whose {ABOUT} is missing or wrong; restore that file")
    if path not in PATHS:
        raise AdapterError(f"{about} names the path {path!r}; known: {', '.join(PATHS)}")
    return str(path)


def load_policy(base: TokenWorldModel, folder: Path | None) -> Policy:
    """The base alone, or with an adapter merged in for sampling; the base's weights stay as they are.

    Raises:
        AdapterError: If the folder is no adapter, or doesn't fit this base.
    """
    if folder is None:
        return Policy(base, base)
    path = adapter_path(folder)
    tuned = _merged(base, folder, path)
    return Policy(tuned, base if path == "action" else tuned)


def policy_of(model: PeftModel, base: TokenWorldModel, path: str) -> Policy:
    """Like :func:`load_policy`, from an adapter that is in memory; the adapter stays trainable."""
    merged = copy.deepcopy(model).merge_and_unload().eval().requires_grad_(False)
    return Policy(merged, base if path == "action" else merged)


def export_merged(base: TokenWorldModel, folder: Path) -> TokenWorldModel:
    """The base with a shared adapter merged into its weights.

    Raises:
        AdapterError: If the adapter works on the action path.
    """
    if adapter_path(folder) == "action":
        raise AdapterError(
            f"{folder} changes actions only, and one set of merged weights would let it change the dynamics too; "
            "ship the adapter beside its base, or tune with path=shared"
        )
    return _merged(base, folder, "shared")


def _merged(base: TokenWorldModel, folder: Path, path: str) -> TokenWorldModel:
    from peft import PeftModel

    # The update is written into the merged layers, so they need tensors of their own.
    own = copy.deepcopy(base)
    wrapped = ActionPath(own) if path == "action" else own
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Found missing adapter keys")  # checked below
            loaded = PeftModel.from_pretrained(wrapped, str(folder))
        _check_complete(loaded, folder)
        model = loaded.merge_and_unload()
    except (ValueError, RuntimeError, KeyError) as error:
        reason = str(error).split("\n")[0]
        raise AdapterError(f"{folder} does not fit this world model; use the base it was trained on ({reason})") from error
    tuned = model.action_path if path == "action" else model
    return tuned.eval().requires_grad_(False)


def _check_complete(model: PeftModel, folder: Path) -> None:
    """PEFT leaves out in silence what only one side has, such as the layers of a deeper model."""
    from peft import get_peft_model_state_dict

    wanted, got = set(load_file(folder / WEIGHTS)), set(get_peft_model_state_dict(model))
    if odd := sorted(wanted ^ got):
        raise ValueError(f"{len(odd)} tensors are on one side only, such as {odd[0]}")
