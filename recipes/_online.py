"""The steps of a round of iterated DPO: dream, ask, learn, tune, measure. Recipe ``online_dpo`` strings them together."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from recipes._answers import collect_answers, merge_rollouts, merge_votes, offer_questions
from recipes._run import Run
from recipes._steps import run_step

if TYPE_CHECKING:
    import torch

    from recipes.online_dpo import Config


@dataclass(frozen=True)
class State:
    """What one round leaves for the next.

    Attributes:
        adapter: Folder of the tuned adapter; "" is the base.
        rollouts: Folder with the rollouts of all rounds so far; "" before the first.
        reward_model: Folder of the reward model; "" before the first, or where there is none.
        votes: File with all votes so far; "" before the first, or where nobody is asked.
    """

    adapter: str = ""
    rollouts: str = ""
    reward_model: str = ""
    votes: str = ""


def _data(run: Run, name: str) -> Path:
    return run.path / "data" / name


def dream(config: Config, run: Run, name: str, seed: int, before: State) -> tuple[str, str, str]:
    """Folders of the round's contexts, of the last adapter's dreams from them, and of all rounds' dreams so far."""
    from recipes import rollout, simulate

    contexts, workers = config.contexts, config.num_workers
    if not contexts:
        contexts = str(_data(run, name) / "contexts")
        scenes = tuple(config.axes)
        film = simulate.Config(contexts, scenes, "tune", config.num_contexts, num_workers=workers, seed=seed)
        run_step(run, f"{name}-simulate", simulate, film)
    dreams, samples = str(_data(run, name) / "dreams"), config.samples_per_context
    wish = rollout.Config(config.model, before.adapter, contexts, dreams, samples, num_workers=workers, seed=seed)
    run_step(run, f"{name}-rollout", rollout, wish)
    return contexts, dreams, merge_rollouts(before.rollouts, dreams, _data(run, name) / "rollouts")


def ask(
    config: Config, run: Run, name: str, seed: int, dreams: str, rollouts: str, before: State, active: bool
) -> tuple[str, str, dict[str, Any]]:
    """Files of the round's votes and of all so far, and what was asked.

    Raises:
        RunError: People are to vote and haven't yet; says on what, and how the run goes on then.
    """
    from recipes import annotate, select

    data = _data(run, name)
    pairs, new = str(data / "pairs.jsonl"), str(data / "new_votes.parquet")
    # The votes themselves teach what was done last; a reward model learns from everything.
    asked = dreams if config.labels == "votes" else rollouts
    database = "://" in config.answers
    choose = select.Config(
        asked,
        before.reward_model if active else "",
        config.model,
        pairs,
        config.answers if database else "",
        before.votes,
        config.votes,
        config.random_share,
        axes=config.axes,
        seed=seed,
    )
    chosen = run_step(run, f"{name}-select", select, choose)
    if config.answers:
        if database:
            asked = offer_questions(config.answers, config.axes, pairs, before.votes, rollouts, data / "asked")
        collect_answers(config.answers, run, name, pairs, asked, Path(new))
    else:
        vote = annotate.Config(asked, new, config.votes, axes=config.axes, pairs=pairs, seed=config.seed)
        run_step(run, f"{name}-annotate", annotate, vote)
    votes = merge_votes(before.votes, new, data / "votes.parquet")
    return new, votes, {"selection": chosen["selection"], "axes": chosen["axes"]}


def learn(config: Config, run: Run, name: str, rollouts: str, votes: str) -> str:
    """Folder of a reward model of all votes so far."""
    from recipes import reward

    out = str(_data(run, name) / "reward_model")
    wish = reward.Config(rollouts, votes, out, config.model, num_epochs=config.num_epochs, seed=config.seed)
    run_step(run, f"{name}-reward", reward, wish)
    return out


def tune(config: Config, run: Run, name: str, dreams: str, reward_model: str, votes: str, start: str) -> tuple[str, int]:
    """Folder of the adapter after the round, and the pairs it learned from; too few pairs leave the adapter as it was."""
    from recipes import dpo

    wish = dpo.Config(
        config.model,
        dreams,
        reward_model,
        "" if reward_model else votes,
        str(_data(run, name) / "adapter"),
        config.axes,
        start,
        min_margin=config.min_margin,
        rank=config.rank,
        alpha=2 * config.rank,
        beta=config.beta,
        num_steps=config.dpo_steps,
        batch_size=config.batch_size,
        seed=config.seed,
    )
    try:
        figures = run_step(run, f"{name}-dpo", dpo, wish)
    except dpo.TooFewPairs as error:
        run.say(f"[{name}] the adapter stays as it was: {error}")
        return start, 0
    return wish.out, int(figures["num_pairs"])


