"""Does somebody's standard depend on what it should not? One person's answers against everybody else's, given what others said.

Answers are 0, 1 or 2 (how many of two clips are found fault with, say), each with a stratum (what the others said about the
same clips) and a flag (whether the attribute is there). Within a stratum and flag the crowd's own frequencies p say what to
expect, so that what a flag tells about clips is taken out. The statistic is the likelihood ratio of a standard that the flag
moves on a fifth of the answers, up with it and down without it, against the opposite:

    U = sum over answers of c w,    w = log(1 + 1/(4 e(2))) for a 2, -log(1 + 1/(4 e(0))) for a 0, 0 for a 1

with c = 2 n0 / (n0 + n1) where the flag is set and -2 n1 / (n0 + n1) where it is not (n1 and n0 answers of this person in the
stratum). A rare answer weighs more than a common one. People also have habits that the flag has nothing to do with: they are
strict, lenient or careless. So what is expected of a person is e = (1 - h0 - h2) p, plus h2 for a 2 and h0 for a 0, where the
habits are learned from this person's answers on the side on which they speak *against* the bias that is tested (a 2 without the
flag, a 0 with it); a bias can't hide in them. U has a mean and a variance under e; the variance holds the uncertainty of p and,
where that makes it larger, of h. One person's answers about one context (several axes of a pair, the pairs of a ranking) hang
together: the variance is as many times larger as the squares of their sums by context exceed those of single answers.
U / sqrt(variance) is held against Student's t, in both directions.

Tests go step down (Holm 1979): whoever is found no longer counts among the crowd, because two strange annotators make twenty
others look strange in the other direction. What was measured about all this stands in docs/auditors.md.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from scipy import special, stats

from align.audit.probes.base import LEVEL, POWER
from align.audit.statistics import Float64, Rate

LEVELS = np.arange(3) / 2
"""Answers as shares: of two clips, how many."""
ODDS = 0.25
"""A bias on a fifth of the answers, as odds."""
FLOOR, PRIOR = 0.02, 1.5
"""No answer is taken to be rarer than 1 in 50; pseudo-answers that pull a cell's frequencies to those of its stratum."""
MOST_HABIT = 0.9
"""Largest share of answers that a habit explains."""
CAUTION, DOF = 1.1, 30
"""People differ in more than habits: the variance is enlarged, and the tails are those of Student's t. Both were chosen on
simulated crowds other than those that figures are told about."""
FEW_PEOPLE, FEW_ANSWERS = 3, 10
"""With fewer people nobody can say who is the odd one; and nobody is tested by fewer answers with or without the flag."""


@dataclass(frozen=True)
class Excess:
    """How much more a flag changes one person's answers than everybody else's.

    Attributes:
        question: The table that it comes from.
        name: The person.
        effect: Difference of the mean answer (in [0, 1]) with and without the flag, beyond what others' answers lead one to
            expect; approximate 95 % interval.
        num_flagged: Answers with the flag that have something to be compared with.
        num_others: Answers without it.
        p_value: Two-sided; NaN where there is too little to test.
        p_holm: Corrected step-down for all tests made together.
        error: Standard error of ``effect``.
    """

    question: str
    name: str
    effect: Rate
    num_flagged: int
    num_others: int
    p_value: float
    p_holm: float
    error: float

    def detectable(self, num_tests: int, level: float = LEVEL, power: float = POWER) -> float:
        """Smallest effect that would about be found among ``num_tests`` tests; the test itself is somewhat sharper."""
        return float((special.ndtri(power) - special.ndtri(level / num_tests / 2)) * self.error)


def compute_excesses(tables: Mapping[str, pd.DataFrame], level: float = LEVEL) -> list[Excess]:
    """Test every person on every question, all corrected for one another.

    Args:
        tables: Question to answers: ``name``, ``stratum``, ``flag`` (0 or 1), ``answer`` (0, 1 or 2) and perhaps ``cluster``:
            what answers of one person hang together by, such as the context; without it they are independent.
        level: Chance of any false finding; whoever is found at it leaves the crowd.

    Returns:
        A row for each question and person.
    """
    counts = {question: (*_count(table), _answers(table)) for question, table in tables.items() if len(table)}
    done: dict[tuple[str, str], Excess] = {}
    reached = 0.0
    while True:
        found = {name for _, name in done}
        rows = [row for question, cells in counts.items() for row in _test_all(question, *cells, found)]
        rest = {(row.question, row.name): row for row in rows if (row.question, row.name) not in done}
        tested = sorted((row for row in rest.values() if not math.isnan(row.p_value)), key=lambda row: row.p_value)
        if not tested or tested[0].p_value * len(tested) > level:
            break
        reached = max(reached, tested[0].p_value * len(tested))
        done[tested[0].question, tested[0].name] = replace(tested[0], p_holm=reached)
    for rank, row in enumerate(tested):
        reached = max(reached, min(1.0, row.p_value * (len(tested) - rank)))
        rest[row.question, row.name] = replace(row, p_holm=reached)
    every = {**done, **rest}
    return [every[question, name] for question, (names, *_) in counts.items() for name in names]


