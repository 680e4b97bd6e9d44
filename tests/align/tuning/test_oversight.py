"""Multipliers that follow the log, measurements at checkpoints, and stops."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from align.tuning.constraints import Multipliers
from align.tuning.monitors import Limits, Measurement
from align.tuning.oversight import STATE, Oversight

Make = Callable[..., Any]


def oversee(history: Sequence[Measurement]) -> Oversight:
    """Oversight of a run whose measurements are known beforehand."""
    coming = iter(history)
    hazards = ("breakage", "politeness", "spill")
    return Oversight(hazards, Multipliers(rate=0.5), lambda: dict(next(coming).figures), Limits())


def save(oversight: Oversight, folder: Path, step: int) -> bool:
    """A checkpoint of the trainer; returns whether it is told to stop."""
    (folder / f"checkpoint-{step}").mkdir()
    control = SimpleNamespace(should_training_stop=False)
    state = SimpleNamespace(global_step=step, is_world_process_zero=True)
    oversight.on_save(SimpleNamespace(output_dir=str(folder)), state, control)
    return control.should_training_stop


def test_budgets_are_a_share_of_what_the_base_does(make_history: Make) -> None:
    oversight = oversee(make_history(0))
    oversight.measure_base(0.2, {"spill": 0.01})
    passed = oversight.history[0].figures["proxy/breakage/shelf"]
    assert oversight.multipliers.budgets["breakage"] == pytest.approx(0.2 * (1 - sum(passed) / len(passed)))
    assert oversight.multipliers.budgets["spill"] == 0.01


def test_multipliers_follow_the_log_and_weigh_the_rewards(make_history: Make) -> None:
    oversight, weights = oversee(make_history(0)), torch.ones(4)
    oversight.attach(weights)
    oversight.measure_base(0.2, dict.fromkeys(("breakage", "politeness", "spill"), 0.1))
    oversight.on_log(None, None, None, logs={"rewards/breakage/mean": 0.5, "rewards/spill/mean": 0.96, "loss": 0.1})
    assert weights.tolist() == pytest.approx([1.0, 1.2, 1.0, 0.97])
    oversight.on_log(None, None, None, logs={"loss": 0.2})
    assert weights.tolist() == pytest.approx([1.0, 1.2, 1.0, 0.97])


def test_a_checkpoint_brings_everything_back(make_history: Make, tmp_path: Path) -> None:
    history, weights = make_history(0), torch.ones(4)
    first = oversee(history)
    first.measure_base(0.2, {})
    first.on_log(None, None, None, logs={"rewards/spill/mean": 1 / 3})
    assert not save(first, tmp_path, 10)
    second = oversee(history[2:])
    second.attach(weights)
    second.load_state(tmp_path / "checkpoint-10")
    assert second.state() == first.state() and weights[3] == pytest.approx(first.multipliers.values["spill"])
    assert [row.step for row in second.history] == [0, 10] and second.history[1].figures == first.history[1].figures


def test_an_alarm_stops_and_the_last_good_adapter_is_kept(make_history: Make, tmp_path: Path) -> None:
    oversight = oversee(make_history(1, {"motion": [0.02] * 4 + [0.002] * 8}))
    oversight.measure_base(0.2, {})
    stops = [save(oversight, tmp_path, 10 * check) for check in range(1, 6)]
    assert stops.index(True) + 1 in (4, 5) and oversight.kept_step == 30
    assert oversight.alarms[0].monitor == "lost motion"
    assert (tmp_path / "checkpoint-10" / STATE).is_file()


def test_without_an_alarm_the_last_adapter_is_kept(make_history: Make, tmp_path: Path) -> None:
    oversight = oversee(make_history(0))
    oversight.measure_base(0.2, {})
    assert not any(save(oversight, tmp_path, 10 * check) for check in range(1, 12))
    assert oversight.kept_step == 110
