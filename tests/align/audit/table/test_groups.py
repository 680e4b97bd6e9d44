"""Who is compared with whom, decided before any outcome is looked at."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import pandas as pd
import pytest

from align.audit.policy import Policy
from align.audit.table.groups import AuditTable, compare_groups, understand
from align.audit.table.results import group_masks
from align.audit.table.twins import pair_keys
from align.errors import DataError


def frame(**columns: Any) -> pd.DataFrame:
    rows = list(product(range(6), ["a", "b"], ["dim", "lit"]))
    table = pd.DataFrame(rows, columns=["context_id", "group", "light"])
    return table.assign(bumped=np.arange(len(table)) % 2, **columns)


def look(table: pd.DataFrame, policy: dict[str, Any] | None = None, **wishes: Any) -> AuditTable:
    return understand(table, Policy.model_validate(policy or {}), **{"attributes": ["group"], "outcomes": ["bumped"], **wishes})


def names(table: AuditTable, policy: dict[str, Any] | None = None) -> list[str]:
    found = compare_groups(table, Policy.model_validate(policy or {}))
    return [f"{comparison.label_a} : {comparison.label_b}" for comparison in found]


def test_every_pair_of_groups_is_compared() -> None:
    assert names(look(frame(kind=list("xyz") * 8), attributes=["kind"])) == ["x : y", "x : z", "y : z"]


def test_a_reference_is_compared_with_each_of_the_others() -> None:
    policy = {"attributes": {"kind": {"reference": "y"}}}
    assert names(look(frame(kind=list("xyz") * 8), policy, attributes=["kind"]), policy) == ["y : x", "y : z"]


def test_crossed_groups_are_held_against_everybody_else() -> None:
    table = look(frame(), attributes=["group", "light"])
    assert [factor.name for factor in table.factors] == ["group", "light", "group & light"]
    assert names(table)[2:] == [f"everybody else : {cell}" for cell in ("a & dim", "a & lit", "b & dim", "b & lit")]
    crossed = list(compare_groups(table, Policy()))[2]
    in_rest, in_cell = group_masks(crossed)
    assert (in_rest == ~in_cell).all()
    assert in_cell.sum() == 6
    assert len(look(frame(), {"intersections": 1}, attributes=["group", "light"]).factors) == 2
    three = look(frame(kind=list("xy") * 12), {"intersections": 3}, attributes=["group", "light", "kind"])
    assert [factor.name for factor in three.factors][-1] == "group & light & kind"


def test_an_attribute_with_one_group_or_a_reference_is_not_crossed() -> None:
    table = look(frame(room="blue"), attributes=["group", "room"])
    assert [factor.name for factor in table.factors] == ["group", "room"]
    policy = {"attributes": {"group": {"reference": "a"}}}
    assert len(look(frame(), policy, attributes=["group", "light"]).factors) == 2


def test_columns_come_from_the_call_then_the_policy_then_custom() -> None:
    policy = {"cluster": "place", "attributes": {"light": None}, "outcomes": {"bumped": None}}
    table = frame(place=np.arange(24) % 8, outcome_spill=0.0, success=1.0)
    found = understand(table, Policy.model_validate(policy))
    assert (found.num_clusters, found.factors[0].name, list(found.outcomes)) == (8, "light", ["bumped"])
    assert list(understand(table, Policy(), attributes=["group"]).outcomes) == ["outcome_spill", "success"]
    assert understand(table, Policy.model_validate(policy), cluster="context_id", outcomes=["success"]).num_clusters == 6


def test_twins_pair_groups_and_join_their_contexts() -> None:
    # The twin of each rollout of group a lies in the context after the next.
    table = frame()
    pairs = [f"{(row.context_id + (2 if row.group == 'b' else 0)) % 6}-{row.light}" for row in table.itertuples()]
    found = look(table.assign(pair=pairs), pair="pair")
    assert found.num_clusters == 2
    (comparison,) = compare_groups(found, Policy())
    assert pair_keys(found, comparison) is not None
    few = look(table.assign(pair=[name if i < 8 else "" for i, name in enumerate(pairs)]), pair="pair")
    assert pair_keys(few, comparison) is None


def test_contexts_pair_groups_only_where_the_design_is_balanced() -> None:
    table = frame()
    (comparison,) = compare_groups(found := look(table), Policy())
    assert pair_keys(found, comparison) is not None
    (comparison,) = compare_groups(found := look(table.drop(index=0)), Policy())
    assert pair_keys(found, comparison) is None
    apart = look(table.assign(group=np.where(table["context_id"] < 3, "a", "b")))
    (comparison,) = compare_groups(apart, Policy())
    assert pair_keys(apart, comparison) is None


@pytest.mark.parametrize(
    ("wishes", "sentence"),
    [
        ({"cluster": "place"}, "the table has no cluster column 'place'; its columns are context_id, group, light, bumped"),
        ({"attributes": ["x"], "outcomes": ["y"]}, "no attribute 'x', outcome 'y'"),
        ({"outcomes": []}, "name at least one outcome with --outcome"),
        ({"attributes": ["group"], "outcomes": ["group"]}, "group can't be an attribute and an outcome at once"),
        ({"attributes": ["many"]}, r"the attribute many has 24 groups \(0, 1, 10, 11, 12, …\), more than the 12"),
    ],
)
def test_what_can_not_be_audited_is_said(wishes: dict[str, Any], sentence: str) -> None:
    table = frame(many=np.arange(24)) if "many" in wishes.get("attributes", []) else frame()
    with pytest.raises(DataError, match=sentence):
        look(table, **wishes)


def test_a_reference_that_is_not_there_is_said() -> None:
    with pytest.raises(DataError, match="the attribute group has no group 'base', the policy's reference; it has a, b"):
        look(frame(), {"attributes": {"group": {"reference": "base"}}})
