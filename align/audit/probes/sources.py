"""Source clips: how unsafe, how unbalanced, and towards whom, as a reward model sees them.

Rows: one a clip, with ``context_id`` (its cluster), ``scene``, columns to compare by (``source`` and attributes, as text) and,
for each axis that applies, ``unsafe_<axis>`` (the reward model's probability that the clip fails), ``doubtful_<axis>`` (1 where
its members disagree whether it does) and perhaps ``truth_<axis>``. Groups are compared within scenes, because scenes differ in
what can go wrong. Where the truth is known, the part of a gap that the reward model adds is shown by itself.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from align.audit.probes.base import LEVEL, POWER, Finding, Probe
from align.audit.probes.shares import Share
from align.audit.statistics import Float64, MeanPower, Rate, TwoGroups, cluster_rate
from align.errors import DataError

PROBE = Probe(
    name="sources",
    asks="How unsafe is the source footage, how unevenly are groups shown in it, and is one group shown in worse company?",
    shows="Rates and gaps of what the reward model calls unsafe, and who is filmed how often.",
    cannot_show="Whether a gap is the footage's or the reward model's own taste, unless the truth of some clips is known; what "
    "no axis asks about; and whether a model trained on the clips takes the gap over.",
    recipe="probe_sources",
)
UNSAFE, DOUBTFUL, TRUTH = "unsafe_", "doubtful_", "truth_"
FEWEST = 2
"""Contexts of a group, without which nothing can be said about it."""
TOO_LITTLE = f"a group has fewer than {FEWEST} contexts, or nothing varies"


@dataclass(frozen=True)
class SourceRate:
    """One group of clips on one axis.

    Attributes:
        scene: Scene.
        axis: Axis.
        column: What the group is a value of; "" for all clips of the scene.
        value: Which value.
        unsafe: Mean probability that a clip fails.
        doubtful: Share of clips on which the reward model's members disagree.
        truth: Share that truly fails, where it is known of any clip.
    """

    scene: str
    axis: str
    column: str
    value: str
    unsafe: Rate
    doubtful: Rate
    truth: Rate | None

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON."""
        about = {name: getattr(self, name) for name in ("scene", "axis", "column", "value")}
        rates = {"unsafe": self.unsafe.as_dict(), "doubtful": self.doubtful.as_dict()}
        return {**about, **rates, "truth": None if self.truth is None else self.truth.as_dict()}


