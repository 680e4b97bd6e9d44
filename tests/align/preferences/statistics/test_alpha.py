from __future__ import annotations

import math

import krippendorff
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from align.preferences.statistics.alpha import (
    METRICS,
    NO_DISAGREEMENT,
    NO_OVERLAP,
    NO_RATINGS,
    ONE_UNIT,
    ONE_VALUE,
    alpha_of,
    krippendorff_alpha,
)

_ = np.nan
# K. Krippendorff, "Computing Krippendorff's alpha-reliability" (2011), example C: 4 observers, 12 units.
BOOK = np.array(
    [
        [1, 2, 3, 3, 2, 1, 4, 1, 2, _, _, _],
        [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, _, 3],
        [_, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, _],
        [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, _],
    ]
).T


@pytest.mark.parametrize(("metric", "published"), [("nominal", 0.743), ("ordinal", 0.815), ("interval", 0.849)])
def test_the_published_example(metric, published: float) -> None:
    alpha = krippendorff_alpha(BOOK, metric)
    assert round(alpha.value, 3) == published
    assert (alpha.num_units, alpha.num_ratings, alpha.reason) == (11, 40, "")
    assert alpha.low < alpha.value < alpha.high


def test_nominal_alpha_by_hand() -> None:
    # Units: aa, ab, bb. D_o = 1/6 * (2 * 1) = 1/3 ; counts a 3, b 3: D_e = 2 * 9 / 30 = 0.6 ; alpha = 1 - (1/3) / 0.6 = 4/9.
    alpha = alpha_of([1, 1, 2, 2, 3, 3], ["a", "a", "a", "b", "b", "b"])
    assert alpha.value == pytest.approx(4 / 9)


@pytest.mark.parametrize("metric", METRICS)
@given(data=st.data())
def test_the_same_as_the_package_krippendorff(metric, data) -> None:
    cell = st.one_of(st.just(math.nan), st.integers(0, 4).map(float))
    shape = data.draw(st.tuples(st.integers(2, 8), st.integers(2, 5)))
    table = np.array(data.draw(st.lists(cell, min_size=math.prod(shape), max_size=math.prod(shape)))).reshape(shape)
    pairable = table[(~np.isnan(table)).sum(axis=1) > 1]
    if len(np.unique(pairable[~np.isnan(pairable)])) < 2:
        return  # undefined, see below
    expected = krippendorff.alpha(reliability_data=table.T, level_of_measurement=metric)
    assert krippendorff_alpha(table, metric, num_resamples=1).value == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("metric", METRICS)
def test_an_undefined_alpha_says_why(metric) -> None:
    for table, reason, num in (
        (np.full((3, 2), _), NO_RATINGS, 0),
        (np.zeros((0, 3)), NO_RATINGS, 0),
        ([[1, _], [_, 2], [_, _]], NO_OVERLAP, 0),
        ([[2, 2], [2, 2], [1, _]], ONE_VALUE, 2),
    ):
        alpha = krippendorff_alpha(table, metric)
        assert (math.isnan(alpha.value), math.isnan(alpha.low), alpha.reason, alpha.num_units) == (True, True, reason, num)


def test_an_alpha_without_an_interval_says_why() -> None:
    perfect = krippendorff_alpha([[1, 1], [2, 2], [1, 1]])
    assert (perfect.value, math.isnan(perfect.low), perfect.reason) == (1.0, True, NO_DISAGREEMENT)
    single = krippendorff_alpha([[1, 2, 2]])
    assert (math.isnan(single.high), single.reason) == (True, ONE_UNIT)
    assert single.value == pytest.approx(0.0)


@pytest.mark.parametrize("metric", METRICS)
def test_the_bootstrap_resamples_units(metric) -> None:
    """Against a plain loop over the same draws: each takes its units, with copies, and computes alpha anew."""
    table = BOOK[:11]
    rng = np.random.default_rng(3)
    values = []
    for _draw in range(200):
        weights = rng.multinomial(11, np.full(11, 1 / 11))
        values.append(krippendorff.alpha(np.repeat(table, weights, axis=0).T, level_of_measurement=metric))
    alpha = krippendorff_alpha(table, metric, num_resamples=200, seed=3)
    assert (alpha.low, alpha.high) == pytest.approx(tuple(np.quantile(values, [0.025, 0.975])), abs=1e-9)
    assert alpha == krippendorff_alpha(table, metric, num_resamples=200, seed=3)
    assert alpha != krippendorff_alpha(table, metric, num_resamples=200, seed=4)


def test_the_interval_covers_the_truth() -> None:
    """Two raters who agree by copying with chance 1/2, else answer at random: alpha is 1/2. 95 % of 200 intervals, +- 5 sd."""
    rng = np.random.default_rng(0)
    covered = 0
    for _draw in range(200):
        first = rng.integers(0, 2, 60)
        second = np.where(rng.random(60) < 0.5, first, rng.integers(0, 2, 60))
        alpha = krippendorff_alpha(np.stack([first, second], axis=1), num_resamples=300)
        covered += alpha.low <= 0.5 <= alpha.high
    assert covered >= 200 * 0.95 - 5 * math.sqrt(200 * 0.95 * 0.05)


def test_blocks_of_draws_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = krippendorff_alpha(BOOK, seed=1)
    monkeypatch.setattr("align.preferences.statistics.alpha._BLOCK", 50)
    assert krippendorff_alpha(BOOK, seed=1) == whole


def test_large_values_do_not_cancel() -> None:
    assert krippendorff_alpha(BOOK + 1e6, "interval").value == pytest.approx(
        krippendorff_alpha(BOOK, "interval").value, abs=1e-6
    )


def test_bad_arguments_are_named() -> None:
    with pytest.raises(ValueError, match="metric must be one of"):
        krippendorff_alpha(BOOK, "ratio")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="needs numbers as ratings"):
        krippendorff_alpha([["a", "b"]], "interval")
    with pytest.raises(ValueError, match="a table of units x annotators"):
        krippendorff_alpha([1, 2, 3])
    with pytest.raises(ValueError, match="one length"):
        alpha_of([1], [1, 2])
