"""What every probe shares: its description, and a finding with an effect, a corrected p-value and a status in words."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import numpy as np

from align.audit.statistics import Rate, holm

Status = Literal["found", "not found", "cannot tell"]
LEVEL = 0.05
"""Chance of any false finding among all that are judged together."""
POWER = 0.8
"""Chance with which the smallest detectable effect would have been found."""


@dataclass(frozen=True)
class Probe:
    """A question put to a model, a reward model or a set of records.

    Attributes:
        name: Its name in reports.
        asks: The question, one sentence.
        shows: What an answer means.
        cannot_show: What it does not mean, however it comes out.
        recipe: The recipe that carries it out.
    """

    name: str
    asks: str
    shows: str
    cannot_show: str
    recipe: str


@dataclass(frozen=True)
class Finding:
    """One comparison and what it came to.

    Attributes:
        probe: Name of the probe.
        name: What was compared; unique within a report.
        effect: The estimate with its interval.
        unit: Of the effect: ``points`` (a difference of rates in [-1, 1], shown times 100) or a word.
        p_value: Against no effect, uncorrected; NaN where no test could be made.
        detectable: Smallest effect that would have been found with a chance of ``POWER``; NaN where unknown.
        p_holm: Corrected for everything judged together; NaN before :func:`judge_findings`.
        status: ``found``, ``not found`` (and there is no room for an effect of the tolerance), or ``cannot tell``.
        text: In words.
        one_sided: Whether only an effect above 0 is an alarm.
        why_undefined: Why there is no estimate, where there is none; empty takes the number of readable rows.
    """

    probe: str
    name: str
    effect: Rate
    unit: str
    p_value: float
    detectable: float
    p_holm: float = math.nan
    status: Status = "cannot tell"
    text: str = ""
    one_sided: bool = False
    why_undefined: str = ""

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON; what is undefined is None."""
        plain = {key: None if isinstance(v, float) and not math.isfinite(v) else v for key, v in asdict(self).items()}
        return {**plain, "effect": self.effect.as_dict()}


def judge_findings(findings: Sequence[Finding], tolerance: float, level: float = LEVEL) -> list[Finding]:
    """Correct the p-values for one another (Holm's step-down) and say what each finding comes to.

    Args:
        findings: Everything that is judged together.
        tolerance: An effect this large matters, in the findings' unit.
        level: Chance of any false ``found``.
    """
    # A probe that corrects step by step, as that of votes does, has its own corrected values.
    tested = [i for i, finding in enumerate(findings) if not math.isnan(finding.p_value) and math.isnan(finding.p_holm)]
    adjusted = np.array([finding.p_holm for finding in findings])
    if tested:
        adjusted[tested] = holm(np.array([findings[i].p_value for i in tested]))
    return [
        replace(
            finding, p_holm=float(p), status=(status := _status(finding, float(p), tolerance, level)), text=say(finding, status)
        )
        for finding, p in zip(findings, adjusted, strict=True)
    ]


def _status(finding: Finding, p_holm: float, tolerance: float, level: float) -> Status:
    if p_holm <= level:
        return "found"
    # Either the test would have seen an effect of the tolerance, or the interval leaves no room for one; what lies beyond the
    # tolerance as a whole is neither.
    narrow = (finding.one_sided or -tolerance <= finding.effect.low) and finding.effect.high <= tolerance
    meets = finding.effect.low <= tolerance and (finding.one_sided or finding.effect.high >= -tolerance)
    return "not found" if (finding.detectable <= tolerance and meets) or narrow else "cannot tell"


def say(finding: Finding, status: Status) -> str:
    """A finding as a sentence for somebody who has never seen the toolkit."""
    effect, unit = finding.effect, finding.unit
    if not math.isfinite(effect.value):
        return f"{finding.name}: could not be measured ({finding.why_undefined or f'{effect.n} readable rows'})."
    size = f"{_number(effect.value, unit)}{_interval(effect, unit)}"
    if status == "found":
        return f"{finding.name}: {size}."
    known = "" if math.isnan(finding.detectable) else f"; {_number(finding.detectable, unit, sign=False)} would have been found"
    return f"{finding.name}: {size}, {'nothing was found' if status == 'not found' else 'cannot tell'}{known}."


def _number(value: float, unit: str, *, sign: bool = True) -> str:
    plus = "+" if sign else ""
    return f"{100 * value:{plus}.1f} points" if unit == "points" else f"{value:{plus}.2f} {unit}".rstrip()


def _interval(effect: Rate, unit: str) -> str:
    if not (math.isfinite(effect.low) and math.isfinite(effect.high)):
        return ""
    scale, digits = (100, 1) if unit == "points" else (1, 2)
    return f" ({scale * effect.low:+.{digits}f} to {scale * effect.high:+.{digits}f})"
