"""Standards: effects against arithmetic, honest p-values, step-down, and silence where there is too little."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd
import pytest

from align.audit.probes.standards import FEW_ANSWERS, Excess, compute_excesses


def make_answers(seed: int, chances: Any, people: int = 8, each: int = 120) -> pd.DataFrame:
    """Everybody draws answers from ``chances`` [strata, flag, 3]; which stratum and flag is a toss."""
    rng = np.random.default_rng(seed)
    p = np.asarray(chances, float)
    n = people * each
    stratum, flag = rng.integers(0, len(p), n), rng.integers(0, 2, n)
    answer = (rng.random((n, 1)) > p[stratum, flag].cumsum(1)[:, :2]).sum(1)
    name = [f"n{k}" for k in np.arange(n) % people]
    return pd.DataFrame({"name": name, "stratum": stratum, "flag": flag, "answer": answer})


CHANCES = [[[0.6, 0.3, 0.1], [0.3, 0.4, 0.3]], [[0.2, 0.6, 0.2], [0.1, 0.4, 0.5]]]
"""The flag says something about the clips, so honest people answer otherwise where it is set."""


def of_name(rows: list[Excess], name: str) -> Excess:
    return next(row for row in rows if row.name == name)


def test_the_effect_is_the_difference_beyond_what_the_crowd_does() -> None:
    """x answers 2 on 15 of 20 flagged clips and on half of the others; everybody else on half of both."""

    def part(name: str, twos: int) -> pd.DataFrame:
        answers = [2] * twos + [0] * (20 - twos) + [2, 0] * 10
        return pd.DataFrame({"name": name, "stratum": "s", "flag": [1] * 20 + [0] * 20, "answer": answers})

    table = pd.concat([part("x", 15), *(part(f"y{k}", 10) for k in range(200))])
    row = of_name(compute_excesses({"q": table}), "x")
    assert row.effect.value == pytest.approx(0.25, abs=1e-3), "15/20 - 10/20"
    assert (row.num_flagged, row.num_others) == (20, 20)
    assert row.error == pytest.approx(math.sqrt(0.25 / 20 + 0.25 / 20), rel=0.3)


def test_swapping_the_flag_swaps_the_sign() -> None:
    table = make_answers(1, CHANCES)
    there, back = (compute_excesses({"q": t}) for t in (table, table.assign(flag=1 - table["flag"])))
    for row, other in zip(there, back, strict=True):
        assert other.effect.value == pytest.approx(-row.effect.value)
        assert other.p_value == pytest.approx(row.p_value) and other.p_holm == pytest.approx(row.p_holm)


def test_honest_people_are_seldom_under_suspicion() -> None:
    """p-values of people who all answer alike fall below 5 % in at most 5 %, noise of 640 tests allowed for."""
    p = [row.p_value for seed in range(80) for row in compute_excesses({"q": make_answers(seed, CHANCES)})]
    assert 0.005 < np.mean(np.array(p) <= 0.05) <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / len(p))


def test_being_stricter_with_everybody_is_no_bias() -> None:
    """n0 finds fault with everything in a fifth of the answers, flagged or not; it is mistaken now and then."""
    found = 0
    for seed in range(20):
        table = make_answers(seed, CHANCES)
        strict = (table["name"] == "n0") & (np.random.default_rng(seed).random(len(table)) < 0.2)
        table.loc[strict, "answer"] = 2
        found += of_name(compute_excesses({"q": table}), "n0").p_holm <= 0.05
    assert found <= 2


def test_the_biased_are_found_step_by_step_and_nobody_else() -> None:
    table = make_answers(3, CHANCES)
    for name in ("n0", "n1"):
        mine = (table["name"] == name) & (np.random.default_rng(5).random(len(table)) < 0.5)
        table.loc[mine, "answer"] = 2 * table.loc[mine, "flag"]
    rows = compute_excesses({"q": table})
    assert {row.name for row in rows if row.p_holm <= 0.05} == {"n0", "n1"}
    assert all(row.p_holm >= row.p_value for row in rows)
    ordered = sorted(rows, key=lambda row: row.p_value)
    assert all(a.p_holm <= b.p_holm for a, b in pairwise(ordered) if b.p_holm < 1)


def test_tests_are_corrected_for_one_another_over_questions() -> None:
    table = make_answers(4, CHANCES)
    alone, both = compute_excesses({"q": table}), compute_excesses({"q": table, "r": make_answers(5, CHANCES)})
    smallest = min(alone, key=lambda row: row.p_value)
    again = next(row for row in both if row.question == "q" and row.name == smallest.name)
    assert again.p_value == pytest.approx(smallest.p_value)
    assert again.p_holm >= smallest.p_holm


@pytest.mark.parametrize(("people", "each"), [(2, 200), (8, FEW_ANSWERS)])
def test_too_few_people_or_answers_are_not_tested(people: int, each: int) -> None:
    rows = compute_excesses({"q": make_answers(6, CHANCES, people, each)})
    assert len(rows) == people and all(math.isnan(row.p_value) and math.isnan(row.p_holm) for row in rows)


def test_nothing_to_compare_with_has_no_effect() -> None:
    table = make_answers(7, CHANCES, people=3, each=60)
    table["stratum"] = table["name"]
    assert all(math.isnan(row.effect.value) and math.isnan(row.p_value) for row in compute_excesses({"q": table}))
    assert compute_excesses({"q": table.head(0)}) == []


def test_more_tests_need_a_larger_effect() -> None:
    row = compute_excesses({"q": make_answers(8, CHANCES)})[0]
    assert row.detectable(1) == pytest.approx((1.9600 + 0.8416) * row.error, rel=1e-3)
    assert row.detectable(100) > row.detectable(1)


def test_answers_about_one_context_are_not_independent() -> None:
    """Nobody is biased, but everybody says the same about a pair on all three axes: 50 answers, not 150."""
    accused, rng = 0, np.random.default_rng(0)
    for _ in range(25):
        flag, own = rng.integers(0, 2, 50), rng.integers(0, 3, (20, 50))
        rows = [(f"n{k}", axis, flag[c], own[k, c], c) for k in range(20) for axis in "xyz" for c in range(50)]
        table = pd.DataFrame(rows, columns=["name", "stratum", "flag", "answer", "cluster"])
        found = compute_excesses({"q": table})
        accused += any(row.p_holm <= 0.05 for row in found)
    assert accused <= 3, "taken as independent, about 15 of 25"
    alone = compute_excesses({"q": table.drop(columns="cluster")})[0]
    assert found[0].effect.num_clusters == 50 < alone.effect.num_clusters == 150
    assert found[0].error == pytest.approx(math.sqrt(3) * alone.error, rel=0.02)
