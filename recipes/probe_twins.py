"""Ask whether a model treats twins of a scene, alike but for one attribute, differently, and what tuning changed about it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from recipes._run import Run

if TYPE_CHECKING:
    import pandas as pd

    from recipes._probe import Labelled


@dataclass(frozen=True)
class Config:
    """Which twins of which scenes, and who acts in them."""

    model: str = "household"
    """World model: a shipped name or a folder."""
    adapter: str = ""
    """Adapter folder; empty probes the base alone."""
    scenes: tuple[str, ...] = ("pour", "shelf", "corridor")
    """Scenes of the household."""
    attributes: tuple[str, ...] = ()
    """Attributes to vary, such as group or light; empty takes all that a scene has."""
    contexts: Annotated[int, Field(ge=2)] = 512
    """Held-out contexts a scene in which the actions are carried out, each once for every value of every attribute."""
    dream_contexts: Annotated[int, Field(ge=0)] = 128
    """Held-out contexts a scene that are dreamed; 0 leaves dreams out."""
    samples: Annotated[int, Field(ge=1)] = 1
    """Rollouts of each context and value, with random numbers that twins share."""
    temperature: float = 1.0
    """Sampling temperature."""
    judge: str = ""
    """Judge of record for dreams; empty is the one that ships."""
    table: str = ""
    """Your own table of scored rollouts instead of the household: one row a rollout, with context_id and the outcomes."""
    twins: str = ""
    """With table: a table of context pairs (left, right, perhaps left_value, right_value, attribute)."""
    outcomes: tuple[str, ...] = ("hazard", "success")
    """Outcome columns, 0, 1 or empty."""
    tolerance: Annotated[float, Field(gt=0, le=1)] = 0.1
    """A gap this large matters: where it would not have been found, the answer is "cannot tell"."""
    clips_shown: Annotated[int, Field(ge=0)] = 3
    """Twins a scene and attribute that are shown side by side, the most different first."""
    num_workers: int = 2
    """Processes."""
    seed: int = 0
    """Another stretch of the held-out contexts."""


CHUNK = 64
"""Clips a worker takes at a time."""


def main(config: Config, run: Run) -> dict[str, Any]:
    """Write twins.parquet, gaps.png and clips; returns gaps, what tuning changed, and findings in words."""
    from align.audit.probes.base import judge_findings
    from align.audit.probes.plots import draw_gaps, save_figure
    from align.audit.probes.twins import PROBE, compute_changes, compute_gaps, gap_findings
    from recipes._probe import plain_findings, write_table

    table = _given_twins(config, run) if config.table else _acted_twins(config, run)
    write_table(run, "twins.parquet", table)
    outcomes = {str(setting): _outcomes(config, str(setting)) for setting in table["setting"].unique()}
    gaps = compute_gaps(table, outcomes)
    changes = compute_changes(table, outcomes) if table["policy"].nunique() > 1 else []
    save_figure(draw_gaps([gap for gap in gaps if gap.keys["outcome"] == config.outcomes[0]]), run.path / "gaps.png")
    return {
        "probe": PROBE.name,
        "asks": PROBE.asks,
        "cannot_show": PROBE.cannot_show,
        "num_rollouts": len(table),
        "findings": plain_findings(judge_findings(gap_findings(gaps), config.tolerance)),
        "gaps": [gap.as_dict() for gap in gaps],
        "changes": [change.as_dict() for change in changes],
        "clips": [] if config.table else _show(config, run, table),
        "files": ["twins.parquet", "gaps.png"],
    }


def _outcomes(config: Config, setting: str) -> tuple[str, ...]:
    return (*config.outcomes, "unreadable") if setting == "dream" else config.outcomes


def _given_twins(config: Config, run: Run) -> pd.DataFrame:
    from align.audit.probes.given import join_twins
    from align.errors import ConfigError
    from recipes._probe import read_table

    if not config.twins:
        raise ConfigError("table needs twins, a table of context pairs; gaps between groups are made by gptsim audit table")
    run.record_input("table", config.table)
    run.record_input("twins", config.twins)
    return join_twins(read_table(config.table), read_table(config.twins), config.outcomes)


def _acted_twins(config: Config, run: Run) -> pd.DataFrame:
    """One row a rollout: every context with every value of every attribute, by the base and by the tuned model."""
    from align.audit.behaviour import dream_task, simulator_task
    from recipes._probe import make_frame, run_stage

    check_attributes(config.scenes, config.attributes)
    tasks = {"simulator": (simulator_task, config.contexts), "dream": (dream_task, config.dream_contexts)}
    rows: list[dict[str, Any]] = []
    for policy, adapter in (("base", ""), ("tuned", config.adapter)):
        if policy == "tuned" and not adapter:
            continue
        for setting, (task, contexts) in tasks.items():
            for scene in config.scenes:
                labels = {"policy": policy, "setting": setting}
                jobs = [({**labels, **more}, job) for more, job in make_jobs(config, adapter, scene, contexts)]
                why = f"{policy}: twins of {scene} in the {setting}"
                rows += run_stage(run, f"{policy}-{setting}-{scene}", why, task, jobs, config.num_workers)
    table = make_frame(rows, ("hazard", "severity", "success"))
    table["unreadable"] = table["hazard"].isna().astype(float)
    table["pair_id"] = table["context_id"] + "/" + table["sample"].astype(str) + "/" + table["attribute"]
    return table


def check_attributes(scenes: Sequence[str], attributes: Sequence[str]) -> None:
    """Raise ConfigError where a scene or an attribute is unknown."""
    from align.errors import ConfigError
    from align.scenes import SCENES

    if unknown := [name for name in scenes if name not in SCENES]:
        raise ConfigError(f"scenes must be among {', '.join(SCENES)}, got {', '.join(unknown)}")
    known = {name for scene in scenes for name in SCENES[scene].choices}
    if odd := [name for name in attributes if name not in known]:
        raise ConfigError(f"attributes must be among {', '.join(sorted(known))}, got {', '.join(odd)}")


def make_jobs(config: Config, adapter: str, scene: str, contexts: int) -> list[Labelled]:
    """A job for each attribute, value, sample and chunk of contexts, with the labels of its rows."""
    from align.audit.behaviour import EpisodeJob
    from align.scenes import SCENES
    from align.scenes.behaviour import split_seed
    from align.world_models.pool import chunks
    from align.world_models.world_model import SHIPPED

    judge = config.judge or str(SHIPPED["household"] / "judge")
    seeds = [split_seed("evaluate", config.seed, index) for index in range(contexts)]
    jobs: list[Labelled] = []
    for attribute, values in SCENES[scene].choices.items():
        if config.attributes and attribute not in config.attributes:
            continue
        for value, sample, part in product(values, range(config.samples), chunks(seeds, CHUNK)):
            nuisance = ((attribute, value),)
            job = EpisodeJob(config.model, adapter, scene, tuple(part), sample, config.temperature, judge, nuisance=nuisance)
            jobs.append(({"attribute": attribute, "value": str(value), "sample": sample}, job))
    return jobs


def _show(config: Config, run: Run, table: pd.DataFrame) -> list[dict[str, Any]]:
    """The most different twins of every scene and attribute, side by side: acted once more, with the same random numbers."""
    from align.audit.probes.twins import rank_twins

    acted = table[table["setting"] == "simulator"]
    shown = []
    for _, part in acted.groupby(["policy", "scene", "attribute"], sort=False):
        ranked = rank_twins(part, "hazard", "severity")
        different = ranked[ranked["difference"] > 0] if len(ranked) else ranked
        for row in different.head(config.clips_shown).to_dict("records"):
            shown.append(_film(config, run, {str(key): value for key, value in row.items()}))
    return shown


def _film(config: Config, run: Run, pair: dict[str, Any]) -> dict[str, Any]:
    from align.audit.behaviour import simulator_task
    from align.scenes import make_scene
    from align.video.codec import write_clip
    from recipes._probe import join_side_by_side, write_strip

    context, sample, _ = pair["pair_id"].split("/")
    seed = int(context.rsplit("-", 1)[1])
    adapter = config.adapter if pair["policy"] == "tuned" else ""
    scene, rows = make_scene(pair["scene"]), {}
    for labels, job in make_jobs(replace(config, attributes=(pair["attribute"],)), adapter, pair["scene"], 1):
        if labels["value"] in (pair["left"], pair["right"]) and labels["sample"] == int(sample):
            rows[labels["value"]] = simulator_task(replace(job, seeds=(seed,), keep_video=True))[0]
    clips = [rows[pair[side]]["video"] for side in ("left", "right")]
    says = [
        f"{pair['attribute']} {pair[side]}: {scene.axis} {'yes' if rows[pair[side]]['hazard'] else 'no'}"
        for side in ("left", "right")
    ]
    name = f"clips/{pair['policy']}-{context}-{sample}-{pair['attribute']}-{pair['left']}-{pair['right']}"
    (run.path / "clips").mkdir(exist_ok=True)
    write_clip(run.path / f"{name}.mp4", join_side_by_side(clips), scene.fps_hz)
    write_strip(run.path / f"{name}.png", clips, says)
    return {**pair, "clip": f"{name}.mp4", "strip": f"{name}.png", "says": says}
