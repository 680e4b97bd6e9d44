"""Repeat the whole circle: dream, choose questions, vote, learn the reward, tune, and dream again with the tuned model."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from recipes._run import Run

if TYPE_CHECKING:
    from align.preferences.votes.schema import Vote


@dataclass(frozen=True)
class Config:
    """Sizes of a round, and how questions are chosen."""

    model: str = "household"
    """World model."""
    rounds: int = 3
    """Rounds; the first one starts from the base and asks random questions."""
    arms: tuple[str, ...] = ("random", "active")
    """Ways of choosing questions from the second round on; each is a chain of its own after a shared first round."""
    contexts: int = 50
    """New contexts a scene in each round."""
    samples_per_context: int = 4
    """Dreams of each."""
    votes: int = 90
    """Simulated votes in each round."""
    random_share: float = 0.2
    """Share of random questions among active ones."""
    num_epochs: int = 150
    """Steps of the reward model."""
    dpo_steps: int = 100
    """Steps of tuning."""
    held_out_contexts: int = 100
    """Contexts a scene, filmed in the simulator, on which each round's reward model is measured."""
    simulator_contexts: int = 50
    """Contexts a scene in which each round's adapter acts."""
    num_workers: int = 2
    """Processes."""
    seed: int = 0
    """Seed of everything."""


@dataclass(frozen=True)
class _State:
    """What one round leaves for the next.

    Attributes:
        adapter: Folder of the tuned adapter; "" is the base.
        rollouts: Folder with the rollouts of all rounds so far; "" before the first.
        reward_model: Folder of the reward model; "" before the first.
        votes: File with all votes so far; "" before the first.
    """

    adapter: str = ""
    rollouts: str = ""
    reward_model: str = ""
    votes: str = ""


def main(config: Config, run: Run) -> dict[str, Any]:
    """Return, for each arm and round, votes spent, accuracy of the reward model and unsafe rate; draws rounds.png."""
    from align.errors import ConfigError

    if not config.arms or not set(config.arms) <= {"random", "active"}:
        raise ConfigError(f"arms must be random, active or both, got {', '.join(config.arms) or 'none'}")
    if config.rounds < 1:
        raise ConfigError(f"rounds must be at least 1, got {config.rounds}")
    first, start = play_round(config, run, "all", 1, _State())
    arms: dict[str, list[dict[str, Any]]] = {}
    for arm in config.arms:
        state, arms[arm] = first, [start]
        for number in range(2, config.rounds + 1):
            state, figures = play_round(config, run, arm, number, state)
            arms[arm].append(figures)
    _draw(run.path / "rounds.png", arms)
    return {"arms": arms, "plot": str(run.path / "rounds.png"), "simulated": True}


def play_round(config: Config, run: Run, arm: str, number: int, before: _State) -> tuple[_State, dict[str, Any]]:
    """One round; every step is a run folder of its own, and a finished one is not done again."""
    from recipes import annotate, dpo, evaluate_reward, reward, rollout, select, simulate

    name, data, workers = f"{arm}-{number}", run.path / "data" / f"{arm}-{number}", config.num_workers
    seed = (config.seed * config.rounds + number) % 100  # a round has contexts that no other round has
    film = simulate.Config(str(data / "contexts"), split="tune", num_contexts=config.contexts, num_workers=workers, seed=seed)
    run_step(run, f"{name}-simulate", simulate, film)
    samples = config.samples_per_context
    dream = rollout.Config(
        config.model, before.adapter, film.out, str(data / "dreams"), samples, num_workers=workers, seed=seed
    )
    run_step(run, f"{name}-rollout", rollout, dream)
    rollouts = _merge_rollouts(before.rollouts, dream.out, data / "rollouts")
    choose = select.Config(
        rollouts,
        before.reward_model if arm == "active" else "",
        config.model,
        out=str(data / "pairs.jsonl"),
        votes=before.votes,
        budget=config.votes,
        random_share=config.random_share,
        seed=seed,
    )
    chosen = run_step(run, f"{name}-select", select, choose)
    vote = annotate.Config(rollouts, str(data / "new_votes.parquet"), config.votes, pairs=choose.out, seed=config.seed)
    run_step(run, f"{name}-annotate", annotate, vote)
    votes = _merge_votes(before.votes, vote.out, data / "votes.parquet")
    learn = reward.Config(
        rollouts, votes, str(data / "reward_model"), config.model, num_epochs=config.num_epochs, seed=config.seed
    )
    run_step(run, f"{name}-reward", reward, learn)
    measure = evaluate_reward.Config(learn.out, config.model, config.held_out_contexts, num_workers=workers, seed=config.seed)
    measured = run_step(run, f"{name}-evaluate_reward", evaluate_reward, measure)
    tune = dpo.Config(
        config.model, rollouts, learn.out, votes, str(data / "adapter"), num_steps=config.dpo_steps, seed=config.seed
    )
    run_step(run, f"{name}-dpo", dpo, tune)
    by_axis = {axis: figures["accuracy_without_ties"]["value"] for axis, figures in measured.items()}
    known = [value for value in by_axis.values() if value is not None]
    return _State(tune.out, rollouts, learn.out, votes), {
        "round": number,
        "votes": number * config.votes,
        "accuracy": sum(known) / len(known) if known else None,
        "accuracy_by_axis": by_axis,
        "unsafe": _unsafe_rate(config, run, name, tune.out),
        "questions": {"selection": chosen["selection"], "axes": chosen["axes"]},
        "adapter": tune.out,
        "reward_model": learn.out,
    }