def _count(table: pd.DataFrame) -> tuple[list[str], Float64]:
    """Names, and float [people, strata, flag, answer] of counts."""
    who, names = pd.factorize(table["name"])
    strata, labels = pd.factorize(table["stratum"])
    counts = np.zeros((len(names), len(labels), 2, 3))
    np.add.at(counts, (who, strata, table["flag"].to_numpy(dtype=int), table["answer"].to_numpy(dtype=int)), 1)
    return [str(name) for name in names], counts


def _answers(table: pd.DataFrame) -> list[np.ndarray]:
    """Each person's answers, int [n, 4]: stratum, flag, answer and cluster."""
    clusters = table["cluster"] if "cluster" in table else pd.Series(np.arange(len(table)), index=table.index)
    columns = [pd.factorize(table["stratum"])[0], table["flag"], table["answer"], pd.factorize(clusters)[0]]
    rows, who = np.stack([np.asarray(column, dtype=int) for column in columns], axis=1), pd.factorize(table["name"])[0]
    return [rows[who == k] for k in range(who.max() + 1)]


def _test_all(
    question: str, names: Sequence[str], counts: Float64, answers: Sequence[np.ndarray], found: set[str]
) -> list[Excess]:
    honest = np.array([name not in found for name in names])
    total, enough = counts[honest].sum(0), bool(honest.sum() >= FEW_PEOPLE)
    people = [_Person.of(own, total - own * honest[k], answers[k]) for k, own in enumerate(counts)]
    return [person.excess(question, name, enough) for name, person in zip(names, people, strict=True)]


@dataclass(frozen=True)
class _Person:
    """One person's answers beside what the crowd leads one to expect; arrays are [strata, flag, answer].

    Attributes:
        own: Counts, in strata in which this person and the crowd both have answers with and without the flag.
        crowd: The crowd's counts.
        usual: The crowd's frequencies.
        answers: The same as ``own``, int [n, 4]: stratum, flag, answer and cluster.
    """

    own: Float64
    crowd: Float64
    usual: Float64
    answers: np.ndarray

    @classmethod
    def of(cls, own: Float64, crowd: Float64, answers: np.ndarray) -> _Person:
        both = ((own.sum(2) > 0) & (crowd.sum(2) > 0)).all(1)
        return cls(own * both[:, None, None], crowd, _frequencies(crowd), answers[both[answers[:, 0]]])

    @property
    def num_clusters(self) -> int:
        return len(np.unique(self.answers[:, 3]))

    def design_effect(self, weights: Float64) -> float:
        """How many times the variance of a sum of weights [strata, flag, answer] is that of independent answers; at least 1."""
        stratum, flag, answer, cluster = self.answers.T
        pulls = weights[stratum, flag, answer]
        sizes = np.bincount(flag, minlength=2)
        pulls = pulls - (np.bincount(flag, pulls, minlength=2) / np.maximum(sizes, 1))[flag]
        alone = float((pulls**2).sum())
        return max(1.0, float((np.bincount(cluster, pulls) ** 2).sum()) / alone) if alone > 0 else 1.0

    def excess(self, question: str, name: str, enough: bool) -> Excess:
        """The test of this person; no p-value where there is too little."""
        tests = [_Test.of(self, sign) for sign in (1, -1)]
        test = max(tests, key=lambda one: one.z)
        num_others, num_flagged = (int(n) for n in self.own.sum((0, 2)))
        p_value = math.nan
        if enough and min(num_flagged, num_others) >= FEW_ANSWERS and math.isfinite(test.z):
            p_value = min(1.0, float(2 * stats.t.sf(test.z, min(DOF, self.num_clusters - 1))))
        effect, error = self._effect(test.expected)
        return Excess(question, name, effect, num_flagged, num_others, p_value, math.nan, error)

    def _effect(self, expected: Float64) -> tuple[Rate, float]:
        sizes = self.own.sum(2)
        weight = np.divide(sizes.prod(1), sizes.sum(1), out=np.zeros(len(sizes)), where=sizes.sum(1) > 0)
        if not weight.sum():
            return Rate(math.nan, math.nan, math.nan, 0, 0), math.nan
        mean = (expected * LEVELS).sum(2)
        beyond = (self.own * LEVELS).sum(2) / np.maximum(sizes, 1) - mean
        value = float((weight * (beyond[:, 1] - beyond[:, 0])).sum() / weight.sum())
        spread = (expected * LEVELS**2).sum(2) - mean**2
        terms = (weight**2)[:, None] * spread * (1 / np.maximum(sizes, 1) + 1 / np.maximum(self.crowd.sum(2), 1))
        pulls = (weight[:, None] / np.maximum(sizes, 1) * np.array([-1, 1]))[..., None] * (LEVELS - mean[..., None])
        error = math.sqrt(CAUTION * self.design_effect(pulls) * float(terms.sum())) / float(weight.sum())
        ends = max(-1.0, value - 1.96 * error), min(1.0, value + 1.96 * error)
        return Rate(value, *ends, int(sizes.sum()), self.num_clusters), error


