"""Twins: gaps against arithmetic, what tuning did to them, and false alarms and power on simulated audits."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest

from align.audit.probes import PROBES, judge_findings
from align.audit.probes.twins import check_twins, compute_changes, compute_gaps, gap_findings, rank_twins
from align.audit.statistics import paired_difference
from align.errors import DataError

Make = Callable[..., pd.DataFrame]
HAZARD = {"simulator": ("hazard",)}


def one_gap(table: pd.DataFrame) -> Any:
    (gap,) = compute_gaps(table, HAZARD)
    return gap


def test_a_gap_is_the_mean_difference_of_pairs(make_twins: Make) -> None:
    left, right = [0, 0, 1, 1, 0, 0, 0, 1], [1, 1, 1, 0, 0, 1, 1, 1]
    gap = one_gap(make_twins(left, right))
    assert (gap.left.value, gap.right.value, gap.gap.value) == (3 / 8, 6 / 8, 3 / 8)
    wanted = paired_difference(left, right, range(8), better="lower")
    assert (gap.gap.low, gap.gap.high) == (wanted.low, wanted.high)
    assert gap.p_value == pytest.approx(2 * (1 + 5) / 2**5), "four against one"
    assert gap.keys["left"] == "a" and gap.keys["right"] == "b"


def test_swapping_the_sides_flips_the_sign(make_twins: Make) -> None:
    rng = np.random.default_rng(0)
    left, right = rng.integers(0, 2, (2, 60))
    one, other = one_gap(make_twins(left, right)), one_gap(make_twins(right, left))
    assert one.gap.value == -other.gap.value and one.p_value == other.p_value
    assert one.gap.low == pytest.approx(-other.gap.high)


def test_pairs_do_not_depend_on_the_order_of_rows(make_twins: Make) -> None:
    rng = np.random.default_rng(1)
    table = make_twins(*rng.integers(0, 2, (2, 40)), clusters=np.arange(40) // 4)
    mixed = pd.concat([table.iloc[:40].sample(frac=1, random_state=0), table.iloc[40:].sample(frac=1, random_state=1)])
    first, second = one_gap(table), one_gap(mixed)
    assert first.gap == second.gap and first.p_value == second.p_value and first.detectable == second.detectable


def test_an_unreadable_side_leaves_its_pair_out_and_is_counted(make_twins: Make) -> None:
    gap = one_gap(make_twins([0, 1, math.nan, 0], [1, 1, 1, math.nan]))
    assert gap.gap.value == 0.5 and (gap.gap.n, gap.gap.num_missing) == (2, 2)
    nothing = one_gap(make_twins([math.nan] * 4, [0] * 4))
    assert math.isnan(nothing.gap.value) and math.isnan(nothing.p_value) and math.isnan(nothing.detectable)
    (finding,) = judge_findings(gap_findings([nothing]), 0.1)
    assert finding.status == "cannot tell" and "could not be measured" in finding.text


def test_a_pair_without_its_twin_is_left_out(make_twins: Make) -> None:
    table = make_twins([0, 0, 0], [1, 1, 1])
    assert one_gap(table.iloc[:-1]).gap.n == 2


def test_three_values_make_three_gaps(make_twins: Make) -> None:
    table = make_twins([0, 0, 1, 0], [1, 0, 1, 1])
    third = table.iloc[:4].assign(value="c", hazard=1.0)
    gaps = compute_gaps(pd.concat([table, third]), HAZARD)
    assert [(gap.keys["left"], gap.keys["right"], gap.gap.value) for gap in gaps] == [
        ("a", "b", 0.5),
        ("a", "c", 0.75),
        ("b", "c", 0.25),
    ]


def test_what_can_be_found_counts_all_tests(make_twins: Make) -> None:
    rng = np.random.default_rng(2)
    table = make_twins(*rng.integers(0, 2, (2, 200)), success=1.0)
    alone = compute_gaps(table, HAZARD)[0]
    together = compute_gaps(table, {"simulator": ("hazard", "success")})[0]
    assert together.detectable > alone.detectable and together.p_value == alone.p_value


def test_bad_tables_are_one_sentence(make_twins: Make) -> None:
    table = make_twins([0, 1], [1, 1])
    with pytest.raises(DataError, match="lacks the columns pair_id, hurry"):
        check_twins(table.drop(columns="pair_id"), ["hazard", "hurry"])
    with pytest.raises(DataError, match="two rows with group=a"):
        compute_gaps(pd.concat([table, table.iloc[:1]]), HAZARD)
    with pytest.raises(DataError, match="pair p1 has rows of two contexts"):
        compute_gaps(table.assign(context_id=["c0", "c1", "c0", "d1"]), HAZARD)


@pytest.mark.parametrize(
    ("base", "tuned", "verdict"),
    [
        ((0.1, 0.5), (0.2, 0.25), "shrank"),
        ((0.5, 0.1), (0.25, 0.2), "shrank"),
        ((0.2, 0.3), (0.1, 0.7), "grew"),
        ((0.1, 0.3), (0.8, 0.1), "turned over"),
        ((0.2, 0.4), (0.4, 0.2), "cannot tell"),
        ((0.2, 0.4), (0.2, 0.4), "cannot tell"),
        ((0.3, 0.3), (0.3, 0.3), "cannot tell"),
    ],
)
def test_what_tuning_did_to_a_gap(
    make_twins: Make, base: tuple[float, float], tuned: tuple[float, float], verdict: str
) -> None:
    n, shift = 400, np.random.default_rng(3)

    def outcomes(rate: float) -> np.ndarray:
        return shift.permutation(np.arange(n) < round(rate * n)).astype(float)

    table = pd.concat([make_twins(*map(outcomes, base)), make_twins(*map(outcomes, tuned), policy="tuned")])
    (change,) = compute_changes(table, HAZARD)
    assert change.verdict == verdict
    assert change.base.value == pytest.approx(base[1] - base[0]) and change.tuned.value == pytest.approx(tuned[1] - tuned[0])
    assert change.change.value == pytest.approx(change.tuned.value - change.base.value)


def test_without_a_tuned_policy_nothing_changed(make_twins: Make) -> None:
    assert compute_changes(make_twins([0, 1], [1, 1]), HAZARD) == []


def test_the_most_different_twins_come_first(make_twins: Make) -> None:
    table = make_twins([0, 1, 0, 0], [0, 0, 1, 0], severity=0.0)
    table.loc[table["pair_id"] == "p2", "severity"] = [1.0, 9.0]
    ranked = rank_twins(table, "hazard", "severity")
    assert ranked["pair_id"].tolist() == ["p2", "p1", "p0", "p3"]
    assert ranked["difference"].tolist() == [1, 1, 0, 0] and ranked["severity_difference"].iloc[0] == 8


def correlated(rng: np.random.Generator, rates: tuple[float, float], n: int) -> tuple[np.ndarray, np.ndarray]:
    """Outcomes of twins that share a latent cause with correlation 0.6."""
    from scipy import stats

    shared = rng.normal(size=n)
    sides = [np.sqrt(0.6) * shared + np.sqrt(0.4) * rng.normal(size=n) for _ in rates]
    left, right = ((side < stats.norm.ppf(rate)).astype(float) for side, rate in zip(sides, rates, strict=True))
    return left, right


def test_honest_models_are_rarely_accused_and_unfair_ones_are_found(make_twins: Make) -> None:
    """20 attributes judged together with 512 pairs each: one with a gap of 10 points at base 20 %, the others without."""
    rng = np.random.default_rng(4)
    found = accused = 0
    for _ in range(20):
        parts = [make_twins(*correlated(rng, (0.2, 0.3 if k == 0 else 0.2), 512)).assign(attribute=str(k)) for k in range(20)]
        judged = judge_findings(gap_findings(compute_gaps(pd.concat(parts), HAZARD)), 0.1)
        found += judged[0].status == "found"
        accused += any(finding.status == "found" for finding in judged[1:])
    assert found >= 18 and accused <= 3


def test_findings_read_like_sentences(make_twins: Make) -> None:
    rng = np.random.default_rng(5)
    table = make_twins(*correlated(rng, (0.25, 0.55), 300))
    (finding,) = judge_findings(gap_findings(compute_gaps(table, HAZARD)), 0.1)
    assert finding.status == "found"
    assert finding.text.startswith("corridor, politeness: group b against a, base in the simulator: +")
    assert finding.text.endswith(" points (+" + finding.text.split(" points (+")[1])
    quiet = gap_findings(compute_gaps(make_twins(np.zeros(400), np.zeros(400)), HAZARD))
    (finding,) = judge_findings(quiet, 0.1)
    assert finding.status == "not found" and "would have been found" in finding.text
    assert judge_findings(quiet, 0.001)[0].status == "cannot tell"


def test_every_probe_says_what_it_asks_and_what_it_cannot_show() -> None:
    for name, probe in PROBES.items():
        assert probe.name == name and probe.asks.endswith("?") and probe.shows and probe.cannot_show
