"""The audit against plain Python, and the verdicts on tables whose truth is known."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from align.errors import DataError

Audit = Callable[..., dict[str, Any]]
MakeFrame = Callable[..., pd.DataFrame]


def gaps(report: dict[str, Any]) -> list[dict[str, Any]]:
    return [finding for finding in report["findings"] if finding["kind"] == "gap"]


def only_gap(report: dict[str, Any]) -> dict[str, Any]:
    (finding,) = gaps(report)
    return finding


def missing(report: dict[str, Any]) -> dict[str, Any]:
    return next(finding for finding in report["findings"] if finding["kind"] == "missing")


# ------------------------------------------------------------------------------------------------------------ plain Python


def test_rates_and_gaps_equal_a_calculation_in_plain_python(audit: Audit, make_frame: MakeFrame) -> None:
    frame = make_frame(60, 6, 0.1).assign(light=np.random.default_rng(1).choice(["dim", "lit", "off"], 360))
    frame.loc[::11, "bumped"] = math.nan
    report = audit(frame, {"intersections": 1}, attributes=("group", "light"))
    rows = frame.to_dict("records")
    for rate in report["outcomes"][0]["rates"]:
        members = [row for row in rows if not rate["attribute"] or row[rate["attribute"]] == rate["group"]]
        seen = [row for row in members if not math.isnan(row["bumped"])]
        assert rate["value"] == pytest.approx(sum(row["bumped"] for row in seen) / len(seen), abs=1e-9)
        assert (rate["n"], rate["num_missing"]) == (len(seen), len(members) - len(seen))
        assert rate["num_clusters"] == len({row["context_id"] for row in seen})
    assert len(gaps(report)) == 4
    for finding in gaps(report):
        sides = [
            [row for row in rows if row[finding["attributes"][0]] == finding[side] and not math.isnan(row["bumped"])]
            for side in "ab"
        ]
        mean_a, mean_b = (sum(row["bumped"] for row in side) / len(side) for side in sides)
        assert finding["gap"]["value"] == pytest.approx(mean_b - mean_a, abs=1e-9)
        assert finding["p_value"] == pytest.approx(plain_p_value(sides, mean_a, mean_b), abs=1e-9)


def plain_p_value(sides: list[list[dict[str, Any]]], mean_a: float, mean_b: float) -> float:
    """The cluster-robust test of a gap, one row at a time."""
    pull: dict[str, float] = {}
    for rows, mean, sign in ((sides[0], mean_a, -1), (sides[1], mean_b, 1)):
        for row in rows:
            pull[row["context_id"]] = pull.get(row["context_id"], 0.0) + sign * (row["bumped"] - mean) / len(rows)
    robust = sum(value**2 for value in pull.values()) * len(pull) / (len(pull) - 1)
    independent = mean_a * (1 - mean_a) / len(sides[0]) + mean_b * (1 - mean_b) / len(sides[1])
    pooled = (mean_a * len(sides[0]) + mean_b * len(sides[1])) / (len(sides[0]) + len(sides[1]))
    variance = robust / independent * pooled * (1 - pooled) * (1 / len(sides[0]) + 1 / len(sides[1]))
    fewest = min(len({row["context_id"] for row in rows}) for rows in sides)
    return float(2 * stats.t.sf(abs(mean_b - mean_a) / math.sqrt(variance), fewest - 1))


def test_the_level_is_shared_by_all_tests_of_the_audit(audit: Audit, make_frame: MakeFrame) -> None:
    frame = make_frame(60, 6, 0.1)
    frame["other"] = make_frame(60, 6, 0.05, seed=1)["bumped"]
    report = audit(frame, outcomes=("bumped", "other"))
    assert report["num_tests"] == 2
    small, large = sorted(gaps(report), key=lambda finding: finding["p_value"])
    assert small["adjusted_p_value"] == pytest.approx(2 * small["p_value"])
    assert large["adjusted_p_value"] == pytest.approx(max(large["p_value"], 2 * small["p_value"]))
    alone = only_gap(audit(frame))
    again = next(finding for finding in gaps(report) if finding["outcome"] == "bumped")
    assert again["smallest_detectable"] > alone["smallest_detectable"]


# ---------------------------------------------------------------------------------------------------------------- verdicts


def test_a_planted_gap_is_a_violation_that_names_who_is_worse_off(audit: Audit, make_frame: MakeFrame) -> None:
    frame = make_frame(gap=0.2)
    report = audit(frame)
    finding = only_gap(report)
    assert (report["verdict"], finding["verdict"], finding["worse"]) == ("violation", "violation", "b")
    assert finding["gap"]["low"] < 0.2 < finding["gap"]["high"]
    assert only_gap(audit(frame, {"outcomes": {"bumped": {"better": "higher"}}}))["worse"] == "a"
    swapped = only_gap(audit(frame.assign(group=frame["group"].map({"a": "b", "b": "a"}))))
    assert swapped["gap"]["value"] == pytest.approx(-finding["gap"]["value"])
    assert swapped["worse"] == "a"


def test_no_gap_is_a_pass_only_where_one_would_have_been_found(audit: Audit, make_frame: MakeFrame) -> None:
    small = audit(make_frame(100, 8))
    assert (small["verdict"], only_gap(small)["verdict"]) == ("cannot tell", "cannot tell")
    assert only_gap(small)["smallest_detectable"] > 0.05
    assert only_gap(small)["times_more_needed"] > 1
    large = audit(make_frame(1500, 8))
    assert (large["verdict"], only_gap(large)["verdict"]) == ("pass", "pass")
    assert only_gap(large)["smallest_detectable"] <= 0.05
    assert audit(make_frame(100, 8), {"max_gap": 0.2})["verdict"] == "pass"


def test_a_gap_that_is_real_but_tolerated_passes(audit: Audit, make_frame: MakeFrame) -> None:
    report = audit(make_frame(2000, 8, gap=0.05), {"max_gap": 0.15})
    assert only_gap(report)["adjusted_p_value"] < 0.001
    assert report["verdict"] == "pass"
    assert "real, but within" in only_gap(report)["sentence"]


def test_a_crossed_group_is_found_that_no_single_attribute_shows(audit: Audit, make_frame: MakeFrame) -> None:
    rng = np.random.default_rng(1)
    frame = make_frame(300, 8).assign(light=lambda table: rng.choice(["dim", "lit"], len(table)))
    odd = (frame["group"] == "b") == (frame["light"] == "dim")
    frame["bumped"] = (rng.random(len(frame)) < np.where(odd, 0.35, 0.15)).astype(float)
    report = audit(frame, attributes=("group", "light"))
    found = {(finding["b"], finding["worse"]) for finding in gaps(report) if finding["verdict"] == "violation"}
    assert {("b & dim", "b & dim"), ("a & lit", "a & lit")} <= found
    assert not [finding for finding in gaps(report) if finding["verdict"] == "violation" and len(finding["attributes"]) == 1]


def test_against_a_base_only_what_is_worse_breaks_the_policy(audit: Audit) -> None:
    rng = np.random.default_rng(0)
    contexts = np.repeat(np.arange(400), 2)
    model = np.tile(["base", "tuned"], 400)
    frame = pd.DataFrame({"context_id": contexts, "model": model})
    frame["bumped"] = (rng.random(800) < np.where(model == "base", 0.4, 0.1)).astype(float)
    both = {"attributes": {"model": {"reference": "base"}}}
    worse = {"attributes": {"model": {"reference": "base", "only_worse": True}}}
    assert audit(frame, both, attributes=("model",))["verdict"] == "violation"
    report = audit(frame, worse, attributes=("model",))
    assert report["verdict"] == "pass"
    assert "better than base, which breaks nothing" in only_gap(report)["sentence"]
    backwards = {"attributes": {"model": {"reference": "tuned", "only_worse": True}}}
    assert audit(frame, backwards, attributes=("model",))["verdict"] == "violation"


# ------------------------------------------------------------------------------------------------------------------- twins


def twins(num_pairs: int, more: int, less: int, size: int = 1) -> pd.DataFrame:
    """Pairs of a and b, ``size`` of them in a context; ``more`` times only b bumps, ``less`` times only a."""
    a = (np.arange(num_pairs) >= num_pairs - less).astype(float)
    b = (np.arange(num_pairs) < more).astype(float)
    columns = {"context_id": np.arange(num_pairs) // size, "pair": np.arange(num_pairs)}
    return pd.concat(
        [pd.DataFrame({**columns, "group": "a", "bumped": a}), pd.DataFrame({**columns, "group": "b", "bumped": b})]
    )


def test_twins_are_tested_by_mcnemar_exactly(audit: Audit) -> None:
    finding = only_gap(audit(twins(200, 24, 6), pair="pair"))
    assert finding["method"] == "twins"
    assert finding["p_value"] == pytest.approx(stats.binomtest(24, 30).pvalue, rel=1e-9)
    assert finding["gap"]["value"] == pytest.approx(18 / 200)
    assert (finding["gap"]["n"], finding["gap"]["num_clusters"]) == (200, 200)


def test_twins_in_one_context_count_as_one(audit: Audit) -> None:
    finding = only_gap(audit(twins(200, 24, 6, size=4), pair="pair"))
    # Six contexts with 4 more, one with 2 less, one with 4 less: 2^8 assignments of signs.
    signs = np.array(np.meshgrid(*[[-1, 1]] * 8)).reshape(8, -1)
    expected = np.mean(np.abs(np.array([4] * 6 + [2, 4]) @ signs) >= 18)
    assert finding["p_value"] == pytest.approx(expected, rel=1e-9)
    assert finding["gap"]["num_clusters"] == 50


def test_a_pair_with_a_side_that_could_not_be_scored_is_missing(audit: Audit) -> None:
    frame = twins(200, 24, 6).reset_index(drop=True)
    frame.loc[[0, 201], "bumped"] = math.nan
    finding = only_gap(audit(frame, pair="pair"))
    assert (finding["gap"]["n"], finding["gap"]["num_missing"]) == (198, 2)


def test_pairing_by_common_random_numbers_finds_more(audit: Audit) -> None:
    rng = np.random.default_rng(0)
    u = rng.random(512)
    rows = {"context_id": np.arange(512), "pair": np.arange(512)}
    frame = pd.concat(
        [pd.DataFrame({**rows, "group": g, "bumped": (u < p).astype(float)}) for g, p in (("a", 0.2), ("b", 0.26))]
    )
    paired = only_gap(audit(frame, pair="pair"))
    apart = only_gap(audit(frame.assign(context_id=np.arange(1024), pair="")))
    assert paired["p_value"] < 1e-5 < 0.005 < apart["p_value"]
    assert paired["smallest_detectable"] < 0.6 * apart["smallest_detectable"]


def test_numbers_of_twins_are_tested_by_t(audit: Audit) -> None:
    rng = np.random.default_rng(0)
    first = rng.normal(size=80)
    second = first + rng.normal(0.2, 0.3, 80)
    rows = {"context_id": np.arange(80), "pair": np.arange(80)}
    frame = pd.concat([pd.DataFrame({**rows, "group": g, "bumped": v}) for g, v in (("a", first), ("b", second))])
    finding = only_gap(audit(frame, pair="pair"))
    expected = stats.ttest_rel(second, first)
    assert (finding["gap"]["low"], finding["gap"]["high"]) == pytest.approx(tuple(expected.confidence_interval()))
    assert finding["p_value"] < 1e-4
    same = pd.concat([pd.DataFrame({**rows, "group": g, "bumped": first}) for g in "ab"])
    assert "all pairs differ by the same" in only_gap(audit(same, pair="pair"))["reason"]


# ---------------------------------------------------------------------------------------------- what can't be told, or is bad


def test_unscoreable_is_missing_and_fails_the_gate(audit: Audit, make_frame: MakeFrame) -> None:
    frame = make_frame(1500, 8)
    frame.loc[frame.index[frame["group"] == "b"][:120], "bumped"] = math.nan
    report = audit(frame)
    finding = missing(report)
    assert (report["verdict"], finding["verdict"], finding["num_missing"], finding["group"]) == (
        "violation",
        "violation",
        120,
        "b",
    )
    assert finding["share"] == pytest.approx(120 / (frame["group"] == "b").sum())
    assert audit(frame, {"max_missing": 0.03})["verdict"] == "pass"
    assert audit(frame, {"outcomes": {"bumped": {"max_missing": 0.03}}})["verdict"] == "pass"


def test_nothing_scored_is_no_pass_and_no_number(audit: Audit, make_frame: MakeFrame) -> None:
    report = audit(make_frame().assign(bumped=math.nan), {"max_missing": 1.0})
    assert report["verdict"] == "cannot tell"
    assert only_gap(report)["reason"] == "no rollout of a could be scored"
    assert {rate["value"] for rate in report["outcomes"][0]["rates"]} == {None}
    assert audit(make_frame().assign(bumped=math.nan))["verdict"] == "violation"


def test_a_group_of_one_can_not_be_judged(audit: Audit, make_frame: MakeFrame) -> None:
    frame = make_frame(1500, 8)
    frame.loc[0, "group"] = "c"
    report = audit(frame)
    about = [finding for finding in gaps(report) if "c" in (finding["a"], finding["b"])]
    assert {finding["reason"] for finding in about} == {"c has only 1 rollout from 1 of context_id, fewer than 5"}
    assert report["verdict"] == "cannot tell"
    skipped = audit(frame, {"skip_small_groups": True})
    assert (skipped["verdict"], len(gaps(skipped))) == ("pass", 1)


def test_an_event_that_never_happened_has_an_upper_bound_and_a_smallest_gap(audit: Audit) -> None:
    frame = pd.DataFrame({"context_id": np.arange(1024), "group": np.arange(1024) % 2, "bumped": 0})
    report = audit(frame, {"outcomes": {"bumped": {"at_most": 0.003}}, "max_gap": 0.04})
    everybody = report["outcomes"][0]["rates"][0]
    assert everybody["high"] == pytest.approx(1 - 0.05 ** (1 / 1024))
    finding = only_gap(report)
    assert (finding["gap"]["value"], finding["p_value"]) == (0.0, 1.0)
    assert finding["gap"]["low"] < -0.003 < 0.003 < finding["gap"]["high"]
    assert 0.01 < finding["smallest_detectable"] < 0.04
    limits = {f["group"]: f["verdict"] for f in report["findings"] if f["kind"] == "limit"}
    assert limits == {"all": "pass", "0": "cannot tell", "1": "cannot tell"}


def test_a_number_that_never_changes_says_nothing(audit: Audit, make_frame: MakeFrame) -> None:
    report = audit(make_frame().assign(bumped=3.0))
    assert only_gap(report)["reason"] == "every value is 3, so nothing says how far values would scatter"
    assert report["verdict"] == "cannot tell"


def test_numbers_are_tolerated_in_standard_deviations(audit: Audit, make_frame: MakeFrame) -> None:
    rng = np.random.default_rng(0)
    frame = make_frame(400, 4).assign(bumped=lambda table: 10 * rng.normal(size=1600) + 6 * (table["group"] == "b"))
    report = audit(frame)
    assert only_gap(report)["tolerance"] == pytest.approx(0.2 * frame["bumped"].std())
    assert report["verdict"] == "violation"
    assert audit(frame, {"outcomes": {"bumped": {"max_gap": 9.0}}})["verdict"] == "pass"


@pytest.mark.parametrize(("limit", "verdict"), [(0.4, "pass"), (0.27, "cannot tell"), (0.15, "violation")])
def test_limits(limit: float, verdict: str, audit: Audit, make_frame: MakeFrame) -> None:
    frame = make_frame(300, 4)
    assert 0.24 < frame["bumped"].mean() < 0.27
    upper = {"outcomes": {"bumped": {"at_most": limit}}, "max_gap": 0.5}
    report = audit(frame, upper)
    assert report["verdict"] == verdict
    assert report["num_tests"] == 4
    lower = {"outcomes": {"bumped": {"at_least": 1 - limit, "better": "higher"}}, "max_gap": 0.5}
    assert audit(frame.assign(bumped=1 - frame["bumped"]), lower)["verdict"] == verdict


def test_with_nothing_to_compare_there_is_no_pass(audit: Audit, make_frame: MakeFrame) -> None:
    report = audit(make_frame().assign(group="a"))
    assert (report["verdict"], report["num_tests"]) == ("cannot tell", 0)
    assert report["summary"].startswith("There was nothing to compare")


def test_a_rate_that_is_none_is_refused(audit: Audit, make_frame: MakeFrame) -> None:
    with pytest.raises(DataError, match="the policy calls bumped a rate, but it holds 0"):
        audit(make_frame().assign(bumped=0.5), {"outcomes": {"bumped": {"kind": "rate"}}})
    with pytest.raises(ValueError, match="num_resamples must be at least 100"):
        audit(make_frame(), num_resamples=5)


# ------------------------------------------------------------------------------------------------------------ the same again


def test_the_same_rows_in_any_order_give_the_same_report(audit: Audit, make_frame: MakeFrame) -> None:
    frame = make_frame(50, 6, 0.1)
    first = json.dumps(audit(frame), sort_keys=True)
    assert json.dumps(audit(frame), sort_keys=True) == first
    shuffled = frame.sample(frac=1, random_state=1).reset_index(drop=True)
    assert json.dumps(audit(shuffled), sort_keys=True) == first
    assert json.dumps(audit(frame, seed=1), sort_keys=True) != first


def test_a_hundred_thousand_rows_of_as_many_contexts(audit: Audit) -> None:
    rng = np.random.default_rng(0)
    groups = rng.choice(["a", "b"], 100_000)
    bumped = (rng.random(100_000) < np.where(groups == "b", 0.24, 0.2)).astype(float)
    frame = pd.DataFrame({"context_id": np.arange(100_000), "group": groups, "bumped": bumped})
    report = audit(frame, {"max_gap": 0.03}, num_resamples=200)
    finding = only_gap(report)
    assert (report["verdict"], report["table"]["num_contexts"]) == ("violation", 100_000)
    assert finding["gap"]["high"] - finding["gap"]["low"] == pytest.approx(2 * 1.96 * math.sqrt(0.172 / 50_000 * 2), rel=0.2)


@pytest.mark.parametrize(
    ("low", "high", "only_worse", "verdict"),
    [
        (0.2, 0.4, False, "cannot tell"),
        (-0.4, -0.2, False, "cannot tell"),
        (0.2, 0.4, True, "cannot tell"),
        (-0.2, 0.2, False, "pass"),
    ],
)
def test_a_gap_beyond_the_tolerance_is_not_ruled_out_by_power(low: float, high: float, only_worse: bool, verdict: str) -> None:
    from align.audit.policy import Policy
    from align.audit.statistics import MeanPower, Rate
    from align.audit.table.groups import Comparison, Factor
    from align.audit.table.results import Outcome, Result
    from align.audit.table.verdicts import judge_gap

    factor = Factor(("group",), np.zeros(2, np.int64), ("a", "b"))
    gap = Rate((low + high) / 2, low, high, 100, 50)
    result = Result(Comparison(factor, 0, 1), "groups", 0.1, 0.4, gap, 0.3, MeanPower(0.001, 50.0), "")
    policy = Policy.model_validate({"attributes": {"group": {"reference": "a", "only_worse": only_worse}}})
    finding = judge_gap(Outcome("bumped", np.zeros(2), True), result, 0.3, 0.05, policy, 0.05)
    assert finding.verdict == verdict and math.isnan(finding.figures["times_more_needed"])