@dataclass(frozen=True)
class _Test:
    """One direction of the test of one person.

    Attributes:
        expected: e of the module's formula, [strata, flag, answer].
        z: U over its standard error; large speaks for the bias; -inf where U can't vary.
    """

    expected: Float64
    z: float

    @classmethod
    def of(cls, person: _Person, sign: int) -> _Test:
        """``sign`` is 1 for more faults with the flag, -1 for fewer."""
        own, usual, sizes = person.own, person.usual, person.own.sum(2)
        against = {2: 0, 0: 1} if sign > 0 else {2: 1, 0: 0}
        habits = {answer: _Habit.of(own[:, flag], usual[:, flag], answer) for answer, flag in against.items()}
        expected = (1 - sum(habit.share for habit in habits.values())) * usual
        for answer, habit in habits.items():
            expected[..., answer] += habit.share
        expected = np.maximum(expected, FLOOR / 2)
        expected /= expected.sum(2, keepdims=True)
        weights = _weights(sizes, expected, sign)
        total = float((own * weights).sum())
        # The same answers teach the habit: what they do to U through it counts as their weight, unless no habit was seen.
        felt = weights.copy()
        for answer, flag in against.items():
            pull = -float((sizes * (weights[..., answer] - (usual * weights).sum(2))).sum())
            felt[:, flag, answer] += pull / habits[answer].size if habits[answer].size else 0.0
        share = sizes / np.maximum(person.crowd.sum(2), 1)
        spreads = [
            (_variance(expected, weight) + _variance(usual, weight) * share) * person.design_effect(weight)
            for weight in (weights, felt)
        ]
        variance = CAUTION * max(float((sizes * spread).sum()) for spread in spreads)
        return cls(expected, total / math.sqrt(variance) if variance > 0 else -math.inf)


@dataclass(frozen=True)
class _Habit:
    """How often somebody gives an answer whatever is shown.

    Attributes:
        share: Of all answers, in [0, ``MOST_HABIT`` / 2].
        size: Answers that could have shown it.
    """

    share: float
    size: float

    @classmethod
    def of(cls, own: Float64, usual: Float64, answer: int) -> _Habit:
        """From counts and the crowd's frequencies, [strata, answer]."""
        sizes = own.sum(1)
        size = float((sizes * (1 - usual[:, answer])).sum())
        surplus = float((own[:, answer] - sizes * usual[:, answer]).sum())
        return cls(float(np.clip(surplus / size, 0, MOST_HABIT / 2)) if size else 0.0, size)


def _weights(sizes: Float64, expected: Float64, sign: int) -> Float64:
    """c w of the module's formula, less its mean; [strata, flag, answer]."""
    balance = 2 * sizes[:, ::-1] / np.maximum(sizes.sum(1, keepdims=True), 1) * np.array([-sign, sign])
    weights = balance[..., None] * np.log1p(ODDS / expected) * np.array([-1, 0, 1])
    centred: Float64 = weights - (expected * weights).sum(2, keepdims=True)
    return centred


def _variance(frequencies: Float64, weights: Float64) -> Float64:
    """Variance [strata, flag] of the weight of an answer."""
    variance: Float64 = (frequencies * weights**2).sum(2) - (frequencies * weights).sum(2) ** 2
    return variance


def _frequencies(crowd: Float64) -> Float64:
    """The crowd's frequencies [strata, flag, answer], pulled towards those of the stratum; none is below ``FLOOR``."""
    stratum = crowd.sum(1, keepdims=True) + 1e-9
    prior = PRIOR * stratum / stratum.sum(2, keepdims=True)
    raw = (crowd + prior) / (crowd + prior).sum(2, keepdims=True)
    floored: Float64 = np.maximum(raw, FLOOR)
    return floored / floored.sum(2, keepdims=True)
