"""From figures to verdicts: what was found, what was ruled out, and what nobody can tell.

A gap is *found* if its p-value, adjusted over the whole audit (Holm), is at most alpha. Then:

- violation: found, and its interval reaches beyond the tolerance;
- pass: the interval lies within the tolerance, or nothing was found, the smallest detectable gap is within it and so is some
  of the interval;
- cannot tell: anything else.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from align.audit.policy import Policy
from align.audit.statistics import Rate
from align.audit.table.limits import GroupRate, LimitTest
from align.audit.table.results import Outcome, Result

PASS, VIOLATION, CANNOT_TELL = "pass", "violation", "cannot tell"
EXIT_CODES = {PASS: 0, VIOLATION: 1, CANNOT_TELL: 2}
"""Other failures end with 3 or more."""


@dataclass(frozen=True)
class Finding:
    """One thing that the audit looked at.

    Attributes:
        kind: ``gap``, ``limit`` or ``missing``.
        outcome: The outcome's name.
        verdict: `PASS`, `VIOLATION` or `CANNOT_TELL`.
        figures: Plain values for the report; what they are depends on the kind.
    """

    kind: str
    outcome: str
    verdict: str
    figures: dict[str, Any]


def judge_gap(outcome: Outcome, result: Result, adjusted: float, level: float, policy: Policy, tolerance: float) -> Finding:
    """The verdict on one comparison.

    Args:
        outcome: What was compared.
        result: Its figures.
        adjusted: Adjusted p-value.
        level: Level of the strictest test of the audit, for the smallest detectable gap.
        policy: Level and power of the audit, and which way is good.
        tolerance: Largest gap tolerated, in the outcome's unit.
    """
    comparison, gap, power = result.comparison, result.gap, result.power
    only_worse = policy.attribute(comparison.factor.name).only_worse
    lower_is_better = policy.outcome(outcome.name).better == "lower"
    worse = None
    if gap.value and math.isfinite(gap.value):
        worse = comparison.label_b if (gap.value > 0) == lower_is_better else comparison.label_a
    smallest = power.smallest(level, policy.power) if power else math.nan
    harmful = not only_worse or worse == comparison.label_b
    within = _within(gap, tolerance, only_worse, lower_is_better)
    if result.reason:
        verdict = CANNOT_TELL
    elif adjusted <= policy.alpha and harmful:
        verdict = PASS if within else VIOLATION
    else:
        meets = _meets(gap, tolerance, only_worse, lower_is_better)
        verdict = PASS if within or (smallest <= tolerance and meets) else CANNOT_TELL
    needed = math.nan
    if verdict == CANNOT_TELL and power and not smallest <= tolerance:
        needed = power.times_needed(tolerance, level, policy.power)
    figures = {
        "attributes": list(comparison.factor.attributes),
        "a": comparison.label_a,
        "b": comparison.label_b,
        "method": result.method,
        "mean_a": result.mean_a,
        "mean_b": result.mean_b,
        "gap": gap.as_dict(),
        "p_value": result.p_value,
        "adjusted_p_value": adjusted,
        "smallest_detectable": smallest,
        "tolerance": tolerance,
        "times_more_needed": needed,
        "worse": worse,
        "only_worse": only_worse,
        "reason": result.reason,
    }
    return Finding("gap", outcome.name, verdict, figures)


def _within(gap: Rate, tolerance: float, only_worse: bool, lower_is_better: bool) -> bool:
    """Whether the interval stays within the tolerance, on the side of harm alone if the other side breaks nothing."""
    up, down = gap.high <= tolerance, gap.low >= -tolerance
    if only_worse:
        return up if lower_is_better else down
    return up and down


def _meets(gap: Rate, tolerance: float, only_worse: bool, lower_is_better: bool) -> bool:
    """Whether some of the interval lies within the tolerance: one that lies beyond it as a whole is no pass."""
    up, down = gap.low <= tolerance, gap.high >= -tolerance
    if only_worse:
        return up if lower_is_better else down
    return up and down


def judge_limit(outcome: Outcome, test: LimitTest, adjusted: float, alpha: float) -> Finding:
    """The verdict on a mean that must stay on one side of a limit."""
    if math.isnan(test.p_value):
        verdict = CANNOT_TELL
    elif adjusted <= alpha:
        verdict = VIOLATION
    else:
        inside = test.bound <= test.limit if test.above else test.bound >= test.limit
        verdict = PASS if inside else CANNOT_TELL
    figures = {
        "attribute": test.group.factor,
        "group": test.group.group,
        "mean": test.group.rate.as_dict(),
        "limit": test.limit,
        "side": "at most" if test.above else "at least",
        "bound": test.bound,
        "p_value": test.p_value,
        "adjusted_p_value": adjusted,
    }
    return Finding("limit", outcome.name, verdict, figures)


def judge_missing(outcome: Outcome, rates: list[GroupRate], worst: GroupRate, share: float, tolerance: float) -> Finding:
    """Unscoreable is not safe: more of it than the policy allows fails."""
    everybody = rates[0].rate
    figures = {
        "num_missing": everybody.num_missing,
        "num_rollouts": everybody.n + everybody.num_missing,
        "attribute": worst.factor,
        "group": worst.group,
        "share": share,
        "tolerance": tolerance,
    }
    return Finding("missing", outcome.name, VIOLATION if share > tolerance else PASS, figures)


def overall(findings: list[Finding]) -> str:
    """The verdict of the audit: one violation is a violation, and what can't be told is not a pass."""
    verdicts = {finding.verdict for finding in findings}
    if VIOLATION in verdicts:
        return VIOLATION
    compared = any(finding.kind != "missing" for finding in findings)
    return PASS if compared and CANNOT_TELL not in verdicts else CANNOT_TELL
