"""The whole audit of a table: every check in one dict that is the same, to the byte, whenever it is run again."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from align.audit.policy import Policy
from align.audit.statistics import Float64, GapBootstrap, holm
from align.audit.table.compare import compare_outcome
from align.audit.table.groups import AuditTable, compare_groups
from align.audit.table.limits import GroupRate, LimitTest, group_rates, limit_tests, worst_missing
from align.audit.table.results import Outcome, Result
from align.audit.table.verdicts import CANNOT_TELL, VIOLATION, Finding, judge_gap, judge_limit, judge_missing, overall
from align.audit.table.words import explain, headline
from align.errors import DataError
from align.io import to_jsonable

KIND = "table audit"
VERSION = 1
_DIGITS = 12
"""Significant digits of every figure: the order of a machine's sums is not part of a report."""


@dataclass(frozen=True)
class _Measured:
    """All figures of one outcome, before anything is judged."""

    outcome: Outcome
    tolerance: float
    rates: list[GroupRate]
    results: list[Result]
    limits: list[LimitTest]

    @property
    def p_values(self) -> list[float]:
        return [result.p_value for result in self.results] + [test.p_value for test in self.limits]


def audit_table(table: AuditTable, policy: Policy, *, seed: int = 0, num_resamples: int = 2000) -> dict[str, Any]:
    """Checks every outcome of a table against a policy.

    Args:
        table: The table.
        policy: What is tolerated.
        seed: Seed of the bootstrap.
        num_resamples: Bootstrap draws, at least 100.

    Returns:
        A plain dict: ``verdict``, ``headline``, ``outcomes`` with their rates by group, ``findings`` with their verdicts and
        sentences (violations first), and what all of it rests on.

    Raises:
        DataError: An outcome breaks the kind that the policy gives it.
    """
    if num_resamples < 100:
        raise ValueError(f"num_resamples must be at least 100, got {num_resamples}")
    bootstrap = GapBootstrap(table.num_clusters, num_resamples, seed)
    comparisons = list(compare_groups(table, policy))
    measured = []
    for name, values in table.outcomes.items():
        outcome = Outcome(name, values, _is_rate(name, values, policy))
        own = policy.outcome(name)
        rates = group_rates(table, outcome, policy.confidence)
        results = compare_outcome(table, outcome, comparisons, policy, bootstrap)
        limits = list(limit_tests(rates, outcome, own, policy.confidence))
        measured.append(_Measured(outcome, _tolerance(outcome, policy), rates, _keep(results, policy), limits))
    findings, num_tests = _judge(measured, policy)
    report = {
        "kind": KIND,
        "version": VERSION,
        "verdict": overall(findings),
        "table": _describe(table),
        "policy": policy.model_dump(),
        "seed": seed,
        "num_resamples": num_resamples,
        "num_tests": num_tests,
        "outcomes": [_outcome(one, policy) for one in measured],
        "findings": [{"kind": f.kind, "outcome": f.outcome, "verdict": f.verdict, **f.figures} for f in findings],
    }
    return _with_words(round_figures(to_jsonable(report)))


def _is_rate(name: str, values: Float64, policy: Policy) -> bool:
    seen = values[np.isfinite(values)]
    binary = bool(np.isin(seen, (0.0, 1.0)).all())
    wanted = policy.outcome(name).kind
    if wanted == "rate" and not binary:
        raise DataError(f"the policy calls {name} a rate, but it holds {seen[~np.isin(seen, (0.0, 1.0))][0]:g}; write 0 or 1")
    return binary if wanted is None else wanted == "rate"


def _tolerance(outcome: Outcome, policy: Policy) -> float:
    own = policy.outcome(outcome.name).max_gap
    if own is not None:
        return own
    return policy.max_gap if outcome.is_rate else policy.max_gap_sd * outcome.spread


def _keep(results: list[Result], policy: Policy) -> list[Result]:
    """All of them; without those that could not be made for want of contexts, where the policy lets them be skipped."""
    return [result for result in results if not (result.reason and policy.skip_small_groups)]


def _judge(measured: list[_Measured], policy: Policy) -> tuple[list[Finding], int]:
    """All findings, violations first, and how many tests they share the level with."""
    adjusted = holm([p for one in measured for p in one.p_values])
    num_tests = int(np.isfinite(adjusted).sum())
    level = policy.alpha / max(1, num_tests)
    found, place = [], 0
    for one in measured:
        own = policy.outcome(one.outcome.name)
        worst, share = worst_missing(one.rates)
        found.append(judge_missing(one.outcome, one.rates, worst, share, float(own.max_missing or 0.0)))
        for result in one.results:
            found.append(judge_gap(one.outcome, result, float(adjusted[place]), level, policy, one.tolerance))
            place += 1
        for test in one.limits:
            found.append(judge_limit(one.outcome, test, float(adjusted[place]), policy.alpha))
            place += 1
    order = {VIOLATION: 0, CANNOT_TELL: 1}
    return sorted(found, key=lambda finding: (order.get(finding.verdict, 2), _rank(finding))), num_tests


def _rank(finding: Finding) -> float:
    """Within one verdict the largest gap in units of its tolerance comes first."""
    if finding.kind != "gap" or not finding.figures["tolerance"] > 0:
        return -math.inf
    size = abs(finding.figures["gap"]["value"] or 0.0) / finding.figures["tolerance"]
    return -round(size, 9)


def _describe(table: AuditTable) -> dict[str, Any]:
    return {
        "num_rollouts": table.num_rows,
        "num_contexts": table.num_clusters,
        "cluster": table.cluster,
        "pair": table.pair,
        "attributes": [factor.name for factor in table.factors if len(factor.attributes) == 1],
    }


def _outcome(one: _Measured, policy: Policy) -> dict[str, Any]:
    rates = [
        {"attribute": group.factor, "group": group.group, "crossed": group.crossed, **group.rate.as_dict()}
        for group in one.rates
    ]
    better = policy.outcome(one.outcome.name).better
    return {
        "name": one.outcome.name,
        "is_rate": one.outcome.is_rate,
        "better": better,
        "tolerance": one.tolerance,
        "spread": one.outcome.spread,
        "rates": rates,
    }


def round_figures(value: Any) -> Any:
    """Plain values with every float cut to twelve digits: the order of a machine's sums is not part of a report."""
    if isinstance(value, float):
        return float(f"{value:.{_DIGITS}g}")
    if isinstance(value, dict):
        return {key: round_figures(item) for key, item in value.items()}
    return [round_figures(item) for item in value] if isinstance(value, list) else value


def _with_words(report: dict[str, Any]) -> dict[str, Any]:
    """The report with a sentence for each finding and a headline, made from the figures as they are written."""
    is_rate: Mapping[str, bool] = {outcome["name"]: outcome["is_rate"] for outcome in report["outcomes"]}
    for finding in report["findings"]:
        finding["sentence"] = explain(finding, is_rate[finding["outcome"]], report)
    head, sentence = headline(report["verdict"], report["findings"], report["num_tests"])
    return {**report, "headline": head, "summary": sentence}
