"""What is said about source clips against truths that were planted, and what a filter keeps."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd
import pytest

from align.audit.probes import PROBES, judge_findings
from align.audit.probes.filtering import Rule, choose_clips, compute_kept, count_reasons, filter_findings
from align.audit.probes.shares import compute_shares
from align.audit.probes.sources import compare_two, compute_gaps, compute_rates, source_findings
from align.errors import DataError


def make_clips(seed: int = 0, contexts: int = 200, gap: float = 0.0, taste: float = 0.0, share: float = 0.5) -> pd.DataFrame:
    """Two clips a context, one scene, groups ``a`` and ``b`` of contexts, ``share`` of them b.

    Clips of b are truly unsafe more often by ``gap``, and the scorer says so more often by ``taste`` besides.
    """
    rng = np.random.default_rng(seed)
    context = np.repeat(np.arange(contexts), 2)
    group = (rng.random(contexts) < share)[context]
    truth = (rng.random(2 * contexts) < 0.3 + gap * group).astype(float)
    unsafe = np.clip(0.1 + 0.8 * truth + taste * group + 0.02 * rng.normal(size=2 * contexts), 0, 1)
    return pd.DataFrame(
        {
            "rollout_id": [f"r{i}" for i in range(2 * contexts)],
            "context_id": [f"c{i}" for i in context],
            "scene": "corridor",
            "group": np.where(group, "b", "a"),
            "unsafe_rude": unsafe,
            "doubtful_rude": (np.abs(unsafe - 0.5) < 0.4).astype(float),
            "truth_rude": truth,
        }
    )


def findings(table: pd.DataFrame) -> list[Any]:
    rows = source_findings(compute_gaps(table, ["group"], num_tests=2), compute_shares(table, ["group"], num_tests=2))
    return judge_findings(rows, 0.1)


def test_rates_by_hand() -> None:
    table = pd.DataFrame(
        {
            "context_id": ["x", "x", "y", "z"],
            "scene": ["s", "s", "s", "t"],
            "group": ["a", "a", "b", "a"],
            "unsafe_rude": [0.2, 0.4, 0.9, np.nan],
            "doubtful_rude": [0.0, 1.0, 0.0, np.nan],
        }
    )
    whole, a, b = compute_rates(table, ["group"])
    assert (whole.unsafe.value, whole.unsafe.n, whole.unsafe.num_clusters) == (pytest.approx(0.5), 3, 2)
    assert (a.unsafe.value, b.unsafe.value) == (pytest.approx(0.3), pytest.approx(0.9))
    assert a.doubtful.value == 0.5 and whole.truth is None
    assert math.isnan(b.unsafe.low), "one context says nothing about others"
    assert b.as_dict()["unsafe"]["low"] is None


def test_a_planted_gap_is_found_and_its_size_is_right() -> None:
    gap, share = findings(make_clips(gap=0.3, contexts=400))
    assert gap.status == "found" and gap.effect.low < 0.8 * 0.3 < gap.effect.high
    assert share.status == "not found"
    row = compute_gaps(make_clips(gap=0.3, contexts=400), ["group"])[0]
    assert row.scorer is not None and row.scorer.high < 0, "the scorer shrinks the truth to 80 %, and nothing else"


def test_a_taste_of_the_scorer_is_told_from_the_footage() -> None:
    row = compute_gaps(make_clips(taste=0.1), ["group"])[0]
    assert row.scorer is not None and row.scorer.value == pytest.approx(0.1, abs=0.04) and row.scorer.low > 0
    assert row.as_dict()["scorer"]["low"] > 0


def test_an_uneven_crew_is_found() -> None:
    gap, share = findings(make_clips(share=0.3, contexts=400))
    assert share.status == "found" and "group a" in share.name
    assert share.effect.low < 0.2 < share.effect.high
    assert gap.status != "found"


def test_fair_clips_are_not_accused() -> None:
    accused = sum(any(row.status == "found" for row in findings(make_clips(seed, contexts=60))) for seed in range(60))
    assert accused <= 8, "with 1 in 20 expected, 9 of 60 have a chance of 1 in 300"


def test_clips_of_one_context_are_not_taken_for_independent() -> None:
    """Doubling every clip changes no p-value."""
    table = make_clips(3, contexts=40)
    once, twice = compute_gaps(table, ["group"])[0], compute_gaps(pd.concat([table, table], ignore_index=True), ["group"])[0]
    assert twice.p_value == pytest.approx(once.p_value) and twice.gap.low == pytest.approx(once.gap.low)


def test_too_little_is_said_to_be_too_little() -> None:
    table = make_clips(0, contexts=3, share=0.0)
    table.loc[table["context_id"] == "c0", "group"] = "b"
    row = findings(table)[0]
    assert row.status == "cannot tell" and "fewer than 2 contexts" in row.text
    gap, p_value, detectable = compare_two(np.zeros(4), *[pd.Series([True, False] * 2)] * 2, pd.Series(list("aabb")), 0.05)
    assert gap.value == 0 and math.isnan(p_value) and math.isnan(detectable)


def test_missing_columns_are_one_sentence() -> None:
    with pytest.raises(DataError, match="lacks the columns mood"):
        compute_rates(make_clips(), ["mood"])
    with pytest.raises(DataError, match="no unsafe_<axis> column"):
        compute_rates(make_clips().drop(columns="unsafe_rude"), ["group"])


def test_reasons_come_in_order() -> None:
    table = make_clips(0, contexts=5).assign(
        unsafe_rude=[0.9, 0.6, 0.5, 0.2, np.nan, 0.1, 0.1, 0.1, 0.1, 0.1], doubtful_rude=[1.0, 0.0, 1.0] + [0.0] * 7
    )
    reasons = choose_clips(table, Rule(0.5, True, "", 0))
    assert reasons[:5] == ["unsafe: rude", "unsafe: rude", "doubtful: rude", "", "unscored"] and set(reasons[5:]) == {""}
    lenient = choose_clips(table, Rule(1.0, False, "", 0))
    assert [reason for reason in lenient if reason] == ["unscored"]


def test_balance_leaves_as_many_of_each_group() -> None:
    table = make_clips(1, share=0.2)
    reasons = pd.Series(choose_clips(table, Rule(0.5, False, "group", 3)))
    left = table[reasons == ""].groupby("group").size()
    before = table[table["unsafe_rude"] <= 0.5].groupby("group").size()
    assert left["a"] == left["b"] == before["b"] < before["a"]
    assert (
        reasons.tolist()
        == choose_clips(table, Rule(0.5, False, "group", 3))
        != choose_clips(table, Rule(0.5, False, "group", 4))
    )
    counts = count_reasons(table, reasons.tolist(), ["group"])
    assert sum(row["num_clips"] for row in counts if not row["column"]) == len(table)
    assert sum(row["num_clips"] for row in counts if row["reason"] == "quota") == 2 * (before["a"] - before["b"])
    assert {row["value"] for row in counts if row["reason"] == "quota"} == {"all", "a"}


def test_a_group_that_would_vanish_is_named() -> None:
    table = make_clips(1)
    table.loc[table["group"] == "b", "unsafe_rude"] = 0.9
    with pytest.raises(DataError, match="group b is left"):
        choose_clips(table, Rule(0.5, False, "group", 0))
    with pytest.raises(DataError, match="balanced by mood"):
        choose_clips(table, Rule(0.5, False, "mood", 0))


def test_a_filter_with_a_taste_is_told_from_one_without() -> None:
    """A scorer that thinks worse of b drops safe clips of b."""
    table = make_clips(0, contexts=400, taste=0.45)
    reasons = choose_clips(table, Rule(0.5, False, "", 0))
    kept = {row.value: row for row in compute_kept(table, reasons, ["group"])}
    assert kept["a"].safe_kept is not None and kept["b"].safe_kept is not None
    assert kept["a"].safe_kept.value > 0.95 > 0.5 > kept["b"].safe_kept.value
    row = judge_findings(filter_findings(table, reasons, ["group"], "sources"), 0.1)[0]
    assert row.status == "found" and row.effect.high < -0.3 and "clips kept with group b against a" in row.name
    fair = make_clips(0, contexts=400)
    even = judge_findings(filter_findings(fair, choose_clips(fair, Rule(0.5, False, "", 0)), ["group"], "sources"), 0.1)[0]
    assert even.status != "found"


def test_a_filter_that_drops_nothing_has_no_bias() -> None:
    table = make_clips(0)
    row = judge_findings(filter_findings(table, [""] * len(table), ["group"], "sources"), 0.1)[0]
    assert row.status == "not found" and row.effect.value == 0


def test_the_probe_says_what_it_is() -> None:
    assert PROBES["sources"].recipe == "probe_sources"
