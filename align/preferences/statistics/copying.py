"""Do two annotators agree more than everything else explains? Copies, twins and one person with two accounts.

For each unit that two annotators share, the votes of everybody *else* say how likely they were to agree, given what the rest
of their own votes says about their skills. ``TASTE`` is added in log-odds, because two honest people may share a taste that a
model with one margin a pair doesn't know. The number of agreements is then a sum of unequal coins, whose upper tail is at most
that of a binomial with their mean (W. Hoeffding, "On the distribution of the number of successes in independent trials", Annals
of Mathematical Statistics 27, 1956), so the p-values err on the safe side.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats
from scipy.special import expit, logit, softmax

from align.preferences.statistics.crowd_model import GRID, Answers, Crowd, chances_at, sum_by

Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]
TASTE = 0.5
SKILLS = np.array([0, 0.3, 0.6, 0.9, 1.2, 1.6, 2.2])
_LOG_PRIOR = -(((SKILLS - 0.9) / 0.6) ** 2) / 2
MIN_SHARED = 2
"""Two annotators with fewer shared units are no pair to judge."""
_BLOCK = 50_000


@dataclass(frozen=True)
class CopyTest:
    """Pairs of annotators that share units; M pairs.

    Attributes:
        first: [M] one annotator.
        second: [M] the other.
        num_shared: [M] units that both answered.
        num_agreed: [M] those with the same answer.
        expected: [M] agreements to be expected, ``TASTE`` included.
        p_value: [M] at most the chance of so many agreements between two who answered on their own.
    """

    first: Int64
    second: Int64
    num_shared: Int64
    num_agreed: Int64
    expected: Float64
    p_value: Float64


def judge_copying(crowd: Crowd, answers: Answers) -> CopyTest:
    """Compare all pairs of annotators with at least ``MIN_SHARED`` shared units."""
    a, b = _shared_votes(answers)
    size = answers.num_annotators
    keys, pair, num_shared = np.unique(
        answers.annotator[a] * size + answers.annotator[b], return_inverse=True, return_counts=True
    )
    many = num_shared >= MIN_SHARED
    kept = many[pair]
    renumbered = np.cumsum(many) - 1
    a, b, pair, keys, num_shared = a[kept], b[kept], renumbered[pair[kept]], keys[many], num_shared[many]
    first, second = keys // size, keys % size
    expected = _expected(crowd, answers, (a, b), pair, (first, second))
    agreed = np.bincount(pair, answers.choice[a] == answers.choice[b], minlength=len(keys)).astype(np.int64)
    p_value = stats.binom.sf(agreed - 1, num_shared, expected / num_shared)
    return CopyTest(first, second, num_shared, agreed, expected, np.asarray(p_value))


def _expected(crowd: Crowd, answers: Answers, votes: tuple[Int64, Int64], pair: Int64, people: tuple[Int64, Int64]) -> Float64:
    """[M] agreements to be expected of each pair of annotators, given the rows of shared votes and which pair each is of."""
    a, b = votes
    table = _chances_of_choice(crowd, answers)
    orders = ((a, b, people[0]), (b, a, people[1]))
    skills = [_skills(crowd, answers, table, own, other, pair, who) for own, other, who in orders]
    expected = np.zeros(len(people[0]))
    for rows, margins in _blocks(crowd, answers, a, b):
        sides = []
        for vote, skill in zip(votes, skills, strict=True):
            who = answers.annotator[vote[rows]]
            sides.append(chances_at(crowd, answers, vote[rows], skill[pair[rows]], crowd.left[who], crowd.tie[who]))
        together = sum((margins * one * other).sum(axis=1) for one, other in zip(*sides, strict=True))
        chance = expit(logit(np.clip(together, 1e-6, 1 - 1e-6)) + TASTE)
        expected += np.bincount(pair[rows], chance, minlength=len(expected))
    return expected


def _shared_votes(answers: Answers) -> tuple[Int64, Int64]:
    """All pairs of votes about one unit, as two arrays of vote indices, the annotator with the smaller index first."""
    order = np.argsort(answers.unit, kind="stable")
    counts = np.bincount(answers.unit)
    starts = np.cumsum(counts) - counts
    pairs = []
    for count in np.unique(counts[counts > 1]):
        i, j = np.triu_indices(count, 1)
        at = starts[counts == count][:, None]
        pairs.append(np.stack([order[at + i].ravel(), order[at + j].ravel()]))
    a, b = np.concatenate(pairs, axis=1) if pairs else np.zeros((2, 0), dtype=np.int64)
    swap = answers.annotator[a] > answers.annotator[b]
    return np.where(swap, b, a), np.where(swap, a, b)


def _blocks(crowd: Crowd, answers: Answers, a: Int64, b: Int64) -> Iterator[tuple[slice, Float64]]:
    """Rows, with the margins of their units as all others but the two see them."""
    for start in range(0, len(a), _BLOCK):
        rows = slice(start, start + _BLOCK)
        without = crowd.unit_log[answers.unit[a[rows]]] - crowd.vote_log[a[rows]] - crowd.vote_log[b[rows]]
        yield rows, softmax(without, axis=1)


def _chances_of_choice(crowd: Crowd, answers: Answers) -> NDArray[np.float32]:
    """[V, S, G] chance of what was answered, at each of ``SKILLS`` and every margin."""
    votes = np.arange(len(answers.unit))
    left, tie = crowd.left[answers.annotator], crowd.tie[answers.annotator]
    table = np.empty((len(votes), len(SKILLS), len(GRID)), dtype=np.float32)
    for index, skill in enumerate(SKILLS):
        chances = chances_at(crowd, answers, votes, np.full(len(votes), skill), left, tie)
        table[:, index] = np.choose(answers.choice[:, None], chances)
    return table


def _skills(
    crowd: Crowd, answers: Answers, table: NDArray[np.float32], own: Int64, other: Int64, pair: Int64, who: Int64
) -> Float64:
    """[M] skill of one annotator of each pair, as everybody but the other sees it.

    All of the annotator's votes are judged by all others; where the other of the pair voted as well, without that vote.
    """
    alone = np.log(np.einsum("vg,vsg->vs", crowd.others(answers), table))
    total = sum_by(answers.annotator, answers.num_annotators, alone)[who]
    for rows, margins in _blocks(crowd, answers, own, other):
        judged = np.log(np.einsum("ng,nsg->ns", margins, table[own[rows]]))
        total = total + sum_by(pair[rows], len(who), judged - alone[own[rows]])
    return np.asarray(softmax(total + _LOG_PRIOR, axis=1) @ SKILLS)
