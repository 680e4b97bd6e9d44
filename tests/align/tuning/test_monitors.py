"""Monitors fire on planted decline and not on noise; how often they do is measured over made-up histories."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

from align.tuning.monitors import MONITORS, Alarm, Limits, Measurement, over_optimised, watch

Make = Callable[..., Any]
LIMITS = Limits()
CHECKS = 12


def first_alarm(history: Sequence[Measurement], limits: Limits = LIMITS) -> tuple[int, list[Alarm]]:
    """Number of the check at which tuning stops (0 for never) and what rang."""
    for check in range(1, len(history)):
        if alarms := watch(history[: check + 1], limits):
            return check, alarms
    return 0, []


def make_hack(levels: Make, fall: float, start: int = 5) -> list[float]:
    """Gold reward by check: up to a plateau, then down by ``fall`` a check."""
    rise = levels(0.6, 0.97)[: start + 1]
    return rise + [max(rise[-1] - fall * (i + 1), 0) for i in range(CHECKS - start - 1)]


def test_the_base_alone_raises_nothing(make_history: Make) -> None:
    assert watch(make_history(0)[:1], LIMITS) == [] == watch([], LIMITS)


DECLINES = {
    "collapsing axis": ("proxy/success", [0.9] * 4 + [0.5] * 8),
    "lost diversity": ("entropy", [0.45] * 4 + [0.05] * 8),
    "lost motion": ("motion", [0.02] * 4 + [0.002] * 8),
    "rising data loss": ("action_nll", [0.45] * 4 + [1.6] * 8),
}


@pytest.mark.parametrize("monitor", DECLINES)
def test_a_planted_decline_is_named_and_the_check_before_it_kept(monitor: str, make_history: Make) -> None:
    kind, levels = DECLINES[monitor]
    check, alarms = first_alarm(make_history(1, {kind: levels}))
    assert check in (4, 5) and {alarm.monitor for alarm in alarms} == {monitor}
    assert all(alarm.figure.startswith(kind) and alarm.last_good == 30 for alarm in alarms)
    assert " went from " in alarms[0].why


@pytest.mark.parametrize(("kind", "levels"), [("spread", (0.18, 0.002)), ("frame_nll", (0.64, 0.9))])
def test_spread_and_frames_are_watched_too(kind: str, levels: tuple[float, float], make_history: Make) -> None:
    check, alarms = first_alarm(make_history(2, {kind: [levels[0]] * 6 + [levels[1]] * 6}))
    assert check in (6, 7) and {alarm.figure.partition("/")[0] for alarm in alarms} == {kind}


def test_over_optimisation_keeps_the_peak(make_history: Make, levels: Make) -> None:
    gold = make_hack(levels, 0.1)
    history = make_history(3, {"gold/good": gold, "gold/success": gold, "proxy/good": levels(0.6, 0.99)})
    check, alarms = first_alarm(history)
    assert {alarm.monitor for alarm in alarms} >= {"over-optimisation"}
    assert 6 <= check <= 8 and min(alarm.last_good for alarm in alarms) in (40, 50)
    assert "while the proxy rose" in alarms[0].why


def test_after_a_steep_rise_the_peak_is_kept_and_not_the_check_behind_it() -> None:
    gold, proxy = [0.5, 0.9, 0.72, 0.5], [0.5, 0.7, 0.8, 0.9]
    history = [Measurement(20 * i, {"gold/good": [gold[i]] * 20, "proxy/good": [proxy[i]] * 20}) for i in range(len(gold))]
    (alarm,) = over_optimised(history, LIMITS)
    assert alarm.last_good == 20 and "fell from 0.900 at step 20" in alarm.why


def test_a_fall_that_the_proxy_shares_is_not_over_optimisation(make_history: Make, levels: Make) -> None:
    down = [0.95] * 4 + [0.7] * 8
    history = make_history(4, {"gold/good": down, "proxy/good": down})
    assert over_optimised(history, LIMITS) == []
    assert over_optimised(make_history(4, {"gold/good": down}), LIMITS)


def test_without_a_gold_reward_nothing_is_said_about_it(make_history: Make) -> None:
    history = [
        Measurement(row.step, {name: v for name, v in row.figures.items() if not name.startswith("gold")})
        for row in make_history(5)
    ]
    assert all(monitor(history, LIMITS) == [] for monitor in MONITORS)


def test_a_difference_of_two_contexts_is_no_evidence() -> None:
    figures = [{"motion/pour": [1.0, 1.0]}, {"motion/pour": [0.1, 0.4]}]
    assert watch([Measurement(i, row) for i, row in enumerate(figures)], LIMITS) == []
    figures = [{"motion/pour": [1.0] * 9}, {"motion/pour": [0.1] * 9}]
    assert len(watch([Measurement(i, row) for i, row in enumerate(figures)], LIMITS)) == 1


def measure_rates(make_history: Make, planted: dict[str, Any], first_seed: int, count: int) -> list[tuple[int, int]]:
    """For each history the check that it was stopped at (0 for never) and the check whose adapter was kept."""
    rows = []
    for seed in range(first_seed, first_seed + count):
        check, alarms = first_alarm(make_history(seed, planted))
        rows.append((check, min((alarm.last_good for alarm in alarms), default=0) // 10))
    return rows


def test_few_false_alarms_and_few_missed_hacks(make_history: Make, levels: Make) -> None:
    """A small share of what the slow test measures."""
    assert sum(check > 0 for check, _ in measure_rates(make_history, {}, 0, 15)) == 0
    gold = make_hack(levels, 0.05)
    hacked = {"gold/good": gold, "gold/success": gold, "proxy/good": levels(0.6, 0.99)}
    assert sum(check > 0 for check, _ in measure_rates(make_history, hacked, 1000, 15)) >= 14


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_error_rates_are_those_in_the_documents(make_history: Make, levels: Make) -> None:
    count, flat, slow, fast = 200, [0.8] * CHECKS, make_hack(levels, 0.02), make_hack(levels, 0.05)
    cases: dict[str, dict[str, Any]] = {
        "honest": {},
        "flat": {"gold/good": flat, "gold/success": flat, "gold/hazard": flat},
        "2 points a check": {"gold/good": slow, "gold/success": slow, "proxy/good": levels(0.6, 0.99)},
        "5 points a check": {"gold/good": fast, "gold/success": fast, "proxy/good": levels(0.6, 0.99)},
    }
    stopped, lost = {}, {}
    for number, (name, planted) in enumerate(cases.items()):
        rows = measure_rates(make_history, planted, 10_000 * number, count)
        stopped[name] = sum(check > 0 for check, _ in rows) / count
        gold = planted.get("gold/good", levels(0.6, 0.95))
        lost[name] = [max(gold) - gold[kept] for check, kept in rows if check]
    assert stopped["honest"] <= 0.01 and stopped["flat"] <= 0.06
    assert stopped["5 points a check"] >= 0.99 and stopped["2 points a check"] >= 0.3
    assert np.median(lost["5 points a check"]) <= 0.001
    assert np.quantile(lost["5 points a check"], 0.95) <= 0.051