def run_step(run: Run, name: str, recipe: Any, config: Any) -> dict[str, Any]:
    """Run a recipe as a step, unless it is finished."""
    from align.io import read_json

    root = run.path / "steps"
    if (root / name / "report.json").exists():
        return dict(read_json(root / name / "report.json"))
    run.say(f"[{name}] {recipe.__doc__.splitlines()[0]}")
    resume = (root / name / "config.yaml").exists()
    with Run.create(root, name, config, resume=resume, recipe=name.split("-")[-1]) as inner:
        figures: dict[str, Any] = recipe.main(config, inner)
        inner.finish(figures)
    return figures


def _merge_rollouts(before: str, new: str, out: Path) -> str:
    import shutil

    from align.video.folder import merge_folders

    if not before:
        return new
    if not out.exists():
        shutil.rmtree(out.with_name(out.name + ".partial"), ignore_errors=True)  # of a run that was killed
        merge_folders([before, new], out)
    return str(out)


def _merge_votes(before: str, new: str, out: Path) -> str:
    from align.preferences.votes.schema import read_votes, write_votes

    if not before:
        return new
    votes: list[Vote] = [*read_votes(before), *read_votes(new)]
    write_votes(out, votes)
    return str(out)


def _unsafe_rate(config: Config, run: Run, name: str, adapter: str) -> dict[str, Any]:
    """How often the tuned model is unsafe in the simulator, over all scenes."""
    import numpy as np

    from align.audit.behaviour import EpisodeJob, simulator_task
    from align.audit.statistics import cluster_rate
    from align.scenes import SCENES
    from align.scenes.behaviour import split_seed
    from align.world_models.pool import Pool, chunks

    if (done := run.done(f"{name}-simulator")) is None:
        seeds = [split_seed("evaluate", config.seed, index) for index in range(config.simulator_contexts)]
        jobs = [EpisodeJob(config.model, adapter, scene, tuple(part)) for scene in SCENES for part in chunks(seeds, 64)]
        with run.stage(f"{name}-simulator", "the tuned model acts in the simulator") as done, Pool(config.num_workers) as pool:
            rows = [row for part in pool.map(simulator_task, jobs) for row in part]
            done["hazard"] = [row["hazard"] for row in rows]
            done["context_id"] = [row["context_id"] for row in rows]
    return cluster_rate(np.array(done["hazard"]), done["context_id"], better="lower").as_dict()


def _draw(path: Path, arms: dict[str, list[dict[str, Any]]]) -> None:
    """Accuracy of the reward model and unsafe rate of the adapter against votes spent."""
    from matplotlib.figure import Figure

    from align.io import atomic_path

    figure = Figure(figsize=(9, 3.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    for (arm, rounds), marker in zip(arms.items(), "os", strict=False):
        votes = [item["votes"] for item in rounds]
        left.plot(votes, [100 * (item["accuracy"] or float("nan")) for item in rounds], marker=marker, label=arm)
        rates = [item["unsafe"] for item in rounds]
        middle = [100 * rate["value"] for rate in rates]
        spread = [[100 * (r["value"] - r["low"]) for r in rates], [100 * (r["high"] - r["value"]) for r in rates]]
        right.errorbar(votes, middle, yerr=spread, marker=marker, capsize=3, label=arm)
    left.set(xlabel="votes spent", ylabel="accuracy of the reward model (%)", title="Held-out pairs, simulator truth")
    right.set(xlabel="votes spent", ylabel="unsafe rate (%)", title="The tuned model in the simulator")
    for axes in (left, right):
        axes.grid(alpha=0.3)
        axes.legend()
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=130)
