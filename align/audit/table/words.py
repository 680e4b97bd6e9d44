"""What was found, in sentences that an outsider can follow."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from align.audit.table.limits import EVERYBODY
from align.audit.table.verdicts import CANNOT_TELL, PASS, VIOLATION

METHODS = {
    "twins": "within pairs that, the table says, differ in nothing else; such a gap is caused by the attribute.",
    "same contexts": "within the same contexts; what differs from context to context plays no part.",
    "groups": "between rollouts that may differ in other ways as well; such a gap is a fact, not yet a cause.",
}
HEADS = {PASS: "Pass", VIOLATION: "Violation", CANNOT_TELL: "Cannot tell"}


def show_mean(value: float | None, is_rate: bool) -> str:
    """``12.5 %`` for rates, three digits for numbers."""
    if value is None:
        return "undefined"
    return f"{_decimal(100 * value)} %" if is_rate else f"{value:.3g}"


def show_gap(value: float | None, is_rate: bool, signed: bool = False) -> str:
    """``4.2 points`` for rates, three digits for numbers."""
    if value is None:
        return "undefined"
    sign = "+" if signed else ""
    return f"{_decimal(100 * value, sign)} points" if is_rate else f"{value:{sign}.3g}"


def show_ends(rate: Mapping[str, Any], is_rate: bool, signed: bool = False) -> str:
    """``1.2 to 3.4``, in the unit of the value beside it."""
    if rate["low"] is None or rate["high"] is None:
        return "no interval"
    sign = "+" if signed else ""
    low, high = rate["low"], rate["high"]
    return f"{_decimal(100 * low, sign)} to {_decimal(100 * high, sign)}" if is_rate else f"{low:{sign}.3g} to {high:{sign}.3g}"


def _decimal(value: float, sign: str = "") -> str:
    small = 0.005 <= abs(value) < 1
    rounded = round(value, 2 if small else 1) + 0.0  # no "-0.0"
    return f"{rounded:{sign if rounded else ''}.{2 if small else 1}f}"


def show_p(value: float | None) -> str:
    """A p-value as people write it."""
    if value is None:
        return "none"
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def explain(finding: Mapping[str, Any], is_rate: bool, audit: Mapping[str, Any]) -> str:
    """The finding in plain words.

    Args:
        finding: A finding of the report.
        is_rate: Whether its outcome is a rate.
        audit: The report's ``num_tests``, ``policy`` and so on.
    """
    words = {"gap": _gap, "limit": _limit, "missing": _missing}[finding["kind"]]
    return words(finding, is_rate, audit)


def _gap(finding: Mapping[str, Any], is_rate: bool, audit: Mapping[str, Any]) -> str:
    name = f"{finding['outcome']}, {finding['a']} against {finding['b']} ({' & '.join(finding['attributes'])})"
    if finding["reason"]:
        return f"{name}: cannot tell. {_capital(finding['reason'])}."
    gap, tolerance = finding["gap"], show_gap(finding["tolerance"], is_rate)
    percent = f"{100 * audit['policy']['confidence']:g} % interval {show_ends(gap, is_rate, signed=True)}"
    means = f"{show_mean(finding['mean_a'], is_rate)} against {show_mean(finding['mean_b'], is_rate)}"
    size = f"{means}, a gap of {show_gap(gap['value'], is_rate, signed=True)} ({percent})"
    smallest = show_gap(finding["smallest_detectable"], is_rate)
    power = f"{100 * audit['policy']['power']:g} %"
    found = finding["adjusted_p_value"] <= audit["policy"]["alpha"]
    if finding["verdict"] == VIOLATION:
        worse = f" It is worse for {finding['worse']}." if finding["worse"] else ""
        return f"{name}: {size}.{worse} {say_chance(finding['adjusted_p_value'])} The policy tolerates {tolerance}."
    if found and finding["only_worse"] and finding["worse"] == finding["a"]:
        return f"{name}: {size}. It is better than {finding['a']}, which breaks nothing."
    if found:
        return f"{name}: {size}. The gap is real, but within the {tolerance} that the policy tolerates."
    nothing = f"{name}: {_nothing(gap, audit['num_tests'])}; {size}."
    if finding["verdict"] == PASS and not (finding["smallest_detectable"] or 1e9) <= finding["tolerance"]:
        return f"{nothing} The whole interval lies within the {tolerance} that the policy tolerates."
    if finding["smallest_detectable"] is None:
        return f"{nothing} With so few rollouts not even the largest gap would have been found with a probability of {power}."
    would = f"A gap of {smallest} would have been found with a probability of {power}"
    if finding["verdict"] == PASS:
        return f"{nothing} {would}, and the policy tolerates {tolerance}."
    return f"{nothing} {would}, but the policy tolerates {tolerance}: a gap that matters may have gone unseen.{_more(finding)}"


def _nothing(gap: Mapping[str, Any], num_tests: int) -> str:
    if gap["low"] is not None and not gap["low"] <= 0 <= gap["high"]:
        return f"among {num_tests} tests a gap like this one turns up by chance"
    return "no gap was found"


def _more(finding: Mapping[str, Any]) -> str:
    times = finding["times_more_needed"]
    if times is None:
        return ""
    n = finding["gap"]["n"]
    unit = "rollouts in these two groups" if finding["method"] == "groups" else "pairs"
    return f" About {_round_up(times * n):,} {unit} instead of {n:,} would settle it."


def _round_up(value: float) -> int:
    step = 10 ** max(0, len(str(int(value))) - 2)
    return int(-(-value // step) * step)


def say_chance(p: float) -> str:
    """What an adjusted p-value means, as a sentence."""
    times = "fewer than 1 in 1,000" if p < 0.001 else f"about {max(1, round(1000 * p))} in 1,000"
    return f"If nothing were wrong, {times} audits would show anything as clear."


def _limit(finding: Mapping[str, Any], is_rate: bool, audit: Mapping[str, Any]) -> str:
    who = "all rollouts" if finding["group"] == EVERYBODY and not finding["attribute"] else finding["group"]
    mean, side = finding["mean"], finding["side"]
    limit = show_mean(finding["limit"], is_rate)
    name = f"{finding['outcome']}, {who}: {show_mean(mean['value'], is_rate)} (n = {mean['n']:,})"
    if finding["p_value"] is None:
        return f"{name}; cannot tell whether it is {side} {limit}: too few contexts, or nothing varies."
    bound = f"{'at most' if side == 'at most' else 'at least'} {show_mean(finding['bound'], is_rate)}"
    if finding["verdict"] == VIOLATION:
        return f"{name}, where the policy wants {side} {limit}. {say_chance(finding['adjusted_p_value'])}"
    if finding["verdict"] == PASS:
        return f"{name}; truly {bound}, and the policy wants {side} {limit}."
    return f"{name}; it may truly be {show_mean(finding['bound'], is_rate)}, and the policy wants {side} {limit}: cannot tell."


def _missing(finding: Mapping[str, Any], is_rate: bool, audit: Mapping[str, Any]) -> str:
    missing, total = finding["num_missing"], finding["num_rollouts"]
    if not missing:
        return f"{finding['outcome']}: all {total:,} rollouts could be scored."
    name = f"{finding['outcome']}: {missing:,} of {total:,} rollouts could not be scored"
    where = f", most of all in {finding['group']} ({100 * finding['share']:.1f} %)" if finding["attribute"] else ""
    allowed = f"{100 * finding['tolerance']:g} %"
    if finding["verdict"] == PASS:
        return f"{name}{where}; the policy allows {allowed}."
    return f"{name}{where}, more than the {allowed} that the policy allows. What could not be scored is not safe."


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def headline(verdict: str, findings: Sequence[Mapping[str, Any]], num_tests: int) -> tuple[str, str]:
    """The verdict in a word or two, and what it rests on in a sentence."""
    count = {name: sum(finding["verdict"] == name for finding in findings) for name in HEADS}
    if verdict == VIOLATION:
        also = f" {count[CANNOT_TELL]} could not be told." if count[CANNOT_TELL] else ""
        return HEADS[verdict], f"{count[VIOLATION]} of {len(findings)} checks found what the policy does not tolerate.{also}"
    if verdict == PASS:
        return HEADS[
            verdict
        ], f"All {len(findings)} checks passed, {num_tests} tests among them, each able to find what matters."
    if not num_tests:
        return HEADS[verdict], "There was nothing to compare: no attribute with two groups that are large enough, and no limit."
    return HEADS[verdict], (
        f"Nothing was found that breaks the policy, but {count[CANNOT_TELL]} of {len(findings)} checks could not have found "
        "it. This is not a pass."
    )
