"""How skilled is each annotator, and how often would an honest one look this much like a random clicker?

The null hypothesis is neither "perfect" nor "exactly average": honest people differ. The crowd's skills are taken as a mixture
of random clickers (skill 0) and honest people with log-normal skills, its parameters averaged over their posterior. The
statistic is the log-likelihood ratio of honest skills against skill 0, a sum over votes of which each is judged by what the
*others* answered; its tail is a saddlepoint approximation, averaged over honest skills.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import logsumexp, softmax

from align.preferences.statistics.crowd_model import Answers, Crowd, predict, sum_by
from align.preferences.statistics.saddlepoint import lower_tail

Float64 = NDArray[np.float64]
SKILLS = np.array([-1, -0.5, 0, 0.15, 0.3, 0.45, 0.6, 0.75, 0.9, 1.05, 1.2, 1.4, 1.6, 1.8, 2.1, 2.4, 2.8, 3.3])
"""Grid of skills; 1 is the typical annotator."""
RANDOM = int(np.flatnonzero(SKILLS == 0)[0])
TYPICAL = int(np.argmin(np.abs(SKILLS - 1)))
_WIDTHS = np.gradient(SKILLS)
_RANDOM_SHARES = np.array([0.02, 0.05, 0.1, 0.2, 0.35, 0.5])
_MEDIANS = np.array([0.5, 0.7, 0.85, 1.0, 1.15, 1.3, 1.6])
_SPREADS = np.array([0.15, 0.25, 0.35, 0.5, 0.7])
USUAL_SPREAD = 0.35
"""Standard deviation of log skills that a small crowd is taken to have."""


@dataclass(frozen=True)
class SkillTest:
    """Skills of K annotators with V votes, judged by what the others answered.

    Attributes:
        p_value: [K] chance that an honest annotator of this crowd looks at least as random; NaN without two others to compare.
        mean: [K] skill, averaged over a flat prior on the range of ``SKILLS``.
        low: [K] 2.5 % quantile.
        high: [K] 97.5 % quantile.
        typical: [V, 3] chances of each answer for a typical annotator with this one's leanings.
        by_chance: [V, 3] the same with skill 0.
    """

    p_value: Float64
    mean: Float64
    low: Float64
    high: Float64
    typical: Float64
    by_chance: Float64


def judge_skills(crowd: Crowd, answers: Answers) -> SkillTest:
    """Judge every annotator by the votes of the others about the same units."""
    who, size = answers.annotator, answers.num_annotators
    margins = crowd.others(answers)
    left, tie = crowd.left[who], crowd.tie[who]
    votes = np.arange(len(who))
    chances = np.stack([predict(crowd, answers, margins, votes, np.full(len(who), s), left, tie) for s in SKILLS], axis=1)
    log_likelihood = sum_by(who, size, np.log(chances[votes, :, answers.choice]))  # [K, S]
    judged = num_partners(answers) > 1
    honest = honest_skills(log_likelihood[judged])
    values = np.log(np.einsum("vsc,s->vc", chances, honest)) - np.log(chances[:, RANDOM])
    totals = sum_by(who, size, values[votes, answers.choice][:, None])[:, 0]
    p_value = np.where(judged, lower_tail(values, chances, who, size, totals) @ honest, math.nan)
    mean, low, high = _posterior(log_likelihood)
    return SkillTest(p_value, mean, low, high, chances[:, TYPICAL], chances[:, RANDOM])


def num_partners(answers: Answers) -> NDArray[np.int64]:
    """[K] how many others each annotator shares a unit with."""
    met = np.zeros((answers.num_annotators, int(answers.unit.max()) + 1), dtype=np.float32)
    met[answers.annotator, answers.unit] = 1
    together = met @ met.T > 0
    np.fill_diagonal(together, False)
    return np.asarray(together.sum(axis=1))


def honest_skills(log_likelihood: Float64) -> Float64:
    """Distribution of honest annotators' skills over ``SKILLS`` [S], from what each one's votes say [K, S].

    A flat prior on the share of random clickers and on the honest median, a log-normal one on the spread of honest skills, so
    that a crowd of three does not pass for a crowd of equals.
    """
    positive = np.maximum(SKILLS, 0.01)
    shapes = []
    for median in _MEDIANS:
        for spread in _SPREADS:
            density = np.where(SKILLS > 0, np.exp(-((np.log(positive / median) / spread) ** 2) / 2) / positive * _WIDTHS, 0)
            shapes.append(density / density.sum())
    honest = np.array(shapes)  # [M, S]
    with np.errstate(divide="ignore"):
        log_honest = logsumexp(log_likelihood[:, None, :] + np.log(honest), axis=2)  # [K, M]
    log_random = log_likelihood[:, [RANDOM]]
    support = [np.logaddexp(math.log(1 - share) + log_honest, math.log(share) + log_random).sum(0) for share in _RANDOM_SHARES]
    prior = -((np.log(np.tile(_SPREADS, len(_MEDIANS)) / USUAL_SPREAD) / 0.5) ** 2) / 2
    weights = softmax(np.array(support) + prior)  # over both axes
    return np.asarray(weights.sum(axis=0) @ honest)


def _posterior(log_likelihood: Float64) -> tuple[Float64, Float64, Float64]:
    """Mean and 2.5 % and 97.5 % quantiles of the skill [K] under a flat prior on the grid."""
    weights = softmax(log_likelihood + np.log(_WIDTHS), axis=1)
    upto = np.cumsum(weights, axis=1) - weights / 2
    quantiles = [np.array([np.interp(level, row, SKILLS) for row in upto]) for level in (0.025, 0.975)]
    return weights @ SKILLS, quantiles[0], quantiles[1]
