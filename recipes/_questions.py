"""A contest of ways to choose questions: votes are simulated, heads are trained anew after each batch, the simulator judges."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from align.preferences.pairing import select_pairs
from align.preferences.votes.schema import Pair, Vote
from reward_models.acquisition import compute_information_gain, compute_predictive_gain
from reward_models.linear import draw_priors, fit_votes
from reward_models.ties import VOTE_CLASSES, davidson_log_probs

ARMS = ("random", "active", "bald")
"""Ways to choose: by chance, by what an answer tells about other pairs, by what it tells about the model."""
LAPSE = 0.05


@dataclass(frozen=True)
class Options:
    """How every arm plays.

    Attributes:
        budgets: Votes after each batch, rising.
        num_members: Members of the ensemble, even.
        spread: Prior standard deviation of a linear weight on features scaled to unit length.
        random_share: Share of random questions in an active batch.
        max_per_context: Most questions of a context in a batch.
    """

    budgets: tuple[int, ...]
    num_members: int = 16
    spread: float = 4.0
    random_share: float = 0.2
    max_per_context: int = 2


class Problem:
    """What may be asked, and what the answers are held against.

    Args:
        questions: Pairs with one axis each.
        rows: Rollout id to row of ``features``.
        features: [N, D] of the rollouts, standardised and divided by sqrt(D).
        held_out: [H, D] of the clips with known truth, likewise.
        truth: Axis to the rows [P] of the truly better and of the worse clips among ``held_out``.
    """

    def __init__(
        self,
        questions: Sequence[Pair],
        rows: dict[str, int],
        features: Tensor,
        held_out: Tensor,
        truth: dict[str, tuple[Tensor, Tensor]],
    ) -> None:
        self.questions, self.features, self.held_out, self.truth = list(questions), features, held_out, truth
        self.axes = sorted({question.axes[0] for question in questions})
        self.axis = torch.tensor([self.axes.index(question.axes[0]) for question in questions])
        self.first = torch.tensor([rows[question.rollout_a] for question in questions])
        self.second = torch.tensor([rows[question.rollout_b] for question in questions])
        self.number = {(question.pair_id, question.axes[0]): number for number, question in enumerate(questions)}
        self.kernel, self.held_kernel = features @ features.T, features @ held_out.T

    def classes(self, votes: Sequence[Vote]) -> Tensor:
        """The answer to every question, int64 [Q], from votes about all of them."""
        answers = torch.full((len(self.questions),), -1)
        for vote in votes:
            answers[self.number[vote.pair_id, vote.axis]] = VOTE_CLASSES[vote.vote]
        if (answers < 0).any():
            raise ValueError(f"votes must answer all {len(answers)} questions, {int((answers < 0).sum())} are missing")
        return answers


class _Learner:
    """An ensemble of one seed, with draws that stay while votes come in.

    Attributes:
        rewards: [K, M, N] what the members think of the rollouts.
        held_rewards: [K, M, H] what they think of the clips with known truth.
        log_nu: [K, M, 1] their tie parameters.
    """

    def __init__(self, problem: Problem, classes: Tensor, options: Options, seed: int) -> None:
        self._problem, self._classes, self._spread = problem, classes, options.spread
        generator = torch.Generator().manual_seed(seed)
        clips = torch.cat([problem.features, problem.held_out])
        drawn = torch.stack([draw_priors(clips, options.num_members, options.spread, generator) for _ in problem.axes])
        self._prior, self._held_prior = drawn.split([len(problem.features), len(problem.held_out)], dim=-1)
        self._weight = torch.empty(options.num_members, len(problem.questions)).exponential_(generator=generator)
        self.rewards, self.held_rewards = self._prior, self._held_prior
        self.log_nu = torch.zeros(len(problem.axes), options.num_members, 1)

    def train(self, asked: list[int]) -> None:
        """Fit every axis anew to the answers to these questions."""
        problem = self._problem
        self.rewards, self.held_rewards = self._prior.clone(), self._held_prior.clone()
        for k in range(len(problem.axes)):
            mine = torch.tensor([number for number in asked if problem.axis[number] == k])
            a, b = problem.first[mine], problem.second[mine]
            rise = self._spread**2 * (problem.kernel[a] - problem.kernel[b])
            held_rise = self._spread**2 * (problem.held_kernel[a] - problem.held_kernel[b])
            margin = self._prior[k][:, a] - self._prior[k][:, b]
            kernel = rise[:, a] - rise[:, b]
            coefficients, self.log_nu[k] = fit_votes(kernel, margin, self._classes[mine], self._weight[:, mine], LAPSE)
            self.rewards[k] += coefficients @ rise
            self.held_rewards[k] += coefficients @ held_rise

    def accuracy(self, k: int) -> float:
        """Share of pairs with a known difference on axis k of which the truly better clip has the higher mean reward."""
        better, worse = self._problem.truth[self._problem.axes[k]]
        mean = self.held_rewards[k].mean(0)
        return float((mean[better] > mean[worse]).float().mean())


def play(problem: Problem, classes: Tensor, arm: str, options: Options, seed: int) -> list[dict[str, Any]]:
    """One arm from the first random batch to the last budget.

    The first batch asks equally often about every axis, at random, and is the same for all arms of a seed.

    Args:
        problem: What may be asked.
        classes: int64 [Q] the answer to every question.
        arm: A name of ``ARMS``.
        options: How to play.
        seed: Of priors, weights and the random part.

    Returns:
        One row a batch: ``votes``, ``accuracy`` by axis, ``asked`` by axis.
    """
    learner = _Learner(problem, classes, options, seed)
    asked: list[int] = []
    rows = []
    for batch, budget in enumerate(options.budgets):
        if asked:
            asked += _choose(problem, learner, asked, arm, budget - len(asked), options, 1000 * seed + batch)
        else:
            asked += _first_batch(problem, budget, seed)
        learner.train(asked)
        counts = torch.bincount(problem.axis[asked], minlength=len(problem.axes)).tolist()
        rows.append(
            {
                "votes": len(asked),
                "accuracy": {axis: learner.accuracy(k) for k, axis in enumerate(problem.axes)},
                "asked": dict(zip(problem.axes, counts, strict=True)),
            }
        )
    return rows


def _first_batch(problem: Problem, num: int, seed: int) -> list[int]:
    picked: list[int] = []
    for axis in problem.axes:
        mine = [question for question in problem.questions if question.axes[0] == axis]
        picked += _numbers(problem, select_pairs(mine, [0.0] * len(mine), max(1, num // len(problem.axes)), seed, 1.0, 1))
    return picked


def _choose(
    problem: Problem, learner: _Learner, asked: list[int], arm: str, num: int, options: Options, seed: int
) -> list[int]:
    taken = set(asked)
    left = [number for number in range(len(problem.questions)) if number not in taken]
    share = 1.0 if arm == "random" else options.random_share
    candidates = [problem.questions[number] for number in left]
    gains = _gains(problem, learner, arm, torch.tensor(left), num, seed)
    return _numbers(problem, select_pairs(candidates, gains.numpy(), num, seed, share, options.max_per_context))


def _gains(problem: Problem, learner: _Learner, arm: str, left: Tensor, num: int, seed: int) -> Tensor:
    """What each question that is left is worth to an arm."""
    if arm == "random":
        return torch.zeros(len(left))
    axis, rewards = problem.axis[left], learner.rewards
    margins = (rewards[axis, :, problem.first[left]] - rewards[axis, :, problem.second[left]]).T
    probabilities = (1 - LAPSE) * davidson_log_probs(margins, learner.log_nu[axis, :, 0].T).exp() + LAPSE / 3
    if arm == "bald":
        return compute_information_gain(probabilities)
    return compute_predictive_gain(margins, probabilities, axis, 2 * num, seed=seed)


def _numbers(problem: Problem, questions: Sequence[Pair]) -> list[int]:
    return [problem.number[question.pair_id, question.axes[0]] for question in questions]
