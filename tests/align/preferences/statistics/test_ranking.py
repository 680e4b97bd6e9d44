from __future__ import annotations

import math
from itertools import combinations

import numpy as np
import pytest
from scipy import optimize, special

from align.preferences.statistics.davidson import Likelihood
from align.preferences.statistics.ranking import NO_SIDES, NO_TIES, ONE_ORDER, Comparison, _count, comparisons_of, fit_davidson


def compare(a: str, b: str, wins: int, losses: int, ties: int = 0) -> list[Comparison]:
    return [Comparison(a, b, "a")] * wins + [Comparison(a, b, "b")] * losses + [Comparison(a, b, "tie")] * ties


def draw(rng: np.random.Generator, worth: list[float], log_tie: float, num: int, left: float = 0.0) -> list[Comparison]:
    """Comparisons of random pairs on random sides, by the model."""
    names = [f"item{i}" for i in range(len(worth))]
    rows = []
    for _ in range(num):
        i, j = rng.choice(len(worth), 2, replace=False)
        side = rng.choice([1, -1])
        d = worth[i] - worth[j] + left * side
        outcome = rng.choice(["a", "b", "tie"], p=special.softmax([d / 2, -d / 2, log_tie]))
        rows.append(Comparison(names[i], names[j], outcome, "a" if side > 0 else "b"))
    return rows


def test_two_items_by_hand() -> None:
    """3 wins, 1 loss, 2 ties: fitted shares equal the seen ones, so e^d = 3 and nu = 2 / sqrt(3 * 1)."""
    fit = fit_davidson(compare("x", "y", 3, 1, 2))
    assert fit.worth == pytest.approx([math.log(3) / 2, -math.log(3) / 2])
    assert fit.log_tie == pytest.approx(math.log(2 / math.sqrt(3)))
    assert fit.log_likelihood == pytest.approx(3 * math.log(3 / 6) + math.log(1 / 6) + 2 * math.log(2 / 6))
    assert (fit.wins.tolist(), fit.losses.tolist(), fit.ties.tolist()) == ([3, 1], [1, 3], [2, 2])
    # The log-odds of 3 wins to 1 loss have the variance 1/3 + 1/1; each worth is half of them.
    assert fit.se == pytest.approx([math.sqrt(4 / 3) / 2] * 2)
    assert fit.worth.sum() == pytest.approx(0, abs=1e-15)


def test_slopes_and_curvature_are_the_derivatives() -> None:
    _, counts = _count(draw(np.random.default_rng(1), [0.8, 0.0, -0.8], 0.2, 200, left=0.4))
    model = Likelihood(counts, ties=True, left=True)
    x = np.array([0.3, -0.2, 0.1, -0.4, 0.25])
    assert model.slopes(x) == pytest.approx(optimize.approx_fprime(x, model.loss, 1e-6), rel=1e-4, abs=1e-3)
    numeric = np.array([optimize.approx_fprime(x, lambda z, k=k: model.slopes(z)[k], 1e-6) for k in range(len(x))])
    assert model.curvature(x) == pytest.approx(numeric, rel=1e-4, abs=1e-3)


def test_swapping_the_sides_of_a_pair_changes_nothing() -> None:
    comparisons = draw(np.random.default_rng(2), [0.5, 0.0, -0.5], 0.0, 300, left=0.5)
    turned = {"a": "b", "b": "a", "tie": "tie"}
    swapped = [Comparison(b, a, turned[o], None if s is None else turned[s]) for a, b, o, s in comparisons]  # type: ignore[arg-type]
    one, two = fit_davidson(comparisons, left_bias=True), fit_davidson(swapped, left_bias=True)
    assert one.worth == pytest.approx(two.worth)
    assert one.left_bias == pytest.approx(two.left_bias)


def test_planted_values_are_found_within_their_errors() -> None:
    planted = np.array([0.9, 0.3, -0.2, -1.0])
    misses = []
    for seed in range(60):
        fit = fit_davidson(draw(np.random.default_rng(seed), planted.tolist(), -0.5, 400, left=0.4), left_bias=True)
        z = np.append(
            (fit.worth - planted) / fit.se, [(fit.log_tie + 0.5) / fit.se_log_tie, (fit.left_bias - 0.4) / fit.se_left_bias]
        )
        misses.append(z)
    # z is standard normal: means within 5 / sqrt(60), standard deviations within a third of 1.
    assert np.abs(np.mean(misses, axis=0)).max() < 5 / math.sqrt(60)
    assert np.std(misses, axis=0) == pytest.approx(np.ones(6), abs=0.33)


def test_the_covariance_gives_the_error_of_a_difference() -> None:
    fit = fit_davidson(compare("x", "y", 30, 20, 10) + compare("y", "z", 25, 25, 10) + compare("x", "z", 20, 22, 8))
    assert fit.covariance.sum(axis=1) == pytest.approx(np.zeros(3), abs=1e-12)
    assert np.sqrt(np.diag(fit.covariance)) == pytest.approx(fit.se)


