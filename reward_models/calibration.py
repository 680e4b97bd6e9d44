"""From rewards to probabilities that mean what they say.

Everything here is fitted on out-of-fold predictions: each vote is predicted by members that were trained without its context,
so the votes that train also calibrate, and no vote is set aside.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from reward_models.ties import vote_log_likelihood


@dataclass(frozen=True)
class PairCalibration:
    """What turns a raw margin into vote probabilities.

    Attributes:
        scale: One over the temperature, > 0; multiplies the raw reward.
        tie_logit: Unconstrained tie parameter at that scale.
    """

    scale: float
    tie_logit: float


@dataclass(frozen=True)
class FailCalibration:
    """P(fail | reward) = sigmoid(-(slope * reward + bias)); NaN where nobody said what is bad in itself."""

    slope: float
    bias: float


UNDEFINED_FAIL = FailCalibration(math.nan, math.nan)


def _minimise(parameters: list[Tensor], loss: Callable[[], Tensor]) -> None:
    optimiser = torch.optim.LBFGS(parameters, max_iter=100, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimiser.zero_grad()
        value = loss()
        value.backward()
        return value

    optimiser.step(closure)


POOLING = 4.0
"""Precision of the normal prior that holds axes together: standard deviations of 0.5 of log scale and of the tie parameter."""


def fit_pair_calibration(
    margin: Tensor,
    classes: Tensor,
    weight: Tensor,
    tie_logit: float,
    tie_model: str,
    lapse: float,
    pooled: PairCalibration | None = None,
) -> PairCalibration:
    """Fit the temperature and the tie parameter of one axis by penalised maximum likelihood.

    Alone, the penalty is a normal prior on the logarithm of the scale and on the shift of the tie parameter, worth about one
    vote, so that ten votes don't send the temperature to zero. With ``pooled`` it draws both towards what all axes have in
    common: the same people voted on all of them, and a hundred votes an axis are few.

    Args:
        margin: [V] out-of-fold reward(a) - reward(b).
        classes: [V] int64 votes.
        weight: [V] weights.
        tie_logit: Where the tie parameter starts, the one that training learned.
        tie_model: Name of the tie model.
        lapse: Share of careless votes that the likelihood allows for.
        pooled: From ``pool_calibrations``.
    """
    centre = pooled or PairCalibration(1.0, tie_logit)
    log_scale, shift = torch.zeros((), requires_grad=True), torch.zeros((), requires_grad=True)
    precision = (POOLING, POOLING) if pooled else (1.0, 0.25)

    def loss() -> Tensor:
        scale = centre.scale * log_scale.exp()
        likelihood = vote_log_likelihood(scale * margin, classes, centre.tie_logit + shift, tie_model, lapse)
        return -(weight * likelihood).sum() + 0.5 * (precision[0] * log_scale.square() + precision[1] * shift.square())

    _minimise([log_scale, shift], loss)
    return PairCalibration(centre.scale * float(log_scale.detach().exp()), centre.tie_logit + float(shift.detach()))


def pool_calibrations(fits: Sequence[PairCalibration], num_votes: Sequence[int]) -> PairCalibration | None:
    """What the axes have in common: the means, weighted by votes, of log scale and tie parameter; None for a single axis."""
    if len(fits) < 2:
        return None
    total = sum(num_votes)
    log_scale = sum(votes * math.log(fit.scale) for fit, votes in zip(fits, num_votes, strict=True)) / total
    tie_logit = sum(votes * fit.tie_logit for fit, votes in zip(fits, num_votes, strict=True)) / total
    return PairCalibration(math.exp(log_scale), tie_logit)


def absolute_log_likelihood(fail_logit_a: Tensor, fail_logit_b: Tensor, both_bad: Tensor, lapse: float = 0.0) -> Tensor:
    """Log-probability that a pair called equal is called "both bad", or a plain tie.

    Whoever could say "both bad" and said "tie" found both acceptable. Given that both are alike,
    P(both bad) = pq / (pq + (1-p)(1-q)) = sigmoid(logit p + logit q), which takes into account that only equal pairs are
    looked at; a product of two independent verdicts would be overconfident. "a" and "b" say nothing here: the better one of
    two may be bad as well.

    Args:
        fail_logit_a: [..., V] log-odds that a fails.
        fail_logit_b: [..., V] log-odds that b fails.
        both_bad: bool [V]; where False, a plain tie.
        lapse: Share of careless answers, uniform over the two, in [0, 1).

    Returns:
        [..., V] log-likelihood.
    """
    return verdict_log_likelihood(fail_logit_a + fail_logit_b, both_bad.to(fail_logit_a.dtype), lapse)


def verdict_log_likelihood(fail_logit: Tensor, failed: Tensor, lapse: float = 0.0) -> Tensor:
    """Log-probability of single-clip verdicts.

    Args:
        fail_logit: [..., J] log-odds that the clip fails.
        failed: [J] 1 = judged a fail, 0 = a pass.
        lapse: Share of careless verdicts, uniform over the two, in [0, 1).

    Returns:
        [..., J] log-likelihood.
    """
    honest = F.logsigmoid(torch.where(failed > 0.5, fail_logit, -fail_logit))
    if lapse == 0:
        return honest
    return torch.logaddexp(honest + math.log1p(-lapse), honest.new_tensor(math.log(lapse / 2)))


def fit_fail_calibration(
    reward_a: Tensor,
    reward_b: Tensor,
    both_bad: Tensor,
    weight: Tensor,
    judged_reward: Tensor,
    failed: Tensor,
    judged_weight: Tensor,
    lapse: float = 0.0,
) -> FailCalibration:
    """Fit slope and bias of the fail probability of one axis, with normal priors worth about one vote.

    Args:
        reward_a: [E] out-of-fold reward of rollout a, for the pairs that were called equal.
        reward_b: [E] the same for b.
        both_bad: bool [E].
        weight: [E].
        judged_reward: [J] out-of-fold reward of clips that were judged alone.
        failed: [J] 1 = fail, 0 = pass.
        judged_weight: [J].
        lapse: Share of careless answers that the likelihood allows for.

    Returns:
        The fit, or NaNs when nothing was called bad, or everything was.
    """
    bad = torch.cat([both_bad.to(failed.dtype), failed])
    if not ((bad > 0.5).any() and (bad < 0.5).any()):
        return UNDEFINED_FAIL
    log_slope, bias = torch.zeros((), requires_grad=True), torch.zeros((), requires_grad=True)

    def loss() -> Tensor:
        def fail_logit(reward: Tensor) -> Tensor:
            return -(log_slope.exp() * reward + bias)

        pairs = absolute_log_likelihood(fail_logit(reward_a), fail_logit(reward_b), both_bad, lapse)
        singles = verdict_log_likelihood(fail_logit(judged_reward), failed, lapse)
        return -(weight * pairs).sum() - (judged_weight * singles).sum() + 0.5 * (log_slope.square() + 0.1 * bias.square())

    _minimise([log_slope, bias], loss)
    return FailCalibration(float(log_slope.detach().exp()), float(bias.detach()))
