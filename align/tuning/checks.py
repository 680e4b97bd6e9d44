"""What a policy in the making does on contexts that it is not tuned on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from accelerate.utils import gather_object
from torch import Tensor

from align.tuning.contexts import Contexts
from align.tuning.grpo import Passes, Score
from align.tuning.policy import score_actions
from align.types import UInt8
from align.world_models.adapters import policy_of
from align.world_models.base import TokenWorldModel
from align.world_models.engine import Policy, roll_out
from align.world_models.world_model import WorldModel

Figures = dict[str, list[float]]
GOOD = 0.5
"""A real clip whose probability to pass everything is above this counts as good."""


class HeldOutCheck:
    """Measures a policy on held-out contexts with the same seeds every time; see ``monitors`` for the figures.

    Args:
        world_model: The base, with its tokenizer.
        held_out: The contexts.
        proxy: The reward that is optimised.
        gold: One that is not; None measures none.
        samples: Rollouts of each context.
        seed: Of the run.
        frames: Whether frames may change, so that their likelihood is measured too.
    """

    def __init__(
        self,
        world_model: WorldModel,
        held_out: Contexts,
        proxy: Score,
        gold: Score | None,
        *,
        samples: int,
        seed: int,
        frames: bool,
    ) -> None:
        self.world_model, self.held_out, self.samples, self.frames = world_model, held_out, samples, frames
        self.scores = {"proxy": proxy} | ({} if gold is None else {"gold": gold})
        chance = [np.random.SeedSequence([seed, row, sample, 1]) for row in range(len(held_out)) for sample in range(samples)]
        self.seeds = [int(source.generate_state(1, np.uint64)[0]) for source in chance]
        self.good = self._good_clips(proxy)

    def _good_clips(self, proxy: Score) -> list[bool]:
        """Which of the real clips are worth staying likely."""
        video = self.world_model.decode(self.held_out.ids, self.held_out.first_input())
        return [bool(value > GOOD) for value in pass_everything(proxy(video, self.held_out.scenes))]

    def __call__(self, policy: Policy, rank: int = 0, num_ranks: int = 1) -> Figures:
        """Figures of one rank's share of the contexts; :func:`merge_figures` puts the shares together."""
        mine: list[int] = np.array_split(np.arange(len(self.held_out)), num_ranks)[rank].tolist()
        if not mine:
            return {}
        held, layout, samples = self.held_out.take(mine), self.world_model.layout, self.samples
        seeds = self.seeds[mine[0] * samples : (mine[-1] + 1) * samples]
        prompts = held.ids[:, : layout.prompt_length].repeat_interleave(samples, 0)
        ids = roll_out(policy, prompts, seeds).ids
        video = self.world_model.decode(ids, held.first_input().repeat_interleave(samples, 0))
        scenes = [scene for scene in held.scenes for _ in range(samples)]
        figures: Figures = {}
        for name, score in self.scores.items():
            figures |= _by_axis(name, score(video, scenes), held.scenes, samples)
        for name, values in self._behaviour(policy, ids, video).items():
            figures |= _by_scene(name, values, held.scenes)
        good = [row for row, number in enumerate(mine) if self.good[number]]
        figures |= _data_loss(policy, held.take(good), "action_nll") if good else {}
        return figures | (_data_loss(policy, held, "frame_nll") if self.frames else {})

    def _behaviour(self, policy: Policy, ids: Tensor, video: UInt8) -> dict[str, list[float]]:
        """Entropy in nats a token, spread of actions in a group and mean change between dreamed frames, one a context."""
        layout, samples = self.world_model.layout, self.samples
        entropy = score_actions(policy.behaviour, ids)[1].mean(1)
        actions = self.world_model.actions(ids)[:, layout.context_frames - 1 :]
        spread = actions.reshape(-1, samples, *actions.shape[1:]).std(1).mean((1, 2))
        shown = video[:, layout.context_frames - 1 :].astype(np.float32) / 255
        motion = np.abs(np.diff(shown, axis=1)).mean((1, 2, 3, 4))
        return {
            "entropy": entropy.reshape(-1, samples).mean(1).tolist(),
            "spread": spread.tolist(),
            "motion": motion.reshape(-1, samples).mean(1).tolist(),
        }


def measure_policy(check: HeldOutCheck, trainer: Any, base: TokenWorldModel, path: str) -> Figures:
    """Figures of the policy that a trainer holds; its ranks share the contexts, and all get the whole."""
    ranks = trainer.accelerator
    policy = policy_of(ranks.unwrap_model(trainer.model), base, path)
    return merge_figures(gather_object([check(policy, ranks.process_index, ranks.num_processes)]))


def pass_everything(passes: Passes) -> list[float]:
    """The probability that each rollout passes all axes that apply to it."""
    return [float(np.prod([value for value in row if value is not None])) for row in zip(*passes.values(), strict=True)]


def costs_of(figures: Mapping[str, Sequence[float]], axis: str) -> list[float]:
    """The cost of an axis on each context of all scenes where it applies: 1 - P(pass)."""
    return [1 - value for name, values in figures.items() if name.startswith(f"proxy/{axis}/") for value in values]


def merge_figures(shares: Sequence[Mapping[str, Sequence[float]]]) -> Figures:
    """Shares of consecutive ranks as one; figures keep the order of the contexts."""
    merged: Figures = {}
    for share in shares:
        for name, values in share.items():
            merged.setdefault(name, []).extend(values)
    return merged


def _by_axis(kind: str, passes: Passes, scenes: Sequence[str], samples: int) -> Figures:
    figures = {f"{kind}/good": _per_context(pass_everything(passes), samples)}
    for axis, values in passes.items():
        for scene, mean in zip(scenes, _per_context([np.nan if v is None else v for v in values], samples), strict=True):
            if not np.isnan(mean):
                figures.setdefault(f"{kind}/{axis}/{scene}", []).append(mean)
    return figures


def _per_context(values: Sequence[float], samples: int) -> list[float]:
    return np.asarray(values, np.float64).reshape(-1, samples).mean(1).tolist()


def _by_scene(name: str, values: Sequence[float], scenes: Sequence[str]) -> Figures:
    figures: Figures = {}
    for scene, value in zip(scenes, values, strict=True):
        figures.setdefault(f"{name}/{scene}", []).append(float(value))
    return figures


@torch.no_grad()
def _data_loss(policy: Policy, clips: Contexts, name: str) -> Figures:
    """Mean negative log-likelihood of the real clips' own actions, or of their frames under them, in nats a token."""
    if name == "action_nll":
        loss = -score_actions(policy.behaviour, clips.ids)[0].mean(1)
    else:
        wanted = policy.layout.frame_mask()[1:]
        loss = torch.cat([-policy.dynamics.token_log_probs(part)[:, wanted].mean(1) for part in clips.ids.split(16)])
    return _by_scene(name, loss.tolist(), clips.scenes)
