"""What a report must hold, and the verdict that follows from its gates."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from align.errors import DataError

REPORT_VERSION = 1
KINDS = ("quickstart", "evaluate")
VERDICTS = ("pass", "fail", "not measured", "no verdict")
_TEXT_FIELDS = ("label", "unit", "scene", "axis", "note", "reason_not_measured", "explanation")


def compute_verdict(report: Mapping[str, Any]) -> str:
    """One of `VERDICTS`. A gate that was not measured is never a pass, and a quickstart is too small for a verdict."""
    passed = [gate["passed"] for gate in report.get("gates", [])]
    if report["kind"] == "quickstart" or not passed:
        return "no verdict"
    if any(state is False for state in passed):
        return "fail"
    return "pass" if all(state is True for state in passed) else "not measured"


def compute_headline(report: Mapping[str, Any]) -> tuple[str, str]:
    """The verdict in a few words and what it rests on in a sentence, for an outsider."""
    gates = report.get("gates", [])
    failed = sum(gate["passed"] is False for gate in gates)
    unmeasured = sum(gate["passed"] is None for gate in gates)
    if report["kind"] == "quickstart":
        return "No verdict at this size", "This run is too small to prove anything: read the intervals, not the points."
    if not gates:
        return "No verdict", "This evaluation held the model against no gate."
    also = f", and {unmeasured} could not be measured" if unmeasured else ""
    return {
        "pass": ("Pass", f"All {len(gates)} gates passed."),
        "fail": ("Fail", f"{failed} of {len(gates)} gates failed{also}."),
        "not measured": ("Not passed", f"{unmeasured} of {len(gates)} gates could not be measured; missing is not a pass."),
    }[compute_verdict(report)]


def check_report(report: Any) -> None:
    """Raise DataError with every way in which a plain dict breaks the schema."""
    if not isinstance(report, dict):
        raise DataError(f"a report must be a mapping, got {type(report).__name__}")
    problems = []
    if report.get("version") != REPORT_VERSION:
        problems.append(f"version must be {REPORT_VERSION}, got {report.get('version')!r}")
    if report.get("kind") not in KINDS:
        problems.append(f"kind must be one of {', '.join(KINDS)}, got {report.get('kind')!r}")
    if not isinstance(report.get("title"), str):
        problems.append("title must be text")
    checks = {"figures": _figure_problems, "gates": _gate_problems, "clips": _clip_problems, "curves": _curve_problems}
    for name, check in checks.items():
        items = report.get(name, [])
        if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
            problems.append(f"{name} must be a list of mappings")
            continue
        problems += [f"{name}[{i}].{problem}" for i, item in enumerate(items) for problem in check(item)]
    summary = report.get("summary", [])
    if not isinstance(summary, list) or not all(isinstance(line, str) for line in summary):
        problems.append("summary must be a list of lines")
    if not isinstance(report.get("provenance", {}), dict):
        problems.append("provenance must be a mapping")
    if problems:
        raise DataError("the report breaks its schema: " + "; ".join(problems))


def _figure_problems(figure: dict[str, Any]) -> list[str]:
    problems = [f"{name} must be text" for name in ("key", "label", "unit") if not isinstance(figure.get(name), str)]
    problems += [f"{name} must be text" for name in _TEXT_FIELDS if not isinstance(figure.get(name) or "", str)]
    if figure.get("better") not in ("lower", "higher"):
        problems.append(f"better must be 'lower' or 'higher', got {figure.get('better')!r}")
    for name in ("base", "aligned", "difference"):
        rate = figure.get(name)
        if rate is not None and not (isinstance(rate, dict) and {"value", "low", "high", "n"} <= rate.keys()):
            problems.append(f"{name} must be null or hold value, low, high and n")
        elif rate is not None:
            problems += [f"{name}.{key} must be a number or null" for key, v in rate.items() if not is_number(v)]
    return list(dict.fromkeys(problems))


def is_number(value: Any) -> bool:
    return value is None or (isinstance(value, int | float) and not isinstance(value, bool))


def _gate_problems(gate: dict[str, Any]) -> list[str]:
    problems = [f"{name} must be text" for name in ("name", "text") if not isinstance(gate.get(name), str)]
    if "passed" not in gate or not (gate["passed"] is None or isinstance(gate["passed"], bool)):
        problems.append(f"passed must be true, false or null, got {gate.get('passed', 'nothing')!r}")
    return problems


def _clip_problems(clip: dict[str, Any]) -> list[str]:
    needed = ("context_id", "task", "caption", "base", "aligned", "base_says", "aligned_says")
    return [f"{name} must be text" for name in needed if not isinstance(clip.get(name), str)]


def _curve_problems(curve: dict[str, Any]) -> list[str]:
    problems = [f"{name} must be text" for name in ("title", "x_label", "y_label") if not isinstance(curve.get(name), str)]
    series = curve.get("series")
    if not isinstance(series, list) or not all(isinstance(s, dict) and isinstance(s.get("name"), str) for s in series):
        return [*problems, "series must be a list of {name, x, y}"]
    for line in series:
        x, y = line.get("x"), line.get("y")
        if not (isinstance(x, list) and isinstance(y, list) and len(x) == len(y) and all(map(is_number, [*x, *y]))):
            problems.append(f"series {line['name']!r} must have number lists x and y of one length")
    return problems


def gate_state(report: Mapping[str, Any], gate: Mapping[str, Any]) -> str:
    if report["kind"] == "quickstart":
        return "no verdict"
    return {True: "pass", False: "fail", None: "not measured"}[gate["passed"]]
