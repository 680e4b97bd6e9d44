"""Who is filmed how often: shares of groups among clips, held against even ones."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
from scipy import stats

from align.audit.probes.base import LEVEL, POWER
from align.audit.statistics import MeanPower, Rate, cluster_rate, mean_interval


@dataclass(frozen=True)
class Share:
    """How often a group is filmed.

    Attributes:
        scene: Scene.
        column: What the group is a value of.
        value: Which value.
        share: Of the scene's clips.
        even: What it would be if all values were filmed alike.
        p_value: Of an even share, by clusters.
        detectable: Smallest difference from it that would have been found.
    """

    scene: str
    column: str
    value: str
    share: Rate
    even: float
    p_value: float
    detectable: float

    @property
    def excess(self) -> Rate:
        """The share less an even one."""
        rate, even = self.share, self.even
        return Rate(rate.value - even, rate.low - even, rate.high - even, rate.n, rate.num_clusters)

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON."""
        about = {"scene": self.scene, "column": self.column, "value": self.value, "even": self.even}
        numbers = {name: getattr(self, name) for name in ("p_value", "detectable")}
        plain = {name: value if math.isfinite(value) else None for name, value in numbers.items()}
        return {**about, "share": self.share.as_dict(), **plain}


def compute_shares(table: pd.DataFrame, columns: Sequence[str], *, num_tests: int = 0) -> list[Share]:
    """How often each value of each column is filmed, by scene; of two values the first stands for both.

    Args:
        table: One row a clip, with ``context_id`` and ``scene``.
        columns: What to count by.
        num_tests: Tests that are judged together, for what would have been found; 0 counts those made here.
    """
    wanted = []
    for scene, part in table.groupby("scene", sort=False):
        for column in columns:
            values = sorted(part[column].unique())
            told = values if len(values) > 2 else values[: len(values) - 1]
            wanted += [(str(scene), part, column, value, len(values)) for value in told]
    level = LEVEL / max(1, num_tests or len(wanted))
    return [_share(*item, level) for item in wanted]


def _share(scene: str, part: pd.DataFrame, column: str, value: str, num_values: int, level: float) -> Share:
    is_value, clusters = (part[column] == value).to_numpy(float), part["context_id"].to_numpy()
    share, even = cluster_rate(is_value, clusters, missing="drop"), 1 / num_values
    mean = mean_interval(is_value, clusters)
    dof = mean.num_clusters - 1
    error = (mean.high - mean.low) / 2 / float(stats.t.isf(0.025, dof)) if dof > 0 else math.nan
    if not error > 0:
        return Share(scene, column, str(value), share, even, math.nan, math.nan)
    p_value = float(2 * stats.t.sf(abs(mean.value - even) / error, dof))
    return Share(scene, column, str(value), share, even, p_value, MeanPower(error, dof).smallest(level, POWER))
