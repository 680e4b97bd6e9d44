"""What the tuning recipes share: training that goes on from a checkpoint, its log, and the adapter's folder."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from recipes._run import Run

if TYPE_CHECKING:
    from align.tuning.anchor import Anchor
    from align.world_models.world_model import WorldModel

# Before anything imports the hub's client, which reads it once: trainers report their start otherwise.
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")

_PATHS = {
    "action": "It changes which actions the model chooses. Frames come from the base weights, exactly: load it with "
    "gptsim (`--adapter`), because loading it as a plain PEFT adapter would need the module `action_path` and fails. "
    "It can't be merged into one set of weights.",
    "shared": "It changes the whole model; frames were held by an anchor. It loads as any PEFT adapter.",
}


def train(trainer: Any, run: Run, num_steps: int, last: Path | None, why: str) -> list[dict[str, Any]]:
    """Train to the end or go on from a checkpoint; returns the logged rows, which also go into metrics.jsonl.

    Raises:
        RunError: Before the first weight changes, if training would be in vain; see ``align.tuning.preflight``.
    """
    from align.tuning.preflight import Preflight, check_policy

    check_policy(trainer.model)
    Preflight(trainer).attach()
    with run.progress("tuning", num_steps, why) as advance, warnings.catch_warnings():
        _show_progress(trainer, run, advance)
        # PEFT asks transformers for a property under its old name.
        warnings.filterwarnings("ignore", message="`is_gradient_checkpointing` is deprecated")
        trainer.train(resume_from_checkpoint=None if last is None else str(last))
    return log_history(run, trainer.state)


def log_history(run: Run, state: Any) -> list[dict[str, Any]]:
    """Write the trainer's own log into metrics.jsonl; what a figure could not be computed from is left out."""
    history = [entry for entry in state.log_history if "loss" in entry]
    run.rewind(-1)
    for entry in history:
        # The trackers have had them while it trained.
        run.write_row(int(entry["step"]), _figures(entry))
    return history


def _figures(entry: Mapping[str, Any]) -> dict[str, float]:
    """A row of the trainer's log by our names."""
    return {key.replace("/", "_"): float(value) for key, value in entry.items() if key != "step" and value is not None}


def last_checkpoint(run: Run, mark: str = "trainer_state.json") -> Path | None:
    """The newest complete checkpoint of a resumed run; one that was cut off by a kill lacks the file written last."""
    if not run.resumed:
        return None
    saved = [path for path in run.checkpoints.glob("checkpoint-*") if (path / mark).exists()]
    return max(saved, key=lambda path: int(path.name.split("-")[1])) if saved else None


def _show_progress(trainer: Any, run: Run, advance: Any) -> None:
    """Our progress bar and trackers instead of the trainer's printed dicts."""
    from transformers import PrinterCallback, TrainerCallback

    class Show(TrainerCallback):
        """Advances the bar, where a resumed run starts where it was, and hands figures on."""

        shown = 0

        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            advance(state.global_step - self.shown)
            self.shown = state.global_step

        def on_log(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            entry = state.log_history[-1]
            if "loss" in entry:
                run.track(int(entry["step"]), _figures(entry))

    trainer.remove_callback(PrinterCallback)
    trainer.add_callback(Show())


def make_anchor(run: Run, world_model: WorldModel, clips: str, clips_per_step: int, seed: int) -> Anchor:
    """The anchor on the frames of a folder of real clips."""
    from align.errors import ConfigError
    from align.tuning.anchor import make_frame_anchor
    from align.tuning.contexts import encode_folder
    from align.video.folder import load_clip_folder

    if not clips:
        raise ConfigError("path=shared needs anchor_clips, a folder of real clips with actions, or anchor_weight=0")
    run.record_input("anchor_clips", clips)
    ids, _ = encode_folder(world_model, load_clip_folder(clips))
    return make_frame_anchor(*world_model.layout.split(ids), clips_per_step, seed)


def trainer_settings(run: Run, num_steps: int, save_every: int, learning_rate: float, seed: int) -> dict[str, Any]:
    """Settings that every trainer of ours takes."""
    from transformers.utils import logging

    from align.tuning.ranks import on_cpu

    logging.set_verbosity_error()
    # Mixed precision is for GPUs; there it is bf16 unless the accelerate configuration says otherwise.
    precision = "no" if on_cpu() else os.environ.get("ACCELERATE_MIXED_PRECISION", "bf16")
    return {
        "output_dir": str(run.checkpoints),
        "max_steps": num_steps,
        "learning_rate": learning_rate,
        "lr_scheduler_type": "cosine",
        "warmup_steps": min(10, num_steps // 10),
        "remove_unused_columns": False,
        "bf16": precision == "bf16",
        "fp16": precision == "fp16",
        "use_cpu": on_cpu(),
        "save_steps": save_every,
        "report_to": [],
        "disable_tqdm": True,
        "seed": seed,
    }


def restore_adapter(policy: Any, checkpoint: Path | None) -> None:
    """Put a checkpoint's adapter into the policy; None undoes all tuning."""
    import torch
    from peft import set_peft_model_state_dict
    from safetensors.torch import load_file

    if checkpoint is not None:
        set_peft_model_state_dict(policy, load_file(checkpoint / "adapter_model.safetensors"), adapter_name="default")
        return
    with torch.no_grad():
        for name, tensor in policy.named_parameters():
            if "lora_B.default" in name:
                tensor.zero_()


def save_tuned(
    run: Run,
    policy: Any,
    out: Path,
    path: str,
    about: str,
    figures: Mapping[str, Any],
    model: str,
    votes: Sequence[str] | None = None,
) -> None:
    """Write the adapter's folder with its model card, and what it learned from, with hashes.

    Args:
        run: The run; only its first rank writes.
        policy: What ``add_lora`` made, trained.
        out: Folder of the adapter.
        path: ``action`` or ``shared``.
        about: What was done, a clause that follows "Tuned by".
        figures: For the card's table.
        model: Name of the base.
        votes: Ids of votes that it learned from directly, so that a withdrawn one can be traced to it.
    """
    from align.io import read_json, write_json
    from align.world_models.adapters import gather_adapter, save_adapter

    state = gather_adapter(policy)
    if not run.is_main:
        return
    save_adapter(policy, out, path, _card(model, path, about, figures), state)
    write_json(out / "provenance.json", {"model": model, "inputs": read_json(run.path / "inputs.json")})
    if votes is not None:
        write_json(out / "votes_used.json", sorted(votes))


def _card(model: str, path: str, about: str, figures: Mapping[str, Any]) -> str:
    rows = "\n".join(f"| {key} | {value} |" for key, value in figures.items())
    return f"""---
library_name: peft
base_model: {model}
tags: [gptsim-align, lora, world-model]
---
# Adapter of the world model `{model}`

Tuned by {about}, so that behaviour follows what people prefer. {_PATHS[path]}

| figure | value |
| --- | --- |
{rows}

Measure it before you trust it: `gptsim run evaluate adapter=PATH` gives the unsafe rates in the simulator, honesty on both
sides, task success and fidelity, with intervals.
"""
