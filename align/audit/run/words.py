"""The findings of a whole audit in sentences that an outsider can follow."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from align.audit.table.verdicts import CANNOT_TELL, PASS, VIOLATION
from align.audit.table.words import HEADS, say_chance, show_ends, show_gap


def show_effect(value: float | None, unit: str, *, signed: bool = False) -> str:
    """``+4.2 points``, or ``+0.31 units``."""
    text = show_gap(value, unit == "points", signed)
    return text if unit == "points" or value is None else f"{text} {unit}".rstrip()


def show_interval(effect: Mapping[str, Any], unit: str) -> str:
    """``+1.2 to +7.0``, in the unit of the value beside it."""
    return show_ends(effect, unit == "points", signed=True)


def say_finding(finding: Mapping[str, Any], report: Mapping[str, Any]) -> str:
    """A judged finding (see ``align.audit.run.judging``) as a sentence or two.

    Args:
        finding: The finding, as plain values.
        report: Of it, ``policy`` and ``num_tests``.
    """
    policy = report["policy"]
    name, unit, effect = finding["name"], finding["unit"], finding["effect"]
    if effect["value"] is None:
        return f"{name}: cannot tell, because it could not be measured ({finding['reason']})."
    most = show_effect(finding["tolerance"], unit)
    size = f"{show_effect(effect['value'], unit, signed=True)} ({show_interval(effect, unit)})"
    found = (finding["adjusted_p_value"] or 0.0) <= policy["alpha"] and finding["adjusted_p_value"] is not None
    if finding["verdict"] == VIOLATION:
        return f"{name}: {size}. {say_chance(finding['adjusted_p_value'])} The policy tolerates {most}."
    if finding["share_missing"] > finding["max_missing"]:
        share = f"{100 * finding['share_missing']:.1f} %"
        return f"{name}: {size}, but {share} could not be scored. What could not be scored is not safe: cannot tell."
    if found:
        return f"{name}: {size}. It is real, but within the {most} that the policy tolerates."
    clear = effect["low"] is not None and not effect["low"] <= 0 <= effect["high"]
    nothing = f"not clear enough among {report['num_tests']} tests" if clear else "nothing was found"
    return f"{name}: {nothing}; {size}. {_seen(finding, policy, most)}"


def _seen(finding: Mapping[str, Any], policy: Mapping[str, Any], most: str) -> str:
    smallest, unit = finding["smallest_detectable"], finding["unit"]
    if finding["verdict"] == PASS and not (smallest is not None and smallest <= finding["tolerance"]):
        return f"The whole interval lies within the {most} that the policy tolerates."
    if smallest is None and unit == "points":
        return "With so little to go by not even the largest effect would be sure to show: cannot tell."
    if smallest is None:
        return f"The interval reaches beyond the {most} that the policy tolerates: cannot tell."
    if finding["verdict"] == CANNOT_TELL and smallest <= finding["tolerance"]:
        return f"The interval nowhere meets the {most} that the policy tolerates, but the test isn't clear: cannot tell."
    would = f"{show_effect(smallest, unit)} would have been found with a probability of {100 * policy['power']:g} %"
    if finding["verdict"] == PASS:
        return f"{would}, and the policy tolerates {most}."
    return f"{would}, but the policy tolerates {most}: something that matters may have gone unseen."


def say_verdict(verdict: str, counts: Mapping[str, int], num_tests: int, missing: Sequence[str]) -> tuple[str, str]:
    """The verdict in a word or two, and what it rests on.

    Args:
        verdict: Of the audit.
        counts: How many findings and gates came to each verdict.
        num_tests: Tests that share the level.
        missing: Probes that were not made, or found nothing to test, though the policy requires them or their inputs were
            given.
    """
    total, open_ones = sum(counts.values()), counts[CANNOT_TELL]
    lacking = f" The audit needs {', '.join(missing)}, which could not be made or found nothing to test." if missing else ""
    if verdict == VIOLATION:
        also = f" {open_ones} could not be told." if open_ones else ""
        text = f"{counts[VIOLATION]} of {total} checks came to what the policy does not tolerate.{also}{lacking}"
    elif verdict == PASS:
        text = f"All {total} checks passed, {num_tests} statistical tests among them, each able to find what matters."
    elif not total:
        text = f"Nothing could be checked.{lacking}"
    elif not open_ones:
        text = f"All {total} checks that were made passed.{lacking} This is not a pass."
    else:
        text = (
            f"Nothing was found that breaks the policy, but {open_ones} of {total} checks could not have found it, or could "
            f"not be made.{lacking} This is not a pass."
        )
    return HEADS[verdict], text


def say_changes(changes: Sequence[Mapping[str, Any]]) -> list[str]:
    """Which gaps between twins (``align.audit.probes.twins.GapChange``) tuning clearly changed, in words."""
    told = []
    for change in changes:
        if change["verdict"] != CANNOT_TELL:
            name = "{scene}, {outcome}: {attribute} {right} against {left} in the {setting}".format(**change)
            gaps = [show_effect(change[side]["value"], "points", signed=True) for side in ("base", "tuned")]
            ends = show_interval(change["change"], "points")
            told.append(f"{name}: tuning changed the gap from {gaps[0]} to {gaps[1]} (change {ends}); it {change['verdict']}.")
    if changes:
        told.append(f"Of {len(changes)} gaps tuning clearly changed {len(told)}; for the others that can't be told.")
    return told
