from __future__ import annotations

import json
import math

import numpy as np
import pytest

from align.io import to_jsonable
from align.preferences.statistics.ranking import Comparison, fit_davidson
from align.preferences.statistics.report import describe_ranking, votes_report
from align.preferences.votes.schema import Breakpoint, Flag, Judgement


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
        make_vote("v9", "tie", selection="catch", pair_id="p2", rollout_b="r1"),
    ]
    report = votes_report(votes)
    assert {key: value for key, value in report.items() if key.startswith("num")} == {
        "num_rows": 9,
        "num_counting": 7,
        "num_skips": 1,
        "num_corrections": 1,
        "num_simulated": 2,
        "num_unsigned": 1,
        "num_pairs": 2,
        "num_contexts": 1,
        "num_judgements": 0,
    }
    spill = report["axes"]["spill"]
    counts = [spill[f"num_{key}"] for key in ("votes", "human", "simulated", "trials", "a", "b", "tie", "both_bad")]
    assert counts == [7, 5, 2, 1, 2, 3, 1, 1]
    assert (spill["tie_share"], spill["num_sided"], spill["left_share"]) == (2 / 7, 4, 3 / 4)
    assert spill["left_low"] < 3 / 4 < spill["left_high"]
    assert report["trials"]["num_catch"] == 1
    assert "alpha_both_bad_apart" in spill
    assert math.isnan(report["axes"]["success"]["tie_share"])
    assert [row["annotator_id"] for row in report["annotators"]] == ["x", "y"]
    json.dumps(to_jsonable(report), allow_nan=False)


def test_no_votes_at_all() -> None:
    report = votes_report([])
    assert (report["axes"], report["annotators"], report["num_rows"]) == ({}, [], 0)
    assert not {"breaks", "flags"} & set(report)


@pytest.fixture
def many_votes(make_vote):
    """Two contexts of three rollouts each, made by three models of which m0 is the best; every pair by four people."""
    rng = np.random.default_rng(0)
    votes = []
    for number in range(60):
        context, (i, j) = f"c{number % 2}", sorted(rng.choice(3, 2, replace=False))
        for who in "wxyz":
            choice = "tie" if rng.random() < 0.2 else "a" if rng.random() < 0.75 else "b"
            ids = {
                "pair_id": f"{context}{i}{j}",
                "context_id": context,
                "rollout_a": f"{context}r{i}",
                "rollout_b": f"{context}r{j}",
            }
            votes.append(make_vote(f"v{len(votes)}", choice, annotator_id=who, shown_left=str(rng.choice(["a", "b"])), **ids))
    return votes


def test_models_are_ranked_where_they_are_known(many_votes) -> None:
    makers = {f"c{c}r{k}": f"m{k}" for c in range(2) for k in range(3)}
    report = votes_report(many_votes, makers=makers)
    ranking = report["axes"]["spill"]["ranking"]
    assert report["ranked"] == "models"
    assert [item["name"] for item in ranking["items"]] == ["m0", "m1", "m2"]
    best = ranking["items"][0]
    assert best["low"] < best["worth"] < best["high"]
    assert best["high"] - best["worth"] == pytest.approx(1.96 * best["se"])
    nu = math.exp(ranking["log_tie"])
    assert ranking["tie_share_of_equals"] == pytest.approx(nu / (2 + nu))
    assert (ranking["num_votes"], ranking["num_left_out"], ranking["reason"]) == (240, 0, "")
    assert abs(ranking["left_bias"]) < 4 * ranking["se_left_bias"]
    del makers["c0r0"]
    assert votes_report(many_votes, makers=makers)["axes"]["spill"]["ranking"]["num_left_out"] > 0


def test_contexts_that_share_no_rollout_are_ranked_apart(many_votes) -> None:
    ranking = votes_report(many_votes)["axes"]["spill"]["ranking"]
    assert not ranking["connected"]
    assert "2 parts that nobody compared with each other" in ranking["reason"]
    assert all(math.isnan(item["worth"]) for item in ranking["items"])
    assert [part["items"][0]["name"] for part in ranking["parts"]] == ["c0r0", "c1r0"]
    assert all(part["reason"] == "" for part in ranking["parts"])
    assert [part["num_left_out"] for part in ranking["parts"]] == [0, 0]
    assert all(math.isfinite(part["left_bias"]) for part in ranking["parts"])


