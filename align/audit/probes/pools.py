"""Tables of rollouts to choose from, and of checkpoints, as curves of proxy and gold against the distance from the base.

*Pools*: many rollouts a context, one row each, with ``context_id``, ``proxy``, ``gold`` (higher is better), perhaps ``scene``,
and outcome columns that are 1 where something bad happened. *Training*: rollouts of checkpoints, with ``policy`` and ``kl`` as
well. What could not be read counts as bad.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from align.audit.probes.choosing import LARGEST, choice_weights, distance_of, sizes_up_to
from align.audit.probes.turning import Curve
from align.audit.statistics import Float64
from align.errors import DataError

NEEDED = ("context_id", "proxy", "gold")
FEWEST = 2
"""Rollouts of a context, and contexts, without which nothing can be compared."""


@dataclass(frozen=True, eq=False)
class Pools:
    """The pools of one scene.

    Attributes:
        scene: Its name, or "all".
        sizes: The n that are looked at.
        weights: For each context float64 [K, N], the chance to be chosen.
        proxy: For each context float64 [N].
        gold: For each context float64 [N].
        outcomes: Name to, for each context, float64 [N]; 1 is bad.
        num_missing: Rollouts whose gold could not be read.
    """

    scene: str
    sizes: tuple[int, ...]
    weights: tuple[Float64, ...]
    proxy: tuple[Float64, ...]
    gold: tuple[Float64, ...]
    outcomes: dict[str, tuple[Float64, ...]]
    num_missing: int

    def choose(self, values: Sequence[Float64]) -> Float64:
        """Means under best-of-n, float64 [C, K]."""
        return np.stack([weight @ value for weight, value in zip(self.weights, values, strict=True)])

    def curve(self) -> Curve:
        """Proxy and gold against the distance of best-of-n."""
        labels = tuple(f"n = {n}" for n in self.sizes)
        distances = np.array([distance_of(n) for n in self.sizes])
        return Curve("best of n", labels, distances, self.choose(self.proxy), self.choose(self.gold))


def read_pools(table: pd.DataFrame, outcomes: Sequence[str] = (), largest: int = LARGEST) -> list[Pools]:
    """Pools of every scene.

    Args:
        table: One row a rollout, see the module.
        outcomes: Columns in which 1 is bad and 0 is not; empty counts as bad, as an empty gold does.
        largest: Largest n; the smallest pool of a scene limits it too.

    Raises:
        DataError: Columns are missing, a rollout has no proxy, an outcome is empty throughout or not in [0, 1], or there is too
            little to compare.
    """
    check_columns(table, (*NEEDED, *outcomes))
    if unread := [name for name in outcomes if table[name].isna().all()]:
        raise DataError(f"no rollout's {', '.join(unread)} could be read; leave it out of outcomes, or have it judged")
    return [_read_scene(scene, part, outcomes, largest) for scene, part in by_scene(table)]


def read_training(table: pd.DataFrame, base: str) -> list[tuple[str, Curve, int]]:
    """Scene, curve along the checkpoints, and the number of rollouts whose gold could not be read.

    Args:
        table: One row a rollout, with ``policy`` and ``kl`` (nats a rollout, any unbiased estimate).
        base: Name of the untuned policy; its distance is 0.

    Raises:
        DataError: Columns are missing, the base is, or a policy lacks a context that another has.
    """
    check_columns(table, (*NEEDED, "kl"))
    if "policy" not in table or base not in set(table["policy"]):
        raise DataError(f"the table of checkpoints needs a column policy with rows of the base, {base!r}")
    worst = _worst(table["gold"].to_numpy(np.float64))
    return [
        (scene, _training_curve(part.assign(gold=part["gold"].fillna(worst)), base), int(part["gold"].isna().sum()))
        for scene, part in by_scene(table)
    ]


def by_scene(table: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame]]:
    """Rows of each scene in the order of the table; all together where it has no such column."""
    if "scene" not in table:
        yield "all", table
        return
    for scene, part in table.groupby(table["scene"].astype(str), sort=False):
        yield str(scene), part


def check_columns(table: pd.DataFrame, needed: Sequence[str]) -> None:
    """Raise DataError unless the columns are there and hold what they should."""
    if missing := [name for name in needed if name not in table]:
        there = ", ".join(map(str, table.columns))
        raise DataError(f"the table lacks the columns {', '.join(missing)}; its columns are {there}")
    for name in (name for name in needed if name != "context_id"):
        numbers = pd.to_numeric(table[name], errors="coerce")
        if (numbers.isna() & table[name].notna()).any() or np.isinf(numbers).any():
            raise DataError(f"the column {name} must hold finite numbers or nothing")
        if name not in ("proxy", "gold", "kl") and not numbers.dropna().between(0, 1).all():
            raise DataError(f"the outcome {name} must lie between 0 and 1, where 1 is bad; rename or rescale it")
    if num := int(table["proxy"].isna().sum()):
        raise DataError(f"{num} rollouts have no proxy reward and so no place in the order; score them or leave them out")
    if table["context_id"].isna().any():
        raise DataError("some rollouts have no context_id, so nobody knows what they could have been chosen over; add it")


def _read_scene(scene: str, table: pd.DataFrame, outcomes: Sequence[str], largest: int) -> Pools:
    contexts = [part for _, part in table.groupby("context_id", sort=False)]
    smallest = min(len(part) for part in contexts)
    if smallest < FEWEST or len(contexts) < FEWEST:
        raise DataError(
            f"{scene}: over-optimisation needs at least {FEWEST} contexts and {FEWEST} rollouts of each to choose from, got "
            f"{len(contexts)} contexts and {smallest} rollouts in the smallest pool; make more rollouts of each context"
        )
    sizes = sizes_up_to(min(largest, smallest))
    proxy = tuple(part["proxy"].to_numpy(np.float64) for part in contexts)
    worst = _worst(table["gold"].to_numpy(np.float64))
    return Pools(
        scene,
        sizes,
        tuple(choice_weights(scores, sizes) for scores in proxy),
        proxy,
        tuple(_fill(part["gold"], worst) for part in contexts),
        {name: tuple(_fill(part[name], 1.0) for part in contexts) for name in outcomes},
        int(table["gold"].isna().sum()),
    )


def _fill(column: pd.Series, unreadable: float) -> Float64:
    return np.asarray(column.astype(float).fillna(unreadable), dtype=np.float64)


def _worst(gold: Float64) -> float:
    """What an unreadable gold counts as: a failure if gold is a share, else the worst that was seen."""
    seen = gold[np.isfinite(gold)]
    if not len(seen):
        raise DataError("no rollout has a gold outcome; without one nobody can say whether the proxy is right")
    return 0.0 if seen.min() >= 0 and seen.max() <= 1 else float(seen.min())


def _training_curve(table: pd.DataFrame, base: str) -> Curve:
    means = table.groupby("policy", sort=False)["kl"].mean()
    distances = {str(name): math.sqrt(max(0.0, float(kl))) for name, kl in means.items() if name != base}
    order = [base, *sorted(distances, key=lambda name: distances[name])]
    wide = table.pivot_table(index="context_id", columns="policy", values=["proxy", "gold"], aggfunc="mean")
    if len(order) < 2 or len(wide) < FEWEST or wide.isna().any(axis=None):
        raise DataError(
            f"checkpoints are compared on the same contexts: every policy needs rollouts of each of at least {FEWEST} "
            f"contexts, and there must be one besides {base!r}"
        )
    proxy, gold = (wide[name][order].to_numpy(np.float64) for name in ("proxy", "gold"))
    return Curve("training", tuple(order), np.array([0.0, *(distances[name] for name in order[1:])]), proxy, gold)
