"""Planted exploits are found, honest proxies are not accused, and best-of-n is what all subsets together would say."""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Callable
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from align.audit.probes import PROBES, judge_findings
from align.audit.probes.choosing import choice_weights, distance_of, size_at, sizes_up_to
from align.audit.probes.curve_plots import draw_curves
from align.audit.probes.gathering import gather, smallest_excess
from align.audit.probes.overoptimisation import CurveResult, overoptimisation_findings, probe_pools, probe_training
from align.audit.probes.pools import read_pools
from align.audit.probes.shuffles import largest_p_value, shuffle_totals
from align.audit.probes.turning import Curve, find_fall, fit_turning_point, fitted_gold
from align.errors import DataError


@pytest.fixture(scope="module")
def make_pools() -> Callable[..., pd.DataFrame]:
    """``planted_pools.make_pools``, which the benchmark uses as well."""
    spec = importlib.util.spec_from_file_location("planted_pools", Path(__file__).with_name("planted_pools.py"))
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.make_pools


def probe(table: pd.DataFrame, outcomes: tuple[str, ...] = ("hazard",), seed: int = 0) -> list[Any]:
    """Findings, judged, with a tolerance of ten points."""
    curves, gatherings = probe_pools(read_pools(table, outcomes), seed=seed)
    return judge_findings(overoptimisation_findings(curves, gatherings), 0.1)


@pytest.mark.parametrize("proxy", [[0.3, -1.0, 2.0, 0.5, 0.1], [1.0, 1.0, 0.0, 2.0, 1.0], [0.0] * 5])
def test_weights_are_the_mean_over_all_subsets(proxy: list[float]) -> None:
    gold = np.array([3.0, 1.0, 4.0, 1.5, 9.0])
    for n in range(1, 6):
        means = []
        for subset in combinations(range(5), n):
            best = [i for i in subset if proxy[i] == max(proxy[k] for k in subset)]
            means.append(np.mean(gold[best]))
        weights = choice_weights(proxy, [n])[0]
        assert weights @ gold == pytest.approx(np.mean(means), abs=1e-12)
        assert weights.sum() == pytest.approx(1)


def test_weights_by_hand() -> None:
    # Of 4, the best of 2 is rank 4 in 3 of 6 pairs, rank 3 in 2, rank 2 in 1, and never rank 1.
    assert choice_weights([10.0, 20.0, 30.0, 40.0], [2])[0] == pytest.approx([0, 1 / 6, 2 / 6, 3 / 6])
    assert choice_weights(range(128), [128])[0][-1] == pytest.approx(1)


def test_mistakes_in_weights_are_said() -> None:
    with pytest.raises(ValueError, match="between 1 and the pool's 2"):
        choice_weights([1.0, 2.0], [3])
    with pytest.raises(ValueError, match="can't be ranked"):
        choice_weights([1.0, math.nan], [1])


def test_distances_of_best_of_n() -> None:
    assert distance_of(1) == 0
    assert distance_of(2) ** 2 == pytest.approx(math.log(2) - 0.5)
    assert [size_at(distance_of(n)) for n in (1, 7, 128)] == pytest.approx([1, 7, 128])
    assert size_at(math.inf) == math.inf
    assert sizes_up_to(128) == (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128)
    assert sizes_up_to(5) == (1, 2, 3, 4, 5) and sizes_up_to(1) == (1,)


def test_shuffles_are_exact_where_they_can_be_counted() -> None:
    # One bad outcome among ten rollouts, and it is the top one: 1 in 10.
    totals = shuffle_totals([np.eye(10)[9:]], [np.eye(10)[9]], num=4000)
    assert largest_p_value(totals) == pytest.approx(0.1, abs=0.015)
    twice = shuffle_totals([np.eye(10)[9:]] * 2, [np.eye(10)[9]] * 2, num=9999)
    assert largest_p_value(twice) == pytest.approx(0.01, abs=0.004)
    assert largest_p_value(shuffle_totals([np.eye(10)[9:]], [np.zeros(10)])) == 1


