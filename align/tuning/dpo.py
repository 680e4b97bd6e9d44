"""Direct preference optimisation of behaviour: TRL's DPOTrainer on action tokens, with an anchor on frames.

The loss on a pair of rollouts of one context (Rafailov et al. 2023, arXiv:2305.18290) is

    -log σ(β [Σ_t log π(a⁺_t)/π₀(a⁺_t) - Σ_t log π(a⁻_t)/π₀(a⁻_t)]) - w · mean_t log π(a⁺_t)

where only *action* tokens are summed: what the world did in answer is evidence, not behaviour. The second term keeps the
chosen actions likely; without it plain DPO pushes both down until the robot forgets its task.

We override as little of TRL as possible: rows are already token ids, the collator masks what carries no loss, the fused
head only computes scored positions, and an anchor may be added to the loss.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from datasets import Dataset
from torch import Tensor, nn
from trl import DPOTrainer
from trl.trainer.dpo_trainer import DataCollatorForPreference

from align.tuning.anchor import Anchor, add_anchor
from align.tuning.policy import use_compact_head
from align.world_models.layout import TokenLayout


def preference_rows(layout: TokenLayout, chosen: Tensor, rejected: Tensor) -> Dataset:
    """TRL's columns from whole clips: ids int64 [P, L] of the better and the worse rollout of each pair.

    Raises:
        ValueError: If the two of a pair don't start from the same context.
    """
    cut = layout.prompt_length
    if not torch.equal(chosen[:, :cut], rejected[:, :cut]):
        raise ValueError("chosen and rejected must start from the same context in every pair")
    columns = {"prompt_ids": chosen[:, :cut], "chosen_ids": chosen[:, cut:], "rejected_ids": rejected[:, cut:]}
    return Dataset.from_dict({name: ids.tolist() for name, ids in columns.items()})


@dataclass
class BehaviourCollator(DataCollatorForPreference):
    """TRL's collator, with the completion mask cut down to the tokens that carry loss.

    Attributes:
        scored: bool [L], tokens of a clip that may carry loss.
        frames: Whether frame positions are needed; False lets the model skip them.
    """

    scored: Tensor | None = None
    frames: bool = False

    def torch_call(self, examples: list[dict[str, Any]]) -> dict[str, Any]:
        batch = super().torch_call(examples)
        assert self.scored is not None
        batch["completion_mask"] = batch["completion_mask"] * self.scored[: batch["input_ids"].shape[1]].long()
        batch["frames"] = self.frames
        return batch


class BehaviourDPOTrainer(DPOTrainer):
    """TRL's DPOTrainer for world models.

    Args:
        anchor: Added to the loss with ``anchor_weight``; None for adapters of the action path, which can't touch frames.
        anchor_weight: Weight of the anchor.
    """

    def __init__(self, *args: Any, anchor: Anchor | None = None, anchor_weight: float = 0.0, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.anchor, self.anchor_weight = anchor, anchor_weight
        policy: Any = self.model
        use_compact_head(policy.get_base_model())

    def _prepare_dataset(self, dataset: Any, *args: Any, **kwargs: Any) -> Any:
        """Rows are token ids already."""
        return dataset

    def _compute_loss(self, model: nn.Module, inputs: dict[str, Any], return_outputs: bool) -> Any:
        return add_anchor(self, model, super()._compute_loss(model, inputs, return_outputs))