def test_without_a_ranking_items_stand_by_wins() -> None:
    rows = [Comparison("x", "y", "a")] * 2 + [Comparison("y", "z", "a")]
    described = describe_ranking(fit_davidson(rows))
    assert [item["name"] for item in described["items"]] == ["x", "y", "z"]
    assert described["reason"].startswith("x always won")
    assert math.isnan(described["tie_share_of_equals"])
    no_ties = describe_ranking(fit_davidson([*rows, Comparison("z", "x", "a")]))
    assert (no_ties["tie_share_of_equals"], math.isnan(no_ties["log_tie"])) == (0, True)


def test_agreement_of_random_pairs_stands_beside_that_of_picked_ones(many_votes) -> None:
    picked = [vote.model_copy(update={"selection": "active" if vote.context_id == "c0" else "random"}) for vote in many_votes]
    spill = votes_report(picked)["axes"]["spill"]
    assert spill["alpha_random"]["num_units"] < spill["alpha"]["num_units"]
    assert "alpha_random" not in votes_report(many_votes)["axes"]["spill"]


def test_annotators_name_their_partner(many_votes) -> None:
    rows = votes_report(many_votes)["annotators"]
    assert {row["annotator_id"] for row in rows} == set("wxyz")
    for row in rows:
        assert row["overlap"]["partner_id"] in set("wxyz") - {row["annotator_id"]}
        assert "partner" not in row["overlap"]
        assert row["flagged"] is False


def test_verdicts_get_alpha_and_dawid_skene() -> None:
    rng = np.random.default_rng(1)
    verdicts = []
    for clip in range(30):
        truth = "fail" if clip < 10 else "pass"
        for who, skill in (("x", 0.95), ("y", 0.95), ("z", 0.7)):
            verdict = truth if rng.random() < skill else "unsure"
            fields = {"rollout_id": f"r{clip}", "axis": "spill", "verdict": verdict, "annotator_id": who}
            verdicts.append(Judgement(judgement_id=f"{who}{clip}", **fields))
    wrong = verdicts[0].model_copy(update={"judgement_id": "late", "verdict": "pass", "supersedes": None})
    verdicts.append(verdicts[0].model_copy(update={"judgement_id": "fixed", "verdict": "unsure", "supersedes": "late"}))
    described = votes_report([], [*verdicts, wrong])["axes"]["spill"]["verdicts"]
    assert (described["num_verdicts"], described["num_rollouts"]) == (90, 30)
    assert described["alpha"]["num_ratings"] == 90
    model = described["dawid_skene"]
    assert model["priors"]["fail"] == pytest.approx(1 / 3, abs=0.02)
    assert model["classes"] == ["fail", "pass", "unsure"]
    assert np.array(model["confusion"]["z"])[0, 2] == pytest.approx(0.3, abs=0.25)
    single = votes_report([], verdicts[:1])["axes"]["spill"]["verdicts"]["dawid_skene"]
    assert "no item has two labels" in single["reason"]


def test_marks_are_summarised() -> None:
    breaks = [
        Breakpoint(breakpoint_id="b1", rollout_id="r1", annotator_id="x", time_s=1.0, severity=2, category="flicker"),
        Breakpoint(breakpoint_id="b2", rollout_id="r1", annotator_id="y", time_s=1.3, severity=3, category="flicker"),
        Breakpoint(breakpoint_id="b3", rollout_id="r2", annotator_id="x", none=True),
        Breakpoint(breakpoint_id="b4", rollout_id="r2", annotator_id="y", none=True),
    ]
    flags = [
        Flag(flag_id="f1", rollout_id="r1", kind="harm", annotator_id="x"),
        Flag(flag_id="f2", rollout_id="r1", kind="harm", annotator_id="y"),
        Flag(flag_id="f3", rollout_id="r2", kind="broken", annotator_id="x"),
        Flag(flag_id="f4", rollout_id="r2", kind="broken", annotator_id="x", raised=False),
    ]
    report = votes_report([], breakpoints=breaks, flags=flags)
    assert (report["breaks"]["num_none"], report["breaks"]["categories"]) == (2, {"flicker": 2})
    assert report["breaks"]["severities"] == {"1": 0, "2": 1, "3": 1}
    assert [row["agreement"] for row in report["breaks"]["agreement"]] == [0.5, 0.5, 0.5, 1.0, 1.0, 1.0]
    assert report["flags"] == {"harm": {"r1": 2}}