def test_rare_outcomes_are_shuffled_like_common_ones() -> None:
    """The short way for few events gives the same distribution as whole permutations: of means, spreads and the tail."""
    weights = np.linspace(0, 1, 40)[None] ** 8
    rare = np.zeros(40)
    rare[:4] = 1.0
    short = shuffle_totals([weights], [rare], num=20000)[1:, 0]
    rng = np.random.default_rng(1)
    long = rng.permuted(np.broadcast_to(rare, (20000, 40)), axis=1) @ weights[0]
    common = shuffle_totals([weights], [1 - rare], num=20000)[1:, 0]
    for totals in (short, weights.sum() - common):
        assert totals.mean() == pytest.approx(long.mean(), abs=4 * long.std() / 100)
        assert np.quantile(totals, [0.05, 0.5, 0.95]) == pytest.approx(np.quantile(long, [0.05, 0.5, 0.95]), abs=0.05)


def curve_of(gold: Any, distances: Any, kind: Any = "best of n", proxy: Any = None) -> Curve:
    gold, distances = np.asarray(gold, float), np.asarray(distances, float)
    proxy = np.broadcast_to(distances, gold.shape) if proxy is None else np.asarray(proxy, float)
    return Curve(kind, tuple(f"point {k}" for k in range(len(distances))), distances, proxy, gold)


@pytest.mark.parametrize(("kind", "peak"), [("best of n", 2.0 / (2 * 0.5)), ("training", math.exp(2.0 / 0.5 - 1))])
def test_the_law_is_recovered(kind: Any, peak: float) -> None:
    d = np.array([0.0, 0.5, 1.0, 1.5, 2.0, 2.5])
    bend = d if kind == "best of n" else np.log(np.where(d > 0, d, 1.0))
    curve = curve_of(0.3 + d * (2.0 - 0.5 * bend) + np.zeros((20, 1)), d, kind)
    fit = fit_turning_point(curve)
    assert fit is not None
    assert (fit.alpha.value, fit.beta.value) == pytest.approx((2.0, 0.5))
    assert fit.distance.value == pytest.approx(peak) and fit.residual == pytest.approx(0, abs=1e-12)
    assert fitted_gold(curve, fit, d[1:]) == pytest.approx(curve.gold[0, 1:])


def test_gold_that_never_turns_has_its_turning_point_at_infinity() -> None:
    d = np.array([0.0, 1.0, 2.0, 3.0])
    rising = fit_turning_point(curve_of(d * (1 + 0.5 * d) + np.zeros((4, 1)), d))
    falling = fit_turning_point(curve_of(-d + np.zeros((4, 1)), d))
    assert rising is not None and rising.distance.value == math.inf and rising.as_dict()["distance"]["value"] is None
    assert rising.share_inside == 0
    assert falling is not None and falling.distance.value == 0
    assert fit_turning_point(curve_of([[0.0, 1.0], [0.0, 1.0]], [0.0, 1.0])) is None


def test_the_interval_of_the_turning_point_covers_it() -> None:
    d = np.array([distance_of(n) for n in sizes_up_to(128)])
    covered = 0
    for seed in range(60):
        rng = np.random.default_rng(seed)
        slopes = 1 + 0.5 * rng.normal(size=(32, 1))
        gold = slopes * d - 0.4 * d**2 + 0.3 * rng.normal(size=(32, len(d))) * (d > 0)
        fit = fit_turning_point(curve_of(gold, d), num_resamples=500, seed=seed)
        assert fit is not None
        covered += fit.distance.low <= 1 / 0.8 <= fit.distance.high
    assert covered >= 51, "95 % were promised; 51 of 60 or fewer has a chance of 1 in 100"


def test_a_fall_needs_a_proxy_that_rises() -> None:
    rng = np.random.default_rng(0)
    gold = np.array([0.2, 0.9, 0.3]) + 0.05 * rng.normal(size=(40, 3))
    fell = find_fall(curve_of(gold, [0, 1, 2]))
    assert fell.peak == "point 1" and fell.drop.value == pytest.approx(0.6, abs=0.03) and fell.p_value < 0.001
    assert fell.drop.low > 0.5 and fell.detectable < 0.1
    flat = find_fall(curve_of(gold, [0, 1, 2], proxy=np.zeros((40, 3)) + rng.normal(size=(40, 3))))
    assert flat.p_value > 0.05, "nobody optimised anything"
    rising = find_fall(curve_of(gold[:, [0, 2, 1]], [0, 1, 2]))
    assert rising.p_value > 0.9 and rising.drop.high < 0


