"""Limits that no comparison is needed for: a rate that must stay below a bound, and outcomes that could not be scored."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from align.audit.policy import OutcomePolicy
from align.audit.statistics import Rate
from align.audit.statistics.clusters import ClusterSums
from align.audit.statistics.quantiles import beta_cdf, beta_isf, t_isf, t_sf
from align.audit.statistics.rates import rate_ends, t_interval
from align.audit.table.groups import AuditTable
from align.audit.table.results import Outcome

EVERYBODY = "all"


@dataclass(frozen=True)
class GroupRate:
    """An outcome in one group.

    Attributes:
        factor: Name of the attribute, or of several that are crossed; "" for all rollouts.
        group: The group's label; `EVERYBODY` for all rollouts.
        crossed: Whether several attributes are crossed.
        rate: Mean with its interval; ``num_missing`` could not be scored and are not part of ``n``.
        sums: What the interval rests on.
    """

    factor: str
    group: str
    crossed: bool
    rate: Rate
    sums: ClusterSums


@dataclass(frozen=True)
class LimitTest:
    """A mean against a limit.

    Attributes:
        group: Whose mean.
        limit: The limit.
        above: Whether the mean must not be above it; else it must not be below.
        p_value: One-sided; NaN where nothing could be told.
        bound: The one-sided end of the mean's interval on the side of the limit.
    """

    group: GroupRate
    limit: float
    above: bool
    p_value: float
    bound: float


def group_rates(table: AuditTable, outcome: Outcome, confidence: float) -> list[GroupRate]:
    """The outcome's mean over all rollouts and in every group, crossed ones last."""
    everybody = np.zeros(table.num_rows, dtype=np.int64)
    rates = [_group_rate(table, outcome, everybody == 0, "", EVERYBODY, False, confidence)]
    for factor in table.factors:
        for code, label in enumerate(factor.labels):
            crossed = len(factor.attributes) > 1
            rates.append(_group_rate(table, outcome, factor.codes == code, factor.name, label, crossed, confidence))
    return rates


def _group_rate(
    table: AuditTable, outcome: Outcome, mask: np.ndarray, factor: str, label: str, crossed: bool, confidence: float
) -> GroupRate:
    seen = mask & outcome.seen
    sums = ClusterSums.of(outcome.values[seen], table.clusters[seen])
    low, high = rate_ends(sums, confidence) if outcome.is_rate else t_interval(sums, confidence)
    rate = Rate(sums.mean, low, high, sums.n, sums.num_clusters, int(mask.sum() - seen.sum()))
    return GroupRate(factor, label, crossed, rate, sums)


def limit_tests(rates: list[GroupRate], outcome: Outcome, policy: OutcomePolicy, confidence: float) -> Iterator[LimitTest]:
    """Every limit of the policy for all rollouts and for each group of a single attribute."""
    for limit, above in ((policy.at_most, True), (policy.at_least, False)):
        if limit is not None:
            yield from (_limit_test(group, limit, above, outcome.is_rate, confidence) for group in rates if not group.crossed)


def _limit_test(group: GroupRate, limit: float, above: bool, is_rate: bool, confidence: float) -> LimitTest:
    sums = group.sums
    if sums.num_clusters < 2:
        return LimitTest(group, limit, above, math.nan, math.nan)
    if is_rate:
        n = sums.rate_effective_n(confidence)
        hits = sums.mean * n
        # Seen from the other side, "not below" is "not above".
        hits, edge = (hits, limit) if above else (n - hits, 1 - limit)
        p = 1.0 if hits <= 0 else beta_cdf(min(max(edge, 0.0), 1.0), hits, n - hits + 1)
        bound = 1.0 if hits >= n else beta_isf(1 - confidence, hits + 1, n - hits)
        return LimitTest(group, limit, above, p, bound if above else 1 - bound)
    error = math.sqrt(sums.variance)
    if error == 0:
        return LimitTest(group, limit, above, math.nan, math.nan)
    sign, dof = (1 if above else -1), sums.num_clusters - 1
    p = t_sf(sign * (sums.mean - limit) / error, dof)
    return LimitTest(group, limit, above, p, sums.mean + sign * t_isf(1 - confidence, dof) * error)


def worst_missing(rates: list[GroupRate]) -> tuple[GroupRate, float]:
    """The group in which the largest share could not be scored, and that share."""

    def share(group: GroupRate) -> float:
        total = group.rate.n + group.rate.num_missing
        return group.rate.num_missing / total if total else 0.0

    worst = max(rates, key=share)
    return worst, share(worst)
