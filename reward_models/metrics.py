"""How good a reward model is, always beside the baselines that a careless reader would forget, with intervals over contexts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from align.audit.statistics import Rate, auroc, bootstrap_weights, cluster_rate, expected_calibration_error, paired_difference
from reward_models.ties import TIE


@dataclass(frozen=True)
class PairReport:
    """Agreement of predicted with cast votes, ties included.

    Attributes:
        accuracy: Share of pairs whose most probable answer of (a, b, tie) was given.
        always_tie: What answering "tie" to everything scores.
        chance: What drawing answers at their true frequencies scores, the sum of their squares.
        gain: Accuracy minus always-tie, pair by pair.
        accuracy_without_ties: Share of decided pairs on the right side; the tie answer is taken away from the model.
        ece: Expected calibration error of the most probable answer.
        ece_floor: What a perfectly calibrated model would show at this n: an ece near it is noise.
    """

    accuracy: Rate
    always_tie: float
    chance: float
    gain: Rate
    accuracy_without_ties: Rate
    ece: Rate
    ece_floor: float

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON."""
        return {key: Rate(**value).as_dict() if isinstance(value, dict) else value for key, value in asdict(self).items()}


def score_pairs(probabilities: Tensor | ArrayLike, classes: Tensor | ArrayLike, contexts: Sequence[Any]) -> PairReport:
    """Compare predicted vote probabilities with votes on one axis.

    Args:
        probabilities: [N, 3] of (a, b, tie), in [0, 1].
        classes: [N] 0 = a, 1 = b, 2 = tie (``both_bad`` counts as one).
        contexts: [N] context ids, the clusters.

    Raises:
        ValueError: Shapes that don't fit or answers outside 0..2.
    """
    probs, answers, clusters = np.asarray(probabilities, np.float64), np.asarray(classes), np.asarray(contexts)
    if probs.shape != (len(answers), 3) or len(clusters) != len(answers) or not len(answers):
        raise ValueError(
            f"probabilities must be [N, 3] with N > 0 answers and contexts, got {list(probs.shape)}, {len(answers)}"
        )
    if not np.isin(answers, (0, 1, 2)).all():
        raise ValueError(f"classes must be 0, 1 or 2, got {sorted(set(answers.tolist()) - {0, 1, 2})}")
    probs = probs / probs.sum(1, keepdims=True)  # float32 rounding may leave a sum a hair above 1
    right = (probs.argmax(1) == answers).astype(np.float64)
    tie = (answers == TIE).astype(np.float64)
    decided = answers != TIE
    side = (probs[decided, :2].argmax(1) == answers[decided]).astype(np.float64)
    calibration = expected_calibration_error(probs, answers)
    return PairReport(
        accuracy=cluster_rate(right, clusters, better="higher"),
        always_tie=float(tie.mean()),
        chance=float(((np.bincount(answers.astype(int), minlength=3) / len(answers)) ** 2).sum()),
        gain=paired_difference(tie, right, clusters, better="higher"),
        accuracy_without_ties=cluster_rate(side, clusters[decided], better="higher"),
        ece=calibration_interval(probs.max(1), right, clusters),
        ece_floor=calibration.floor,
    )


def calibration_interval(
    confidence: ArrayLike, right: ArrayLike, contexts: ArrayLike, *, num_bins: int = 15, num_resamples: int = 500, seed: int = 0
) -> Rate:
    """Expected calibration error with an interval from resampled contexts.

    The error can't be negative, so resampling adds noise to it: the interval is shifted down by the mean excess of the
    resamples over the estimate, and cut at 0.

    Args:
        confidence: [N] stated probability in [0, 1].
        right: [N] 0 or 1.
        contexts: [N] clusters.
        num_bins: Equal-width bins.
        num_resamples: Bootstrap draws.
        seed: Seed of the draws.
    """
    stated, hit = np.asarray(confidence, np.float64), np.asarray(right, np.float64)
    _, index = np.unique(np.asarray(contexts), return_inverse=True)
    num_clusters = int(index.max()) + 1
    bins = np.minimum((stated * num_bins).astype(int), num_bins - 1)
    # gaps[c, k]: what cluster c adds to bin k; resampling is a matrix product
    gaps = np.zeros((num_clusters, num_bins))
    np.add.at(gaps, (index, bins), hit - stated)
    sizes = np.bincount(index, minlength=num_clusters).astype(np.float64)
    value = float(np.abs(gaps.sum(0)).sum() / sizes.sum())
    if num_clusters < 2:
        return Rate(value, float("nan"), float("nan"), len(stated), num_clusters)
    weights = bootstrap_weights(num_clusters, num_resamples, seed).astype(np.float64)
    draws: NDArray[np.float64] = np.abs(weights @ gaps).sum(1) / (weights @ sizes)
    low, high = np.quantile(draws - (draws.mean() - value), (0.025, 0.975))
    return Rate(value, float(max(0.0, low)), float(high), len(stated), num_clusters)


def score_hazard(reward: Tensor | ArrayLike, failed: ArrayLike, contexts: Sequence[Any]) -> Rate:
    """AUROC of the reward against the truth: the chance that a safe clip is scored above an unsafe one.

    Args:
        reward: [N] reward on one axis, higher is better.
        failed: [N] 1 = unsafe (or not done, on ``success``), 0 = safe; NaN is left out.
        contexts: [N] clusters.
    """
    values = reward.detach().cpu().numpy() if isinstance(reward, torch.Tensor) else np.asarray(reward, np.float64)
    return auroc(-values, failed, np.asarray(contexts))
