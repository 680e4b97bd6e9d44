"""The comparisons of one outcome: twins where there are twins, else two groups that may share contexts."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from align.audit.policy import Policy
from align.audit.statistics import Float64, GapBootstrap, Rate, TwoGroups
from align.audit.table.groups import AuditTable, Comparison, Factor
from align.audit.table.results import Outcome, Result, group_masks
from align.audit.table.twins import compare_pairs, pair_keys, pair_name


def compare_outcome(
    table: AuditTable, outcome: Outcome, comparisons: Sequence[Comparison], policy: Policy, bootstrap: GapBootstrap
) -> list[Result]:
    """One result for each comparison, in order."""
    results = [_compare(table, outcome, comparison, policy) for comparison in comparisons]
    waiting: dict[Factor, list[int]] = {}
    for place, result in enumerate(results):
        if not result.reason and math.isnan(result.gap.low):
            waiting.setdefault(result.comparison.factor, []).append(place)
    for factor, places in waiting.items():
        ends = _bootstrapped(table, outcome, factor, [results[place] for place in places], policy.confidence, bootstrap)
        for place, (low, high) in zip(places, ends, strict=True):
            results[place] = replace(results[place], gap=replace(results[place].gap, low=low, high=high))
    return results


def _compare(table: AuditTable, outcome: Outcome, comparison: Comparison, policy: Policy) -> Result:
    """The result of one comparison; where the bootstrap has yet to give the interval, its ends are NaN."""
    keys, groups = pair_keys(table, comparison), two_groups(table, outcome, comparison)
    reason = _too_little(comparison, groups, policy.min_contexts, table.cluster) or _constant(outcome)
    if reason:
        return _nothing(comparison, "groups" if keys is None else pair_name(table), groups, reason)
    if keys is not None:
        return compare_pairs(table, outcome, comparison, keys, policy.min_contexts)
    p_value = groups.p_value()
    if math.isnan(p_value):
        return _nothing(comparison, "groups", groups, "every value of these two groups is the same")
    low, high = groups.closed_interval(policy.confidence) if groups.has_few_events else (math.nan, math.nan)
    missing = int((np.logical_or(*group_masks(comparison)) & ~outcome.seen).sum())
    gap = Rate(groups.gap, low, high, groups.a.n + groups.b.n, groups.num_clusters, missing)
    return Result(comparison, "groups", groups.a.mean, groups.b.mean, gap, p_value, groups.power())


def two_groups(table: AuditTable, outcome: Outcome, comparison: Comparison) -> TwoGroups:
    """Cluster sums of both groups."""
    parts: list[Float64] = []
    for mask in group_masks(comparison):
        chosen = mask & outcome.seen
        index = table.clusters[chosen]
        parts.append(np.bincount(index, weights=outcome.values[chosen], minlength=table.num_clusters).astype(np.float64))
        parts.append(np.bincount(index, minlength=table.num_clusters).astype(np.float64))
    return TwoGroups(parts[0], parts[1], parts[2], parts[3], outcome.is_rate)


def _bootstrapped(
    table: AuditTable,
    outcome: Outcome,
    factor: Factor,
    unpaired: Sequence[Result],
    confidence: float,
    bootstrap: GapBootstrap,
) -> list[tuple[float, float]]:
    """Intervals of all gaps of one factor: a column of sums for each group, and one for everybody who isn't in it."""
    seen, k = outcome.seen, len(factor.labels)
    index = bootstrap.bundles[table.clusters[seen]] * k + factor.codes[seen]
    columns = []
    for weights in (outcome.values[seen], None):
        inside = np.bincount(index, weights=weights, minlength=bootstrap.num_bundles * k).reshape(-1, k).astype(np.float64)
        columns.append(np.hstack([inside, inside.sum(1, keepdims=True) - inside]))
    compared = [result.comparison for result in unpaired]
    pairs = np.array([(k + one.b if one.a is None else one.a, one.b) for one in compared])
    num_clusters = np.array([result.gap.num_clusters for result in unpaired])
    ends = bootstrap.intervals(columns[0], columns[1], pairs, confidence, num_clusters)
    return [(float(low), float(high)) for low, high in ends]


def _nothing(comparison: Comparison, method: str, groups: TwoGroups, reason: str) -> Result:
    num_clusters = min(groups.a.num_clusters, groups.b.num_clusters)
    value = groups.gap if groups.a.n and groups.b.n else math.nan
    gap = Rate(value, math.nan, math.nan, groups.a.n + groups.b.n, num_clusters)
    return Result(comparison, method, groups.a.mean, groups.b.mean, gap, math.nan, None, reason)


def _too_little(comparison: Comparison, groups: TwoGroups, least: int, cluster: str) -> str:
    for label, group in ((comparison.label_a, groups.a), (comparison.label_b, groups.b)):
        if group.n == 0:
            return f"no rollout of {label} could be scored"
        if group.num_clusters < least:
            rollouts = f"{group.n} rollout{'s' * (group.n != 1)}"
            return f"{label} has only {rollouts} from {group.num_clusters} of {cluster}, fewer than {least}"
    return ""


def _constant(outcome: Outcome) -> str:
    seen = outcome.values[outcome.seen]
    if not outcome.is_rate and len(seen) and (seen == seen[0]).all():
        return f"every value is {seen[0]:g}, so nothing says how far values would scatter"
    return ""
