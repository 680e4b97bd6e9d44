"""Watching a GRPO run: multipliers after every batch of rollouts, a measurement and the monitors at every checkpoint."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import TrainerCallback
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR

from align.io import read_json, write_json
from align.tuning.checks import costs_of
from align.tuning.constraints import Multipliers, make_budgets
from align.tuning.monitors import Alarm, Limits, Measurement, watch

STATE = "oversight.json"
"""Written into a checkpoint last, so a checkpoint that has it is whole."""


class Oversight(TrainerCallback):
    """Holds the constraints, measures, and stops the run when a monitor says so.

    Args:
        hazards: Constrained axes, in the order of the rewards after the objective.
        multipliers: Their multipliers.
        measure: Measures the policy as it is, on all ranks together.
        limits: Of the monitors.
    """

    def __init__(
        self,
        hazards: tuple[str, ...],
        multipliers: Multipliers,
        measure: Callable[[], Mapping[str, list[float]]],
        limits: Limits,
    ) -> None:
        self.hazards, self.multipliers, self.measure, self.limits = hazards, multipliers, measure, limits
        self.history: list[Measurement] = []
        self.alarms: list[Alarm] = []
        self.weights = torch.ones(1 + len(hazards))

    def attach(self, weights: torch.Tensor) -> None:
        """Take the trainer's ``reward_weights``, which follow the multipliers from now on."""
        self.weights = weights
        self._apply()

    def measure_base(self, share: float, given: Mapping[str, float]) -> None:
        """Measure the untuned policy and set the budgets by it."""
        self.history = [Measurement(0, self.measure())]
        base = {axis: float(np.mean(costs_of(self.history[0].figures, axis))) for axis in self.hazards}
        self.multipliers.begin(make_budgets(base, share, given, self.hazards))
        self._apply()

    @property
    def kept_step(self) -> int:
        """Step of the last measurement that was still good; 0 is the base."""
        return min((alarm.last_good for alarm in self.alarms), default=self.history[-1].step)

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **kwargs: Any) -> None:
        """One step of the multipliers for each batch of rollouts; TRL logs its means over all ranks."""
        passed = {axis: (logs or {}).get(f"rewards/{axis}/mean") for axis in self.hazards}
        self.multipliers.ascend({axis: None if value is None else 1 - value for axis, value in passed.items()})
        self._apply()

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Measure, watch, and make the checkpoint whole."""
        self.history.append(Measurement(state.global_step, self.measure()))
        self.alarms = watch(self.history, self.limits)
        if self.alarms:
            control.should_training_stop = True
        if state.is_world_process_zero:
            folder = Path(args.output_dir) / f"{PREFIX_CHECKPOINT_DIR}-{state.global_step}"
            write_json(folder / STATE, self.state())

    def state(self) -> dict[str, Any]:
        """What :meth:`load_state` restores, exactly."""
        history, alarms = [asdict(row) for row in self.history], [asdict(alarm) for alarm in self.alarms]
        return {"multipliers": self.multipliers.state(), "history": history, "alarms": alarms}

    def load_state(self, checkpoint: Path) -> None:
        """Go on from a checkpoint."""
        state = read_json(checkpoint / STATE)
        self.multipliers.load_state(state["multipliers"])
        self.history = [Measurement(**row) for row in state["history"]]
        self.alarms = [Alarm(**alarm) for alarm in state["alarms"]]
        self._apply()

    def _apply(self) -> None:
        for place, axis in enumerate(self.hazards, start=1):
            self.weights[place] = self.multipliers.values.get(axis, self.multipliers.start)
