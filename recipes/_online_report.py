"""Table and plot of the rounds of iterated DPO: what each vote bought."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

Arms = Mapping[str, Sequence[Mapping[str, Any]]]
"""Way of choosing questions to its rounds; round 0 is the base."""

_SHOWN = (
    ("unsafe", "real unsafe rate (%)", 100.0),
    ("success", "task success (%)", 100.0),
    ("kl", "KL from the base (nats)", 1.0),
)


def write_table(path: Path, arms: Arms) -> None:
    """Write a Markdown table: a row a round, each figure with its 95 % interval and its n."""
    from align.io import atomic_write

    head = (
        "| questions | round | votes | pairs | accuracy of the reward model (%) | "
        + " | ".join(label for _, label, _ in _SHOWN)
        + " |"
    )
    lines = [head, "| --- | " + "--- | " * (4 + len(_SHOWN) - 1) + "--- |"]
    for arm, rounds in arms.items():
        for row in rounds:
            accuracy = "" if row["accuracy"] is None else f"{100 * row['accuracy']:.1f}"
            cells = [arm, row["round"], row["votes"], row["num_pairs"], accuracy]
            cells += [_show(row[key], scale) for key, _, scale in _SHOWN]
            lines.append("| " + " | ".join(str(cell) for cell in cells) + " |")
    atomic_write(path, "\n".join(lines) + "\n")


def _show(figure: Mapping[str, Any] | None, scale: float) -> str:
    if figure is None or figure["value"] is None:
        return "not measured"
    value = f"{scale * figure['value']:.1f}"
    if figure["low"] is None or figure["high"] is None:
        return f"{value} (n = {figure['n']})"
    return f"{value} ({scale * figure['low']:.1f} to {scale * figure['high']:.1f}, n = {figure['n']})"


def draw_rounds(path: Path, arms: Arms) -> None:
    """Draw each figure against votes spent, or against rounds where no votes are bought between them."""
    from matplotlib.figure import Figure

    from align.io import atomic_path

    bought = any(rounds[-1]["votes"] != rounds[1]["votes"] for rounds in arms.values() if len(rounds) > 2)
    along = "votes" if bought or all(len(rounds) == 2 for rounds in arms.values()) else "round"
    figure = Figure(figsize=(12, 3.6), layout="constrained")
    for axes, (key, label, scale) in zip(figure.subplots(1, len(_SHOWN)), _SHOWN, strict=True):
        for (arm, rounds), marker in zip(arms.items(), "os", strict=False):
            _draw_line(axes, [(row[along], row[key]) for row in rounds], scale, marker, arm)
        axes.set(xlabel="votes spent" if along == "votes" else "round", ylabel=label)
        axes.grid(alpha=0.3)
        if axes.has_data():
            axes.legend()
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=130)


def _draw_line(
    axes: Any, points: Sequence[tuple[float, Mapping[str, Any] | None]], scale: float, marker: str, arm: str
) -> None:
    known = [(x, rate) for x, rate in points if rate is not None and rate["value"] is not None]
    if not known:
        return
    middle = [scale * rate["value"] for _, rate in known]
    ends = [(rate["low"], rate["high"]) for _, rate in known]
    spread = [
        [0.0 if low is None else y - scale * low for y, (low, _) in zip(middle, ends, strict=True)],
        [0.0 if high is None else scale * high - y for y, (_, high) in zip(middle, ends, strict=True)],
    ]
    axes.errorbar([x for x, _ in known], middle, yerr=spread, marker=marker, capsize=3, label=arm)
