"""Two ranks against one: how much faster they dream, and how far their gradients differ.

    python tests/recipes/bench_ranks.py [--clips 128] [--json FILE]

One thread a rank. The same clips are dreamed and learned from by one process and by two under torchrun, which share them:

- rollouts/s: all clips over the wall time between two barriers, the better of three rounds, without the start;
- gradients: of DPO on the same pairs, the whole batch in one process against the average of two halves, as the trainer hands
  them to the optimiser: |two - one| / |one|.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
PAIRS = 16


def work(folder: Path, num_clips: int) -> None:
    """One rank: writes ``<world size>.json`` and its gradients."""
    import torch
    from safetensors.torch import save_file

    from align.tuning.ranks import Ranks

    torch.set_num_threads(1)
    ranks = Ranks.here()
    speed = measure_dreams(ranks, num_clips)
    gradients = measure_gradients(ranks, folder)
    if ranks.index == 0:
        save_file(gradients, folder / f"{ranks.count}.safetensors")
        (folder / f"{ranks.count}.json").write_text(json.dumps(speed))


def measure_dreams(ranks: Any, num_clips: int) -> float:
    """Rollouts a second of all ranks together."""
    from align.tuning.preflight import random_clips
    from align.world_models.engine import Policy, roll_out
    from align.world_models.world_model import load_world_model

    model = load_world_model("household").model
    prompts = random_clips(model.layout, num_clips)[:, : model.layout.prompt_length]
    mine = range(ranks.index, num_clips, ranks.count)
    speeds = []
    for _ in range(3):
        ranks.gather(None)
        start = time.perf_counter()
        roll_out(Policy(model, model), prompts[list(mine)], list(mine), batch_size=32)
        ranks.gather(None)
        speeds.append(num_clips / (time.perf_counter() - start))
    return max(speeds)


def measure_gradients(ranks: Any, folder: Path) -> dict[str, Any]:
    """What the optimiser gets in the first step of DPO on the same pairs, in whatever number of ranks."""
    import torch
    from transformers import PrinterCallback, TrainerCallback
    from trl import DPOConfig

    from align.tuning.dpo import BehaviourCollator, BehaviourDPOTrainer, preference_rows
    from align.tuning.policy import id_tokenizer
    from align.tuning.preflight import random_clips
    from align.world_models.adapters import add_lora
    from align.world_models.world_model import load_world_model

    kept: dict[str, Any] = {}

    class Keep(TrainerCallback):
        """Keeps the gradients of the step."""

        def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            learned = trainer.model.named_parameters()
            kept.update({name: p.grad.clone() for name, p in learned if p.requires_grad and p.grad is not None})

    model = load_world_model("household").model
    layout, clips = model.layout, random_clips(model.layout, 2 * PAIRS)
    chosen, rejected = clips[:PAIRS], clips[PAIRS:]
    rejected[:, : layout.prompt_length] = chosen[:, : layout.prompt_length]
    policy = add_lora(model, 8, 16, 0)
    torch.manual_seed(0)
    with torch.no_grad():
        for name, tensor in policy.named_parameters():
            if ".lora_B." in name:  # so that both halves of the adapter have gradients
                tensor.normal_(std=0.02)
    arguments = DPOConfig(
        output_dir=str(folder / "trainer"),
        max_steps=1,
        per_device_train_batch_size=PAIRS // ranks.count,
        max_length=None,
        activation_checkpointing=False,
        max_grad_norm=0,
        remove_unused_columns=False,
        report_to=[],
        disable_tqdm=True,
        save_strategy="no",
        bf16=False,
        use_cpu=True,
    )
    trainer = BehaviourDPOTrainer(
        model=policy,
        args=arguments,
        train_dataset=preference_rows(layout, chosen, rejected),
        processing_class=id_tokenizer(layout),
        data_collator=BehaviourCollator(layout.pad_id, scored=layout.action_mask(), frames=False),
        callbacks=[Keep()],
    )
    trainer.remove_callback(PrinterCallback)
    trainer.train()
    return kept


def compare(folder: Path) -> dict[str, float]:
    """The figures of both."""
    import torch
    from safetensors.torch import load_file

    one, two = (load_file(folder / f"{count}.safetensors") for count in (1, 2))
    assert one.keys() == two.keys()
    whole, halves = (torch.cat([state[name].double().flatten() for name in sorted(one)]) for state in (one, two))
    alone, together = (float(json.loads((folder / f"{count}.json").read_text())) for count in (1, 2))
    return {
        "rollouts_per_s_1": alone,
        "rollouts_per_s_2": together,
        "ratio": together / alone,
        "gradient_difference": float((halves - whole).norm() / whole.norm()),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--clips", type=int, default=128)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--rank", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.rank:
        work(arguments.rank, arguments.clips)
        return
    with tempfile.TemporaryDirectory() as name:
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
        script = [str(Path(__file__).resolve()), "--rank", name, "--clips", str(arguments.clips)]
        torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
        for launch in ([], torchrun):
            subprocess.run([sys.executable, *launch, *script], check=True, env=environment, cwd=name)
        figures = compare(Path(name))
    print(json.dumps(figures, indent=2))  # noqa: T201
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main()
