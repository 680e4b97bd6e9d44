"""Compare two world models on the same held-out contexts: what cleaning the clips (say) changed about behaviour."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from recipes._run import Run

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Config:
    """Which models, and where."""

    before: str = "household"
    """World model, such as one trained on all clips: a shipped name or a folder."""
    after: str = ""
    """World model, such as one trained on the cleaned clips."""
    scenes: tuple[str, ...] = ("pour", "shelf", "corridor")
    """Scenes of the household."""
    attributes: tuple[str, ...] = ("group",)
    """Attributes by which changes are told apart, where a scene has them."""
    contexts: Annotated[int, Field(ge=2)] = 500
    """Held-out contexts a scene in which actions are carried out."""
    temperature: float = 1.0
    """Sampling temperature."""
    num_workers: int = 2
    """Processes."""
    seed: int = 0
    """Another stretch of the held-out contexts."""


CHUNK = 64
"""Contexts a worker takes at a time."""
OUTCOMES = ("hazard", "success")


def main(config: Config, run: Run) -> dict[str, Any]:
    """Write behaviour.parquet; returns rates before and after and their difference, context by context."""
    from align.audit.behaviour import simulator_task
    from align.errors import ConfigError
    from recipes._probe import make_frame, run_stage, write_table
    from recipes.probe_twins import check_attributes

    if not config.after:
        raise ConfigError("after is empty; give the world model to be compared, such as one trained on the cleaned clips")
    check_attributes(config.scenes, config.attributes)
    rows: list[dict[str, Any]] = []
    for when in ("before", "after"):
        model = str(getattr(config, when))
        jobs = [({"when": when}, job) for job in _jobs(config, model)]
        rows += run_stage(run, when, f"{model} acts in the held-out contexts", simulator_task, jobs, config.num_workers)
    table = make_frame(rows, ("hazard", "success"))
    changes = [_change(*part) for part in _parts(table, config.attributes)]
    return {
        "num_contexts": int(table["context_id"].nunique()),
        "changes": changes,
        "says": [say_change(change) for change in changes],
        "files": [write_table(run, "behaviour.parquet", table)],
    }


def _jobs(config: Config, model: str) -> Iterator[Any]:
    from align.audit.behaviour import EpisodeJob
    from align.scenes.behaviour import split_seed
    from align.world_models.pool import chunks

    seeds = [split_seed("evaluate", config.seed, index) for index in range(config.contexts)]
    for scene in config.scenes:
        for part in chunks(seeds, CHUNK):
            yield EpisodeJob(model, "", scene, tuple(part), temperature=config.temperature)


def _parts(table: pd.DataFrame, attributes: tuple[str, ...]) -> Iterator[tuple[dict[str, str], pd.DataFrame]]:
    """Rows of every scene, of every value of the attributes in it, and an outcome."""
    for scene, part in table.groupby("scene", sort=False):
        groups = [("", "all", part)]
        for name in attributes:
            if name in part:
                groups += [(name, str(value), rows) for value, rows in part.groupby(name)]
        for column, value, rows in groups:
            for outcome in OUTCOMES:
                yield {"scene": str(scene), "column": column, "value": value, "outcome": outcome}, rows


def _change(keys: dict[str, str], rows: pd.DataFrame) -> dict[str, Any]:
    from align.audit.statistics import cluster_rate, paired_difference

    wide = rows.pivot(index="context_id", columns="when", values=keys["outcome"])
    before, after, clusters = wide["before"].to_numpy(), wide["after"].to_numpy(), wide.index.to_numpy()
    rates = {name: cluster_rate(wide[name].to_numpy(), clusters, missing="drop") for name in ("before", "after")}
    change = paired_difference(before, after, clusters, missing="drop")
    return {**keys, **{name: rate.as_dict() for name, rate in rates.items()}, "change": change.as_dict()}


def say_change(change: dict[str, Any]) -> str:
    """A change as a sentence."""
    who = f"{change['scene']}, {change['outcome']}" + (f", {change['column']} {change['value']}" if change["column"] else "")
    before, after, by = (change[name] for name in ("before", "after", "change"))
    if by["low"] is None:
        return f"{who}: cannot tell from {by['n']} contexts."
    sure = "" if by["low"] > 0 or by["high"] < 0 else ", which may be chance"
    size = f"{100 * by['value']:+.1f} points, {100 * by['low']:+.1f} to {100 * by['high']:+.1f}"
    return f"{who}: {100 * before['value']:.1f} % before, {100 * after['value']:.1f} % after ({size}){sure}."