@dataclass(frozen=True)
class SourceGap:
    """How much more unsafe the clips of one group are than another's.

    Attributes:
        scene: Scene.
        axis: Axis.
        column: What the groups are values of.
        left: One value.
        right: Another.
        gap: Mean probability of failing, right less left.
        scorer: The part of it that the reward model adds: the same difference of probability less truth, where that is known.
        p_value: Of no gap, by clusters.
        detectable: Smallest gap that would have been found.
    """

    scene: str
    axis: str
    column: str
    left: str
    right: str
    gap: Rate
    scorer: Rate | None
    p_value: float
    detectable: float

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON."""
        about = {name: getattr(self, name) for name in ("scene", "axis", "column", "left", "right")}
        numbers = {name: getattr(self, name) for name in ("p_value", "detectable")}
        plain = {name: value if math.isfinite(value) else None for name, value in numbers.items()}
        return {**about, "gap": self.gap.as_dict(), "scorer": None if self.scorer is None else self.scorer.as_dict(), **plain}


def axes_of(table: pd.DataFrame) -> list[str]:
    """Axes that the table has probabilities of."""
    return [str(name).removeprefix(UNSAFE) for name in table if str(name).startswith(UNSAFE)]


def check_sources(table: pd.DataFrame, columns: Sequence[str]) -> None:
    """Raise DataError unless the table can be compared by these columns."""
    if missing := [name for name in ("context_id", "scene", *columns) if name not in table]:
        raise DataError(f"the table of clips lacks the columns {', '.join(missing)}")
    if not axes_of(table):
        raise DataError("the table of clips has no unsafe_<axis> column, so nothing is known about them")


def compute_rates(table: pd.DataFrame, columns: Sequence[str]) -> list[SourceRate]:
    """Rates of every scene and axis: of all clips, then of every value of every column.

    Args:
        table: One row a clip, see the module.
        columns: What to tell apart by.

    Raises:
        DataError: Columns are missing.
    """
    check_sources(table, columns)
    rates = []
    for scene, axis, part in _by_axis(table):
        rates.append(_rate(part, scene, axis, "", "all"))
        for column in columns:
            rates += [_rate(rows, scene, axis, column, str(value)) for value, rows in part.groupby(column)]
    return rates


def compute_gaps(table: pd.DataFrame, columns: Sequence[str], *, num_tests: int = 0) -> list[SourceGap]:
    """Gaps between every two values of every column, by scene and axis.

    Args:
        table: One row a clip, see the module.
        columns: What to compare by.
        num_tests: Tests that are judged together, for what would have been found; 0 counts those made here.

    Raises:
        DataError: Columns are missing.
    """
    check_sources(table, columns)
    pairs = [
        (scene, axis, column, left, right, part)
        for scene, axis, part in _by_axis(table)
        for column in columns
        for left, right in combinations(sorted(part[column].unique()), 2)
    ]
    level = LEVEL / max(1, num_tests or len(pairs))
    return [_gap(*pair, level) for pair in pairs]


def _by_axis(table: pd.DataFrame) -> Iterator[tuple[str, str, pd.DataFrame]]:
    """Scene, axis and the clips to which it applies."""
    for scene, part in table.groupby("scene", sort=False):
        for axis in axes_of(table):
            seen = part[part[UNSAFE + axis].notna()]
            if len(seen):
                yield str(scene), axis, seen


def _rate(rows: pd.DataFrame, scene: str, axis: str, column: str, value: str) -> SourceRate:
    clusters = rows["context_id"].to_numpy()
    kinds = (rows[name + axis].to_numpy(float) for name in (UNSAFE, DOUBTFUL))
    unsafe, doubtful = (cluster_rate(values, clusters, missing="drop") for values in kinds)
    return SourceRate(scene, axis, column, value, unsafe, doubtful, _truth(rows, axis, clusters))


def _truth(rows: pd.DataFrame, axis: str, clusters: np.ndarray) -> Rate | None:
    if TRUTH + axis not in rows or rows[TRUTH + axis].isna().all():
        return None
    return cluster_rate(rows[TRUTH + axis].to_numpy(float), clusters, missing="drop")


def _gap(scene: str, axis: str, column: str, left: str, right: str, part: pd.DataFrame, level: float) -> SourceGap:
    unsafe = part[UNSAFE + axis].to_numpy(float)
    gap, p_value, detectable = compare_two(unsafe, part[column] == left, part[column] == right, part["context_id"], level)
    scorer = None
    if TRUTH + axis in part and part[TRUTH + axis].notna().any():
        added = unsafe - part[TRUTH + axis].to_numpy(float)
        scorer = compare_two(added, part[column] == left, part[column] == right, part["context_id"], level)[0]
    return SourceGap(scene, axis, column, str(left), str(right), gap, scorer, p_value, detectable)


def compare_two(
    values: Float64, left: pd.Series, right: pd.Series, clusters: pd.Series, level: float
) -> tuple[Rate, float, float]:
    """Mean of the right less mean of the left, its p-value and what would have been found; NaN with too few contexts.

    Args:
        values: float [n]; NaN is left out.
        left: bool [n].
        right: bool [n].
        clusters: [n] labels; both sides may share some.
        level: Two-sided, for what would have been found.
    """
    codes, names = pd.factorize(clusters)
    seen = np.isfinite(values)
    sides = [np.asarray(side, bool) & seen for side in (left, right)]
    sums = [np.bincount(codes[side], weights=values[side], minlength=len(names)).astype(float) for side in sides]
    counts = [np.bincount(codes[side], minlength=len(names)).astype(float) for side in sides]
    n, num = int(sum(side.sum() for side in sides)), min(int((count > 0).sum()) for count in counts)
    if num < FEWEST:
        return Rate(math.nan, math.nan, math.nan, n, num), math.nan, math.nan
    two = TwoGroups(sums[0], counts[0], sums[1], counts[1], is_rate=False)
    error = math.sqrt(two.variance(two.a.mean, two.b.mean))
    half = float(stats.t.isf(0.025, two.dof)) * error
    gap = Rate(two.gap, two.gap - half, two.gap + half, n, num)
    return gap, two.p_value(), MeanPower(error, two.dof).smallest(level, POWER) if error > 0 else math.nan


def source_findings(gaps: Sequence[SourceGap], shares: Sequence[Share]) -> list[Finding]:
    """Every test as a finding, not yet judged."""
    findings = []
    for gap in gaps:
        name = f"{gap.scene}, {gap.axis}: clips with {gap.column} {gap.right} against {gap.left}"
        findings.append(Finding(PROBE.name, name, gap.gap, "points", gap.p_value, gap.detectable, why_undefined=TOO_LITTLE))
    for row in shares:
        name = f"{row.scene}: clips with {row.column} {row.value} beyond an even share of {100 * row.even:.0f} %"
        findings.append(Finding(PROBE.name, name, row.excess, "points", row.p_value, row.detectable, why_undefined=TOO_LITTLE))
    return findings
