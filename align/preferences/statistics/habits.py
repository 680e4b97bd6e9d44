"""What can be counted about one annotator without a model: sides, trials with known answers, repeats, speed, one button."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from align.preferences.statistics.agreement import canonical, is_trial
from align.preferences.votes.schema import Vote

Gold = Mapping[tuple[str, str, str], str]
"""(rollout a, rollout b, axis) to the known answer: ``a``, ``b``, ``tie`` or ``both_bad``."""
LEFT_TOLERANCE = 0.65
"""Choosing one side this often is still taken as human."""
USUAL_FAILURES = 0.05
"""Everybody slips: honest annotators are taken to fail at least this share of trials."""
TRIAL_WEIGHT = 10.0
"""Failure rates of honest annotators vary like a beta distribution with this sum of parameters."""


@dataclass(frozen=True)
class Sides:
    """Decided votes whose shown side is known.

    Attributes:
        num_sided: How many there are.
        num_left: How often the left clip won.
        share: Of the left clip, NaN without votes; 0.5 is to be expected where sides are random.
        low: Exact 95 % interval (Clopper and Pearson).
        high: Its upper end.
        p_half: Exact two-sided binomial test of one half.
        p_habit: Exact test of a share beyond ``LEFT_TOLERANCE``, on either side.
    """

    num_sided: int
    num_left: int
    share: float
    low: float
    high: float
    p_half: float
    p_habit: float


def count_sides(votes: Iterable[Vote]) -> Sides:
    """Left and right, over decided votes whose side was recorded."""
    left = [vote.vote == vote.shown_left for vote in votes if vote.vote in ("a", "b") and vote.shown_left is not None]
    n, k = len(left), sum(left)
    if not n:
        return Sides(0, 0, *[math.nan] * 5)
    test = stats.binomtest(k, n)
    interval = test.proportion_ci(0.95, method="exact")
    habit = min(1.0, 2 * float(stats.binom.sf(max(k, n - k) - 1, n, LEFT_TOLERANCE)))
    return Sides(n, k, k / n, float(interval.low), float(interval.high), float(test.pvalue), habit)


@dataclass(frozen=True)
class Trials:
    """Trials whose answer is known: catch trials show one clip twice (a tie, both bad included), gold pairs have an answer.

    A vote about a gold pair whose answer nobody gave counts as ``num_gold_unknown`` only.
    """

    num_catch: int = 0
    num_catch_failed: int = 0
    num_gold: int = 0
    num_gold_failed: int = 0
    num_gold_unknown: int = 0

    @property
    def num(self) -> int:
        """Trials with a known answer."""
        return self.num_catch + self.num_gold

    @property
    def num_failed(self) -> int:
        """Of these, answered wrongly."""
        return self.num_catch_failed + self.num_gold_failed


def count_trials(votes: Iterable[Vote], gold: Gold | None = None) -> Trials:
    """How one annotator did on trials."""
    known = {}
    for (a, b, axis), answer in (gold or {}).items():
        known[a, b, axis] = answer
        known[b, a, axis] = {"a": "b", "b": "a"}.get(answer, answer)
    counts: Counter[str] = Counter()
    for vote in votes:
        expected = known.get((vote.rollout_a, vote.rollout_b, vote.axis))
        if vote.selection == "catch" or vote.rollout_a == vote.rollout_b:
            counts["num_catch"] += 1
            counts["num_catch_failed"] += vote.vote in ("a", "b")
        elif expected is not None:
            counts["num_gold"] += 1
            counts["num_gold_failed"] += vote.vote != expected
        elif vote.selection == "gold":
            counts["num_gold_unknown"] += 1
    return Trials(**counts)


def trial_p_values(trials: Sequence[Trials]) -> list[float]:
    """Chance of so many failures, each annotator against the others; NaN where there is nothing to compare.

    The others' failures give the mean of a beta distribution of honest failure rates, ``TRIAL_WEIGHT`` its width.
    """
    num, failed = sum(row.num for row in trials), sum(row.num_failed for row in trials)
    p_values = []
    for row in trials:
        rest = num - row.num
        if not row.num or not rest:
            p_values.append(math.nan)
            continue
        mean = min(max((failed - row.num_failed + 0.5) / (rest + 1), USUAL_FAILURES), 1 - USUAL_FAILURES)
        spread = stats.betabinom(row.num, mean * TRIAL_WEIGHT, (1 - mean) * TRIAL_WEIGHT)
        p_values.append(float(np.clip(spread.sf(row.num_failed - 1), 0, 1)))
    return p_values


def count_repeats(votes: Iterable[Vote]) -> tuple[int, int]:
    """How often an annotator answered a question again, and how often as the first time."""
    first: dict[tuple[str, ...], str] = {}
    repeats = same = 0
    for vote in votes:
        rated = canonical(vote)
        if rated.unit in first and vote.rollout_a != vote.rollout_b:
            repeats += 1
            same += rated.value == first[rated.unit]
        first.setdefault(rated.unit, rated.value)
    return repeats, same


def usual_times(votes: Iterable[Vote]) -> dict[str, float]:
    """Axis to the median response time of all votes on it, in seconds."""
    times: dict[str, list[float]] = defaultdict(list)
    for vote in votes:
        if vote.response_time_s is not None:
            times[vote.axis].append(vote.response_time_s)
    return {axis: float(np.median(values)) for axis, values in times.items()}


def response_speed(votes: Iterable[Vote], usual: Mapping[str, float]) -> tuple[int, float, float]:
    """Timed votes, their median response time in seconds, and the median of time over the axis's usual time."""
    timed = [(vote.response_time_s, usual[vote.axis]) for vote in votes if vote.response_time_s is not None]
    if not timed:
        return 0, math.nan, math.nan
    ratios = [time / typical for time, typical in timed if typical > 0]
    return len(timed), float(np.median([time for time, _ in timed])), float(np.median(ratios)) if ratios else math.nan


def only_answer(votes: Sequence[Vote]) -> str:
    """The one answer that an annotator always gave: ``a``, ``b``, ``tie``, ``both_bad``, ``left`` or ``right``; else empty.

    Fewer than three answers are no habit. Trials don't count: a catch trial is answered with a tie.
    """
    counting = [vote for vote in votes if not is_trial(vote)]
    if len(counting) < 3:
        return ""
    words = {vote.vote for vote in counting}
    sides = {
        None if vote.shown_left is None or vote.vote not in ("a", "b") else "left" if vote.vote == vote.shown_left else "right"
        for vote in counting
    }
    # The side comes first: a button on the left is pressed, not the letter a.
    for found in (sides, words):
        if len(found) == 1 and None not in found:
            return str(next(iter(found)))
    return ""