def measure_reward(config: Config, run: Run, name: str, reward_model: str) -> dict[str, Any]:
    """Accuracy of the round's reward model on filmed clips that nobody voted on; None where there is none to measure."""
    from recipes import evaluate_reward

    if not (reward_model and config.held_out_contexts):
        return {"accuracy": None, "accuracy_by_axis": {}}
    wish = evaluate_reward.Config(
        reward_model, config.model, config.held_out_contexts, num_workers=config.num_workers, seed=config.seed
    )
    measured = run_step(run, f"{name}-evaluate_reward", evaluate_reward, wish)
    by_axis = {axis: figures["accuracy_without_ties"]["value"] for axis, figures in measured.items()}
    known = [value for value in by_axis.values() if value is not None]
    return {"accuracy": sum(known) / len(known) if known else None, "accuracy_by_axis": by_axis}


def measure(config: Config, run: Run, name: str, adapter: str, contexts: str) -> dict[str, Any]:
    """Real unsafe rate and success over all scenes, and KL in nats a rollout from the base, with intervals over contexts."""
    import numpy as np

    from align.audit.statistics import cluster_rate, mean_interval

    figures: dict[str, Any] = {"unsafe": None, "success": None, "kl": None}
    if config.simulator_contexts:
        rows = _simulate(config, run, name, adapter)
        clusters = rows["context_id"]
        figures["unsafe"] = cluster_rate(np.array(rows["hazard"]), clusters, better="lower").as_dict()
        figures["success"] = cluster_rate(np.array(rows["success"]), clusters, better="higher").as_dict()
    if adapter:
        distances = _distances(config, run, name, adapter, contexts)
        figures["kl"] = mean_interval(np.array(distances["kl"]), distances["context_id"]).as_dict()
    return figures


def _simulate(config: Config, run: Run, name: str, adapter: str) -> dict[str, Any]:
    from align.audit.behaviour import EpisodeJob, simulator_task
    from align.scenes.behaviour import split_seed
    from align.world_models.pool import Pool, chunks

    if (done := run.done(f"{name}-simulator")) is None:
        seeds = [split_seed("evaluate", config.seed, index) for index in range(config.simulator_contexts)]
        jobs = [EpisodeJob(config.model, adapter, scene, tuple(part)) for scene in config.axes for part in chunks(seeds, 64)]
        with run.stage(f"{name}-simulator", "the model acts in the simulator") as done, Pool(config.num_workers) as pool:
            rows = [row for part in pool.map(simulator_task, jobs) for row in part]
            done |= {key: [row[key] for row in rows] for key in ("hazard", "success", "context_id")}
    return done


def _distances(config: Config, run: Run, name: str, adapter: str, contexts: str) -> dict[str, Any]:
    """KL of each of a few dreams of the adapter's own, with its context."""
    import torch

    from align.audit.behaviour import sampling_seed
    from align.tuning.policy import estimate_kl
    from align.world_models.engine import roll_out
    from align.world_models.pool import cached_policy

    if (done := run.done(f"{name}-kl")) is None:
        with run.stage(f"{name}-kl", "how far did tuning lead from the base?") as done, torch.no_grad():
            prompts, done["context_id"] = _prompts(config, contexts)
            seeds = [sampling_seed(config.seed * 1_000_003 + i, config.samples_per_context) for i in range(len(prompts))]
            policy, base = (cached_policy(config.model, folder) for folder in (adapter, ""))
            ids = roll_out(policy, prompts, seeds).ids
            done["kl"] = estimate_kl(policy.behaviour, base.behaviour, ids).tolist()
    return done


def _prompts(config: Config, contexts: str) -> tuple[torch.Tensor, list[str]]:
    """Prompts int64 [n, P] of clips spread over the folder, and their context ids."""
    import numpy as np

    from align.video.folder import load_clip_folder
    from align.world_models.pool import cached_world_model

    model, folder = cached_world_model(config.model), load_clip_folder(contexts)
    count, dims = model.layout.context_frames, model.layout.num_dims
    rows = np.linspace(0, len(folder) - 1, min(config.kl_contexts, len(folder))).astype(int).tolist()
    known = [folder.actions(row) for row in rows]
    actions = [np.zeros((count - 1, dims), np.float32) if a is None else a[: count - 1] for a in known]
    prompts = model.encode(np.stack([folder.video(row)[:count] for row in rows]), np.stack(actions))
    return prompts, [str(folder.table["context_id"].iloc[row]) for row in rows]
