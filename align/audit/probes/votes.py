"""Annotators whose votes depend on an attribute that should not matter, such as the appearance of the person in the clip.

Within a pair the attribute is mostly the same, so it can't tip the choice; it can change the *standard*: how soon both are
called bad, or alike. So each annotator's answers are compared with what others said about the same pair, for pairs with and
without the attribute (``align.audit.probes.standards``). Where the two clips differ in the attribute (twin pairs above all),
the side that wins is tested as well. A bias that everybody shares to the same degree is seen on twin pairs only.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from align.audit.probes.base import LEVEL, Finding, Probe
from align.audit.probes.pairs import sign_flip_p_value
from align.audit.probes.standards import Excess, compute_excesses
from align.audit.statistics import Rate, mean_interval
from align.preferences.statistics.agreement import Rated, comparable_votes
from align.preferences.votes.schema import Judgement, Vote

PROBE = Probe(
    name="votes",
    asks="Does anybody vote by something that should not matter, such as who is in the clip?",
    shows="An annotator answers otherwise than others do about the same clips, and more so for one value of the attribute.",
    cannot_show="A bias that all annotators share (except on twin pairs), or anything about pairs that nobody else judged.",
    recipe="probe_votes",
)
QUESTIONS = {
    "both_bad": "calls both clips bad",
    "tie": "calls the clips alike",
    "fail": "fails the clip",
    "side": "prefers the clip",
    "twin": "prefers the twin",
}
"""What is tested, and how it is said."""
FEW_ANSWERS = 10
"""On either side of the attribute; nobody is tested on fewer."""


@dataclass(frozen=True)
class BiasRow:
    """One annotator, one question and one value of the attribute.

    Attributes:
        annotator_id: Who.
        question: A key of ``QUESTIONS``.
        value: The value that is compared with all others.
        excess: How much more it matters to this annotator than to the others.
    """

    annotator_id: str
    question: str
    value: str
    excess: Excess

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON."""
        excess = self.excess
        p_value = None if np.isnan(excess.p_value) else excess.p_value
        about = {"annotator_id": self.annotator_id, "question": self.question, "value": self.value, "p_value": p_value}
        return {**about, "effect": excess.effect.as_dict(), "num_with": excess.num_flagged, "num_without": excess.num_others}


def probe_annotators(
    votes: Iterable[Vote], attribute: Mapping[str, str], judgements: Iterable[Judgement] = ()
) -> list[BiasRow]:
    """Test every annotator, question and value of an attribute.

    Args:
        votes: Raw votes; superseded ones, skips and trials don't count.
        attribute: Rollout id to the attribute's value; clips without one are left out.
        judgements: Raw single-clip judgements.

    Returns:
        A row a test that could be made: at least ``FEW_ANSWERS`` on either side, given what others said.
    """
    frames = {**vote_frames(votes, attribute), "fail": judgement_frame(judgements, attribute)}
    values = sorted(set(attribute.values()))
    rows = []
    for question, frame in frames.items():
        for value in values if len(values) > 2 else values[1:]:
            flagged = _flag(frame, value)
            excesses = compute_excesses(flagged, 1.0 if question == "twin" else None) if len(flagged) else []
            rows += [BiasRow(excess.name, question, value, excess) for excess in excesses if _enough(excess)]
    return rows


def _enough(excess: Excess) -> bool:
    return min(excess.num_flagged, excess.num_others) >= FEW_ANSWERS and not np.isnan(excess.p_value)


def _flag(frame: pd.DataFrame, value: str) -> pd.DataFrame:
    """Answers where one side has the value (for questions about sides) or both have or lack it (for the others)."""
    first, second = frame["first"] == value, frame["second"] == value
    kept = frame[(first != second) if frame.attrs["sides"] else (first == second)]
    return kept.assign(flag=first[kept.index].astype(int))


def _frame(rows: Sequence[tuple[Any, ...]], *, sides: bool) -> pd.DataFrame:
    frame = pd.DataFrame(rows, columns=["name", "stratum", "answer", "first", "second"])
    frame.attrs["sides"] = sides
    return frame


