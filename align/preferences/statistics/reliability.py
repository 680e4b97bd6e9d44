"""Who can be relied on: a row an annotator, with what was seen, how likely it is for an honest person, and it all in words.

Five tests, each against an *honest* null hypothesis, because a test against "exactly like the average" flags a quarter of
honest annotators:

- ``skill``: answers that have little to do with the clips (``align.preferences.statistics.skill``).
- ``copying``: agreement with one other beyond what everything else explains (``align.preferences.statistics.copying``).
- ``left``: one side chosen more often than ``LEFT_TOLERANCE``; exact binomial test. Sides are random, so a share of one half is
  to be expected, but a slight habit is human.
- ``constant``: the same answer throughout, by the chance that a typical annotator with some habit of ties would give it.
- ``trials``: failed gold and catch trials, against the others' failures, which vary from person to person (beta-binomial).

An annotator's p-value is the smallest of the five, each divided by its share of the error (``SHARES``; weighted Sidak).
``flagged`` controls the chance that *any* honest annotator is flagged (Holm, 5 %); ``watch`` allows that one in twenty of those
it names is honest (Benjamini and Hochberg, 5 %).
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from align.preferences.statistics.agreement import comparable_votes
from align.preferences.statistics.habits import Gold as Gold
from align.preferences.statistics.habits import (
    Sides,
    Trials,
    count_repeats,
    count_sides,
    count_trials,
    only_answer,
    response_speed,
    trial_p_values,
    usual_times,
)
from align.preferences.statistics.overlaps import LEVEL, Overlap, judge_overlaps
from align.preferences.votes.schema import Vote, effective_votes

Float64 = NDArray[np.float64]
SHARES = {"skill": 0.6, "copying": 0.2, "left": 0.1, "constant": 0.05, "trials": 0.05}
"""Share of the error that each test may spend; those that are hard to fail by chance need little."""
FEW_VOTES = 10
"""Nobody is judged by fewer votes."""
HASTY = 1 / 3
"""Answering in less than this share of the usual time is worth saying."""


@dataclass(frozen=True)
class AnnotatorRow:
    """What the votes say about one annotator; NaN where they say nothing.

    Attributes:
        num_votes: Votes that count: without superseded ones and skips.
        num_simulated: Of them, cast by a program.
        tie_share: Share of ties, both-bad ones included.
        sides: Decided votes by side.
        trials: Catch and gold trials.
        num_timed: Votes with a response time.
        response_time_s: Their median.
        speed_ratio: Median of response time over the usual one of the axis; 0.5 is twice as fast as usual.
        num_repeats: Questions answered once more.
        num_repeats_same: Of them, answered as the first time.
        only_answer: The one answer given throughout; empty where there are several.
        overlap: Against the others.
        partner_id: Name of ``overlap.partner``; empty where there is none.
        p_values: Of each test against an honest annotator; tests that couldn't be made are missing.
        p_value: All of them together.
        suspicion: -log10 of it: 3 means that one honest annotator in a thousand looks like this.
        p_holm: Corrected so that the chance of flagging anybody honest stays below 5 %.
        p_bh: Corrected so that the share of honest ones among those named stays below 5 %.
        status: ``flagged``, ``watch``, ``fine``, or ``too few`` votes to judge.
        reason: In words.
    """

    annotator_id: str
    num_votes: int
    num_simulated: int
    tie_share: float
    sides: Sides
    trials: Trials
    num_timed: int
    response_time_s: float
    speed_ratio: float
    num_repeats: int
    num_repeats_same: int
    only_answer: str
    overlap: Overlap = field(default_factory=Overlap)
    partner_id: str = ""
    p_values: Mapping[str, float] = field(default_factory=dict)
    p_value: float = math.nan
    suspicion: float = math.nan
    p_holm: float = math.nan
    p_bh: float = math.nan
    status: str = "too few"
    reason: str = ""

    @property
    def flagged(self) -> bool:
        """Whether this annotator stands out even after correction for the number of annotators."""
        return self.status == "flagged"


def annotator_report(votes: Iterable[Vote], gold: Gold | None = None) -> list[AnnotatorRow]:
    """Judge every named annotator, the most suspicious first.

    Args:
        votes: Raw votes of one campaign, all axes together.
        gold: Known answers of gold pairs.
    """
    by_name: dict[str, list[Vote]] = defaultdict(list)
    counting = effective_votes(votes)
    for vote in counting:
        if vote.annotator_id:
            by_name[vote.annotator_id].append(vote)
    usual = usual_times(counting)
    rows = [_count(name, own, gold, usual) for name, own in by_name.items()]
    rated = [row for row in comparable_votes(counting, trials=True) if row.unit[1] != row.unit[2] and row.vote.annotator_id]
    overlaps = judge_overlaps(rated, list(by_name), [row.only_answer for row in rows])
    trials = trial_p_values([row.trials for row in rows])
    judged = []
    for row, overlap, p_trials in zip(rows, overlaps, trials, strict=True):
        p_values = {**overlap.p_values, "left": row.sides.p_habit, "trials": p_trials}
        known = {name: p for name, p in p_values.items() if not math.isnan(p)}
        partner_id = rows[overlap.partner].annotator_id if overlap.partner >= 0 else ""
        judged.append(replace(row, overlap=overlap, partner_id=partner_id, p_values=known, p_value=combine(known)))
    return _conclude(judged)


def _count(name: str, own: Sequence[Vote], gold: Gold | None, usual: Mapping[str, float]) -> AnnotatorRow:
    num_timed, response_time_s, speed_ratio = response_speed(own, usual)
    num_repeats, num_same = count_repeats(own)
    return AnnotatorRow(
        annotator_id=name,
        num_votes=len(own),
        num_simulated=sum(vote.simulated for vote in own),
        tie_share=sum(vote.vote in ("tie", "both_bad") for vote in own) / len(own),
        sides=count_sides(own),
        trials=count_trials(own, gold),
        num_timed=num_timed,
        response_time_s=response_time_s,
        speed_ratio=speed_ratio,
        num_repeats=num_repeats,
        num_repeats_same=num_same,
        only_answer=only_answer(own),
    )


def _conclude(rows: Sequence[AnnotatorRow]) -> list[AnnotatorRow]:
    together = np.array([row.p_value for row in rows])
    judged = np.array([row.num_votes >= FEW_VOTES for row in rows], dtype=bool) & ~np.isnan(together)
    p_holm, p_bh = np.full((2, len(rows)), math.nan)
    if judged.any():
        p_holm[judged] = holm(together[judged])
        p_bh[judged] = stats.false_discovery_control(together[judged])
    done = []
    for row, strict, mild in zip(rows, p_holm.tolist(), p_bh.tolist(), strict=True):
        status = "too few" if math.isnan(strict) else "flagged" if strict < LEVEL else "watch" if mild < LEVEL else "fine"
        suspicion = -math.log10(max(row.p_value, 1e-300)) + 0.0
        row = replace(row, suspicion=suspicion, p_holm=strict, p_bh=mild, status=status)
        done.append(replace(row, reason=explain(row)))
    return sorted(done, key=lambda row: (-row.suspicion if not math.isnan(row.suspicion) else 1, row.annotator_id))


def combine(p_values: Mapping[str, float]) -> float:
    """One p-value from several tests, the smallest after each is divided by its share (weighted Sidak); NaN from none."""
    if not p_values:
        return math.nan
    smallest = min(p / SHARES[name] for name, p in p_values.items())
    return -math.expm1(sum(math.log1p(-min(share * smallest, 1 - 1e-12)) for share in SHARES.values()))


def holm(p_values: Float64) -> Float64:
    """Step-down adjusted p-values (S. Holm, Scandinavian Journal of Statistics 6, 1979), [n] in [0, 1]."""
    order = np.argsort(p_values)
    factors = np.arange(len(p_values), 0, -1)
    adjusted = np.empty(len(p_values))
    adjusted[order] = np.minimum(np.maximum.accumulate(p_values[order] * factors), 1)
    return adjusted


# ---------------------------------------------------------------------------------------------------------------- in words


def explain(row: AnnotatorRow) -> str:
    """Why an annotator stands out, or why nothing can be said; empty where there is nothing to say."""
    sentences = []
    if row.num_votes < FEW_VOTES:
        sentences.append(f"{row.num_votes} votes: too few to judge (at least {FEW_VOTES} are needed)")
    elif row.status in ("flagged", "watch"):
        ratios = {name: p / SHARES[name] for name, p in row.p_values.items()}
        sentences += [_evidence(row, name) for name in sorted(ratios, key=lambda name: ratios[name]) if ratios[name] < LEVEL]
    if row.only_answer and not any("always" in sentence for sentence in sentences):
        sentences.append(_evidence(row, "constant"))
    if row.overlap.num_partners == 0:
        sentences.append("nobody else judged the same pairs, so the skill is unknown")
    elif row.overlap.num_partners == 1:
        sentences.append("compared with one other annotator only: nobody can say which of the two is right")
    if row.speed_ratio < HASTY and row.num_timed >= FEW_VOTES:
        sentences.append(f"takes {row.response_time_s:.1f} s a vote, {100 * row.speed_ratio:.0f} % of the usual time")
    return "; ".join(sentences)


def _evidence(row: AnnotatorRow, test: str) -> str:
    seen, sides, trials = row.overlap, row.sides, row.trials
    side, share = ("left", sides.share) if sides.share > 0.5 else ("right", 1 - sides.share)
    return {
        "skill": f"agrees with {_percent(seen.agreement)} of the others' answers on {seen.num_overlaps} shared questions; a "
        f"typical annotator would with {_percent(seen.agreement_typical)}, answers at random with "
        f"{_percent(seen.agreement_by_chance)}",
        "copying": f"agrees with {row.partner_id} on {seen.num_agreed} of {seen.num_shared} shared questions, where at most "
        f"{seen.num_agreed_expected:.1f} were to be expected",
        "left": f"chose the {side} clip in {_percent(share)} of {sides.num_sided} decided votes",
        "constant": f"always answered {row.only_answer!r}" + (" (trials aside)" if trials.num else ""),
        "trials": f"failed {trials.num_failed} of {trials.num} trials with known answers, far more than the others",
    }[test]


def _percent(share: float) -> str:
    return "-" if math.isnan(share) else f"{100 * share:.0f} %"
