"""From a reward model or an outcome judge to the probability that a rollout passes each axis of its scene."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from align.errors import ConfigError, DataError
from recipes._run import Run

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from align.tuning.grpo import Passes, Score
    from align.tuning.reward_gradient import SoftScore
    from align.types import UInt8
    from align.world_models.world_model import WorldModel

OBJECTIVE = "success"
"""The axis that is maximised; the others are constraints."""
Axes = Mapping[str, Sequence[str]]
"""Scene to the axes that apply there."""


def hazards_of(axes: Axes) -> tuple[str, ...]:
    """The constrained axes of all scenes, in alphabetical order."""
    return tuple(sorted({axis for there in axes.values() for axis in there} - {OBJECTIVE}))


def check_scenes(axes: Axes) -> None:
    """Raise ConfigError unless every scene has the objective among its axes."""
    for scene, there in axes.items():
        if OBJECTIVE not in there:
            raise ConfigError(f"axes must say what counts in the scene {scene}, with {OBJECTIVE} among it")


def reward_score(folder: str, world_model: WorldModel, axes: Axes, uncertainty_weight: float) -> Score:
    """P(pass) by a reward model: 1 - P(fail) at the lower confidence bound ``mean - uncertainty_weight * std``.

    Raises:
        DataError: If the reward model lacks an axis, or nobody ever said what is bad in itself on one.
    """
    import torch

    from reward_models.model import RewardModel

    reward = RewardModel.from_pretrained(folder, world_model.tokenizer)
    wanted = (OBJECTIVE, *hazards_of(axes))
    for axis in wanted:
        if axis not in reward.axes:
            raise DataError(f"{folder} has no axis {axis}, only {', '.join(reward.axes)}; change axes or train another one")
        if not torch.isfinite(reward.fail_slope[reward.axes.index(axis)]):
            raise DataError(
                f"{folder} can't say what is bad in itself on {axis}, so that axis has no rate to keep a budget; "
                "collect some votes 'both bad' or single verdicts on it and train again"
            )

    def score(video: UInt8, scenes: Sequence[str]) -> Passes:
        bound = reward.score(world_model.to_input(video)).lower_confidence_bound(uncertainty_weight)
        passes = torch.sigmoid(reward.fail_slope * bound + reward.fail_bias)
        return _where_it_applies({axis: passes[:, reward.axes.index(axis)].numpy() for axis in wanted}, axes, scenes)

    return score


def soft_reward_score(folder: str, world_model: WorldModel, axes: Axes, uncertainty_weight: float) -> SoftScore:
    """What :func:`reward_score` says, as log-odds and differentiable in the pixels.

    Raises:
        ConfigError: When it is asked, if the reward model's backbone lets no gradient reach the pixels.
    """
    import torch

    from reward_models.model import RewardModel

    reward = RewardModel.from_pretrained(folder, world_model.tokenizer).requires_grad_(False)

    def score(video: Tensor, scenes: Sequence[str]) -> dict[str, Tensor]:
        bound = reward.score_with_gradient(video).lower_confidence_bound(uncertainty_weight)
        if video.requires_grad and not bound.requires_grad:
            raise ConfigError(
                f"the backbone {reward.backbone.name} of {folder} passes no gradient on to the pixels; "
                "train a reward model on another backbone, or tune with dpo or grpo"
            )
        odds = reward.fail_slope * bound + reward.fail_bias
        columns = {axis: odds[:, reward.axes.index(axis)] for axis in (OBJECTIVE, *hazards_of(axes))}
        there = {axis: torch.tensor([axis in axes[scene] for scene in scenes]) for axis in columns}
        return {axis: column.masked_fill(~there[axis], torch.nan) for axis, column in columns.items()}

    return score


def judge_score(path: str, axes: Axes) -> Score:
    """P(pass) by an outcome judge; a rollout that it can't read passes nothing.

    Raises:
        DataError: If the judge lacks an axis.
    """
    import numpy as np

    from align.audit.judge import OutcomeJudge

    judge = OutcomeJudge.load(Path(path))
    wanted = (OBJECTIVE, *hazards_of(axes))
    if missing := sorted(set(wanted) - set(judge.config.axes)):
        raise DataError(f"{path} can't judge {', '.join(missing)}, only {', '.join(judge.config.axes)}")

    def score(video: UInt8, scenes: Sequence[str]) -> Passes:
        read = judge.judge(video)
        passes = {axis: np.nan_to_num(read[axis] if axis == OBJECTIVE else 1 - read[axis]) for axis in wanted}
        return _where_it_applies(passes, axes, scenes)

    return score


def gold_score(run: Run, path: str, world_model: WorldModel, axes: Axes) -> Score:
    """A reward that is not optimised: a reward model's folder, or the path of an outcome judge without its suffix."""
    if (Path(path) / "config.json").is_file():
        run.record_input("gold", path)
        return reward_score(path, world_model, axes, 0.0)
    score = judge_score(path, axes)
    run.record_input("gold", Path(path).with_suffix(".safetensors"))
    return score


def _where_it_applies(passes: Mapping[str, np.ndarray], axes: Axes, scenes: Sequence[str]) -> Passes:
    return {
        axis: [float(value) if axis in axes[scene] else None for value, scene in zip(values, scenes, strict=True)]
        for axis, values in passes.items()
    }
