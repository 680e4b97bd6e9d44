"""Gradients of the reward itself, through the dream: into an adapter, or to actions.

The policy dreams a batch of rollouts with our engine; ``unroll`` makes their pictures differentiable; a differentiable reward
looks at them. Minimised is

    -mean [Σ_k w_k log P(rollout passes axis k)] + β · mean_t KL(π(·|past_t) || π₀(·|past_t))

the log-probability that a rollout is good on every axis of its scene, where no axis can be bought with another, and the KL to
the reference on actions at the states that were visited. As in AlignProp (Prabhudesai et al. 2023, arXiv:2310.03739) and DRaFT
(Clark et al. 2023, arXiv:2309.17400) the last steps may be all that gradients pass through.

What the world does in answer must not follow: gradients pass *through* the dynamics, and an adapter of the action path leaves
them as they are; one of the shared path is held by the anchor on frames.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from datasets import Dataset
from torch import Tensor, nn
from torch.utils.data import Sampler, SequentialSampler
from transformers import Trainer

from align.tuning.anchor import Anchor, add_anchor
from align.tuning.contexts import Contexts
from align.tuning.grpo import rollout_seed
from align.tuning.policy import use_compact_head
from align.tuning.unroll import Relaxation, draw_exponentials, unroll
from align.world_models.adapters import policy_of
from align.world_models.base import TokenWorldModel
from align.world_models.engine import Policy, roll_out
from align.world_models.soft import check_tokenizer
from align.world_models.world_model import WorldModel

SoftScore = Callable[[Tensor, Sequence[str]], Mapping[str, Tensor]]
"""Judges clips float [B, T, 3, h, w] in [0, 1], given the scene of each, differentiably: axis to the log-odds [B] of passing
it, NaN where the axis doesn't apply."""


def combine_log_odds(scores: Mapping[str, Tensor], weights: Mapping[str, float] | None = None) -> Tensor:
    """Σ_k w_k log σ(score_k) [B] over the axes that apply; see ``pairs.combine_axes``.

    Args:
        scores: Axis to log-odds [B], NaN where it doesn't apply.
        weights: Axis to weight; 1 where none is given.
    """
    terms = []
    for axis, score in scores.items():
        absent = score.isnan()
        term = F.logsigmoid(score.masked_fill(absent, 0)).masked_fill(absent, 0)
        terms.append((weights or {}).get(axis, 1.0) * term)
    return torch.stack(terms).sum(0)


def action_divergence(policy: TokenWorldModel, base: TokenWorldModel, ids: Tensor) -> tuple[Tensor, Tensor]:
    """How far actions have moved at the states of given rollouts, exactly, over all bins.

    Args:
        policy: Carries gradients.
        base: The reference.
        ids: int64 [B, L].

    Returns:
        Mean KL(policy || base) and, without gradients, the policy's mean entropy, in nats an action token.
    """
    now = _action_log_probs(policy, ids)
    with torch.no_grad():
        before = _action_log_probs(base, ids)
        entropy = -(now.exp() * now).sum(-1).mean()
    return (now.exp() * (now - before)).sum(-1).mean(), entropy


def _action_log_probs(model: TokenWorldModel, ids: Tensor) -> Tensor:
    """float [B, K, vocab]; ids that may not stand there have probability 0."""
    mask = model.layout.action_mask()[1:].to(ids.device)
    hidden = model.base_model(ids, frames=False).last_hidden_state[:, :-1][:, mask]
    return torch.log_softmax(F.linear(hidden, model.lm_head.weight), dim=-1)


def context_rows(rows: Sequence[int]) -> Dataset:
    """The trainer's dataset: numbers of contexts, in the order in which they are dreamed on."""
    return Dataset.from_dict({"row": list(rows)})


