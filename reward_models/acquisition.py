"""Which questions teach most, from how the members of an ensemble disagree about the answers.

**BALD** (Houlsby, Huszár, Ghahramani and Lengyel 2011, arXiv:1112.5745) is the mutual information between an answer y and the
member m that is right, over the answers a, b and tie:

    I(y; m) = H[ 1/M Σ_m p_m(y) ]  -  1/M Σ_m H[ p_m(y) ]

It is large where members are sure and contradict each other, and small where they agree, be it that the answer is clear or
that every member calls it a toss-up. Two things make it a poor guide for a batch: it likes odd clips, about which much can be
learned that matters nowhere else, and the best hundred questions are the same question a hundred times.

**EPIG** (Bickford Smith, Kirsch, Farquhar, Gal, Foster and Rainforth 2023, "Prediction-oriented Bayesian active learning",
arXiv:2304.08151) asks instead how much an answer tells about the rewards of *other* pairs. Ours treats the members' margins as
draws from a normal distribution, so that the covariance can be conditioned on each question that a batch already holds:

    EPIG(q) = mean over targets t of  -1/2 log(1 - ρ²),   ρ² = cov(q, t)² / ((var q + noise q) var t)

where the noise of an answer is one over its Fisher information about the margin under Davidson's model, the variance of
(1/2, -1/2, 0) for (a, b, tie). How both fare against random questions is measured by ``gptsim run active_curve``.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import torch
from torch import Tensor

from align.errors import DataError
from align.preferences.votes.schema import Pair
from reward_models.model import RewardModel, Scores
from reward_models.ties import TIE_MODELS


def member_probabilities(model: RewardModel, scores: Scores, first: Tensor, second: Tensor) -> Tensor:
    """What each member expects people to answer, careless answers included.

    Args:
        model: Whose scale and ties are used.
        scores: Scores of B clips.
        first: int64 [P] row of clip a.
        second: int64 [P] row of clip b.

    Returns:
        float32 [M, P, K, 3] over (a, b, tie) for M members and K axes, summing to 1.
    """
    margin = scores.members[:, first] - scores.members[:, second]
    probs = TIE_MODELS[model.config.tie_model](margin, model.tie_logit.expand_as(margin)).exp()
    return (1 - model.config.lapse) * probs + model.config.lapse / 3


def compute_information_gain(probabilities: Tensor) -> Tensor:
    """BALD's mutual information between an answer and the member that is right.

    Args:
        probabilities: [M, ..., C] of M members over C answers, each summing to 1.

    Returns:
        [...] in nats, from 0 (all members agree) to log(min(M, C)).

    Raises:
        ValueError: Probabilities outside [0, 1] or that don't sum to 1.
    """
    sums = probabilities.sum(-1)
    if not (probabilities >= 0).all() or not torch.allclose(sums, torch.ones_like(sums), atol=1e-4):
        raise ValueError("probabilities must be at least 0 and sum to 1 over the last dim")
    # rounding may leave a hair below 0 where all members agree
    return (_entropy(probabilities.mean(0)) - _entropy(probabilities).mean(0)).clamp_min(0)


def _entropy(probabilities: Tensor) -> Tensor:
    """[..., C] to [...] in nats; 0 log 0 is 0."""
    return torch.special.entr(probabilities).sum(-1)


def compute_predictive_gain(
    margins: Tensor, probabilities: Tensor, axes: Tensor, num_picks: int, num_targets: int = 100, seed: int = 0
) -> Tensor:
    """EPIG of each question, given the better ones that come before it in a batch.

    Args:
        margins: [M, Q] reward(a) - reward(b) of M members on the axis of each question.
        probabilities: [M, Q, 3] what they expect people to answer.
        axes: int64 [Q] axis of each question; an answer tells nothing about other axes.
        num_picks: How many questions are ranked as a batch; those beyond are ranked by what is left to learn after it.
        num_targets: Random questions of the same axis whose margins are to be learned.
        seed: Seed of the targets.

    Returns:
        float64 [Q] in nats, falling along the batch: the order to ask in.
    """
    generator = torch.Generator().manual_seed(seed)
    deviation = (margins - margins.mean(0)).T.double() / len(margins) ** 0.5
    mean = probabilities.mean(0).double()
    information = (mean[:, 0] + mean[:, 1]) / 4 - ((mean[:, 0] - mean[:, 1]) / 2) ** 2
    signal = deviation * information.sqrt().unsqueeze(1)
    beliefs = {}
    for axis in axes.unique().tolist():
        rows = (axes == axis).nonzero().squeeze(1)
        targets = rows[torch.randperm(len(rows), generator=generator)[:num_targets]]
        beliefs[axis] = _Belief(rows, signal[rows], deviation[targets])
    gains = torch.zeros(len(axes), dtype=torch.float64)
    for belief in beliefs.values():
        gains[belief.rows] = belief.gains()
    ranked: list[int] = []
    ceiling, result = torch.inf, gains.clone()
    for _ in range(min(num_picks, len(axes))):
        gains[ranked] = -1
        best = int(gains.argmax())
        ceiling = min(ceiling, float(gains[best]))
        result[best] = ceiling
        ranked.append(best)
        belief = beliefs[int(axes[best])]
        belief.observe(signal[best])
        gains[belief.rows] = belief.gains()
    rest = torch.ones(len(axes), dtype=torch.bool)
    rest[ranked] = False
    result[rest] = gains[rest].clamp_max(ceiling)
    return result


class _Belief:
    """What the ensemble knows about one axis while a batch grows: a normal distribution over its members' directions.

    Args:
        rows: int64 [n] questions of this axis.
        signal: [n, M] deviations of the members, over the standard deviation of an answer.
        targets: [T, M] deviations of the members for the targets.
    """

    def __init__(self, rows: Tensor, signal: Tensor, targets: Tensor) -> None:
        self.rows, self.signal, self.targets = rows, signal, targets
        self.covariance = torch.eye(signal.shape[1], dtype=torch.float64)

    def gains(self) -> Tensor:
        """EPIG of every question of this axis now, [n] in nats."""
        projected = self.signal @ self.covariance
        variance = (projected * self.signal).sum(1)
        of_targets = ((self.targets @ self.covariance) * self.targets).sum(1).clamp_min(1e-12)
        squared = (projected @ self.targets.T).square() / (1 + variance).unsqueeze(1) / of_targets
        return -0.5 * torch.log1p(-squared.clamp(0, 1 - 1e-9)).mean(1)

    def observe(self, signal: Tensor) -> None:
        """Condition on the answer to one question [M], whatever it will be: a normal belief narrows alike for all answers."""
        gain = self.covariance @ signal
        self.covariance = self.covariance - torch.outer(gain, gain) / (1 + signal @ gain)


def as_questions(pairs: Sequence[Pair], asked: Collection[tuple[frozenset[str], str]] = ()) -> list[Pair]:
    """Take pairs apart into questions, each a pair with one axis, in the order of the pairs.

    Args:
        pairs: Each with axes of its own.
        asked: Questions that don't come again: the two rollouts in any order, and the axis.
    """
    return [
        pair.model_copy(update={"axes": (axis,)})
        for pair in pairs
        for axis in pair.axes
        if (frozenset((pair.rollout_a, pair.rollout_b)), axis) not in asked
    ]


def join_questions(questions: Sequence[Pair]) -> list[Pair]:
    """Put questions about one pair together again where they were selected alike; the order of first mention stays."""
    axes: dict[tuple[str, str | None], list[str]] = {}
    first: dict[tuple[str, str | None], Pair] = {}
    for question in questions:
        key = (question.pair_id, question.selection)
        first.setdefault(key, question)
        axes.setdefault(key, []).extend(question.axes)
    return [pair.model_copy(update={"axes": tuple(axes[key])}) for key, pair in first.items()]


def score_questions(
    model: RewardModel, scores: Scores, rows: Mapping[str, int], questions: Sequence[Pair], num_picks: int, seed: int = 0
) -> Tensor:
    """How much each question is worth asking, see ``compute_predictive_gain``.

    Args:
        model: The ensemble.
        scores: Its scores of the clips.
        rows: Rollout id to the row of ``scores``.
        questions: Pairs with one axis each.
        num_picks: Size of the batch.
        seed: Seed of the targets.

    Returns:
        float64 [len(questions)] in nats.

    Raises:
        DataError: The model knows nothing about an axis that is asked.
    """
    unknown = sorted({question.axes[0] for question in questions} - set(model.axes))
    if unknown:
        raise DataError(
            f"the reward model knows the axes {', '.join(model.axes)}, not {', '.join(unknown)}; "
            "ask random questions about a new axis first and train on the answers"
        )
    first = torch.tensor([rows[question.rollout_a] for question in questions], dtype=torch.int64)
    second = torch.tensor([rows[question.rollout_b] for question in questions], dtype=torch.int64)
    axes = torch.tensor([model.axes.index(question.axes[0]) for question in questions], dtype=torch.int64)
    every = torch.arange(len(questions))
    margins = (scores.members[:, first] - scores.members[:, second])[:, every, axes]
    probabilities = member_probabilities(model, scores, first, second)[:, every, axes]
    return compute_predictive_gain(margins, probabilities, axes, num_picks, seed=seed)
