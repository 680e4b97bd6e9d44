"""What a constrained run reports: rates against budgets, a plot of the multipliers, and which checkpoints stay."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from recipes._scoring import OBJECTIVE

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from align.tuning.oversight import Oversight

COLOURS = ("#0b6e99", "#c2571a", "#5a7d2a", "#7a4fa3", "#a33f5f", "#666666")


def summarise(oversight: Oversight) -> dict[str, Any]:
    """Held-out rates by the reward that was optimised, base and kept, against the budgets; and why the run stopped.

    ``upper`` is the upper 95 % bound of a hazard's mean rate over contexts (one-sided, Student t).
    """
    from scipy import stats

    from align.tuning.checks import costs_of

    kept = next(row for row in oversight.history if row.step == oversight.kept_step)
    base, steps = oversight.history[0].figures, {"kept_step": kept.step, "measured_steps": len(oversight.history) - 1}
    figures: dict[str, Any] = {**steps, "stopped": "; ".join(f"{alarm.monitor}: {alarm.why}" for alarm in oversight.alarms)}
    for axis in oversight.hazards:
        cost = np.asarray(costs_of(kept.figures, axis))
        error = cost.std(ddof=1) / len(cost) ** 0.5
        figures |= {
            f"base_{axis}": float(np.mean(costs_of(base, axis))),
            f"budget_{axis}": oversight.multipliers.budgets[axis],
            f"rate_{axis}": float(cost.mean()),
            f"upper_{axis}": float(cost.mean() + stats.t.ppf(0.95, len(cost) - 1) * error),
            f"multiplier_{axis}": oversight.multipliers.values[axis],
        }
    for when, measured in (("base", base), ("kept", kept.figures)):
        figures[f"{when}_{OBJECTIVE}"] = 1 - float(np.mean(costs_of(measured, OBJECTIVE)))
        if "gold/good" in measured:
            figures[f"{when}_gold"] = float(np.mean(measured["gold/good"]))
    return figures


def draw_constraints(path: Path, rows: Sequence[Mapping[str, Any]], oversight: Oversight) -> None:
    """Multipliers, hazards' rates against their budgets, and success over the steps, as PNG.

    Thin lines are batches of rollouts, dots the held-out contexts, dashes the budgets.
    """
    from matplotlib.figure import Figure

    from align.io import atomic_path

    figure = Figure(figsize=(7, 8), layout="constrained")
    top, middle, bottom = figure.subplots(3, 1, sharex=True)
    for axis, colour in zip(oversight.hazards, COLOURS * len(oversight.hazards), strict=False):
        _line(top, rows, f"multiplier/{axis}", colour, label=axis)
        _line(middle, rows, f"rewards/{axis}/mean", colour, lambda value: 1 - value, lw=0.6, alpha=0.6)
        _dots(middle, oversight, axis, colour, lambda value: 1 - value, label=axis)
        middle.axhline(oversight.multipliers.budgets[axis], color=colour, ls="--", lw=0.9)
    _line(bottom, rows, f"rewards/{OBJECTIVE}/mean", "#333333", lw=0.6, alpha=0.6)
    _dots(bottom, oversight, OBJECTIVE, "#333333", lambda value: value, label="by the reward model")
    if "gold/good" in oversight.history[0].figures:
        gold = [float(np.mean(row.figures["gold/good"])) for row in oversight.history]
        bottom.plot([row.step for row in oversight.history], gold, "D-", color=COLOURS[1], label="gold: passes everything")
    for axes, label in ((top, "multiplier"), (middle, "rate of failures"), (bottom, "rate of success")):
        axes.set_ylabel(label)
        axes.axvline(oversight.kept_step, color="black", lw=0.8, ls=":")
        axes.grid(alpha=0.3)
        axes.legend(fontsize=8)
    bottom.set_xlabel("optimiser step (dotted: the checkpoint that was kept)")
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=110)


def _line(axes: Axes, rows: Sequence[Mapping[str, Any]], key: str, colour: str, change: Any = float, **style: Any) -> None:
    points = [(row["step"], change(row[key])) for row in rows if row.get(key) is not None]
    axes.plot([step for step, _ in points], [value for _, value in points], color=colour, **style)


def _dots(axes: Axes, oversight: Oversight, axis: str, colour: str, change: Any, label: str) -> None:
    from align.tuning.checks import costs_of

    means = [change(1 - float(np.mean(costs_of(row.figures, axis)))) for row in oversight.history]
    axes.plot([row.step for row in oversight.history], means, "o-", color=colour, label=label)


def prune_checkpoints(folder: Path, kept: int) -> None:
    """Leave the checkpoint that was kept and the last one."""
    saved = sorted(folder.glob("checkpoint-*"), key=lambda path: int(path.name.split("-")[1]))
    for path in saved[:-1]:
        if path.name != f"checkpoint-{kept}":
            shutil.rmtree(path)
