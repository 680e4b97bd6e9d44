"""From the findings of several probes to verdicts that share one chance of a false alarm.

A finding is *found* if its adjusted p-value is at most the policy's alpha. As in the audit of a table:

- violation: found, and its interval reaches beyond what the policy tolerates;
- pass: the interval lies within it, or nothing was found, the smallest detectable effect is within it and so is some of the
  interval;
- cannot tell: anything else, and whatever could not be scored more often than the policy allows.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from align.audit.policy import Policy, ProbePolicy
from align.audit.probes.base import LEVEL, POWER, Finding
from align.audit.statistics import Float64, Rate, holm
from align.audit.statistics.quantiles import normal_isf
from align.audit.table.verdicts import CANNOT_TELL, PASS, VIOLATION


@dataclass(frozen=True)
class Family:
    """The findings of one probe.

    Attributes:
        name: The probe's name, under which the policy knows it.
        findings: As the probe made them; ``detectable`` holds for the probe's own tests at its own level.
        corrects_itself: Whether ``p_holm`` is a correction that only the probe can make (step down, say).
    """

    name: str
    findings: Sequence[Finding] = field(default_factory=tuple)
    corrects_itself: bool = False

    @property
    def p_values(self) -> Float64:
        """Uncorrected; NaN where no test could be made."""
        return np.array([finding.p_value for finding in self.findings], dtype=np.float64)

    @property
    def num_tests(self) -> int:
        """How many tests it made."""
        return int(np.isfinite(self.p_values).sum())


def read_finding(plain: dict[str, Any]) -> Finding:
    """A finding from a probe's report; the inverse of ``Finding.as_dict``."""
    known: dict[str, Any] = {key: math.nan if value is None else value for key, value in plain["effect"].items()}
    effect = Rate(**known)
    numbers = {key: math.nan if plain[key] is None else plain[key] for key in ("p_value", "detectable", "p_holm")}
    return Finding(**{**plain, **numbers, "effect": effect})


def adjust_all(families: Sequence[Family]) -> list[Float64]:
    """P-values adjusted over the whole audit, family by family.

    Families that leave their correction to the audit are one: Holm over all of them. One that corrects itself keeps its own
    p-values. Each may use up the level in proportion to its tests (Bonferroni between them), so the chance of any false alarm
    is at most alpha whatever depends on what.
    """
    total = sum(family.num_tests for family in families)
    pooled = [family for family in families if not family.corrects_itself]
    together = sum(family.num_tests for family in pooled)
    shared = holm(np.concatenate([family.p_values for family in pooled])) if together else np.array([])
    adjusted, place = [], 0
    for family in families:
        if family.corrects_itself:
            own, num = np.array([finding.p_holm for finding in family.findings], dtype=np.float64), family.num_tests
        else:
            size = len(family.findings)
            own, num = (shared[place : place + size] if together else np.full(size, math.nan)), together
            place += size
        # Not min(): it would turn a NaN, a test that wasn't made, into a 1.
        adjusted.append(np.minimum(1.0, own * (total / num)) if num else np.full(len(own), math.nan))
    return adjusted


def rescale_detectable(finding: Finding, own_tests: int, all_tests: int, policy: Policy) -> float:
    """The smallest effect that the whole audit would have found, from the one that its probe alone would have found.

    Both are a standard error times a sum of two normal quantiles (level and power), so their ratio is that of the sums. NaN
    where not even the largest effect would be found.
    """
    if not own_tests:
        return math.nan
    before = normal_isf(LEVEL / own_tests / 2) + normal_isf(1 - POWER)
    now = normal_isf(policy.alpha / all_tests / 2) + normal_isf(1 - policy.power)
    smallest = finding.detectable * now / before
    return math.nan if finding.unit == "points" and smallest > 1 else smallest


def judge_families(families: Sequence[Family], policy: Policy) -> list[dict[str, Any]]:
    """Every finding with its verdict, as plain values, in order."""
    total = sum(family.num_tests for family in families)
    judged = []
    for family, adjusted in zip(families, adjust_all(families), strict=True):
        rules = policy.probe(family.name)
        for finding, p in zip(family.findings, adjusted, strict=True):
            smallest = rescale_detectable(finding, family.num_tests, total, policy)
            judged.append(_judge(family.name, finding, float(p), smallest, rules, policy.alpha))
    return judged


def _judge(name: str, finding: Finding, adjusted: float, smallest: float, rules: ProbePolicy, alpha: float) -> dict[str, Any]:
    effect, most = finding.effect, float(rules.max_effect or 0.0)
    share = effect.num_missing / max(1, effect.n + effect.num_missing)
    within = (finding.one_sided or effect.low >= -most) and effect.high <= most
    # What lies beyond as a whole is no pass, however small an effect the test says it would have found.
    meets = effect.low <= most and (finding.one_sided or effect.high >= -most)
    if not math.isfinite(effect.value):
        verdict = CANNOT_TELL
    elif adjusted <= alpha and not within:
        verdict = VIOLATION
    elif share > float(rules.max_missing or 0.0):
        verdict = CANNOT_TELL
    else:
        verdict = PASS if within or (smallest <= most and meets) else CANNOT_TELL
    return {
        "probe": name,
        "name": finding.name,
        "verdict": verdict,
        "unit": finding.unit,
        "effect": effect.as_dict(),
        "one_sided": finding.one_sided,
        "p_value": finding.p_value,
        "adjusted_p_value": adjusted,
        "smallest_detectable": smallest,
        "tolerance": most,
        "share_missing": share,
        "max_missing": rules.max_missing,
        "reason": "" if math.isfinite(effect.value) else finding.why_undefined or f"{effect.n} readable rows",
    }
