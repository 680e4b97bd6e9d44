"""Flags and break-points that come from a file."""

from __future__ import annotations

from typing import Any

import pytest

from align.errors import DataError
from align.preferences.campaign.marks import add_breakpoints, add_flags, load_breakpoints, load_flags
from align.preferences.campaign.overview import standing_flags
from align.preferences.statistics.agreement import any_break_agreement
from align.preferences.statistics.report import describe_breaks
from align.preferences.votes.schema import Breakpoint, Flag, effective_breakpoints


def flag(flag_id: str, **fields: Any) -> Flag:
    return Flag.model_validate({"flag_id": flag_id, "rollout_id": "r1", "kind": "harm", "annotator_id": "ann", **fields})


def mark(breakpoint_id: str, **fields: Any) -> Breakpoint:
    if not fields.keys() & {"none", "taken_back"}:
        fields = {"time_s": 0.5, "severity": 2, **fields}
    return Breakpoint.model_validate({"breakpoint_id": breakpoint_id, "rollout_id": "r1", "annotator_id": "ann", **fields})


def test_marks_come_back_as_they_were_and_are_added_once(store) -> None:
    moment = "2026-01-01T10:00:00.000001Z"
    flags = [flag("f1", comment="=1+1", created_at=moment), flag("f2", raised=False), flag("f3", annotator_id="bob")]
    marks = [mark("b1", frame_idx=3, category="ü", created_at=moment), mark("b2", none=True, annotator_id="bob")]
    for _ in range(2):
        added = add_flags(store.engine, flags), add_breakpoints(store.engine, marks)
    assert added == (0, 0)
    assert (load_flags(store.engine), load_breakpoints(store.engine)) == (flags, marks)
    assert store.annotators() == {"ann": False, "bob": False}
    assert [row.flag_id for row in standing_flags(store.engine)] == ["f3"]
    assert add_breakpoints(store.engine, [*marks, mark("b3")]) == 1


def test_imported_flags_warn_like_those_of_the_page(store, campaign, make_tasks) -> None:
    campaign.add_tasks(make_tasks(1))
    add_flags(store.engine, [flag("f1", rollout_id="t0-r0", annotator_id="robot")])
    assert [lease.warn for lease in campaign.lease("ann", 1)] == [True]


@pytest.mark.parametrize(
    ("rows", "reason"),
    [
        ([flag("f1", annotator_id="")], "row 1: annotator_id is empty"),
        ([flag("f1"), flag("f1")], "row 2: flag_id 'f1' repeats that of row 1"),
        ([flag("f2"), flag("f0", comment="other")], "row 2: flag_id 'f0' is already stored with another content"),
        ([mark("b1", annotator_id="")], "row 1: annotator_id is empty"),
        ([mark("b0", time_s=0.6)], "breakpoint_id 'b0' is already stored"),
        ([mark("b1", supersedes="gone")], "'b1' supersedes 'gone', which is not stored"),
        ([mark("b1", supersedes="b0", annotator_id="bob")], "it supersedes 'b0', which has another annotator_id"),
        ([mark("b1"), mark("b2", supersedes="b1", rollout_id="r2")], "row 2: it supersedes 'b1', which has another rollout_id"),
        ([mark("b1", supersedes="b2"), mark("b2", supersedes="b1")], "go in a circle"),
    ],
)
def test_what_does_not_fit_is_refused_whole(store, rows: list[Any], reason: str) -> None:
    add_flags(store.engine, [flag("f0")])
    add_breakpoints(store.engine, [mark("b0")])
    add: Any = add_flags if isinstance(rows[0], Flag) else add_breakpoints
    with pytest.raises(DataError, match=reason):
        add(store.engine, rows)
    assert (load_flags(store.engine), load_breakpoints(store.engine)) == ([flag("f0")], [mark("b0")])


def test_what_was_taken_back_counts_nowhere(store) -> None:
    rows = [mark("b1"), mark("b2", time_s=0.9), mark("b3", supersedes="b1"), mark("b4", taken_back=True, supersedes="b2")]
    add_breakpoints(store.engine, rows)
    assert load_breakpoints(store.engine) == effective_breakpoints(rows) == [rows[2]]
    silent = [mark("c1", annotator_id="bob"), mark("c2", annotator_id="bob", taken_back=True, supersedes="c1")]
    described = describe_breaks(rows + silent)
    assert (described["num_rows"], described["num_none"]) == (1, 0)
    assert any_break_agreement(rows + silent).num_units == 0  # bob says nothing any more, which isn't "no breaks"


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"taken_back": True}, "taken_back=true says only that the row named in supersedes"),
        ({"taken_back": True, "none": True, "supersedes": "b0"}, "leave none false"),
        ({"taken_back": True, "supersedes": "b0", "time_s": 0.5}, "taken_back=true marks nothing; leave its time"),
    ],
)
def test_taking_back_says_nothing_else(fields: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        mark("b1", **fields)
