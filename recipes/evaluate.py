"""Measure the five figures of an adapter against its base: safety, dreams, honesty, success, fidelity, with gates."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from recipes._run import Run

if TYPE_CHECKING:
    from align.audit.behaviour import EpisodeJob
    from align.audit.figures import Evidence


@dataclass(frozen=True)
class Config:
    """What to measure, and how often."""

    model: str = "household"
    """World model: a shipped name or a folder."""
    adapter: str = ""
    """Adapter folder; empty measures the base against itself."""
    scenes: tuple[str, ...] = ("pour", "shelf", "corridor")
    """Scenes of the household."""
    simulator_contexts: int = 1000
    """Held-out contexts a scene in which actions are carried out."""
    dream_contexts: int = 334
    """Held-out contexts a scene that are dreamed with own actions."""
    honesty_contexts: int = 1200
    """Forced clips a scene, half of them careless: 1,200 in three scenes give 1,800 a side."""
    fidelity_contexts: int = 200
    """Held-out filmed clips a scene for the likelihood."""
    temperature: float = 1.0
    """Sampling temperature, the same for base and aligned."""
    clips: str = ""
    """Held-out clip folder of a real robot: replays instead of the household, and no verdict on what can't be measured."""
    judge: str = ""
    """Judge of record for dreams; empty is the one that ships."""
    base_rows: str = ""
    """Run folder of an earlier evaluation with the same contexts, whose rows about the base are used again."""
    clips_shown: int = 2
    """Before/after clips a scene in the report."""
    kind: str = "evaluate"
    """evaluate holds the figures against the gates; quickstart only shows intervals."""
    num_workers: int = 2
    """Processes."""
    seed: int = 0
    """Another stretch of the held-out contexts, and other samples."""


CHUNK = 64
"""Clips a worker takes at a time."""


def main(config: Config, run: Run) -> dict[str, Any]:
    """Write report.json and report.html; returns the report."""
    from align.audit.figures import Tolerances, compute_figures, compute_gates, compute_replay_figures
    from align.audit.report import print_table, write_report
    from align.errors import ConfigError
    from align.io import read_json

    if config.kind not in ("evaluate", "quickstart"):
        raise ConfigError(f"kind must be evaluate or quickstart, got {config.kind}")
    if config.clips:
        run.record_input("clips", config.clips)
        replays = [replay_rows(config, run, name, adapter) for name, adapter in (("base", ""), ("aligned", config.adapter))]
        figures = compute_replay_figures(*replays)
    else:
        base = collect_evidence(config, run, "base", "")
        aligned = collect_evidence(config, run, "aligned", config.adapter) if config.adapter else base
        figures = compute_figures(base, aligned)
    report = {
        "version": 1,
        "title": f"{config.adapter or 'base'} against {config.model}",
        "kind": config.kind,
        "summary": _summary(config),
        "figures": figures,
        "gates": compute_gates(figures, Tolerances()) if config.kind == "evaluate" else [],
        "clips": [] if config.clips else shown_clips(config, run),
        "curves": [],
        "provenance": {"config": _plain(config), "seeds": [config.seed], "commands": ["gptsim run evaluate"]},
    }
    write_report(run.path, report)
    print_table(report)
    # As it was written: with the verdict and the clips' hashes.
    return dict(read_json(run.path / "report.json"))


def _plain(config: Config) -> dict[str, Any]:
    from dataclasses import asdict

    return asdict(config)


def _summary(config: Config) -> list[str]:
    scenes = len(config.scenes)
    if config.clips:
        return ["Held-out clips were replayed. Without a simulator safety and success are not measured: that is not a pass."]
    return [
        f"{config.simulator_contexts * scenes} held-out contexts in the simulator, {config.dream_contexts * scenes} dreams, "
        f"{config.honesty_contexts * scenes} dreams with forced actions; none of them was used for tuning.",
        "The judge of record for behaviour is the simulator; dreams are read by a judge that neither labelled nor trained.",
    ]


def collect_evidence(config: Config, run: Run, name: str, adapter: str) -> Evidence:
    """Rows about one policy; each kind of rows is a stage, so an interrupted evaluation goes on where it was."""
    from align.audit import behaviour
    from align.audit.figures import Evidence

    def rows(kind: str, task: Callable[[EpisodeJob], list[dict[str, Any]]], contexts: int, why: str) -> list[dict[str, Any]]:
        stage = f"{name}-{kind}"
        measured = _measured(config, contexts)
        if (done := run.done(stage)) is not None:
            return _read_rows(done["rows"])
        if name == "base" and config.base_rows:
            return _reuse(config, stage, measured)
        with run.stage(stage) as results:
            results["config"] = measured
            results["rows"] = run_jobs(config, run, task, make_jobs(config, adapter, contexts), f"{name}: {kind}", why)
        return list(results["rows"])

    return Evidence(
        simulator=rows(
            "simulator", behaviour.simulator_task, config.simulator_contexts, "its actions are carried out on true frames"
        ),
        dreams=rows("dreams", behaviour.dream_task, config.dream_contexts, "what it dreams when it acts by itself"),
        honesty=rows(
            "honesty", behaviour.honesty_task, config.honesty_contexts, "do hazards still show when actions are forced?"
        ),
        fidelity=rows("fidelity", behaviour.fidelity_task, config.fidelity_contexts, "how well it predicts filmed clips"),
    )


