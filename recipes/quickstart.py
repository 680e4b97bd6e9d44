"""The whole loop on the household at a small size: contexts, dreams, simulated votes, reward model, adapter, five figures."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from recipes._run import Run


@dataclass(frozen=True)
class Config:
    """Sizes of the loop; the full evaluation is a recipe of its own."""

    model: str = "household"
    """World model."""
    contexts: int = 100
    """Contexts a scene to dream from."""
    samples_per_context: int = 4
    """Dreams of each."""
    votes: int = 600
    """Simulated votes in all."""
    dpo_steps: int = 150
    """Steps of tuning."""
    simulator_contexts: int = 100
    """Held-out contexts a scene in the simulator."""
    dream_contexts: int = 64
    """Held-out contexts a scene that are dreamed."""
    honesty_contexts: int = 100
    """Forced clips a scene."""
    fidelity_contexts: int = 32
    """Held-out clips a scene for the likelihood."""
    num_workers: int = 2
    """Processes."""
    seed: int = 0
    """Seed of everything."""


def main(config: Config, run: Run) -> dict[str, Any]:
    """Run the loop step by step; each step is a run folder of its own, and a finished one is not done again."""
    from align.audit.figures import compute_figures
    from align.audit.report import print_table, write_report
    from align.io import read_json
    from recipes import annotate, dpo, evaluate, reward, rollout, simulate

    data, seed, workers = run.path / "data", config.seed, config.num_workers
    film = simulate.Config(str(data / "contexts"), split="tune", num_contexts=config.contexts, num_workers=workers, seed=seed)
    step(run, "1-simulate", simulate, film)
    dream = rollout.Config(
        config.model, "", film.out, str(data / "rollouts"), config.samples_per_context, num_workers=workers, seed=seed
    )
    step(run, "2-rollout", rollout, dream)
    vote = annotate.Config(dream.out, str(data / "votes.parquet"), config.votes, seed=seed)
    voted = step(run, "3-annotate", annotate, vote)
    judge = reward.Config(dream.out, vote.out, str(data / "reward_model"), config.model, seed=seed)
    step(run, "4-reward", reward, judge)
    tune = dpo.Config(
        config.model, dream.out, judge.out, vote.out, str(run.path / "adapter"), num_steps=config.dpo_steps, seed=seed
    )
    step(run, "5-dpo", dpo, tune)
    measure = evaluate.Config(
        config.model,
        tune.out,
        simulator_contexts=config.simulator_contexts,
        dream_contexts=config.dream_contexts,
        honesty_contexts=config.honesty_contexts,
        fidelity_contexts=config.fidelity_contexts,
        kind="quickstart",
        num_workers=workers,
        seed=seed,
    )
    with open_step(run, "6-evaluate", measure) as inner:
        base = evaluate.collect_evidence(measure, inner, "base", "")
        aligned = evaluate.collect_evidence(measure, inner, "aligned", measure.adapter)
        clips = evaluate.shown_clips(measure, run)
    report = {
        "version": 1,
        "title": "Quickstart: the household, before and after",
        "kind": "quickstart",
        "summary": [
            f"{voted['num_votes']} simulated votes on {config.contexts * 3} contexts trained a reward model and an adapter.",
            "The votes come from programs that look at the clips, not from people.",
        ],
        "figures": compute_figures(base, aligned),
        "gates": [],
        "clips": clips,
        "curves": _curves(run.path / "steps"),
        "provenance": {
            "config": config.__dict__,
            "versions": _versions(run),
            "seeds": [seed],
            "votes_spent": voted["num_votes"],
            "votes_simulated": True,
            "commands": [f"gptsim quickstart --seed {seed}", f"gptsim run evaluate model={config.model} adapter={tune.out}"],
        },
    }
    write_report(run.path, report)
    print_table(report)
    run.say(f"report: {run.path / 'report.html'}")
    # As it was written: with the verdict and the clips' hashes.
    return dict(read_json(run.path / "report.json"))


def open_step(run: Run, name: str, config: Any) -> Run:
    """The run folder of one step, new or to be continued."""
    root = run.path / "steps"
    return Run.create(root, name, config, resume=(root / name / "config.yaml").exists(), recipe=name[2:])


def step(run: Run, name: str, recipe: Any, config: Any) -> dict[str, Any]:
    """Run a recipe as a step, unless it is finished."""
    from align.io import read_json

    run.say(f"step {name[0]} of 6: {recipe.__doc__.splitlines()[0]}")
    finished = run.path / "steps" / name / "report.json"
    if finished.exists():
        return dict(read_json(finished))
    with open_step(run, name, config) as inner:
        figures: dict[str, Any] = recipe.main(config, inner)
        inner.finish(figures)
    return figures


def _curves(steps: Path) -> list[dict[str, Any]]:
    from recipes._run import read_metrics

    rows = read_metrics(steps / "5-dpo")
    x = [row["step"] for row in rows]

    def curve(title: str, label: str, columns: dict[str, str]) -> dict[str, Any]:
        series = [{"name": name, "x": x, "y": [row.get(column) for row in rows]} for column, name in columns.items()]
        return {"title": title, "x_label": "step", "y_label": label, "series": series}

    return [
        curve("Tuning loss", "nats", {"loss": "loss"}),
        curve("Preference margin", "nats", {"rewards_margins": "margin"}),
        curve("Log-probability of actions", "nats a clip", {"logps_chosen": "chosen", "logps_rejected": "rejected"}),
    ]


def _versions(run: Run) -> dict[str, Any]:
    from align.io import read_json

    return dict(read_json(run.path / "versions.json"))