class RewardGradientTrainer(Trainer):
    """A Hugging Face trainer whose loss dreams; for one process.

    All of a rollout's chance comes from the seed, the step and its place in the batch, so that a resumed run draws the same.

    Args:
        world_model: The base, with its tokenizer.
        path: What the adapter may change, ``action`` or ``shared``.
        contexts: What the dataset's rows number.
        score: The reward.
        weights: Axis to weight.
        beta: Weight of the KL.
        how: The relaxation.
        anchor: Added to the loss with ``anchor_weight``; None for adapters of the action path, which can't touch frames.
        anchor_weight: Weight of the anchor.
    """

    def __init__(
        self,
        *args: Any,
        world_model: WorldModel,
        path: str,
        contexts: Contexts,
        score: SoftScore,
        weights: Mapping[str, float],
        beta: float,
        how: Relaxation,
        anchor: Anchor | None = None,
        anchor_weight: float = 0.0,
        **kwargs: Any,
    ) -> None:
        check_tokenizer(world_model.tokenizer)
        super().__init__(*args, **kwargs)
        self.world_model, self.path, self.contexts = world_model, path, contexts
        self.score, self.weights, self.beta, self.how = score, weights, beta, how
        self.anchor, self.anchor_weight = anchor, anchor_weight
        self.model_accepts_loss_kwargs = False  # the loss is a mean, whatever the model takes
        self._metrics: dict[str, dict[str, list[float]]] = {"train": defaultdict(list)}
        world_model.tokenizer.requires_grad_(False)
        policy: Any = self.model
        use_compact_head(policy.get_base_model())

    def _get_train_sampler(self, train_dataset: Any = None) -> Sampler[int]:
        """Rows are in order already."""
        return SequentialSampler(self.train_dataset if train_dataset is None else train_dataset)  # type: ignore[arg-type]

    def compute_loss(self, model: nn.Module, inputs: dict[str, Any], *unused: Any, **ignored: Any) -> Any:
        """Dream, look, and add what holds the policy back."""
        taken = self.contexts.take(inputs["row"].tolist())
        base, peft = self.world_model.model, self.accelerator.unwrap_model(model)
        seeds = [rollout_seed(int(self.args.seed), self.state.global_step, place) for place in range(len(taken))]
        prompts = taken.ids[:, : base.layout.prompt_length]
        ids = roll_out(policy_of(peft, base, self.path), prompts, seeds, batch_size=len(taken)).ids
        tuned = peft.get_base_model()
        policy = Policy(tuned, base if self.path == "action" else tuned)
        chance = draw_exponentials(seeds, base.layout)
        video = unroll(policy, self.world_model.tokenizer, ids, taken.first_input(), self.how, exponentials=chance)
        scores = self.score(video, taken.scenes)
        utility = combine_log_odds(scores, self.weights).mean()
        divergence, entropy = action_divergence(tuned, base, ids)
        self._note({"reward": utility, "kl": divergence, "entropy": entropy})
        passed = {f"passes/{axis}": score[~score.isnan()].sigmoid() for axis, score in scores.items()}
        self._note({name: values.mean() for name, values in passed.items() if len(values)})
        return add_anchor(self, model, self.beta * divergence - utility)

    def _note(self, figures: Mapping[str, Tensor]) -> None:
        for name, value in figures.items():
            self._metrics["train"][name].append(float(value.detach()))

    def log(self, logs: dict[str, float], *args: Any, **kwargs: Any) -> None:
        """The trainer's own figures and the means of ours since it last logged."""
        ours = {name: sum(values) / len(values) for name, values in self._metrics["train"].items()}
        self._metrics["train"].clear()
        super().log({**logs, **ours}, *args, **kwargs)


@dataclass(frozen=True)
class ActionGradients:
    """What :func:`action_gradients` gives.

    Attributes:
        reward: float [B].
        gradient: float [B, T-1, A], reward per unit of each action; 0 on the context's actions and before ``last_steps``.
        ids: int64 [B, L], the dream that was looked at.
    """

    reward: Tensor
    gradient: Tensor
    ids: Tensor


def action_gradients(
    world_model: WorldModel,
    reward: Callable[[Tensor, Sequence[str]], Tensor],
    contexts: Contexts,
    actions: Tensor,
    seeds: Sequence[int],
    how: Relaxation | None = None,
    policy: Policy | None = None,
) -> ActionGradients:
    """How a reward of the dreamed future would change with the actions; for planners.

    The dream is drawn under the nearest levels of the actions; gradients are taken where the actions themselves lie, between
    two levels, and are the slope from one to the other (see ``unroll``). They are biased and local: the reward along a step of
    the size of a level is what a planner should check before it believes them. Average over a few seeds.

    Args:
        world_model: What dreams, with its tokenizer.
        reward: Differentiable: clips float [B, T, 3, h, w] in [0, 1] and the scene of each to [B].
        contexts: B contexts.
        actions: float [B, T-1, A] in the dims' units; those of the context are ignored.
        seeds: B seeds of the dream.
        how: The relaxation; ``temperature`` isn't used here.
        policy: The dynamics that dream, where they are not the base's (an adapter of the shared path).

    Raises:
        ValueError: If the actions' shape is wrong.
        ConfigError: If the tokenizer is not ours, and so can't be decoded softly.
    """
    check_tokenizer(world_model.tokenizer)
    layout, how = world_model.layout, how or Relaxation()
    shape = (len(contexts), layout.num_frames - 1, layout.num_dims)
    if tuple(actions.shape) != shape:
        raise ValueError(f"actions must be {list(shape)}, got {list(actions.shape)}")
    dreamer = policy or Policy(world_model.model, world_model.model)
    prompts, bins = contexts.ids[:, : layout.prompt_length], layout.actions_to_bins(actions)
    ids = roll_out(dreamer, prompts, seeds, bins=bins, batch_size=len(contexts)).ids
    wanted = actions.detach().clone().requires_grad_()
    low, high = (torch.as_tensor(end, dtype=wanted.dtype) for end in (layout.action_space.low, layout.action_space.high))
    levels = ((wanted - low) / (high - low)).clamp(0, 1) * (layout.num_bins - 1)
    with torch.enable_grad():
        first = contexts.first_input().to(next(world_model.tokenizer.parameters()).dtype)
        video = unroll(dreamer, world_model.tokenizer, ids, first, how, levels=levels)
        value = reward(video, contexts.scenes)
        (gradient,) = torch.autograd.grad(value.sum(), wanted, allow_unused=True)
    return ActionGradients(value.detach(), torch.zeros_like(wanted) if gradient is None else gradient, ids)
