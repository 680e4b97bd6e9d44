"""Twins and groups on anybody's own table of scored rollouts, where no simulator can make a twin."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pandas as pd

from align.audit.probes.pairs import cluster_totals
from align.audit.statistics import Better, Rate, difference
from align.errors import DataError

NUM_PERMUTATIONS = 4999


def join_twins(
    table: pd.DataFrame, pairs: pd.DataFrame, outcomes: Sequence[str], attribute: str = "appearance"
) -> pd.DataFrame:
    """A table of twins from contexts that the user says differ in one thing only.

    The k-th rollout of one context is paired with the k-th of its twin, by ``seed`` where the table has that column filled,
    else in the order of the table. The pair of contexts is the cluster. Nobody checks that nothing else differs: that is the
    user's word.

    Args:
        table: One row a rollout with ``context_id``, outcome columns, and perhaps ``policy``, ``setting``, ``scene``, ``seed``.
        pairs: ``left`` and ``right`` context ids, perhaps ``left_value`` and ``right_value`` (how to call the two sides) and
            ``attribute``.
        outcomes: Outcome columns to keep.
        attribute: Name of what differs, where ``pairs`` has no such column.

    Raises:
        DataError: Columns are missing, a context isn't in the table, or one is its own twin.
    """
    _need(table, ("context_id", *outcomes), "the table of rollouts")
    _need(pairs, ("left", "right"), "the table of context pairs")
    known = set(table["context_id"])
    lost = [name for name in [*pairs["left"], *pairs["right"]] if name not in known]
    if lost:
        raise DataError(f"the table of context pairs names {len(lost)} contexts that have no rollout, first {lost[0]}")
    if (pairs["left"] == pairs["right"]).any():
        raise DataError("the table of context pairs pairs a context with itself; a twin is another context")
    parts = []
    order = "seed" if "seed" in table and table["seed"].notna().all() else None
    for row in pairs.to_dict("records"):
        for side in ("left", "right"):
            part = table[table["context_id"] == row[side]].copy()
            for name, default in (("policy", "base"), ("setting", "given"), ("scene", "all")):
                part[name] = part.get(name, default)
            by = part.groupby(["policy", "setting", "scene"])
            part["sample"] = part[order] if order else by.cumcount()
            part["attribute"] = row.get("attribute", attribute)
            part["value"] = row.get(f"{side}_value", side)
            part["context_id"] = f"{row['left']}~{row['right']}"
            part["pair_id"] = part["context_id"] + "/" + part["sample"].astype(str)
            parts.append(part)
    return pd.concat(parts, ignore_index=True)


def group_gap(
    table: pd.DataFrame, attribute: str, left: str, right: str, outcome: str, *, better: Better = "lower", seed: int = 0
) -> tuple[Rate, float]:
    """Difference of an outcome between two groups of contexts, and the p-value of a permutation test over contexts.

    Groups are not twins: they may differ in more than the attribute, and the gap says nothing about its cause.

    Args:
        table: One row a rollout with ``context_id``, the attribute and the outcome in [0, 1]; NaN is dropped and counted.
        attribute: Column that makes the groups.
        left: Its value on the left.
        right: Its value on the right; the gap is right minus left.
        outcome: Outcome column.
        better: Which way is good.
        seed: Seed of the permutations.

    Returns:
        The gap with its cluster interval, and the two-sided p-value (studentised, so groups may differ in spread and size; NaN
        with fewer than two contexts on a side).

    Raises:
        DataError: Columns are missing, or a context belongs to both groups.
    """
    _need(table, ("context_id", attribute, outcome), "the table of rollouts")
    sides = [table[table[attribute].astype(str) == str(value)] for value in (left, right)]
    shared = set(sides[0]["context_id"]) & set(sides[1]["context_id"])
    if shared:
        raise DataError(
            f"context {min(map(str, shared))} belongs to both {attribute}={left} and {attribute}={right}; "
            "such contexts are twins: give them as a table of context pairs"
        )
    values = [side[outcome].to_numpy(dtype=float) for side in sides]
    clusters = [side["context_id"].to_numpy() for side in sides]
    gap = difference(values[0], clusters[0], values[1], clusters[1], better=better, missing="drop")
    totals = [cluster_totals(v, c) for v, c in zip(values, clusters, strict=True)]
    if min(len(sums) for sums, _ in totals) < 2:
        return gap, math.nan
    sums, counts = (np.concatenate([side[k] for side in totals]) for k in (0, 1))
    return gap, _permutation_p_value(sums, counts, len(totals[0][0]), seed)


def _permutation_p_value(sums: np.ndarray, counts: np.ndarray, num_left: int, seed: int) -> float:
    """Permutes which contexts are on the left; the statistic is the difference over its cluster-robust standard error."""
    rng = np.random.default_rng(seed)
    order = rng.permuted(np.tile(np.arange(len(sums)), (NUM_PERMUTATIONS, 1)), axis=1)
    order = np.vstack([np.arange(len(sums)), order])
    sides = (order[:, :num_left], order[:, num_left:])
    means, variances = [], []
    for side in sides:
        s, c = sums[side], counts[side]
        mean = s.sum(1) / c.sum(1)
        spread = ((s - mean[:, None] * c) ** 2).sum(1) * side.shape[1] / (side.shape[1] - 1)
        means.append(mean)
        variances.append(spread / c.sum(1) ** 2)
    gap, error = means[1] - means[0], np.sqrt(variances[0] + variances[1])
    # Without any spread on either side only the difference itself is left to compare.
    score = np.abs(gap) / np.where(error > 0, error, 1e-9)
    return float((score >= score[0] * (1 - 1e-12)).mean())


def _need(table: pd.DataFrame, columns: Sequence[str], name: str) -> None:
    missing = [column for column in columns if column not in table]
    if missing:
        raise DataError(f"{name} lacks the columns {', '.join(missing)}; it has {', '.join(map(str, table.columns))}")
