"""The comparisons of one outcome: twins where there are twins, else two groups that may share contexts."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from align.audit.statistics import Float64, GapBootstrap, Rate, TwoGroups
from align.audit.table.groups import AuditTable, Comparison, Factor
from align.audit.table.policy import Policy
from align.audit.table.results import Outcome, Result, group_masks
from align.audit.table.twins import compare_pairs, pair_keys, pair_name


def compare_outcome(
    table: AuditTable, outcome: Outcome, comparisons: Sequence[Comparison], policy: Policy, bootstrap: GapBootstrap
) -> list[Result]:
    """One result for each comparison, in order."""
    results: list[Result | None] = []
    waiting: dict[Factor, list[tuple[int, Comparison, TwoGroups]]] = {}
    for place, comparison in enumerate(comparisons):
        keys = pair_keys(table, comparison)
        groups = two_groups(table, outcome, comparison)
        reason = _too_little(comparison, groups, policy.min_contexts, table.cluster) or _constant(outcome)
        if reason:
            results.append(_nothing(comparison, "groups" if keys is None else pair_name(table), groups, reason))
        elif keys is not None:
            results.append(compare_pairs(table, outcome, comparison, keys, policy.min_contexts))
        else:
            results.append(None)
            waiting.setdefault(comparison.factor, []).append((place, comparison, groups))
    for factor, unpaired in waiting.items():
        ends = _bootstrapped(table, outcome, factor, unpaired, policy.confidence, bootstrap)
        for (place, comparison, groups), interval in zip(unpaired, ends, strict=True):
            results[place] = _finish(outcome, comparison, groups, interval, policy.confidence)
    return [result for result in results if result is not None]


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
    unpaired: Sequence[tuple[int, Comparison, TwoGroups]],
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
    pairs = np.array([(k + c.b if c.a is None else c.a, c.b) for _, c, _ in unpaired])
    num_clusters = np.array([groups.num_clusters for _, _, groups in unpaired])
    ends = bootstrap.intervals(columns[0], columns[1], pairs, confidence, num_clusters)
    return [(float(low), float(high)) for low, high in ends]


def _finish(
    outcome: Outcome, comparison: Comparison, groups: TwoGroups, interval: tuple[float, float], confidence: float
) -> Result:
    if groups.has_few_events:
        interval = groups.closed_interval(confidence)
    in_either = np.logical_or(*group_masks(comparison))
    missing = int((in_either & ~outcome.seen).sum())
    gap = Rate(groups.gap, *interval, groups.a.n + groups.b.n, groups.num_clusters, missing)
    return Result(comparison, "groups", groups.a.mean, groups.b.mean, gap, groups.p_value(), groups.power())


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
