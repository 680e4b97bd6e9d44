"""Multipliers and budgets."""

from __future__ import annotations

import json
import math

import pytest

from align.errors import ConfigError
from align.tuning.constraints import Multipliers, make_budgets


def make(**wishes: float) -> Multipliers:
    multipliers = Multipliers(**wishes)
    multipliers.begin({"spill": 0.1, "breakage": 0.05})
    return multipliers


def test_ascent_by_hand() -> None:
    multipliers = make(start=1.0, rate=0.5)
    multipliers.ascend({"spill": 0.4, "breakage": 0.01})
    assert multipliers.values == {"spill": pytest.approx(1.15), "breakage": pytest.approx(0.98)}


def test_multipliers_stay_between_0_and_their_cap() -> None:
    multipliers = make(start=0.1, rate=10.0, largest=3.0)
    multipliers.ascend({"spill": 1.0, "breakage": 0.0})
    assert multipliers.values == {"spill": 3.0, "breakage": 0.0}


@pytest.mark.parametrize("unseen", [{}, {"spill": None, "breakage": math.nan}])
def test_an_axis_that_was_not_seen_keeps_its_multiplier(unseen: dict[str, float | None]) -> None:
    multipliers = make(start=0.7)
    multipliers.ascend(unseen)
    assert multipliers.values == {"spill": 0.7, "breakage": 0.7}


def test_state_goes_through_json_exactly() -> None:
    multipliers, other = make(start=1 / 3, rate=0.1), Multipliers()
    multipliers.ascend({"spill": 0.123456789, "breakage": 1e-7})
    other.load_state(json.loads(json.dumps(multipliers.state())))
    assert other.values == multipliers.values and other.budgets == multipliers.budgets


def test_dual_ascent_keeps_a_budget_on_a_toy() -> None:
    """Haste succeeds always and spills half the time, care succeeds at 0.8 and never spills: the optimum spends the budget."""
    multipliers, logit, path = Multipliers(start=0.0, rate=0.2), 2.0, []
    multipliers.begin({"spill": 0.1})
    for _ in range(4000):
        haste = 1 / (1 + math.exp(-logit))
        gain = (1.0 - 0.8) - multipliers.values["spill"] * 0.5
        logit += 0.5 * haste * (1 - haste) * gain
        multipliers.ascend({"spill": 0.5 * haste})
        path.append(haste)
    assert sum(path[-2000:]) / 2000 == pytest.approx(0.2, abs=0.02), "half of 0.2 is the budget of 0.1"
    assert multipliers.values["spill"] == pytest.approx(0.4, abs=0.2), "the price at which haste and care are worth the same"


def test_budgets_are_a_share_of_the_base_unless_given() -> None:
    base, axes = {"spill": 0.4, "breakage": 0.3}, ("spill", "breakage")
    assert make_budgets(base, 0.2, {}, axes) == {"spill": pytest.approx(0.08), "breakage": pytest.approx(0.06)}
    assert make_budgets(base, 0.2, {"spill": 0.01}, axes)["spill"] == 0.01


def test_wrong_budgets_and_multipliers_are_refused() -> None:
    with pytest.raises(ConfigError, match="budgets names success, which is no constrained axis"):
        make_budgets({"spill": 0.4}, 0.2, {"success": 0.1}, ("spill",))
    with pytest.raises(ConfigError, match="must be a probability, got 4"):
        make_budgets({"spill": 0.4}, 0.2, {"spill": 4}, ("spill",))
    with pytest.raises(ConfigError, match="0 <= start <= largest"):
        Multipliers(start=3.0, largest=2.0)
