"""Group-relative policy optimisation of behaviour: TRL's GRPOTrainer on action tokens of our own rollouts.

For each context the policy dreams a group of rollouts; a rollout's advantage is its reward minus its group's mean (Shao et al.
2024, arXiv:2402.03300; not divided by the group's spread, after Liu et al. 2025, arXiv:2503.20783). The loss is

    -mean_t [min(ρ_t A, clip(ρ_t, 1 ± ε) A) - β ρ_t (π₀/π - log π₀/π - 1)],    ρ_t = π(a_t) / π_old(a_t)

over *action* tokens (frames are what the world answered); the second term is KL(π || π₀). The reward is the sum over axes of
weight · P(pass), with weight 1 for the objective and the multiplier of ``constraints`` for each hazard.

We override as little of TRL as possible: it takes rollouts from our engine through ``rollout_func`` with frames out of the
loss by ``env_mask``; only the pass for log-probabilities is ours, because it may skip the frames.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from torch import Tensor, nn
from trl import GRPOTrainer

from align.errors import RunError
from align.tuning.anchor import Anchor, add_anchor
from align.tuning.constraints import Multipliers
from align.tuning.contexts import Contexts
from align.tuning.policy import use_compact_head
from align.types import UInt8
from align.world_models.adapters import policy_of
from align.world_models.engine import roll_out
from align.world_models.layout import TokenLayout
from align.world_models.world_model import WorldModel

Passes = Mapping[str, Sequence[float | None]]
"""Axis to the probability that each rollout passes it; None where the axis doesn't apply in the rollout's scene."""
Score = Callable[[UInt8, Sequence[str]], Passes]
"""Judges rollouts uint8 [B, T, h, w, 3], given the scene of each."""

TOLERANCE = 1e-3
"""Largest difference of log-probabilities, in nats, between the engine and the trainer; float32 gives a hundredth of it."""
_FIELD = "passes_"


class BehaviourGRPOTrainer(GRPOTrainer):
    """TRL's GRPOTrainer for world models.

    Args:
        anchor: Added to the loss with ``anchor_weight``; None for adapters of the action path, which can't touch frames.
        anchor_weight: Weight of the anchor.
    """

    def __init__(self, *args: Any, anchor: Anchor | None = None, anchor_weight: float = 0.0, **kwargs: Any) -> None:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="You are using 'rollout_func'")
            super().__init__(*args, **kwargs)
        if self.temperature != 1.0:
            raise ValueError(f"temperature must be 1, at which actions are scored and drawn, got {self.temperature}")
        self.anchor, self.anchor_weight = anchor, anchor_weight
        policy: Any = self.model
        self.layout: TokenLayout = policy.get_base_model().layout
        use_compact_head(policy.get_base_model())

    def _get_per_token_logps_and_entropies(
        self,
        model: nn.Module,
        input_ids: Tensor,
        attention_mask: Tensor,
        logits_to_keep: int,
        batch_size: int | None = None,
        compute_entropy: bool = False,
        **unused: Any,
    ) -> tuple[Tensor, Tensor | None, None]:
        """TRL's figures [B, logits_to_keep] on action tokens and 0 on frames, whose states are not computed at all."""
        labels = input_ids.masked_fill(~self.layout.action_mask().to(input_ids.device), -100)
        size, log_probs, entropies = batch_size or len(input_ids), [], []
        for ids, seen, wanted in zip(*(part.split(size) for part in (input_ids, attention_mask, labels)), strict=True):
            with self.accelerator.autocast():
                out = model(input_ids=ids, attention_mask=seen, labels=wanted, fused_lm_head=True, frames=False)
            log_probs.append(out.log_probs[:, -logits_to_keep:])
            entropies.append(out.entropy[:, -logits_to_keep:])
        return torch.cat(log_probs), torch.cat(entropies) if compute_entropy else None, None

    def _compute_loss(self, model: nn.Module, inputs: dict[str, Any]) -> Any:
        return add_anchor(self, model, super()._compute_loss(model, inputs))


