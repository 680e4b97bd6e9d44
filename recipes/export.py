"""Write a tuned world model out for use elsewhere: merged weights, base and adapter side by side, or a plain causal LM."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from recipes._run import Run

if TYPE_CHECKING:
    from align.world_models.base import TokenWorldModel
    from align.world_models.world_model import WorldModel


MARK = "export.json"
"""Says which run wrote the folder, from what."""


@dataclass(frozen=True)
class Config:
    """What to write, and how."""

    model: str = "household"
    """World model: a shipped name or a folder."""
    adapter: str = ""
    """Adapter folder; empty exports the base."""
    out: str = "export"
    """Folder to write."""
    form: str = "beside"
    """beside: the base, with the adapter in its folder adapter/. merged: one world model with the adapter in its weights, which
    only path=shared allows. causal_lm: merged too, and taken out of its wrapper as a Hugging Face model of its own family (flat
    models only)."""
    half: bool = False
    """Save fp16 weights."""
    seed: int = 0
    """Nothing here is drawn."""


def main(config: Config, run: Run) -> dict[str, Any]:
    """Write the folder, whole or not at all; returns the number of parameters and the folder."""
    import shutil

    from align.errors import ConfigError, DataError
    from align.io import read_json, write_json
    from align.world_models.world_model import load_world_model

    if config.form not in FORMS:
        raise ConfigError(f"form must be one of {', '.join(FORMS)}, got {config.form}")
    out, mark = Path(config.out), {"run": run.path.as_posix(), "model": config.model, "adapter": config.adapter}
    if config.adapter:
        run.record_input("adapter", config.adapter)
    world_model = load_world_model(config.model)
    # A run that was cut off after its last write finds its own mark.
    if not (out / MARK).is_file() or read_json(out / MARK) != mark:
        if out.exists():
            raise DataError(f"{out} exists already; choose another out")
        partial = out.with_name(out.name + ".partial")
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        try:
            FORMS[config.form](config, world_model, partial)
            write_json(partial / MARK, mark)
            partial.replace(out)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    parameters = sum(p.numel() for p in world_model.model.parameters())
    return {"out": str(out), "form": config.form, "parameters": parameters}


def _write_beside(config: Config, world_model: WorldModel, out: Path) -> None:
    """The base, and the adapter in a folder of it."""
    import shutil

    from align.world_models.adapters import load_policy
    from align.world_models.world_model import save_world_model

    save_world_model(out, world_model.tokenizer, world_model.model, world_model.info, half=config.half)
    if config.adapter:
        load_policy(world_model.model, Path(config.adapter))  # raises if it doesn't fit
        shutil.copytree(config.adapter, out / "adapter")


def _write_merged(config: Config, world_model: WorldModel, out: Path) -> None:
    """One world model."""
    from align.world_models.world_model import save_world_model

    save_world_model(out, world_model.tokenizer, _merged(config, world_model), world_model.info, half=config.half)


def _write_causal_lm(config: Config, world_model: WorldModel, out: Path) -> None:
    """The wrapped model as its own library loads it, and the tokenizer of frames beside it."""
    import json

    import torch

    from align.errors import ConfigError
    from align.world_models.flat import FlatModel

    model = _merged(config, world_model)
    if not isinstance(model, FlatModel):
        raise ConfigError(f"{config.model} is no flat model around a causal LM; take form=merged")
    causal_lm: Any = model.unwrap()
    if config.half:
        causal_lm = causal_lm.to(torch.float16)
    causal_lm.save_pretrained(str(out))
    frames = out / "frames"
    frames.mkdir()
    world_model.tokenizer.save_pretrained(frames)
    (frames / "layout.json").write_text(json.dumps(model.layout.to_dict(), indent=2) + "\n")


def _merged(config: Config, world_model: WorldModel) -> TokenWorldModel:
    from align.world_models.adapters import export_merged

    return export_merged(world_model.model, Path(config.adapter)) if config.adapter else world_model.model


FORMS = {"beside": _write_beside, "merged": _write_merged, "causal_lm": _write_causal_lm}
"""Ways of writing by name."""
