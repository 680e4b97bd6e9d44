"""Train the heads from few votes: full batch, seconds on a CPU, every vote used for training and for calibration.

Contexts are dealt into as many folds as there are members. Member m never sees fold m, and weighs the other contexts at random
(a Bayesian bootstrap: exponential weights instead of drawing with replacement, which would lose a third of the few votes).
What it says about fold m serves calibration.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from align.errors import DataError
from reward_models.backbones import Backbone, build_backbone
from reward_models.calibration import (
    PairCalibration,
    absolute_log_likelihood,
    fit_fail_calibration,
    fit_pair_calibration,
    pool_calibrations,
    verdict_log_likelihood,
)
from reward_models.data import AxisData, Judgement, Video, VoteRecord, as_judgements, as_votes, compute_features, index_axis
from reward_models.heads import AxisHeads
from reward_models.model import HeadConfig, RewardModel
from reward_models.ties import vote_log_likelihood


@dataclass(frozen=True)
class RewardTrainingConfig:
    """How a reward model is trained.

    Attributes:
        axes: Axis names; empty takes those that were voted on, in alphabetical order.
        backbone: Name and arguments of the frozen encoder.
        num_members: Ensemble size, which is also the number of folds; at least 2.
        width: Hidden size of a head.
        num_looks: Attention maps per query token.
        tie_model: ``davidson`` or ``rao_kupper``.
        lapse: Share of careless votes that the likelihood allows for, in [0, 1). Too small and a few slips cost the model its
            confidence; too large and it trusts too much.
        absolute_weight: Weight of what votes say about single clips ("both bad", pass and fail) beside the comparisons.
        num_epochs: Full-batch steps.
        learning_rate: Peak rate of AdamW, falling to 0 along a cosine.
        weight_decay: Of AdamW.
        dropout: On pooled values, in [0, 1).
        feature_noise: Standard deviation of noise on standardised features; stands in for the artefacts of dreamed clips.
    """

    axes: tuple[str, ...] = ()
    backbone: Mapping[str, Any] = field(default_factory=lambda: {"name": "difference"})
    num_members: int = 5
    width: int = 16
    num_looks: int = 2
    tie_model: str = "davidson"
    lapse: float = 0.15
    absolute_weight: float = 0.5
    num_epochs: int = 60
    learning_rate: float = 0.05
    weight_decay: float = 0.1
    dropout: float = 0.1
    feature_noise: float = 0.1

    def __post_init__(self) -> None:
        if self.num_members < 2:
            raise ValueError(f"num_members must be at least 2 (each member leaves one fold out), got {self.num_members}")
        if self.num_epochs < 1 or self.learning_rate <= 0:
            raise ValueError(f"num_epochs must be >= 1 and learning_rate > 0, got {self.num_epochs}, {self.learning_rate}")


def train_reward_model(
    clips: Mapping[str, Video] | Mapping[str, Tensor],
    votes: Iterable[Any],
    config: RewardTrainingConfig | None = None,
    *,
    judgements: Iterable[Any] = (),
    backbone: Backbone | None = None,
    features: bool = False,
    seed: int = 0,
    log: Callable[[dict[str, Any]], object] | None = None,
) -> RewardModel:
    """Train one head ensemble per axis on the votes.

    Args:
        clips: Rollout id to video, uint8 [T, H, W, 3] or float [T, 3, H, W] in [0, 1], all of one shape; or to features
            [T', S, D] of ``backbone`` when ``features`` is set. Clips without a vote are left alone.
        votes: Rows with rollout_a, rollout_b, axis, vote, context_id and optionally weight; objects or mappings.
        config: How to train.
        judgements: Single-clip verdicts: rollout_id, axis, verdict and optionally context_id and weight.
        backbone: Frozen encoder; None builds ``config.backbone``.
        features: ``clips`` holds features, not videos.
        seed: Of initial weights, folds, bootstrap and noise; the same seed gives the same weights.
        log: Called with one record per axis.

    Returns:
        The trained and calibrated model, in eval mode.

    Raises:
        DataError: No votes, votes about unknown rollouts, or fewer contexts than members on an axis.
    """
    config = config or RewardTrainingConfig()
    backbone = backbone or build_backbone(config.backbone)
    rows, singles = as_votes(votes), as_judgements(judgements)
    axes = config.axes or tuple(sorted({vote.axis for vote in rows}))
    if not rows:
        raise DataError("there are no votes to train on; skipped votes don't count")
    table, index = _feature_table(clips, rows, singles, backbone, features)
    generator = torch.Generator().manual_seed(seed)
    num_moments, num_cells, feature_dim = table.shape[1:]
    sizes = (config.num_members, num_moments, num_cells, feature_dim, config.width, config.num_looks)
    shape = HeadConfig(axes, *sizes, tie_model=config.tie_model, lapse=config.lapse)
    model = RewardModel(backbone, shape, generator)
    model.feature_mean.copy_(table.mean((0, 1, 2)))
    model.feature_std.copy_(table.std((0, 1, 2)).clamp_min(1e-4))
    table = model.standardise(table)
    trained = [
        _train_axis(model, k, index_axis(axis, rows, singles, index), table, config, generator) for k, axis in enumerate(axes)
    ]
    alone = [axis.fit(config, None) for axis in trained]
    pooled = pool_calibrations(alone, [len(axis.data.classes) for axis in trained])
    for number, axis in enumerate(trained):
        record = _calibrate_axis(model, number, axis, axis.fit(config, pooled) if pooled else alone[number], config)
        if log is not None:
            log({"axis": axes[number], **record})
    return model.eval()


def _feature_table(
    clips: Mapping[str, Any], votes: Sequence[VoteRecord], judgements: Sequence[Judgement], backbone: Backbone, features: bool
) -> tuple[Tensor, dict[str, int]]:
    named = {name for vote in votes for name in (vote.rollout_a, vote.rollout_b)} | {item.rollout_id for item in judgements}
    names = sorted(named & set(clips))
    if not names:
        raise DataError("none of the voted rollouts has a clip; are these the votes of other rollouts?")
    picked = [clips[name] for name in names]
    table = torch.stack([torch.as_tensor(item) for item in picked]).float() if features else compute_features(backbone, picked)
    return table, {name: row for row, name in enumerate(names)}


def deal_folds(num_contexts: int, num_folds: int, generator: torch.Generator) -> Tensor:
    """Fold of each context, int64 [C], as even as can be, in random order."""
    return (torch.arange(num_contexts) % num_folds)[torch.randperm(num_contexts, generator=generator)]


def member_weights(fold: Tensor, num_members: int, generator: torch.Generator) -> Tensor:
    """Weight of each context for each member [M, C]: exponential, 0 in the fold that the member leaves out."""
    weights = torch.empty(num_members, len(fold)).exponential_(generator=generator)
    return weights * (fold.unsqueeze(0) != torch.arange(num_members).unsqueeze(1))


def _train_axis(
    model: RewardModel, axis: int, data: AxisData, table: Tensor, config: RewardTrainingConfig, generator: torch.Generator
) -> _TrainedAxis:
    if data.num_contexts < config.num_members:
        name = model.axes[axis]
        raise DataError(
            f"axis {name!r} has votes on {data.num_contexts} contexts, at least {config.num_members} are needed; collect more"
        )
    head = model.heads[axis]
    assert isinstance(head, AxisHeads)
    fold = deal_folds(data.num_contexts, config.num_members, generator)
    weights = member_weights(fold, config.num_members, generator)
    rows = data.rows
    place = torch.zeros(len(table), dtype=torch.int64)
    place[rows] = torch.arange(len(rows))
    loss_terms = AxisLoss(data, place, weights, config)
    parameters = [*head.parameters(), *loss_terms.parameters()]
    optimiser = torch.optim.AdamW(parameters, lr=config.learning_rate, weight_decay=config.weight_decay)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, config.num_epochs)
    clips = table[rows]
    noise = config.feature_noise * torch.randn(clips.shape, generator=generator)
    loss = torch.zeros(())
    # dropout draws from torch's global source: fork it, so that training neither depends on it nor disturbs it
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(torch.randint(2**31, (), generator=generator)))
        for _ in range(config.num_epochs):
            # one draw of noise is dealt out anew at every step: drawing millions of numbers would take as long as the step
            shuffled = noise[torch.randperm(len(noise), generator=generator)]
            loss = loss_terms(head(clips + shuffled, config.dropout))
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
    tie_logit = float(loss_terms.tie_logit.detach().mean())
    return _TrainedAxis(data, head(clips).detach(), place, fold, tie_logit, float(loss.detach()))


class AxisLoss(nn.Module):
    """Weighted negative log-likelihood of all votes of one axis, summed over the members.

    Args:
        data: The votes.
        place: int64, row of the feature table to place among the scored clips.
        weights: [M, C] weight of each context for each member.
        config: Tie model, lapse and weight of absolute labels.
    """

    def __init__(self, data: AxisData, place: Tensor, weights: Tensor, config: RewardTrainingConfig) -> None:
        super().__init__()
        num_members = len(weights)
        self.data, self.config = data, config
        self.first, self.second, self.judged = place[data.first], place[data.second], place[data.judged]
        self.pair_weight = _normalise(weights[:, data.context] * data.weight)
        self.judged_weight = _normalise(weights[:, data.judged_context] * data.judged_weight)
        self.tie_logit = nn.Parameter(torch.zeros(num_members, 1))
        self.fail_log_slope = nn.Parameter(torch.zeros(num_members, 1))
        self.fail_bias = nn.Parameter(torch.zeros(num_members, 1))

    def forward(self, reward: Tensor) -> Tensor:
        """Loss of the members' rewards [M, N]; a scalar."""
        config, data = self.config, self.data
        reward_a, reward_b = reward[:, self.first], reward[:, self.second]
        votes = vote_log_likelihood(reward_a - reward_b, data.classes, self.tie_logit, config.tie_model, config.lapse)
        loss = -(self.pair_weight * votes).sum()
        if not data.has_absolute or config.absolute_weight == 0:
            return loss
        fail_a, fail_b, fail_judged = (self.fail_logit(item) for item in (reward_a, reward_b, reward[:, self.judged]))
        pairs = absolute_log_likelihood(fail_a, fail_b, data.both_bad, config.lapse)
        singles = verdict_log_likelihood(fail_judged, data.failed, config.lapse)
        absolute = (self.pair_weight * data.equal * pairs).sum() + (self.judged_weight * singles).sum()
        return loss - config.absolute_weight * absolute

    def fail_logit(self, reward: Tensor) -> Tensor:
        """Log-odds of a fail, [M, ...] like ``reward``."""
        return -(self.fail_log_slope.exp() * reward + self.fail_bias)


def _normalise(weights: Tensor) -> Tensor:
    return weights / weights.sum(-1, keepdim=True).clamp_min(1e-9)


@dataclass(frozen=True)
class _TrainedAxis:
    """What calibration needs of one axis: its votes, the members' rewards [M, N] of its clips, and who left out what."""

    data: AxisData
    reward: Tensor
    place: Tensor
    fold: Tensor
    tie_logit: float
    loss: float

    def out_of_fold(self, rows: Tensor, context: Tensor) -> Tensor:
        """Centred reward of clips, each by the member that left its context out."""
        centred = self.reward - self.reward.mean(dim=1, keepdim=True)
        return centred[self.fold[context], self.place[rows]]

    def pairs(self) -> tuple[Tensor, Tensor]:
        """Out-of-fold rewards [V] of both clips of every vote."""
        data = self.data
        return self.out_of_fold(data.first, data.context), self.out_of_fold(data.second, data.context)

    def fit(self, config: RewardTrainingConfig, pooled: PairCalibration | None) -> PairCalibration:
        """Temperature and tie parameter."""
        first, second = self.pairs()
        votes = (self.data.classes, self.data.weight)
        return fit_pair_calibration(first - second, *votes, self.tie_logit, config.tie_model, config.lapse, pooled)


def _calibrate_axis(
    model: RewardModel, number: int, axis: _TrainedAxis, pair: PairCalibration, config: RewardTrainingConfig
) -> dict[str, Any]:
    data = axis.data
    reward_a, reward_b = axis.pairs()
    equal = data.equal
    fail = fit_fail_calibration(
        pair.scale * reward_a[equal],
        pair.scale * reward_b[equal],
        data.both_bad[equal],
        data.weight[equal],
        pair.scale * axis.out_of_fold(data.judged, data.judged_context),
        data.failed,
        data.judged_weight,
        config.lapse,
    )
    model.set_calibration(number, axis.reward.mean(dim=1), pair, fail)
    margin, tie_logit = pair.scale * (reward_a - reward_b), torch.tensor(pair.tie_logit)
    likelihood = vote_log_likelihood(margin, data.classes, tie_logit, config.tie_model, config.lapse)
    return {
        "num_votes": len(data.classes),
        "num_contexts": data.num_contexts,
        "loss": axis.loss,
        "out_of_fold_nll": float(-(likelihood * data.weight).sum() / data.weight.sum()),
        "scale": pair.scale,
        "tie_logit": pair.tie_logit,
    }
