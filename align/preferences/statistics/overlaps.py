"""Every annotator against the others who judged the same pairs: agreement, skill, copies, and one button throughout."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from align.preferences.statistics.agreement import Rated
from align.preferences.statistics.copying import CopyTest, judge_copying
from align.preferences.statistics.crowd_model import PRIOR_SD, TIE, Answers, Crowd, fit_crowd, predict
from align.preferences.statistics.skill import SkillTest, judge_skills, num_partners

Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]
LEVEL = 0.05
NUM_ONLY_ANSWERS = 6
"""a, b, tie, both_bad, left, right."""


@dataclass(frozen=True)
class Overlap:
    """One annotator against the others; NaN where nobody else judged the same.

    Attributes:
        num_overlaps: Pairs and axes that somebody else judged, too.
        num_partners: How many others that were.
        agreement: Mean share of the others' answers that were the same.
        agreement_typical: What it would be for a typical annotator on the same pairs.
        agreement_by_chance: What it would be for one who doesn't look, with the same leanings to ties and sides.
        skill: 1 is the typical annotator here, 0 answers that have nothing to do with the clips, below 0 contrary ones.
        skill_low: Lower end of its 95 % interval.
        skill_high: Its upper end.
        partner: Index of the annotator with whom the agreement is hardest to explain; -1 where there is none.
        num_shared: Pairs and axes shared with the partner.
        num_agreed: Those with the same answer.
        num_agreed_expected: Those to be expected at most, a shared taste included.
        p_values: Of the tests ``skill``, ``copying`` and ``constant``; those that couldn't be made are missing.
    """

    num_overlaps: int = 0
    num_partners: int = 0
    agreement: float = math.nan
    agreement_typical: float = math.nan
    agreement_by_chance: float = math.nan
    skill: float = math.nan
    skill_low: float = math.nan
    skill_high: float = math.nan
    partner: int = -1
    num_shared: int = 0
    num_agreed: int = 0
    num_agreed_expected: float = math.nan
    p_values: Mapping[str, float] = field(default_factory=dict)


def judge_overlaps(rated: Sequence[Rated], names: Sequence[str], only_answers: Sequence[str]) -> list[Overlap]:
    """Compare annotators.

    Args:
        rated: Answers, each annotator at most once a unit; no catch trials.
        names: The annotators.
        only_answers: For each the one answer that was always given, or an empty text.

    Returns:
        One entry a name.
    """
    if max(Counter(row.unit for row in rated).values(), default=0) < 2:
        return [Overlap() for _ in names]
    answers = encode(rated, names)
    crowd, copies = fit_without_copies(answers)
    skills = judge_skills(crowd, answers)
    partners = num_partners(answers)
    overlaps, agreement = _agreements(answers, skills)
    constants = [_constant_p_value(crowd, answers, index) if only else 1.0 for index, only in enumerate(only_answers)]
    rows = []
    for index in range(len(names)):
        if not overlaps[index]:
            rows.append(Overlap())
            continue
        partner, p_copying = _closest(copies, index)
        p_values = {"skill": skills.p_value[index], "copying": p_copying, "constant": constants[index]}
        rows.append(
            Overlap(
                num_overlaps=int(overlaps[index]),
                num_partners=int(partners[index]),
                agreement=float(agreement[index, 0]),
                agreement_typical=float(agreement[index, 1]),
                agreement_by_chance=float(agreement[index, 2]),
                skill=float(skills.mean[index]),
                skill_low=float(skills.low[index]),
                skill_high=float(skills.high[index]),
                **partner,
                p_values={name: float(p) for name, p in p_values.items() if not math.isnan(p)},
            )
        )
    return rows


def encode(rated: Sequence[Rated], names: Sequence[str]) -> Answers:
    """Votes as arrays; the annotators in the order of ``names``."""
    units = {unit: index for index, unit in enumerate(dict.fromkeys(row.unit for row in rated))}
    axes = {axis: index for index, axis in enumerate(dict.fromkeys(unit[3] for unit in units))}
    people = {name: index for index, name in enumerate(names)}
    choice = {"first": 0, "second": 1, "tie": TIE, "both_bad": TIE}
    side = [0.0 if row.left_id is None else 1.0 if row.left_id == row.unit[1] else -1.0 for row in rated]
    return Answers(
        unit=np.array([units[row.unit] for row in rated], dtype=np.int64),
        annotator=np.array([people[row.vote.annotator_id] for row in rated], dtype=np.int64),
        choice=np.array([choice[row.value] for row in rated], dtype=np.int64),
        side=np.array(side),
        axis=np.array([axes[unit[3]] for unit in units], dtype=np.int64),
        num_annotators=len(people),
    )


def fit_without_copies(answers: Answers) -> tuple[Crowd, CopyTest]:
    """Fit the crowd; where annotators copy from each other, once more without listening to them."""
    trusted = np.ones(answers.num_annotators, dtype=bool)
    crowd = fit_crowd(answers)
    copies = judge_copying(crowd, answers)
    for _ in range(2):
        caught = copies.p_value * len(copies.p_value) < LEVEL
        names = np.union1d(copies.first[caught], copies.second[caught])
        if not trusted[names].any() or len(names) > answers.num_annotators - 3:
            break
        trusted[names] = False
        crowd = fit_crowd(answers, trusted)
        copies = judge_copying(crowd, answers)
    return crowd, copies


def _agreements(answers: Answers, skills: SkillTest) -> tuple[Int64, Float64]:
    """Overlaps [K]; and the mean share of others' answers that are the same, seen, typical and by chance [K, 3]."""
    counts = np.zeros((len(answers.axis), 3))
    np.add.at(counts, (answers.unit, answers.choice), 1)
    others = counts[answers.unit]
    others[np.arange(len(others)), answers.choice] -= 1
    num = others.sum(axis=1)
    share = np.divide(others, num[:, None], out=np.zeros_like(others), where=num[:, None] > 0)
    seen = share[np.arange(len(share)), answers.choice]
    figures = np.stack([seen, (share * skills.typical).sum(axis=1), (share * skills.by_chance).sum(axis=1)], axis=1)
    overlaps = np.bincount(answers.annotator, num > 0, minlength=answers.num_annotators).astype(np.int64)
    sums = np.stack([np.bincount(answers.annotator, column, minlength=answers.num_annotators) for column in figures.T], axis=1)
    return overlaps, np.divide(sums, overlaps[:, None], out=np.full_like(sums, math.nan), where=overlaps[:, None] > 0)