def vote_frames(votes: Iterable[Vote], attribute: Mapping[str, str]) -> dict[str, pd.DataFrame]:
    """Question to answers: ``name``, ``stratum`` (axis and what the others said), ``answer``, and the attribute of both clips.

    Clips stand in the order of their ids, not in that in which they were shown. The strata are halves of the others' shares, so
    that two others already give six of them.
    """
    of_unit: dict[tuple[str, ...], list[Rated]] = defaultdict(list)
    for row in comparable_votes(votes):
        if row.vote.annotator_id and row.unit[1] in attribute and row.unit[2] in attribute:
            of_unit[row.unit].append(row)
    rows: dict[str, list[tuple[Any, ...]]] = {"both_bad": [], "tie": [], "side": [], "twin": []}
    for (_, first, second, axis), rated in of_unit.items():
        said, about = Counter(row.value for row in rated), (attribute[first], attribute[second])
        for row in rated:
            others = said - Counter([row.value])
            for question, stratum, answer in _answers(row, others, about[0] == about[1]):
                rows[question].append((row.vote.annotator_id, (axis, *stratum), answer, *about))
    return {question: _frame(found, sides=question in ("side", "twin")) for question, found in rows.items()}


def _answers(row: Rated, others: Counter[str], alike: bool) -> list[tuple[str, tuple[int, ...], int]]:
    """(question, stratum, answer) of one vote, given what the others said."""
    decided, num = row.value in ("first", "second"), others.total()
    if not alike and row.vote.selection == "twin":
        return [("twin", (), int(row.value == "first"))] if decided else []
    if not num:
        return []
    if not alike:
        return (
            [("side", (round(2 * (others["first"] - others["second"]) / num),), int(row.value == "first"))] if decided else []
        )
    stratum = (round(2 * others["both_bad"] / num), round(2 * (others["first"] + others["second"]) / num))
    bad = row.value == "both_bad"
    return [("both_bad", stratum, int(bad)), *([] if bad else [("tie", stratum, int(not decided))])]


def judgement_frame(judgements: Iterable[Judgement], attribute: Mapping[str, str]) -> pd.DataFrame:
    """Single-clip verdicts as answers: 1 where the clip fails, given the share of others who fail it, without ``unsure``."""
    rows = list(judgements)
    superseded = {row.supersedes for row in rows if row.supersedes}
    of_clip: dict[tuple[str, str], dict[str, int]] = defaultdict(dict)
    for row in rows:
        counts = row.annotator_id and row.judgement_id not in superseded and row.verdict != "unsure"
        if counts and row.rollout_id in attribute:
            of_clip[row.rollout_id, row.axis].setdefault(row.annotator_id, int(row.verdict == "fail"))
    found = []
    for (clip, axis), said in of_clip.items():
        for name, answer in said.items():
            if len(said) > 1:
                share = (sum(said.values()) - answer) / (len(said) - 1)
                found.append((name, (axis, round(2 * share)), answer, attribute[clip], attribute[clip]))
    return _frame(found, sides=False)


def bias_findings(rows: Sequence[BiasRow], level: float = LEVEL) -> list[Finding]:
    """Every test as a finding, not yet judged; judge all annotators together."""
    num = max(1, len(rows))
    return [
        Finding(
            probe=PROBE.name,
            name=f"{row.annotator_id} {QUESTIONS[row.question]} more where it is {row.value}",
            effect=row.excess.effect,
            unit="points",
            p_value=row.excess.p_value,
            detectable=row.excess.detectable(num, level),
        )
        for row in rows
    ]


def crowd_preference(votes: Iterable[Vote], attribute: Mapping[str, str], value: str) -> tuple[Rate, float]:
    """Of everybody's votes on twin pairs, by how much the twin with the value wins more often than it loses; and the p-value.

    Twins differ in nothing else, so 0 is fair. Pairs of one context are tossed together.
    """
    scores, contexts = [], []
    for row in comparable_votes(votes):
        first, second = (attribute.get(name) == value for name in row.unit[1:3])
        if row.vote.selection == "twin" and first != second:
            sign = {"first": 1.0, "second": -1.0}.get(row.value, 0.0)
            scores.append(sign if first else -sign)
            contexts.append(row.unit[0])
    return mean_interval(scores, contexts), sign_flip_p_value(scores, contexts)
