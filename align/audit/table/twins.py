"""Comparisons within pairs: twins that somebody names, or rollouts that share a context."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from align.audit.statistics import (
    ENOUGH_EVENTS,
    Float64,
    MeanPower,
    PairPower,
    Power,
    Rate,
    clustered_mcnemar,
    mean_interval,
    paired_difference,
)
from align.audit.statistics.clusters import ClusterSums
from align.audit.statistics.quantiles import t_sf
from align.audit.table.groups import AuditTable, Comparison
from align.audit.table.results import Outcome, Result, group_masks


def pair_keys(table: AuditTable, comparison: Comparison) -> np.ndarray | None:
    """What pairs the two groups, int [n] with -1 for none, or None where the comparison is better made without pairs.

    Decided by the design alone, never by outcomes: pairs must hold at least half of the smaller group's rollouts, and where
    nobody names twins, contexts serve if all that hold both groups hold as many of each. (Else contexts would be weighted as if
    each told as much as the others.) Crossed groups are held against everybody else, who are no twins of theirs.
    """
    if comparison.a is None:
        return None
    keys = table.pairs if table.pairs is not None else table.clusters
    in_a, in_b = group_masks(comparison)
    size = int(keys.max(initial=-1)) + 1
    held = [np.bincount(keys[mask & (keys >= 0)], minlength=size) for mask in (in_a, in_b)]
    both = (held[0] > 0) & (held[1] > 0)
    covered = [int(count[both].sum()) for count in held]
    smaller = 0 if in_a.sum() <= in_b.sum() else 1
    enough = both.any() and 2 * covered[smaller] >= [in_a, in_b][smaller].sum()
    balanced = table.pairs is not None or all(len(np.unique(count[both])) <= 1 for count in held)
    return keys if enough and balanced else None


def pair_name(table: AuditTable) -> str:
    return "twins" if table.pairs is not None else "same contexts"


def compare_pairs(table: AuditTable, outcome: Outcome, comparison: Comparison, keys: np.ndarray, min_contexts: int) -> Result:
    """The result of a comparison within pairs; McNemar's exact test by clusters for 0/1 with one rollout a side."""
    (mean_a, count_a), (mean_b, count_b) = (_means_by_key(outcome, keys, mask) for mask in group_masks(comparison))
    wanted = [np.bincount(keys[mask & (keys >= 0)], minlength=len(mean_a)) > 0 for mask in group_masks(comparison)]
    both = (count_a > 0) & (count_b > 0)
    home = np.zeros(len(mean_a), dtype=np.int64)
    home[keys[keys >= 0]] = table.clusters[keys >= 0]
    a, b, clusters = mean_a[both], mean_b[both], home[both]
    found = _paired_interval(a, b, clusters)
    gap = replace(found, num_missing=int((wanted[0] & wanted[1] & ~both).sum()))
    means = (float(a.mean()), float(b.mean())) if len(a) else (math.nan, math.nan)
    nothing = Result(comparison, pair_name(table), *means, gap, math.nan, None)
    if gap.num_clusters < min_contexts:
        reason = f"only {gap.num_clusters} of {table.cluster} hold a scored pair, fewer than {min_contexts}"
        return replace(nothing, reason=reason)
    sums = ClusterSums.of(b - a, clusters)
    if not outcome.is_rate and sums.variance == 0:
        return replace(nothing, reason="all pairs differ by the same, so nothing says how far differences would scatter")
    single = bool((count_a[both] == 1).all() and (count_b[both] == 1).all())
    p_value = clustered_mcnemar(sums.sums) if outcome.is_rate and single else _sign_t_test(sums)
    return replace(nothing, p_value=p_value, power=_paired_power(sums, b - a, outcome.is_rate, single))


def _paired_interval(a: Float64, b: Float64, clusters: np.ndarray) -> Rate:
    """Where enough pairs differ the t interval, which is the sharper one; else Agresti & Min's."""
    if np.abs(b - a).sum() >= 2 * ENOUGH_EVENTS:
        return mean_interval(b - a, clusters)
    return paired_difference(a, b, clusters, missing="drop")


def _means_by_key(outcome: Outcome, keys: np.ndarray, mask: np.ndarray) -> tuple[Float64, Float64]:
    """Mean (NaN where there is none) and number of scored rollouts of a group under each pair key."""
    chosen = mask & outcome.seen & (keys >= 0)
    size = int(keys.max(initial=-1)) + 1
    counts = np.bincount(keys[chosen], minlength=size).astype(np.float64)
    sums = np.bincount(keys[chosen], weights=outcome.values[chosen], minlength=size)
    return np.divide(sums, counts, out=np.full(size, np.nan), where=counts > 0), counts


def _sign_t_test(sums: ClusterSums) -> float:
    """Cluster totals against zero, with the variance that they have if the mean is zero; 1 where no pair differs."""
    square = float((sums.sums**2).sum()) * sums.num_clusters / (sums.num_clusters - 1)
    if square == 0:
        return 1.0
    return 2 * t_sf(abs(float(sums.sums.sum())) / math.sqrt(square), sums.num_clusters - 1)


def _paired_power(sums: ClusterSums, differences: Float64, is_rate: bool, single: bool) -> Power:
    dof = sums.num_clusters - 1
    if not is_rate:
        return MeanPower(math.sqrt(sums.variance), dof)
    square, n = float((differences**2).mean()), len(differences)
    # One pair more in each direction: that no pair differed doesn't mean that none ever would.
    discordance = min(1.0, (square * n + 2) / (n + 2))
    effective = sums.effective_n(square - sums.mean**2, float(np.abs(differences).sum()), 0.95)
    return PairPower(discordance, effective) if single else MeanPower(math.sqrt(discordance / effective), dof)