def _constant_p_value(crowd: Crowd, answers: Answers, index: int) -> float:
    """Chance that a typical annotator, with some patience with ties, would give these very answers throughout."""
    votes = np.flatnonzero(answers.annotator == index)
    margins = crowd.others(answers)[votes]
    one, none = np.ones(len(votes)), np.zeros(len(votes))
    patience = np.linspace(-2.5, 2.5, 11)
    weights = stats.norm.pdf(patience) / stats.norm.pdf(patience).sum()
    chance = 0.0
    for habit, weight in zip(patience * PRIOR_SD[2], weights, strict=True):
        chances = predict(crowd, answers, margins, votes, one, none, one * habit)
        chance += float(weight * np.prod(chances[np.arange(len(votes)), answers.choice[votes]]))
    return min(1.0, NUM_ONLY_ANSWERS * chance)


def _closest(copies: CopyTest, index: int) -> tuple[dict[str, Any], float]:
    """The partner whose agreement is hardest to explain, and the p-value, corrected for the number of partners."""
    pairs = np.flatnonzero((copies.first == index) | (copies.second == index))
    if not len(pairs):
        return {}, math.nan
    best = pairs[np.argmin(copies.p_value[pairs])]
    smallest = min(float(copies.p_value[best]), 1 - 1e-12)
    partner = {
        "partner": int(copies.second[best] if copies.first[best] == index else copies.first[best]),
        "num_shared": int(copies.num_shared[best]),
        "num_agreed": int(copies.num_agreed[best]),
        "num_agreed_expected": float(copies.expected[best]),
    }
    return partner, -math.expm1(len(pairs) * math.log1p(-smallest))
