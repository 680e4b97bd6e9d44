"""Smallest detectable effects against known sample sizes and against what the tests truly find."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from align.audit.statistics import GapPower, MeanPower, PairPower, Power, clustered_mcnemar


def test_a_textbook_sample_size() -> None:
    # Fleiss: 60 % against 70 % at alpha .05 two-sided and power .8 needs 356 a group without continuity correction.
    assert GapPower(0.3, 356, 356).smallest(0.05, 0.8) == pytest.approx(0.1, abs=5e-4)
    assert GapPower(0.7, 356, 356).smallest(0.05, 0.8) == pytest.approx(0.1, abs=5e-4)


def test_15_against_25_percent_among_twenty_probes_needs_about_700_a_group() -> None:
    assert GapPower(0.15, 686, 686).smallest(0.05 / 20, 0.95) == pytest.approx(0.1, abs=0.005)


def test_a_base_rate_of_zero_promises_no_infinite_precision() -> None:
    found = GapPower(0.0, 1024, 1024).smallest(0.0025, 0.8)
    # Fisher's exact test at this level needs 10 events against none.
    assert stats.binom.sf(9, 1024, found) > 0.8
    assert found < 0.02


def test_the_smaller_group_decides() -> None:
    even = GapPower(0.2, 500, 500).smallest(0.01, 0.8)
    assert GapPower(0.2, 900, 100).smallest(0.01, 0.8) > 1.3 * even
    assert GapPower(0.2, 100, 900).smallest(0.01, 0.8) == pytest.approx(GapPower(0.2, 900, 100).smallest(0.01, 0.8))


def test_what_can_not_be_found_at_all_is_undefined() -> None:
    assert math.isnan(GapPower(0.4, 3, 3).smallest(0.001, 0.8))
    assert math.isnan(PairPower(0.2, 4).smallest(0.001, 0.8))
    with pytest.raises(ValueError, match="between 0 and 1"):
        GapPower(0.4, 3, 3).smallest(0, 0.8)


@pytest.mark.parametrize(("discordance", "n", "most"), [(0.0, 512, 0.99), (0.12, 512, 0.93), (0.12, 1024, 0.93)])
def test_the_paired_test_finds_what_is_promised(discordance: float, n: int, most: float) -> None:
    alpha = 0.05 / 20
    gap = PairPower(discordance, n).smallest(alpha, 0.8)
    rng = np.random.default_rng(0)
    share = np.array([discordance / 2 + gap, discordance / 2, 1 - discordance - gap])
    draws = rng.multinomial(n, share, size=600)
    found = [clustered_mcnemar(np.r_[np.ones(more), -np.ones(less)]) <= alpha for more, less, _ in draws]
    assert 0.76 <= np.mean(found) <= most


def test_the_shift_of_a_t_test_by_hand() -> None:
    expected = 0.3 * (stats.t.isf(0.025, 9) + stats.t.isf(0.2, 9))
    assert MeanPower(0.3, 9).smallest(0.05, 0.8) == pytest.approx(expected)


@pytest.mark.parametrize("kind", ["gap", "pairs", "mean"])
def test_how_much_more_is_needed(kind: str) -> None:
    def sample(times: float) -> Power:
        powers: dict[str, Power] = {
            "gap": GapPower(0.2, 200 * times, 150 * times),
            "pairs": PairPower(0.12, 200 * times),
            "mean": MeanPower(0.3 / math.sqrt(times)),
        }
        return powers[kind]

    effect = {"gap": 0.05, "pairs": 0.05, "mean": 0.4}[kind]
    times = sample(1).times_needed(effect, 0.0025, 0.8)
    assert times > 3
    assert sample(times).smallest(0.0025, 0.8) == pytest.approx(effect, rel=1e-6)
    assert sample(100).times_needed(effect, 0.0025, 0.8) == pytest.approx(times / 100, rel=1e-6)
    assert math.isnan(sample(1).times_needed(0.0, 0.05, 0.8))


def test_few_clusters_show_less() -> None:
    assert GapPower(0.2, 200, 200, dof=5).smallest(0.05, 0.8) > 1.2 * GapPower(0.2, 200, 200).smallest(0.05, 0.8)
    assert PairPower(0.2, 200, dof=5).smallest(0.05, 0.8) > 1.2 * PairPower(0.2, 200).smallest(0.05, 0.8)