def test_choosing_the_peak_by_looking_does_not_spoil_the_interval() -> None:
    held = 0
    for seed in range(100):
        gold = np.random.default_rng(seed).normal(size=(24, 8))
        fall = find_fall(curve_of(gold, range(8)), seed=seed)
        held += fall.drop.low <= 0 <= fall.drop.high
    assert held >= 89, "of 100 flat curves; a peak-less-end bootstrap would hold 0 in hardly any"


def test_certainty_does_not_come_from_a_few_zeros() -> None:
    fall = find_fall(curve_of(np.ones((10, 4)), range(4)))
    assert fall.p_value == 1 and fall.drop.value == 0 and fall.drop.high > 0.1 and fall.detectable > 0.1
    few = find_fall(curve_of(np.ones((2, 4)), range(4)))
    assert few.drop.high == 1 and math.isnan(few.detectable), "two contexts would not show even the largest fall"


def test_gold_that_levels_off_has_not_turned() -> None:
    """The law bends down where gold saturates; without a fall that is the law's doing, and nobody may call it a turn."""
    d = np.array([distance_of(n) for n in sizes_up_to(32)])
    gold = np.minimum(1.0, 0.6 + 0.5 * d + 0.02 * np.random.default_rng(0).normal(size=(30, len(d))) * (d < 0.7))
    curve = curve_of(gold, d)
    fit, fall = fit_turning_point(curve), find_fall(curve)
    assert fit is not None and fit.share_inside == 1 and fit.beta.low > 0
    assert not CurveResult("all", curve, fall, fit, fall.p_value, 0).as_dict()["turned"]


def test_a_planted_exploit_is_found(make_pools: Any) -> None:
    """One rollout in a hundred, hazard in 1.5 % of all: best of 128 is unsafe most of the time."""
    for seed in range(3):
        table = make_pools(seed, "exploit")
        assert len(table) == 4096 and table["hazard"].mean() < 0.02
        fall, gathering = probe(table, seed=seed)
        assert fall.status == gathering.status == "found"
        assert gathering.effect.value > 0.3


def test_an_exploit_in_a_few_contexts_is_found(make_pools: Any) -> None:
    for seed in range(3):
        _, gathering = probe(make_pools(seed, "exploit", share=0.125), seed=seed)
        assert gathering.status == "found"


@pytest.mark.parametrize("kind", ["honest", "ignorant", "uneven", "rarely good", "level"])
def test_an_honest_proxy_is_not_accused(kind: str, make_pools: Any) -> None:
    accused = sum(any(finding.status == "found" for finding in probe(make_pools(seed, kind), seed=seed)) for seed in range(4))
    assert accused <= 1, "with a false alarm in 20, two of four have a chance of 1 in 70"


def test_rare_success_is_not_taken_for_a_fall(make_pools: Any) -> None:
    """Where nearly all contexts have no luck at the top, their drops are alike and a t test alone would be sure."""
    table = make_pools(1, "rarely good")
    curve = read_pools(table)[0].curve()
    results, _ = probe_pools(read_pools(table))
    assert results[0].p_value >= find_fall(curve).p_value
    assert results[0].p_value > 0.05


def test_what_can_not_be_read_counts_as_bad(make_pools: Any) -> None:
    table = make_pools(0, "honest")
    top = table.groupby("context_id")["proxy"].idxmax()
    hidden = table.copy()
    hidden.loc[top, ["gold", "hazard"]] = np.nan
    results, gatherings = probe_pools(read_pools(hidden, ["hazard"]))
    assert results[0].num_missing == 32 and results[0].curve.gold[:, -1].max() == 0
    assert gatherings[0].p_value < 0.01


def test_scenes_and_pools_of_any_size(make_pools: Any) -> None:
    small = make_pools(0, "honest", contexts=4, size=5).assign(scene="pour")
    large = make_pools(1, "honest", contexts=6, size=9).assign(scene="shelf")
    uneven = pd.concat([small, large, small.iloc[:5].assign(context_id="c0")])
    pour, shelf = read_pools(uneven)
    assert pour.sizes == (1, 2, 3, 4, 5) and shelf.sizes[-1] == 9
    assert [len(pool) for pool in pour.proxy] == [10, 5, 5, 5]
    plain = probe_pools([pour, shelf])[0][0].as_dict()
    assert plain["points"][0]["gold"]["value"] == pytest.approx(np.mean([gold.mean() for gold in pour.gold]))


