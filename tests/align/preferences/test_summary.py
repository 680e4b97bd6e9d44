from __future__ import annotations

import math

from align.preferences.summary import summarise_votes


def test_counts_and_shares_written_out(make_vote) -> None:
    votes = [
        make_vote("v1", "a", annotator_id="x", shown_left="a"),
        make_vote("v2", "b", annotator_id="x", shown_left="a"),
        make_vote("v3", "a", annotator_id="y", shown_left="a", simulated=True),
        make_vote("v4", "tie", annotator_id="y", shown_left="b", simulated=True),
        make_vote("v5", "both_bad", annotator_id="x"),
        make_vote("v6", "b", annotator_id="x"),  # side unknown: not in the left share
        make_vote("v7", "skip", annotator_id="z", axis="success"),
        make_vote("v8", "b", annotator_id="y", simulated=True, supersedes="v4", shown_left="b"),
    ]
    summary = summarise_votes(votes)
    assert {key: value for key, value in summary.items() if key.startswith("num")} == {
        "num_rows": 8,
        "num_counting": 6,
        "num_skips": 1,
        "num_corrections": 1,
        "num_simulated": 2,
        "num_pairs": 1,
        "num_contexts": 1,
    }
    spill = summary["axes"]["spill"]
    assert [spill[f"num_{key}"] for key in ("votes", "human", "simulated", "a", "b", "tie", "both_bad")] == [
        6,
        4,
        2,
        2,
        3,
        0,
        1,
    ]
    assert spill["tie_share"] == 1 / 6
    assert (spill["num_sided"], spill["left_share"]) == (4, 3 / 4)
    assert summary["annotators"]["x"]["left_share"] == 1 / 2
    assert math.isnan(summary["axes"]["success"]["tie_share"])
    assert math.isnan(summary["annotators"]["z"]["left_share"])


def test_no_votes_at_all() -> None:
    assert summarise_votes([])["axes"] == {}
