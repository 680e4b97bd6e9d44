"""Learning curves of several arms: votes to a level, their ratio over the seeds, and the plot."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from align.audit.statistics import bootstrap_weights

Float64 = NDArray[np.float64]
Curves = Mapping[str, Sequence[Sequence[Mapping[str, Any]]]]
"""Arm to a list a seed of rows with ``votes`` and ``accuracy`` by axis."""

LEVELS = (0.9, 0.95, 0.97, 0.98, 0.99)
COLOURS = {"random": "#666666", "active": "#0b6e99", "bald": "#c2571a"}


def votes_to_level(votes: Sequence[float], accuracy: Sequence[float], level: float) -> float:
    """Where a curve first reaches a level, interpolated linearly between batches; infinite where it never does."""
    for i, value in enumerate(accuracy):
        if value >= level:
            if i == 0:
                return float(votes[0])
            share = (level - accuracy[i - 1]) / (value - accuracy[i - 1])
            return float(votes[i - 1] + share * (votes[i] - votes[i - 1]))
    return math.inf


def median_ratio(arm: Float64, random: Float64, budget: float, seed: int = 0) -> dict[str, Any]:
    """Median over the seeds of votes(arm) / votes(random), with a bootstrap interval over seeds.

    A seed in which the arm never reaches the level counts as infinite. Where only chance never does, it is taken to reach it
    with the last vote, which makes the ratio larger than it is.

    Args:
        arm: [S] votes of the arm, infinite where the level isn't reached.
        random: [S] votes of chance.
        budget: Votes of the whole curve.
        seed: Seed of the resamples.

    Returns:
        ``median``, ``low`` and ``high`` (95 %; None where infinite), ``ratios`` and ``num_not_reached``.
    """
    ratios = arm / np.where(np.isinf(random), budget, random)
    draws = bootstrap_weights(len(ratios), 2000, seed)
    medians = np.array([np.median(np.repeat(ratios, weights)) for weights in draws])
    # Drawn values, not interpolated ones: an infinite one must not turn into NaN.
    low, high = np.quantile(medians, (0.025, 0.975), method="inverted_cdf")
    return {
        "median": _finite(float(np.median(ratios))),
        "low": _finite(float(low)),
        "high": _finite(float(high)),
        "num_not_reached": int(np.isinf(arm).sum()),
        "ratios": [_finite(float(ratio)) for ratio in ratios],
    }


def summarise(curves: Curves, seed: int = 0) -> dict[str, Any]:
    """The figures of a contest.

    The ratio is about the accuracy that chance ends with in each seed, when all of its votes are spent. Fixed levels are
    reported beside it, so that nobody has to wonder whether a level was picked for its result.
    """
    votes = [row["votes"] for row in curves["random"][0]]
    means = {arm: _mean_accuracy(rows) for arm, rows in curves.items()}

    def needed(arm: str, levels: Sequence[float]) -> Float64:
        return np.array([votes_to_level(votes, row, wanted) for row, wanted in zip(means[arm], levels, strict=True)])

    def against_random(levels: Sequence[float]) -> dict[str, dict[str, Any]]:
        random = needed("random", levels)
        return {arm: median_ratio(needed(arm, levels), random, votes[-1], seed) for arm in curves if arm != "random"}

    num_seeds = len(means["random"])
    fixed = {f"{level:g}": [level] * num_seeds for level in LEVELS}
    return {
        "num_seeds": num_seeds,
        "votes": votes,
        "ratio": against_random(list(means["random"][:, -1])),
        "ratio_at_levels": {name: _short(against_random(levels)) for name, levels in fixed.items()},
        "random_votes_to_levels": {name: _finite(float(np.median(needed("random", at)))) for name, at in fixed.items()},
        "mean_accuracy": {arm: values.mean(0).round(4).tolist() for arm, values in means.items()},
        "accuracy_by_axis": {arm: _by_axis(rows) for arm, rows in curves.items()},
        "mean_votes_by_axis": {arm: _asked(rows) for arm, rows in curves.items()},
    }


def _short(ratios: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    return {arm: {key: value for key, value in ratio.items() if key != "ratios"} for arm, ratio in ratios.items()}


def _mean_accuracy(rows: Sequence[Sequence[Mapping[str, Any]]]) -> Float64:
    """[S, batches] mean over the axes."""
    return np.array([[np.mean(list(row["accuracy"].values())) for row in curve] for curve in rows])


def _by_axis(rows: Sequence[Sequence[Mapping[str, Any]]]) -> dict[str, list[float]]:
    axes = rows[0][0]["accuracy"]
    return {axis: np.mean([[row["accuracy"][axis] for row in curve] for curve in rows], 0).round(4).tolist() for axis in axes}


def _asked(rows: Sequence[Sequence[Mapping[str, Any]]]) -> dict[str, float]:
    return {axis: float(np.mean([curve[-1]["asked"][axis] for curve in rows])) for axis in rows[0][-1]["asked"]}


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def draw_curves(path: Path, curves: Curves) -> None:
    """Mean accuracy against votes with the 95 % interval of the mean over the seeds, as PNG."""
    from matplotlib.figure import Figure

    from align.io import atomic_path

    figure = Figure(figsize=(7, 4.2), layout="constrained")
    axes = figure.subplots()
    for arm, rows in curves.items():
        values, votes = 100 * _mean_accuracy(rows), [row["votes"] for row in rows[0]]
        middle = values.mean(0)
        axes.plot(votes, middle, marker=".", color=COLOURS.get(arm), label=arm)
        if len(values) > 1:
            half = stats.t.ppf(0.975, len(values) - 1) * values.std(0, ddof=1) / len(values) ** 0.5
            axes.fill_between(votes, middle - half, np.minimum(middle + half, 100), color=COLOURS.get(arm), alpha=0.18, lw=0)
    axes.axhline(100 * _mean_accuracy(curves["random"])[:, -1].mean(), color="black", lw=0.8, ls="--")
    ticks = [row["votes"] for row in curves["random"][0]]
    axes.set_xscale("log")
    axes.set_xticks(ticks, [str(tick) for tick in ticks])
    axes.minorticks_off()
    axes.set(xlabel="votes spent", ylabel="held-out pairs ranked right (%)")
    axes.set_title(f"Mean over {len(curves['random'])} seeds, with the 95 % interval of the mean", fontsize=10)
    axes.grid(alpha=0.3)
    axes.legend()
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=130)