def prompt_rows(rows: Sequence[int]) -> Dataset:
    """TRL's dataset: a prompt is the number of a row in the contexts, as text."""
    return Dataset.from_dict({"prompt": [str(row) for row in rows]})


class DreamRollouts:
    """TRL's ``rollout_func``: our engine with the adapter merged, and what the rollouts are worth.

    All of a rollout's chance comes from the seed, the step and its place in the batch of all ranks, so that a resumed run and
    one with other ranks draw the same.

    Args:
        world_model: The base, with its tokenizer.
        path: What the adapter may change, ``action`` or ``shared``.
        contexts: What prompts number.
        score: Judges the rollouts; its axes become fields that the rewards read.
        seed: Of the run.
    """

    def __init__(self, world_model: WorldModel, path: str, contexts: Contexts, score: Score, seed: int) -> None:
        self.world_model, self.path, self.contexts = world_model, path, contexts
        self.score, self.seed = score, seed
        self.checked = False

    def __call__(self, prompts: Sequence[str], trainer: BehaviourGRPOTrainer) -> dict[str, Any]:
        layout, taken = self.world_model.layout, self.contexts.take([int(prompt) for prompt in prompts])
        model: Any = trainer.accelerator.unwrap_model(trainer.model)
        policy = policy_of(model, self.world_model.model, self.path)
        start = trainer.accelerator.process_index * len(prompts)
        seeds = [rollout_seed(self.seed, trainer.state.global_step, start + place) for place in range(len(prompts))]
        cut, scored = layout.prompt_length, layout.action_mask()
        made = roll_out(policy, taken.ids[:, :cut], seeds, batch_size=len(prompts))
        log_probs = made.log_probs * scored
        if not self.checked:
            check_on_policy(trainer, made.ids, log_probs)
            self.checked = True
        passes = self.score(self.world_model.decode(made.ids, taken.first_input()), taken.scenes)
        return {
            "prompt_ids": made.ids[:, :cut].tolist(),
            "completion_ids": made.ids[:, cut:].tolist(),
            "logprobs": log_probs[:, cut:].tolist(),
            "env_mask": [scored[cut:].long().tolist()] * len(prompts),
            **{_FIELD + axis: list(values) for axis, values in passes.items()},
        }


def rollout_seed(seed: int, step: int, place: int) -> int:
    """The seed of one rollout of a step."""
    return int(np.random.SeedSequence([seed, step, place]).generate_state(1, np.uint64)[0])


@torch.no_grad()
def check_on_policy(trainer: BehaviourGRPOTrainer, ids: Tensor, log_probs: Tensor) -> None:
    """Refuse to train if what was sampled is not what is trained.

    Args:
        trainer: Whose log-probabilities count.
        ids: int64 [B, L] of rollouts.
        log_probs: float32 [B, L], the engine's on action tokens, 0 elsewhere.

    Raises:
        RunError: If the two differ; importance ratios would then not start at 1.
    """
    keep = ids.shape[1] - trainer.layout.prompt_length
    model: Any = trainer.model
    wanted, _, _ = trainer._get_per_token_logps_and_entropies(model, ids, torch.ones_like(ids), keep)
    gap = float((wanted - log_probs[:, -keep:]).abs().max())
    if not gap <= TOLERANCE:
        raise RunError(
            f"the policy that samples differs from the one that is trained by {gap:.2g} nats a token; "
            "does it hold dropout, or an adapter that can't be merged?"
        )


def make_rewards(objective: str, multipliers: Multipliers, hazards: Sequence[str]) -> list[Callable[..., list[float | None]]]:
    """TRL's reward functions: P(pass) of the objective, then of each hazard; None where an axis doesn't apply.

    A hazard's reward is 1 - cost, and differs from -cost by a constant that no advantage sees. Its multiplier is logged.
    """

    def make(axis: str) -> Callable[..., list[float | None]]:
        def reward(log_metric: Callable[[str, float], None], **fields: Any) -> list[float | None]:
            if axis in hazards:
                log_metric(f"multiplier/{axis}", multipliers.values[axis])
            return list(fields[_FIELD + axis])

        reward.__name__ = axis
        return reward

    return [make(axis) for axis in (objective, *hazards)]
