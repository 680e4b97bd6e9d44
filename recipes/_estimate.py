"""What a recipe would train, and about what it would cost: the figures of ``gptsim run RECIPE --dry-run``.

A recipe that trains says so by a function ``workload(config)``. Nothing is written, and no data are read.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

_CLIPS = 8
"""Clips in the step that is measured, at most."""
_DREAMS = 32
"""Clips that are dreamed for the estimate, at most."""
_STATE_BYTES = 12
"""A trained parameter's gradient and AdamW's two moments, float32."""


@dataclass(frozen=True)
class Workload:
    """A training, for each process.

    Attributes:
        module: What is trained; only what requires gradients counts as trained.
        loss: The loss on so many clips, with everything that a step computes.
        clips_per_step: Clips that a step's loss is computed on.
        num_steps: Steps.
        dream: Dreams so many clips; None where none are.
        clips_dreamed: Clips dreamed in all steps together.
    """

    module: nn.Module
    loss: Callable[[int], Tensor]
    clips_per_step: int
    num_steps: int
    dream: Callable[[int], Any] | None = None
    clips_dreamed: int = 0


def tuning_workload(
    model: str, rank: int, alpha: int, clips_per_step: int, num_steps: int, *, clips_dreamed: int = 0
) -> Workload:
    """That of a recipe that tunes a LoRA on action tokens, with a pass of the reference in each step.

    Args:
        model: World model: a shipped name or a folder.
        rank: LoRA rank.
        alpha: LoRA alpha.
        clips_per_step: Clips in a step of one process.
        num_steps: Steps.
        clips_dreamed: Clips that one process dreams in all steps together.
    """
    import torch

    from align.tuning.policy import score_actions, use_compact_head
    from align.tuning.preflight import random_clips
    from align.world_models.adapters import add_lora, policy_of
    from align.world_models.engine import roll_out
    from align.world_models.pool import cached_world_model

    base = cached_world_model(model).model
    policy: Any = add_lora(base, rank, alpha, 0)
    layout = base.layout
    use_compact_head(policy.get_base_model())

    def loss(count: int) -> Tensor:
        ids = random_clips(layout, count)
        labels = ids.masked_fill(~layout.action_mask(), -100)
        score_actions(base, ids)
        out = policy(input_ids=ids, attention_mask=torch.ones_like(ids), labels=labels, fused_lm_head=True, frames=False)
        return -out.log_probs.sum()

    def dream(count: int) -> None:
        roll_out(policy_of(policy, base, "action"), random_clips(layout, count)[:, : layout.prompt_length], range(count))

    return Workload(policy, loss, clips_per_step, num_steps, dream if clips_dreamed else None, clips_dreamed)


def estimate(work: Workload) -> dict[str, Any]:
    """Parameters, and an estimate of memory and time from one tiny step on this machine."""
    learned = {name: p for name, p in work.module.named_parameters() if p.requires_grad}
    count = min(_CLIPS, work.clips_per_step)
    activations, seconds = _measure_step(work, list(learned.values()), count)
    share = work.clips_per_step / count
    stored = [*work.module.parameters(), *work.module.buffers()]
    weights = sum(tensor.nbytes for tensor in {id(tensor): tensor for tensor in stored}.values())
    trained = sum(p.numel() for p in learned.values())
    step_s = seconds * share
    dream_s = _measure_dreams(work)
    mb = {"weights": weights, "gradients and AdamW": _STATE_BYTES * trained, "activations": activations * share}
    return {
        "parameters": sum(p.numel() for p in work.module.parameters()),
        "trained_parameters": trained,
        "trained": _group({name: p.numel() for name, p in learned.items()}),
        "memory_mb": {**{name: value / 1e6 for name, value in mb.items()}, "together": sum(mb.values()) / 1e6},
        "step_s": step_s,
        "dreaming_s": dream_s,
        "training_s": step_s * work.num_steps,
        "total_s": step_s * work.num_steps + dream_s,
        "num_steps": work.num_steps,
        "clips_measured": count,
    }


def _measure_step(work: Workload, learned: list[nn.Parameter], count: int) -> tuple[int, float]:
    """Bytes that a step on ``count`` clips keeps for its backward pass, and the seconds it takes once it is warm."""
    import torch

    own = {p.data_ptr() for p in work.module.parameters()}
    kept: dict[int, int] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        if tensor.data_ptr() not in own:
            kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    def step() -> None:
        torch.autograd.grad(work.loss(count), learned, allow_unused=True)

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        step()
    return sum(kept.values()), _time(step)


def _measure_dreams(work: Workload) -> float:
    """Seconds for all that is dreamed."""
    if (dream := work.dream) is None:
        return 0.0
    count = min(_DREAMS, work.clips_dreamed)
    return _time(lambda: dream(count)) / count * work.clips_dreamed


def _time(run: Callable[[], Any]) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def _group(sizes: dict[str, int]) -> dict[str, int]:
    """Parameters by name, layers of one kind together: ``trunk.*.up_proj.lora_A``."""
    grouped: dict[str, int] = {}
    for name, size in sizes.items():
        kind = re.sub(r"\.\d+\.", ".*.", name.removeprefix("base_model.model.").removesuffix(".weight").replace(".default", ""))
        grouped[kind] = grouped.get(kind, 0) + size
    return grouped