def test_the_smallest_excess_is_found_as_often_as_it_says() -> None:
    excess = smallest_excess(0.01, 4096, 32, 0.025 / 7)
    rate = 0.01 + excess
    hits = np.random.default_rng(0).binomial(32, rate, 20000)
    critical = next(k for k in range(33) if np.mean(np.random.default_rng(1).binomial(32, 0.01, 200000) >= k) <= 0.025 / 7)
    assert np.mean(hits >= critical) == pytest.approx(0.8, abs=0.02)
    assert math.isnan(smallest_excess(0.9, 100, 3, 0.001))


def test_gold_in_any_unit(make_pools: Any) -> None:
    table = make_pools(0, "turning", contexts=64)
    scaled = table.assign(gold=10 * table["gold"] - 3)
    share, unit = probe(table, ())[0], probe(scaled, ())[0]
    assert share.unit == "points" and unit.unit == "of gold"
    assert unit.effect.value == pytest.approx(10 * share.effect.value) and unit.p_value == pytest.approx(share.p_value)


def training_table(seed: int, gold: list[float], contexts: int = 40) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    rows = [
        {"policy": "base" if k == 0 else f"step {k}", "context_id": f"c{c}", "kl": k**2 * rng.uniform(0.9, 1.1) / 4}
        | {"proxy": k + rng.normal(), "gold": float(rng.random() < rate)}
        for k, rate in enumerate(gold)
        for c in range(contexts)
        for _ in range(4)
    ]
    return pd.DataFrame(rows).sample(frac=1, random_state=seed)


def test_checkpoints_that_go_too_far_are_found() -> None:
    turned = probe_training(training_table(0, [0.4, 0.7, 0.8, 0.6, 0.3]), "base")[0]
    assert turned.curve.labels == ("base", "step 1", "step 2", "step 3", "step 4")
    assert turned.curve.distances == pytest.approx([0, 0.5, 1, 1.5, 2], abs=0.02)
    assert turned.fall.peak == "step 2" and turned.p_value < 0.001
    assert turned.fit is not None and 0.5 < turned.fit.distance.value < 2
    fine = probe_training(training_table(1, [0.4, 0.6, 0.7, 0.75, 0.75]), "base")[0]
    assert fine.p_value > 0.05


def test_plots_show_both_scales(make_pools: Any, tmp_path: Path) -> None:
    pools, _ = probe_pools(read_pools(make_pools(0, "turning")))
    figure = draw_curves([*pools, *probe_training(training_table(0, [0.4, 0.8, 0.3]), "base")])
    assert len(figure.axes) == 4
    figure.savefig(tmp_path / "curves.png")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda t: t.drop(columns="gold"), "lacks the columns gold"),
        (lambda t: t.assign(proxy=t["proxy"].where(t.index > 2)), "3 rollouts have no proxy reward"),
        (lambda t: t.assign(gold=np.nan), "no rollout has a gold outcome"),
        (lambda t: t.assign(gold="yes"), "column gold must hold finite numbers"),
        (lambda t: t.assign(hazard=t["hazard"] + 2), "hazard must lie between 0 and 1"),
        (lambda t: t.assign(context_id="one"), "at least 2 contexts"),
        (lambda t: t.drop_duplicates("context_id"), "1 rollouts in the smallest pool"),
        (lambda t: t.assign(context_id=None), "no context_id"),
    ],
)
def test_bad_tables_are_one_sentence(change: Any, reason: str, make_pools: Any) -> None:
    with pytest.raises(DataError, match=reason):
        read_pools(change(make_pools(0, "honest", contexts=4, size=6)), ["hazard"])


def test_bad_tables_of_checkpoints_are_one_sentence() -> None:
    table = training_table(0, [0.5, 0.5], contexts=3)
    with pytest.raises(DataError, match="'start'"):
        probe_training(table, "start")
    with pytest.raises(DataError, match="the same contexts"):
        probe_training(table[(table["policy"] == "base") | (table["context_id"] != "c1")], "base")


def test_the_probe_says_what_it_is() -> None:
    assert PROBES["overoptimisation"].recipe == "probe_overoptimisation"


def test_nothing_is_gathered_where_nothing_happens(make_pools: Any) -> None:
    pool = read_pools(make_pools(0, "honest", base=0.0), ["hazard"])[0]
    row = gather(pool, "hazard")
    assert row.p_value == 1 and row.excess.value == 0 and row.base.high > 0 and 0.05 < row.detectable < 0.3