def replay_rows(config: Config, run: Run, name: str, adapter: str) -> list[dict[str, Any]]:
    """Rows of ``replay_task`` over the whole clip folder."""
    from align.audit.behaviour import ReplayJob, replay_task
    from align.video.folder import load_clip_folder
    from align.world_models.pool import chunks

    stage = f"{name}-replays"
    if (done := run.done(stage)) is not None:
        return list(done["rows"])
    rows = range(len(load_clip_folder(config.clips)))
    jobs = [ReplayJob(config.model, adapter, config.clips, tuple(part), config.temperature) for part in chunks(rows, CHUNK)]
    with run.stage(stage, "held-out clips are dreamed again under their own actions") as results:
        results["rows"] = run_jobs(config, run, replay_task, jobs, f"{name}: replays")
    return list(results["rows"])


def _measured(config: Config, contexts: int) -> dict[str, Any]:
    """What rows about the base depend on."""
    return {
        "contexts": contexts,
        "judge": config.judge,
        "model": config.model,
        "scenes": list(config.scenes),
        "seed": config.seed,
        "temperature": config.temperature,
    }


def _read_rows(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows as they were before they were written: JSON has no NaN."""
    return [{key: float("nan") if value is None else value for key, value in row.items()} for row in rows]


def _reuse(config: Config, stage: str, measured: dict[str, Any]) -> list[dict[str, Any]]:
    """Rows about the base from an earlier run over the same contexts."""
    from align.errors import ConfigError, DataError
    from align.io import read_json

    path = Path(config.base_rows) / "stages" / f"{stage}.json"
    if not path.is_file():
        raise DataError(f"base_rows={config.base_rows} holds no {path.name}; give the run folder of a finished evaluation")
    stored = read_json(path)
    if stored["config"] != measured:
        raise ConfigError(f"{path} was measured with {stored['config']}, this run wants {measured}; leave base_rows empty")
    return _read_rows(stored["rows"])


def make_jobs(config: Config, adapter: str, contexts: int, *, keep_video: bool = False) -> list[EpisodeJob]:
    """Chunks of held-out contexts of every scene."""
    from align.audit.behaviour import EpisodeJob
    from align.scenes.behaviour import split_seed
    from align.world_models.pool import chunks
    from align.world_models.world_model import SHIPPED

    judge = config.judge or str(SHIPPED["household"] / "judge")
    seeds = [split_seed("evaluate", config.seed, index) for index in range(contexts)]
    return [
        EpisodeJob(config.model, adapter, scene, tuple(part), 0, config.temperature, judge, keep_video)
        for scene in config.scenes
        for part in chunks(seeds, CHUNK)
    ]


def run_jobs(
    config: Config,
    run: Run,
    task: Callable[[Any], list[dict[str, Any]]],
    jobs: Sequence[Any],
    what: str,
    why: str = "",
) -> list[dict[str, Any]]:
    """Map a task over worker processes with a progress bar; rows in the order of the jobs."""
    from align.world_models.pool import Pool

    rows: list[dict[str, Any]] = []
    with Pool(config.num_workers) as pool, run.progress(what, len(jobs), why) as advance:
        for part in pool.map(task, jobs):
            rows += part
            advance(1)
    return rows


def shown_clips(config: Config, run: Run) -> list[dict[str, Any]]:
    """Before/after clips: contexts of the first chunk, those where base and aligned differ first."""
    from align.audit.behaviour import simulator_task
    from align.scenes import make_scene
    from align.video.codec import write_clip

    if not config.clips_shown or not config.adapter:
        return []
    few = replace(config, num_workers=1)
    jobs = make_jobs(few, "", min(32, config.simulator_contexts), keep_video=True)
    before = run_jobs(few, run, simulator_task, jobs, "filming before")
    after = run_jobs(few, run, simulator_task, [replace(job, adapter=config.adapter) for job in jobs], "filming after")
    (run.path / "clips").mkdir(exist_ok=True)
    clips = []
    for scene in config.scenes:
        both = [(b, a) for b, a in zip(before, after, strict=True) if b["scene"] == scene]
        both.sort(key=lambda pair: pair[1]["hazard"] - pair[0]["hazard"])
        for b, a in both[: config.clips_shown]:
            paths = {}
            for side, row in (("base", b), ("aligned", a)):
                paths[side] = f"clips/{row['context_id']}-{side}.mp4"
                write_clip(run.path / paths[side], row["video"], make_scene(scene).fps_hz)
            clips.append(
                {
                    "context_id": b["context_id"],
                    "task": make_scene(scene).task,
                    "caption": "The same start; the model's actions carried out in the simulator. Picked because they differ.",
                    **paths,
                    "base_says": _says(b, make_scene(scene).axis),
                    "aligned_says": _says(a, make_scene(scene).axis),
                }
            )
    return clips


def _says(row: dict[str, Any], axis: str) -> str:
    return f"{axis}: {'yes' if row['hazard'] else 'no'}; task {'done' if row['success'] else 'not done'}"
