"""Who is compared with whom: decided by the columns and the policy alone, before any outcome is looked at."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import pandas as pd

from align.audit.policy import Policy
from align.audit.statistics import Float64
from align.audit.table.reading import check_columns, read_ids, read_labels, read_outcome, read_pairs
from align.errors import DataError

CLUSTER = "context_id"
REST = "everybody else"


@dataclass(frozen=True, eq=False)
class Factor:
    """The groups of one attribute, or of several that are crossed.

    Attributes:
        attributes: Names of the attributes.
        codes: int [n], the group of each rollout.
        labels: One label a group; groups of crossed attributes are joined by " & ".
    """

    attributes: tuple[str, ...]
    codes: np.ndarray
    labels: tuple[str, ...]

    @property
    def name(self) -> str:
        return " & ".join(self.attributes)


@dataclass(frozen=True)
class AuditTable:
    """A table whose columns have been understood.

    Attributes:
        clusters: int [n], the context of each rollout, from 0. Contexts that hold twins of each other are one.
        num_clusters: How many there are.
        cluster: Name of that column.
        pairs: int [n], rollouts with one value are twins, -1 has none; None where the table has no such column.
        pair: Name of that column, "" where there is none.
        factors: Single attributes first, then crossed ones.
        outcomes: Name to float64 [n]; NaN where it could not be scored.
    """

    clusters: np.ndarray
    num_clusters: int
    cluster: str
    pairs: np.ndarray | None
    pair: str
    factors: tuple[Factor, ...]
    outcomes: Mapping[str, Float64]

    @property
    def num_rows(self) -> int:
        return len(self.clusters)


@dataclass(frozen=True)
class Comparison:
    """Two groups that are held against each other.

    Attributes:
        factor: Where the groups come from.
        a: Group code, or None for everybody who isn't in b.
        b: Group code.
    """

    factor: Factor
    a: int | None
    b: int

    @property
    def label_a(self) -> str:
        return REST if self.a is None else self.factor.labels[self.a]

    @property
    def label_b(self) -> str:
        return self.factor.labels[self.b]


def understand(
    table: pd.DataFrame,
    policy: Policy,
    *,
    cluster: str = "",
    pair: str = "",
    attributes: Sequence[str] = (),
    outcomes: Sequence[str] = (),
) -> AuditTable:
    """Finds the columns by their parts; arguments come before the policy, and the policy before names that are customary.

    Raises:
        DataError: A column isn't there, a rollout has no context, or an attribute has too many groups.
    """
    cluster, pair = cluster or policy.cluster or CLUSTER, pair or policy.pair
    attributes = list(dict.fromkeys(attributes)) or list(policy.attributes)
    outcomes = list(dict.fromkeys(outcomes)) or list(policy.outcomes) or _usual_outcomes(table)
    if not outcomes:
        columns = ", ".join(map(str, table.columns))
        raise DataError(f"name at least one outcome with --outcome; the table's columns are {columns}")
    wanted = [("cluster column", cluster), *([("pair column", pair)] if pair else [])]
    wanted += [("attribute", name) for name in attributes] + [("outcome", name) for name in outcomes]
    check_columns(table, wanted)
    twice = sorted({name for name in attributes if name in outcomes})
    if twice:
        raise DataError(f"{twice[0]} can't be an attribute and an outcome at once; leave one of the two out")
    clusters, num_clusters = read_ids(table[cluster], cluster)
    pairs = read_pairs(table[pair]) if pair else None
    if pairs is not None:
        clusters, num_clusters = _join_twins(clusters, num_clusters, pairs)
    factors = [_factor(table, name, policy) for name in attributes]
    return AuditTable(
        clusters,
        num_clusters,
        cluster,
        pairs,
        pair,
        (*factors, *_crossed(factors, policy)),
        {name: read_outcome(table[name], name) for name in outcomes},
    )


def compare_groups(table: AuditTable, policy: Policy) -> Iterator[Comparison]:
    """Every pair of groups of an attribute (or each with its reference), and each crossed group with everybody else."""
    for factor in table.factors:
        groups = range(len(factor.labels))
        if len(factor.attributes) > 1:
            yield from (Comparison(factor, None, group) for group in groups)
            continue
        reference = policy.attribute(factor.name).reference
        if reference is None:
            yield from (Comparison(factor, a, b) for a, b in combinations(groups, 2))
        else:
            first = factor.labels.index(reference)
            yield from (Comparison(factor, first, group) for group in groups if group != first)


def _join_twins(clusters: np.ndarray, num_clusters: int, pairs: np.ndarray) -> tuple[np.ndarray, int]:
    """Twins resemble each other, so contexts that hold twins of each other become one cluster."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    twins = pairs >= 0
    rows, columns = clusters[twins], num_clusters + pairs[twins]
    size = num_clusters + int(pairs.max(initial=-1)) + 1
    graph = coo_array((np.ones(len(rows), dtype=np.int8), (rows, columns)), shape=(size, size))
    joined = connected_components(graph, directed=False)[1][:num_clusters]
    present, codes = np.unique(joined, return_inverse=True)
    return codes.reshape(-1)[clusters], len(present)


def _usual_outcomes(table: pd.DataFrame) -> list[str]:
    """The columns of this project's own rollout folders, where they hold anything."""
    names = [name for name in map(str, table.columns) if name.startswith("outcome_") or name == "success"]
    return [name for name in names if table[name].notna().any()]


def _factor(table: pd.DataFrame, name: str, policy: Policy) -> Factor:
    codes, labels = read_labels(table[name])
    reference = policy.attribute(name).reference
    if reference is not None and reference not in labels:
        raise DataError(f"the attribute {name} has no group {reference!r}, the policy's reference; it has {_list(labels)}")
    if reference is None and len(labels) > policy.max_groups:
        raise DataError(
            f"the attribute {name} has {len(labels):,} groups ({_list(labels)}), more than the {policy.max_groups} that can be "
            "compared with each other; join groups (numbers into ranges), name a reference in the policy, or raise max_groups"
        )
    return Factor((name,), codes, tuple(labels))


def _list(labels: Sequence[str]) -> str:
    return ", ".join(labels[:5]) + (", …" if len(labels) > 5 else "")


def _crossed(factors: Sequence[Factor], policy: Policy) -> Iterator[Factor]:
    """Attributes that are crossed. One with a single group, or with a reference, says nothing new when crossed."""
    crossable = [factor for factor in factors if len(factor.labels) > 1 and policy.attribute(factor.name).reference is None]
    for count in range(2, policy.intersections + 1):
        for chosen in combinations(crossable, count):
            combined = np.zeros(len(chosen[0].codes), dtype=np.int64)
            for factor in chosen:
                combined = combined * len(factor.labels) + factor.codes
            present, codes = np.unique(combined, return_inverse=True)
            labels = tuple(_cell_label(chosen, int(cell)) for cell in present)
            yield Factor(tuple(factor.name for factor in chosen), codes.reshape(-1), labels)


def _cell_label(factors: Sequence[Factor], cell: int) -> str:
    names = []
    for factor in reversed(factors):
        cell, group = divmod(cell, len(factor.labels))
        names.append(factor.labels[group])
    return " & ".join(reversed(names))
