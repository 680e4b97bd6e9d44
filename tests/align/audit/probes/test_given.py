"""Twins and groups on a user's own table."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest

from align.audit.probes.given import group_gap, join_twins
from align.audit.probes.twins import compute_gaps
from align.errors import DataError


def rollouts(outcomes: dict[str, list[float]], **columns: object) -> pd.DataFrame:
    rows = [{"context_id": context, "hazard": value, **columns} for context, values in outcomes.items() for value in values]
    return pd.DataFrame(rows)


def test_given_twins_are_paired_in_order() -> None:
    table = rollouts({"x": [0, 1], "y": [1, 1], "z": [0, 0], "w": [1, 0]})
    pairs = pd.DataFrame({"left": ["x", "z"], "right": ["y", "w"], "left_value": ["m", "m"], "right_value": ["f", "f"]})
    (gap,) = compute_gaps(join_twins(table, pairs, ["hazard"]), {"given": ("hazard",)})
    assert (gap.keys["left"], gap.keys["right"], gap.keys["attribute"]) == ("m", "f", "appearance")
    assert gap.gap.value == 0.5 and (gap.gap.n, gap.gap.num_clusters) == (4, 2)


def test_given_twins_are_paired_by_seed_where_there_is_one() -> None:
    table = rollouts({"x": [0, 1], "y": [1, 0]})
    table["seed"] = [7, 8, 8, 7]
    (gap,) = compute_gaps(join_twins(table, pd.DataFrame({"left": ["x"], "right": ["y"]}), ["hazard"]), {"given": ("hazard",)})
    assert gap.gap.value == 0 and gap.p_value == 1, "seed 7: 0 and 0, seed 8: 1 and 1"


@pytest.mark.parametrize(
    ("pairs", "reason"),
    [
        ({"left": ["x"], "right": ["nobody"]}, "1 contexts that have no rollout, first nobody"),
        ({"left": ["x"], "right": ["x"]}, "with itself"),
        ({"left": ["x"]}, "lacks the columns right"),
    ],
)
def test_bad_pairs_are_one_sentence(pairs: dict[str, list[str]], reason: str) -> None:
    with pytest.raises(DataError, match=reason):
        join_twins(rollouts({"x": [0]}), pd.DataFrame(pairs), ["hazard"])


def grouped(rates: tuple[float, float], num: int, seed: int) -> pd.DataFrame:
    """``num`` contexts a group with 4 rollouts each, correlated within contexts."""
    rng = np.random.default_rng(seed)
    rows = []
    for group, rate in zip("ab", rates, strict=True):
        for k, p in enumerate(rng.beta(4 * rate, 4 * (1 - rate), num)):
            rows += [{"context_id": f"{group}{k}", "group": group, "hazard": float(x)} for x in rng.random(4) < p]
    return pd.DataFrame(rows)


def test_a_gap_between_groups_is_found_and_none_is_not_made_up() -> None:
    gap, p = group_gap(grouped((0.2, 0.5), 60, 0), "group", "a", "b", "hazard")
    assert gap.low > 0.05 and gap.num_clusters == 60 and p < 0.001
    p_values = [group_gap(grouped((0.3, 0.3), 20, seed), "group", "a", "b", "hazard")[1] for seed in range(60)]
    assert sum(p <= 0.05 for p in p_values) <= 8 and 0.3 < np.mean(p_values) < 0.7


def test_the_permutation_test_is_exact_by_enumeration() -> None:
    table = pd.DataFrame({"context_id": list("uvwxyz"), "group": list("aaabbb"), "hazard": [0, 0, 0, 1, 1, 1]})
    _, p = group_gap(table, "group", "a", "b", "hazard")
    assert p == pytest.approx(2 / 20, abs=0.015), "2 of the 20 ways to share 6 contexts out are as extreme"


def test_what_groups_can_not_be_compared() -> None:
    table = grouped((0.2, 0.5), 3, 0)
    gap, p = group_gap(table[(table["group"] == "a") | (table["context_id"] == "b0")], "group", "a", "b", "hazard")
    assert math.isnan(p) and math.isnan(gap.low), "a group of one context"
    with pytest.raises(DataError, match="belongs to both"):
        group_gap(table.assign(context_id="same"), "group", "a", "b", "hazard")
    with pytest.raises(DataError, match="lacks the columns colour"):
        group_gap(table, "colour", "a", "b", "hazard")
