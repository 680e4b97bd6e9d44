"""Annotators whose votes depend on an attribute that should not matter, such as the appearance of the person in the clip.

Within a pair the attribute is mostly the same, so it can't tip the choice; it can change the *standard*: how many of the two
are found fault with. So each annotator's answers are compared with what others said about the same pair, for pairs with and
without the attribute (``align.audit.probes.standards``). Where the two clips differ in it (twin pairs above all), the
side that wins is tested as well. A bias that everybody shares to the same degree is seen on twin pairs only.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from scipy import special

from align.audit.probes.answers import judgement_answers, tabulate_votes, vote_answers
from align.audit.probes.base import LEVEL, POWER, Finding, Probe
from align.audit.probes.pairs import sign_flip_p_value
from align.audit.probes.standards import Excess, compute_excesses
from align.audit.statistics import Rate, holm, mean_interval
from align.preferences.statistics.agreement import comparable_votes
from align.preferences.votes.schema import Judgement, Vote

PROBE = Probe(
    name="votes",
    asks="Does anybody vote by something that should not matter, such as who is in the clip?",
    shows="An annotator answers otherwise than others do about the same clips, and more so for one value of the attribute.",
    cannot_show="A bias that all annotators share (except on twin pairs), or anything about pairs that nobody else judged.",
    recipe="probe_votes",
)
QUESTIONS = {"faults": "clips found fault with", "fail": "clips failed", "side": "clip preferred", "twin": "twin preferred"}
"""What is tested, and how it is said."""
BIAS, DRIFT, CROWD = 0.8, 0.1, 0.1
"""Shares of the level: single annotators' bias, their drift, and everybody's preference among twins."""
SIDES = ("side", "twin")
"""Questions about pairs whose clips differ in the attribute."""


@dataclass(frozen=True)
class BiasRow:
    """One annotator, one question and one value of an attribute.

    Attributes:
        annotator_id: Who.
        question: A key of ``QUESTIONS``.
        attribute: The attribute's name.
        value: Its value that is compared with all others.
        excess: How much more it matters to this annotator than to the others.
    """

    annotator_id: str
    question: str
    attribute: str
    value: str
    excess: Excess

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON."""
        excess = self.excess
        p_values = {name: None if np.isnan(p := getattr(excess, name)) else p for name in ("p_value", "p_holm")}
        about = {name: getattr(self, name) for name in ("annotator_id", "question", "attribute", "value")}
        return {**about, **p_values, "effect": excess.effect.as_dict(), "num_with": excess.num_flagged} | {
            "num_without": excess.num_others
        }


def probe_annotators(
    votes: Iterable[Vote],
    attributes: Mapping[str, Mapping[str, str]],
    judgements: Iterable[Judgement] = (),
    level: float = LEVEL,
) -> list[BiasRow]:
    """Test every annotator on every attribute, value and question, all corrected for one another.

    Args:
        votes: Raw votes; superseded ones, skips and trials don't count.
        attributes: Attribute to rollout id to value; clips without one are left out.
        judgements: Raw single-clip judgements.
        level: Chance of any false finding.

    Returns:
        A row a test; those with too few answers have no p-value.
    """
    judgements = list(judgements)
    table = tabulate_votes(votes)
    tables: dict[str, pd.DataFrame] = {}
    labels: dict[str, tuple[str, str, str]] = {}
    for attribute, of_clip in attributes.items():
        answers = {**vote_answers(table, of_clip), "fail": judgement_answers(judgements, of_clip)}
        for question, rows in answers.items():
            for value in compared_values(of_clip):
                key = str(len(labels))
                labels[key] = (question, attribute, value)
                tables[key] = _flag(rows, value, sides=question in SIDES)
    return [BiasRow(excess.name, *labels[excess.question], excess) for excess in compute_excesses(tables, level)]


def _flag(rows: pd.DataFrame, value: str, *, sides: bool) -> pd.DataFrame:
    """Answers about pairs of which one clip has the value (``sides``), or both have or lack it."""
    flag, other = rows["first"] == value, rows["second"] == value
    return rows.assign(flag=flag.astype(int))[(flag != other) == sides]


def bias_findings(rows: Sequence[BiasRow], level: float = LEVEL) -> list[Finding]:
    """Every test that was made as a finding with its corrected p-value, not yet judged."""
    made = [row for row in rows if not np.isnan(row.excess.p_value)]
    return [
        Finding(
            probe=PROBE.name,
            name=f"{row.annotator_id}, {QUESTIONS[row.question]} where {row.attribute} is {row.value}, beyond what others do",
            effect=row.excess.effect,
            unit="points",
            p_value=row.excess.p_value,
            detectable=row.excess.detectable(len(made), level),
            p_holm=row.excess.p_holm,
        )
        for row in made
    ]


def crowd_preference(votes: Iterable[Vote], of_clip: Mapping[str, str], value: str) -> tuple[Rate, float]:
    """Of everybody's votes on twin pairs, by how much the twin with the value wins more often than it loses; and the p-value.

    Twins differ in nothing else, so 0 is fair. Pairs of one context are tossed together.
    """
    scores, contexts = [], []
    for row in comparable_votes(votes):
        first, second = (of_clip.get(name) == value for name in row.unit[1:3])
        if row.vote.selection == "twin" and first != second:
            sign = {"first": 1.0, "second": -1.0}.get(row.value, 0.0)
            scores.append(sign if first else -sign)
            contexts.append(row.unit[0])
    return mean_interval(scores, contexts), sign_flip_p_value(scores, contexts)


def crowd_findings(votes: Iterable[Vote], attributes: Mapping[str, Mapping[str, str]], level: float = LEVEL) -> list[Finding]:
    """What everybody together prefers among twins, corrected for one another (Holm); empty without twin pairs."""
    votes = list(votes)
    pairs = [(name, value) for name, of_clip in attributes.items() for value in compared_values(of_clip)]
    tested = [(*pair, *crowd_preference(votes, attributes[pair[0]], pair[1])) for pair in pairs]
    made = [row for row in tested if row[2].n]
    adjusted = holm(np.array([p_value for *_, p_value in made]))
    z = special.ndtri(POWER) - special.ndtri(level / max(1, len(made)) / 2)
    return [
        Finding(
            probe=PROBE.name,
            name=f"everybody, {QUESTIONS['twin']} where {name} is {value}",
            effect=gain,
            unit="points",
            p_value=p_value,
            detectable=float(z * (gain.high - gain.low) / 2 / 1.96),
            p_holm=float(p_holm),
        )
        for (name, value, gain, p_value), p_holm in zip(made, adjusted, strict=True)
    ]


def compared_values(of_clip: Mapping[str, str]) -> list[str]:
    """Values that are held against all others: each, or of two the second."""
    values = sorted(set(of_clip.values()))
    return values if len(values) > 2 else values[1:]


def share_level(findings: Iterable[Finding], share: float) -> list[Finding]:
    """Families of findings judged beside one another: this one may use up ``share`` of the level (Bonferroni)."""
    return [replace(finding, p_holm=min(1.0, finding.p_holm / share)) for finding in findings]
