"""One rank of DPO with a planted fault, under torchrun: ``faulty_ranks.py FOLDER`` writes what each fault is answered with."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import DataLoader
from trl import DPOConfig

from align.errors import RunError
from align.tuning.dpo import BehaviourCollator, BehaviourDPOTrainer, preference_rows
from align.tuning.policy import id_tokenizer
from align.tuning.preflight import Preflight, check_policy, random_clips
from align.tuning.ranks import Ranks
from align.types import ActionSpace
from align.world_models.adapters import add_lora
from align.world_models.layout import TokenLayout
from align.world_models.temporal_depth import TemporalDepthConfig, TemporalDepthModel

LAYOUT = TokenLayout(5, 2, 6, 9, ActionSpace(("x", "y"), (-1.0, 0.0), (1.0, 4.0)), num_bins=5)


def make_trainer(folder: Path) -> Any:
    torch.manual_seed(0)
    sizes = {"code_width": 8, "trunk_width": 32, "trunk_layers": 1, "depth_layers": 1, "hidden_width": 16}
    model = TemporalDepthModel(TemporalDepthConfig(LAYOUT.to_dict(), grid=(2, 3), **sizes)).requires_grad_(False)
    clips = random_clips(LAYOUT, 16)
    clips[8:, : LAYOUT.prompt_length] = clips[:8, : LAYOUT.prompt_length]
    settings = {"max_steps": 1, "per_device_train_batch_size": 2, "learning_rate": 1e-2, "save_strategy": "no"}
    quiet = {"report_to": [], "disable_tqdm": True, "remove_unused_columns": False, "bf16": False, "use_cpu": True}
    return BehaviourDPOTrainer(
        model=add_lora(model, 2, 4, 0),
        args=DPOConfig(output_dir=str(folder), max_length=None, activation_checkpointing=False, **settings, **quiet),
        train_dataset=preference_rows(LAYOUT, clips[:8], clips[8:]),
        processing_class=id_tokenizer(LAYOUT),
        data_collator=BehaviourCollator(LAYOUT.pad_id, scored=LAYOUT.action_mask(), frames=False),
    )


def plant(trainer: Any, fault: str) -> None:
    if fault == "same data":
        rows, collate = trainer.train_dataset, trainer.data_collator
        trainer.get_train_dataloader = lambda: DataLoader(rows, batch_size=2, collate_fn=collate)
    elif fault == "apart":
        plain, inside = trainer._compute_loss, trainer.accelerator.unwrap_model
        trainer._compute_loss = lambda model, *rest: plain(inside(model), *rest)


def try_out(folder: Path, fault: str) -> dict[str, Any]:
    trainer = make_trainer(folder)
    plant(trainer, fault)
    before = [p.detach().clone() for p in trainer.model.parameters()]
    error = ""
    try:
        check_policy(trainer.model)
        Preflight(trainer).attach()
        trainer.train()
    except RunError as refusal:
        error = str(refusal)
    changed = any(not torch.equal(old, new) for old, new in zip(before, trainer.model.parameters(), strict=True))
    return {"error": error, "changed": changed}


if __name__ == "__main__":
    target = Path(sys.argv[1])
    answers = {fault: try_out(target / "trainer", fault) for fault in ("none", "same data", "apart")}
    (target / f"{Ranks.here().index}.json").write_text(json.dumps(answers))
