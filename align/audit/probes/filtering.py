"""Which clips a cleaned folder keeps, why the others go, and whom the filter hits: a filter has a bias of its own.

Tables are those of ``sources``: one row a clip with ``unsafe_<axis>`` and ``doubtful_<axis>``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd

from align.audit.probes.base import LEVEL, Finding
from align.audit.probes.sources import DOUBTFUL, TRUTH, UNSAFE, axes_of, compare_two
from align.audit.statistics import Rate, cluster_rate
from align.errors import DataError

KEPT = ""
"""Reason of a clip that stays."""


@dataclass(frozen=True)
class Rule:
    """What a cleaned folder leaves out.

    Attributes:
        max_unsafe: Clips with a higher probability of failing any axis go.
        drop_doubtful: Whether clips go on which the reward model's members disagree.
        balance: Column whose values are thinned to the rarest one's count, scene by scene; "" for none.
        seed: Which clips are thinned out.
    """

    max_unsafe: float
    drop_doubtful: bool
    balance: str
    seed: int


@dataclass(frozen=True)
class Kept:
    """How often clips of one group stay.

    Attributes:
        scene: Scene.
        column: What the group is a value of; "" for all clips of the scene.
        value: Which value.
        kept: Share of its clips that stay.
        safe_kept: Share of its truly safe clips that stay, where the truth is known.
    """

    scene: str
    column: str
    value: str
    kept: Rate
    safe_kept: Rate | None

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON."""
        about = {name: getattr(self, name) for name in ("scene", "column", "value")}
        safe = None if self.safe_kept is None else self.safe_kept.as_dict()
        return {**about, "kept": self.kept.as_dict(), "safe_kept": safe}


def choose_clips(table: pd.DataFrame, rule: Rule) -> list[str]:
    """Why each clip goes: ``unscored``, ``unsafe: AXIS``, ``doubtful: AXIS`` or ``quota``; empty where it stays.

    Args:
        table: One row a clip.
        rule: What goes.

    Raises:
        DataError: There is no such column to balance by, or nothing would be left of a group.
    """
    axes = axes_of(table)
    reasons = pd.Series(KEPT, index=table.index)
    reasons[table[[UNSAFE + axis for axis in axes]].isna().all(axis=1)] = "unscored"
    for axis in axes:
        reasons[(reasons == KEPT) & (table[UNSAFE + axis] > rule.max_unsafe)] = f"unsafe: {axis}"
    for axis in axes if rule.drop_doubtful else ():
        reasons[(reasons == KEPT) & (table[DOUBTFUL + axis] > 0)] = f"doubtful: {axis}"
    if rule.balance:
        _thin(table, reasons, rule)
    return [str(reason) for reason in reasons]


def _thin(table: pd.DataFrame, reasons: pd.Series, rule: Rule) -> None:
    """Take clips by chance from every group until each scene has as many of each value as of its rarest."""
    if rule.balance not in table:
        raise DataError(f"the clips can't be balanced by {rule.balance}, which is neither an attribute nor source")
    rng = np.random.default_rng(rule.seed)
    for scene, part in table.groupby("scene", sort=False):
        left = {str(value): rows.index[reasons[rows.index] == KEPT] for value, rows in part.groupby(rule.balance)}
        fewest = min(map(len, left.values()))
        if not fewest:
            gone = ", ".join(value for value, rows in left.items() if not len(rows))
            raise DataError(
                f"no clip of {scene} with {rule.balance} {gone} is left, so the others would go too; raise max_unsafe, keep "
                "doubtful clips or leave balance empty"
            )
        for rows in left.values():
            reasons[rng.permutation(rows)[fewest:]] = "quota"


def count_reasons(table: pd.DataFrame, reasons: Sequence[str], columns: Sequence[str]) -> list[dict[str, Any]]:
    """Clips by scene, column, value and reason ("kept" for those that stay)."""
    said = pd.Series([reason or "kept" for reason in reasons], index=table.index, name="reason")
    rows = []
    for column in ("", *columns):
        keys = [table["scene"], *([table[column]] if column else []), said]
        for key, count in table.groupby(keys, sort=True).size().items():
            names = key if isinstance(key, tuple) else (key,)
            value = str(names[1]) if column else "all"
            rows.append(
                {"scene": str(names[0]), "column": column, "value": value, "reason": str(names[-1]), "num_clips": int(count)}
            )
    return rows


def compute_kept(table: pd.DataFrame, reasons: Sequence[str], columns: Sequence[str]) -> list[Kept]:
    """How often clips stay, by scene and group."""
    kept = (np.array(reasons) == KEPT).astype(float)
    rows = []
    for scene, part in table.assign(**{"\0kept": kept}).groupby("scene", sort=False):
        rows.append(_kept(part, str(scene), "", "all"))
        for column in columns:
            rows += [_kept(group, str(scene), column, str(value)) for value, group in part.groupby(column)]
    return rows


def _kept(rows: pd.DataFrame, scene: str, column: str, value: str) -> Kept:
    clusters, kept = rows["context_id"].to_numpy(), rows["\0kept"].to_numpy(float)
    truth = rows[[TRUTH + axis for axis in axes_of(rows) if TRUTH + axis in rows and rows[UNSAFE + axis].notna().any()]]
    safe = (truth.notna().any(axis=1) & (truth.max(axis=1) == 0)).to_numpy() if truth.shape[1] else np.zeros(len(rows), bool)
    safe_kept = cluster_rate(kept[safe], clusters[safe], missing="drop") if safe.any() else None
    return Kept(scene, column, value, cluster_rate(kept, clusters, missing="drop"), safe_kept)


def filter_findings(table: pd.DataFrame, reasons: Sequence[str], columns: Sequence[str], probe: str) -> list[Finding]:
    """Whether the filter keeps one group's clips less often than another's, by scene; not yet judged."""
    kept = (np.array(reasons) == KEPT).astype(float)
    places = pd.Series(np.arange(len(table)), index=table.index)
    wanted = [
        (str(scene), column, left, right, part)
        for scene, part in table.groupby("scene", sort=False)
        for column in columns
        for left, right in combinations(sorted(part[column].unique()), 2)
    ]
    findings = []
    for scene, column, left, right, part in wanted:
        sides = (part[column] == left, part[column] == right)
        values = kept[places[part.index].to_numpy()]
        gap, p_value, detectable = compare_two(values, *sides, part["context_id"], LEVEL / len(wanted))
        name = f"{scene}: clips kept with {column} {right} against {left}"
        p_value = 1.0 if math.isnan(p_value) and gap.value == 0 else p_value
        findings.append(Finding(probe, name, gap, "points", p_value, detectable, why_undefined="too few contexts"))
    return findings
