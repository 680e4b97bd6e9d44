"""The reward model: a frozen backbone, and per axis an ensemble of small heads with calibrated scores."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from align.errors import DataError
from reward_models.backbones import Backbone, TokenizerFeatures, build_backbone, describe_backbone
from reward_models.calibration import FailCalibration, PairCalibration
from reward_models.heads import AxisHeads
from reward_models.saving import load_folder, save_folder
from reward_models.ties import TIE_MODELS


@dataclass(frozen=True)
class HeadConfig:
    """Shape of the heads; enough, with a backbone, to rebuild an empty model.

    Attributes:
        axes: Axis names, in the order of every score table.
        num_members: Ensemble size M.
        num_moments: T' of the features.
        num_cells: S of the features.
        feature_dim: D of the features.
        width: Hidden size of a head.
        num_looks: Attention maps per query token.
        tie_model: A name of ``ties.TIE_MODELS``.
        lapse: Share of careless votes that the likelihood allows for, in [0, 1).
    """

    axes: tuple[str, ...]
    num_members: int
    num_moments: int
    num_cells: int
    feature_dim: int
    width: int = 16
    num_looks: int = 2
    tie_model: str = "davidson"
    lapse: float = 0.1


@dataclass(frozen=True)
class Scores:
    """Rewards of a batch of clips, in calibrated log-odds; higher is better on every axis, hazards included.

    Attributes:
        axes: Names of the K columns.
        mean: float32 [B, K] mean over the members; 0 is the average clip of training.
        uncertainty: float32 [B, K] standard deviation over the members.
        members: float32 [M, B, K] what each member says.
    """

    axes: tuple[str, ...]
    mean: Tensor
    uncertainty: Tensor
    members: Tensor

    def lower_confidence_bound(self, k: float = 1.0) -> Tensor:
        """``mean - k * uncertainty`` [B, K]: what to optimise against, because it does not pay for leaving the known."""
        return self.mean - k * self.uncertainty

    def axis(self, name: str) -> int:
        """Column of an axis; raises ``ValueError`` for an unknown one."""
        if name not in self.axes:
            raise ValueError(f"axis must be one of {', '.join(self.axes)}, got {name!r}")
        return self.axes.index(name)


class RewardModel(nn.Module):
    """Scores single clips on several axes; a pair is judged by the difference, so the order of showing can't matter.

    Args:
        backbone: Frozen encoder.
        config: Shape of the heads.
        generator: Source of the heads' initial weights.
    """

    feature_mean: Tensor
    feature_std: Tensor
    center: Tensor
    scale: Tensor
    tie_logit: Tensor
    fail_slope: Tensor
    fail_bias: Tensor

    def __init__(self, backbone: Backbone, config: HeadConfig, generator: torch.Generator | None = None) -> None:
        super().__init__()
        if config.tie_model not in TIE_MODELS:
            raise ValueError(f"tie_model must be one of {sorted(TIE_MODELS)}, got {config.tie_model!r}")
        if not config.axes or config.num_members < 1:
            raise ValueError(f"a reward model needs axes and members, got {config.axes} and {config.num_members}")
        self.backbone, self.config = backbone, config
        shape = (config.num_members, config.num_moments, config.num_cells, config.feature_dim, config.width, config.num_looks)
        self.heads = nn.ModuleList(AxisHeads(*shape, generator=generator) for _ in config.axes)
        num_axes = len(config.axes)
        self.register_buffer("feature_mean", torch.zeros(config.feature_dim))
        self.register_buffer("feature_std", torch.ones(config.feature_dim))
        self.register_buffer("center", torch.zeros(num_axes, config.num_members))
        self.register_buffer("scale", torch.ones(num_axes))
        self.register_buffer("tie_logit", torch.zeros(num_axes))
        self.register_buffer("fail_slope", torch.full((num_axes,), torch.nan))
        self.register_buffer("fail_bias", torch.full((num_axes,), torch.nan))

    @property
    def axes(self) -> tuple[str, ...]:
        return self.config.axes

    def standardise(self, features: Tensor) -> Tensor:
        """Features [..., D] with the mean and spread of training taken out."""
        return (features - self.feature_mean) / self.feature_std

    def set_calibration(self, axis: int, center: Tensor, pair: PairCalibration, fail: FailCalibration) -> None:
        """Store what calibration found for one axis; ``center`` is the members' mean raw reward [M]."""
        self.center[axis] = center
        self.scale[axis], self.tie_logit[axis] = pair.scale, pair.tie_logit
        self.fail_slope[axis], self.fail_bias[axis] = fail.slope, fail.bias

    @torch.no_grad()
    def score_features(self, features: Tensor, batch_size: int = 128) -> Scores:
        """Score backbone features [B, T', S, D] that were computed before."""
        members = torch.cat([self._members(batch) for batch in features.split(batch_size)], dim=1)
        return Scores(self.axes, members.mean(0), members.std(0, unbiased=False), members)

    def _members(self, features: Tensor) -> Tensor:
        """Calibrated log-odds [M, B, K] of features."""
        standard = self.standardise(features)
        raw = torch.stack([head(standard) for head in self.heads])
        return ((raw - self.center.unsqueeze(-1)) * self.scale.view(-1, 1, 1)).permute(1, 2, 0)

    @torch.no_grad()
    def score(self, video: Tensor, batch_size: int = 64) -> Scores:
        """Score clips.

        Args:
            video: [B, T, 3, H, W] float32 in [0, 1].
            batch_size: Clips encoded at a time.

        Returns:
            Means and uncertainties [B, K] in calibrated log-odds.
        """
        return self.score_features(torch.cat([self.backbone.features(batch) for batch in video.split(batch_size)]))

    def score_with_gradient(self, video: Tensor) -> Scores:
        """Score clips [B, T, 3, H, W] in one batch, differentiably in the video; otherwise as :meth:`score`.

        A spread of exactly 0 has no gradient, so a variance of 1e-12 is added to it.
        """
        members = self._members(self.backbone.features(video))
        spread = (members.var(0, unbiased=False) + 1e-12).sqrt()
        return Scores(self.axes, members.mean(0), spread, members)

    def vote_probabilities(self, scores_a: Scores, scores_b: Scores, lapse: bool = True) -> Tensor:
        """Probability of the votes (a, b, tie) on every axis.

        Args:
            scores_a: Scores of B clips shown as a.
            scores_b: Scores of B clips shown as b.
            lapse: Whether to predict what a person says, careless answers included, or what is truly better.

        Returns:
            [B, K, 3] float32, summing to 1.
        """
        margin = scores_a.mean - scores_b.mean
        probs = TIE_MODELS[self.config.tie_model](margin, self.tie_logit.expand_as(margin)).exp()
        share = self.config.lapse if lapse else 0.0
        return (1 - share) * probs + share / 3

    def fail_probability(self, scores: Scores) -> Tensor:
        """P(fail) [B, K] from scores; NaN on an axis for which nobody ever said what is bad in itself."""
        return torch.sigmoid(-(self.fail_slope * scores.mean + self.fail_bias))

    def hazard_probability(self, video: Tensor) -> Tensor:
        """P(the clip fails the axis) [B, K] of clips [B, T, 3, H, W]: for hazards P(unsafe), for success P(not done)."""
        return self.fail_probability(self.score(video))

    def save_pretrained(self, folder: str | Path, overwrite: bool = False, votes_used: Sequence[str] | None = None) -> None:
        """Write ``config.json`` and ``model.safetensors`` to ``folder``, all or nothing.

        Args:
            folder: Where to.
            overwrite: Whether an older reward model may be replaced.
            votes_used: Ids of the votes that it was trained on, for ``votes_used.json``; None writes no such file.

        Raises:
            DataError: The folder exists and holds something, unless ``overwrite`` and it is a reward model.
        """
        tensors = {name: value for name, value in self.state_dict().items() if not name.startswith("backbone.")}
        config = {"backbone": describe_backbone(self.backbone), "heads": asdict(self.config)}
        save_folder(folder, config, tensors, overwrite, votes_used)

    @classmethod
    def from_pretrained(cls, folder: str | Path, module: nn.Module | None = None) -> RewardModel:
        """Load what ``save_pretrained`` wrote.

        Args:
            folder: The reward model's folder.
            module: The network that the backbone wraps, for backbones that don't store it (``tokenizer``); others ignore it.

        Raises:
            DataError: The folder is missing, isn't a reward model or is damaged.
            ConfigError: Its backbone can't be built.
        """
        config, tensors = load_folder(folder)
        try:
            shape = HeadConfig(**{**config["heads"], "axes": tuple(config["heads"]["axes"])})
            wrapped = module if config["backbone"]["name"] == TokenizerFeatures.name else None
            model = cls(build_backbone(config["backbone"], wrapped), shape)
            model.load_state_dict(tensors, strict=True)
        except (KeyError, TypeError, ValueError, RuntimeError) as err:
            reason = str(err).splitlines()[0]
            raise DataError(f"{folder} is damaged: config and weights don't fit ({reason}); restore or retrain it") from err
        return model.eval()


def weighted_reward(scores: Scores, weights: dict[str, float], k: float = 0.0) -> Tensor:
    """One number a clip [B]: the weighted sum of lower confidence bounds. Watch the axes too; a sum hides a collapsing one."""
    names: Sequence[str] = list(weights)
    bounds = scores.lower_confidence_bound(k)
    return sum((weights[name] * bounds[:, scores.axis(name)] for name in names), torch.zeros(len(bounds)))
