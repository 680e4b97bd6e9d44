"""Records of votes: drift found and steadiness left alone, agreement by group, clips that nobody voted on."""

from __future__ import annotations

import math
from types import ModuleType

import numpy as np
import pandas as pd
import pytest

from align.audit.probes.base import judge_findings
from align.audit.probes.records import compare_agreement, drift_findings, find_unvoted, probe_drift, voted_rollouts
from align.errors import DataError
from align.preferences.votes.schema import Vote


def dated(votes: list[Vote], seed: int = 0) -> list[Vote]:
    """The votes in random order, one a second."""
    places = np.random.default_rng(seed).permutation(len(votes))
    times = [f"2026-01-01T{k // 3600:02d}:{k // 60 % 60:02d}:{k % 60:02d}.000000Z" for k in map(int, places)]
    return [vote.model_copy(update={"created_at": time}) for vote, time in zip(votes, times, strict=True)]


def test_a_standard_that_changes_halfway_is_found_and_a_steady_crowd_is_not(crowds: ModuleType) -> None:
    votes = dated(crowds.make_crowd(21, num_annotators=8, num_biased=0)[0])
    assert all(row.p_holm > 0.05 for row in probe_drift(votes))
    who, half = votes[0].annotator_id, votes[len(votes) // 2].created_at or ""
    middle = np.median([int((v.created_at or "")[11:19].replace(":", "")) for v in votes])
    assert middle > 0 and half
    tired = [
        vote.model_copy(update={"vote": "tie"})
        if vote.annotator_id == who and int((vote.created_at or "")[11:19].replace(":", "")) > middle
        else vote
        for vote in votes
    ]
    rows = probe_drift(tired)
    found = {(row.name, row.question) for row in rows if row.p_holm <= 0.05}
    assert found and {name for name, _ in found} == {who}
    judged = judge_findings(drift_findings(rows), 0.1)
    assert any(finding.status == "found" and "later half" in finding.text for finding in judged)


def test_votes_without_a_time_say_nothing_about_drift(crowds: ModuleType) -> None:
    assert probe_drift(crowds.make_crowd(22, num_annotators=6)[0]) == []


def test_agreement_is_told_apart_by_group(crowds: ModuleType) -> None:
    """Votes about group b are replaced by dice."""
    votes, group, _ = crowds.make_crowd(23, num_annotators=6, num_biased=0)
    rng = np.random.default_rng(0)
    noisy = [
        vote.model_copy(update={"vote": str(rng.choice(["a", "b", "tie"]))}) if group[vote.rollout_a] == "b" else vote
        for vote in votes
    ]
    a, b = compare_agreement(noisy, "group", group)
    assert (a.value, b.value) == ("a", "b") and a.alpha.value > 0.6 > 0.1 > b.alpha.value
    assert b.gap.value == pytest.approx(b.alpha.value - a.alpha.value) == pytest.approx(-a.gap.value)
    assert b.gap.high < -0.4 and b.rest == a.alpha
    same = compare_agreement(votes, "group", group)
    assert all(row.gap.low < 0.2 and row.gap.high > -0.2 for row in same)


def test_agreement_about_one_group_only_has_no_gap(crowds: ModuleType) -> None:
    votes, group, _ = crowds.make_crowd(24, num_annotators=3)
    (row,) = compare_agreement(votes, "group", dict.fromkeys(group, "a"))
    assert math.isnan(row.gap.value) and row.as_dict()["rest"]["value"] is None and row.rest.reason


def test_unvoted_clips_are_found_under_any_name() -> None:
    made = pd.DataFrame({"rollout_id": ["r1", "r2", "r3"], "sha256": ["aa", "bb", ""]})
    training = pd.DataFrame(
        {
            "rollout_id": ["real1", "r1", "renamed", "new", "sim", "again"],
            "sha256": ["zz", "aa", "bb", "yy", "xx", "aa"],
            "model_id": ["real", "household", "real", "household", "simulator", ""],
            "adapter_id": ["", "", None, "", "", ""],
        }
    )
    found = find_unvoted(training, made, {"r1"})
    assert found["rollout_id"].tolist() == ["renamed", "new"]
    assert found["known_as"].tolist() == ["r2", ""], "a copy under another name is known by its file"
    assert find_unvoted(training, made, {"r1", "r2", "new"}).empty
    assert find_unvoted(training, pd.DataFrame(), {"r1"})["rollout_id"].tolist() == ["new"], "nobody can know"
    with pytest.raises(DataError, match="rollout_id"):
        find_unvoted(pd.DataFrame({"file": []}), made, ())


def test_only_votes_that_count_make_a_rollout_voted() -> None:
    about = {"pair_id": "p", "context_id": "c", "axis": "spill", "annotator_id": "u"}
    votes = [
        Vote(vote_id="1", rollout_a="x", rollout_b="y", vote="a", **about),
        Vote(vote_id="2", rollout_a="u", rollout_b="v", vote="skip", **about),
    ]
    assert voted_rollouts(votes) == {"x", "y"}