def test_parts_that_nobody_compared_are_named() -> None:
    fit = fit_davidson(compare("x", "y", 3, 2) + compare("y", "z", 2, 2) + compare("p", "q", 1, 1, 1))
    assert not fit.connected
    assert fit.components == (("x", "y", "z"), ("p", "q"))
    assert "2 parts that nobody compared with each other: {x, y, z}; {p, q}" in fit.reason
    assert np.isnan(fit.worth).all() and np.isnan(fit.se).all() and math.isnan(fit.log_tie)
    assert fit.wins.tolist() == [1, 1, 3, 4, 2]


def test_who_always_won_is_named() -> None:
    fit = fit_davidson(compare("x", "y", 3, 0) + compare("y", "z", 2, 1, 1))
    assert fit.connected
    assert fit.reason.startswith("x always won:")
    assert np.isnan(fit.worth).all()
    group = fit_davidson(compare("x", "y", 3, 2, 1) + compare("x", "z", 2, 0) + compare("z", "u", 2, 1))
    assert group.reason.startswith("{x, y} always won against all others:")
    assert fit_davidson(compare("x", "y", 3, 0) + compare("y", "z", 2, 1, 1) + compare("z", "x", 0, 1, 1)).reason == ""


def test_wins_and_ties_may_fit_one_order_though_everybody_tied() -> None:
    """One win and one tie: with d and nu growing together the likelihood rises towards 1/4 and never gets there."""
    fit = fit_davidson(compare("x", "y", 1, 0, 1))
    assert fit.reason == ONE_ORDER
    assert np.isnan(fit.worth).all()


def test_ties_alone_rank_nothing() -> None:
    assert "every vote is a tie" in fit_davidson(compare("x", "y", 0, 0, 5)).reason


def test_no_comparison_of_two_items() -> None:
    for rows in ([], compare("x", "x", 3, 0, 2)):
        fit = fit_davidson(rows)
        assert (fit.items, fit.num_votes, fit.reason) == ((), 0, "there is no comparison of two different items")


def test_without_ties_it_is_bradley_terry() -> None:
    """Zermelo's condition: expected wins equal wins."""
    fit = fit_davidson(compare("x", "y", 7, 3) + compare("y", "z", 5, 5) + compare("z", "x", 2, 6))
    assert math.isnan(fit.log_tie)
    assert fit.notes == (NO_TIES,)
    games = {("x", "y"): 10, ("y", "z"): 10, ("x", "z"): 8}
    worth = dict(zip(fit.items, fit.worth, strict=True))
    for k, name in enumerate(fit.items):
        expected = sum(
            num * special.expit(worth[name] - worth[a if b == name else b]) for (a, b), num in games.items() if name in (a, b)
        )
        assert expected == pytest.approx(fit.wins[k])


def test_a_left_bias_needs_sides_that_vary() -> None:
    rows = compare("x", "y", 5, 4, 3) + compare("y", "z", 4, 4, 2)
    assert fit_davidson(rows, left_bias=True).notes == (NO_SIDES,)
    always = [row._replace(shown_left="a") for row in compare("x", "y", 5, 4, 3)]
    fit = fit_davidson(always, left_bias=True)
    assert (math.isnan(fit.left_bias), fit.notes) == (True, (NO_SIDES,))
    assert fit.worth == pytest.approx(fit_davidson(always).worth)
    # In a circle the same sides do tell: nobody can be better than everybody.
    circle = [row._replace(shown_left="a") for pair in ("xy", "yz", "zx") for row in compare(*pair, 6, 3, 2)]
    assert fit_davidson(circle, left_bias=True).left_bias == pytest.approx(math.log(2))


def test_votes_become_comparisons(make_vote) -> None:
    votes = [
        make_vote("v1", "a", shown_left="b"),
        make_vote("v2", "both_bad"),
        make_vote("v3", "skip"),
        make_vote("v4", "a"),
        make_vote("v5", "b", supersedes="v4"),
        make_vote("v6", "tie", selection="catch", pair_id="p2", rollout_b="r1"),
        make_vote("v7", "a", pair_id="p3", rollout_b="r9"),
    ]
    plain = comparisons_of(votes)
    assert plain[:3] == [Comparison("r1", "r2", "a", "b"), Comparison("r1", "r2", "tie"), Comparison("r1", "r2", "b")]
    assert len(plain) == 4
    assert comparisons_of(votes, {"r1": "base", "r2": "base + lora"})[0] == Comparison("base", "base + lora", "a", "b")
    assert len(comparisons_of(votes, {"r1": "base", "r2": "base + lora"})) == 3  # r9's maker is unknown


def test_an_unknown_outcome_is_refused() -> None:
    with pytest.raises(ValueError, match="'a', 'b' or 'tie', got 'both_bad'"):
        fit_davidson([Comparison("x", "y", "both_bad")])  # type: ignore[arg-type]


def test_many_items_and_extreme_worths() -> None:
    """A chain in which each item beats the next 19 times of 20: worths far apart, and still a maximum."""
    rows = [row for k in range(15) for row in compare(f"i{k:02d}", f"i{k + 1:02d}", 19, 1)]
    fit = fit_davidson(rows)
    assert fit.reason == ""
    assert -np.diff(fit.worth) == pytest.approx(np.full(15, math.log(19)))
    everybody = [row for pair in combinations(range(40), 2) for row in compare(f"i{pair[0]:02d}", f"i{pair[1]:02d}", 3, 2, 1)]
    assert np.all(np.diff(fit_davidson(everybody).worth) < 0)
