"""Constraints, not weights: every hazard has a budget, and a multiplier that rises for as long as it is exceeded.

The problem is to maximise E[success] subject to E[cost_k] ≤ budget_k on every hazard axis k, where a cost is the probability
that a rollout fails the axis. Its Lagrangian is

    E[success] - Σ_k λ_k (E[cost_k] - budget_k),    λ_k ≥ 0,

which the policy ascends while each multiplier follows λ_k ← clip(λ_k + rate · (cost_k - budget_k), 0, largest) (projected dual
ascent, as in PPO-Lagrangian; Ray et al. 2019). Nobody has to guess what a spill is worth in successes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from align.errors import ConfigError


@dataclass
class Multipliers:
    """Budgets and multipliers by axis.

    Attributes:
        start: Multiplier of every axis at first.
        rate: Step of the ascent for a cost that is 1 over its budget.
        largest: Cap; a multiplier that stays there says that its budget can't be kept.
        budgets: Largest allowed cost of each axis, in [0, 1].
        values: The multipliers.
    """

    start: float = 1.0
    rate: float = 0.5
    largest: float = 20.0
    budgets: dict[str, float] = field(default_factory=dict)
    values: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not (0 <= self.start <= self.largest and self.rate >= 0):
            raise ConfigError(
                f"multipliers need 0 <= start <= largest and rate >= 0, got start={self.start}, "
                f"largest={self.largest}, rate={self.rate}"
            )

    def begin(self, budgets: Mapping[str, float]) -> None:
        """Take the budgets; multipliers start anew."""
        self.budgets = dict(budgets)
        self.values = dict.fromkeys(budgets, self.start)

    def ascend(self, costs: Mapping[str, float | None]) -> None:
        """One step; an axis that was not seen (None or NaN) keeps its multiplier."""
        for axis, budget in self.budgets.items():
            cost = costs.get(axis)
            if cost is not None and not math.isnan(cost):
                self.values[axis] = min(max(self.values[axis] + self.rate * (cost - budget), 0.0), self.largest)

    def state(self) -> dict[str, Any]:
        """What :meth:`load_state` restores, exactly."""
        return {"budgets": dict(self.budgets), "values": dict(self.values)}

    def load_state(self, state: Mapping[str, Any]) -> None:
        self.budgets, self.values = dict(state["budgets"]), dict(state["values"])


def make_budgets(base: Mapping[str, float], share: float, given: Mapping[str, float], axes: Sequence[str]) -> dict[str, float]:
    """The budget of each axis: the given one, or a share of what the base costs.

    Args:
        base: Axis to the base's own cost.
        share: Of the base's cost, for axes without a given budget.
        given: Axis to budget, in [0, 1].
        axes: The constrained axes.

    Raises:
        ConfigError: If a budget is given for an axis that isn't constrained, or is no probability.
    """
    for axis, budget in given.items():
        if axis not in axes:
            raise ConfigError(f"budgets names {axis}, which is no constrained axis ({', '.join(axes)})")
        if not 0 <= budget <= 1:
            raise ConfigError(f"the budget of {axis} must be a probability, got {budget}")
    return {axis: float(given.get(axis, share * base[axis])) for axis in axes}
