"""The honest baseline: dream n rollouts of a context, carry out the actions of the one the reward model likes best."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from recipes._run import Run


@dataclass(frozen=True)
class Config:
    """How many to choose from."""

    model: str = "household"
    """World model."""
    adapter: str = ""
    """Adapter folder; empty is the base."""
    reward_model: str = ""
    """Reward model that picks."""
    n: tuple[int, ...] = (1, 4, 16)
    """Sizes of the choice; the largest pool is dreamed once and smaller ones are its first parts."""
    contexts: int = 200
    """Held-out contexts a scene."""
    axes: dict[str, tuple[str, ...]] = field(
        default_factory=lambda: {
            "pour": ("spill", "success"),
            "shelf": ("breakage", "success"),
            "corridor": ("politeness", "success"),
        }
    )
    """Axes that count in each scene."""
    uncertainty_weight: float = 0.5
    """k of the lower confidence bound."""
    temperature: float = 1.0
    """Sampling temperature."""
    num_workers: int = 2
    """Processes."""
    seed: int = 0
    """Another stretch of the held-out contexts."""


@dataclass(frozen=True)
class _Job:
    config: Config
    scene: str
    seeds: tuple[int, ...]


def main(config: Config, run: Run) -> dict[str, Any]:
    """Return real unsafe rates and success per n and scene, with intervals clustered by context."""
    import numpy as np

    from align.audit.statistics import cluster_rate
    from align.errors import ConfigError
    from align.scenes.behaviour import split_seed
    from align.world_models.pool import Pool, chunks

    if not config.reward_model:
        raise ConfigError("reward_model is empty; give the folder that gptsim run reward wrote")
    run.record_input("reward_model", config.reward_model)
    per_chunk = max(1, 64 // max(config.n))
    seeds = [split_seed("evaluate", config.seed, index) for index in range(config.contexts)]
    jobs = [_Job(config, scene, tuple(part)) for scene in config.axes for part in chunks(seeds, per_chunk)]
    rows: list[dict[str, Any]] = []
    why = "the reward model picks one of n dreams, the simulator carries its actions out"
    with Pool(config.num_workers) as pool, run.progress("choosing", len(jobs) * per_chunk, why) as advance:
        for part in pool.map(choose_task, jobs):
            rows += part
            advance(len(part) // len(config.n))
    figures: dict[str, Any] = {}
    for n in config.n:
        for scene in config.axes:
            picked = [row for row in rows if row["n"] == n and row["scene"] == scene]
            clusters = [row["context_id"] for row in picked]
            unsafe = np.array([row["hazard"] for row in picked])
            success = np.array([row["success"] for row in picked])
            figures[f"n{n}_{scene}"] = {
                "unsafe": cluster_rate(unsafe, clusters, better="lower").as_dict(),
                "success": cluster_rate(success, clusters, better="higher").as_dict(),
            }
    return figures


def choose_task(job: _Job) -> list[dict[str, Any]]:
    """Dream max(n) rollouts of each context, score them, carry out each n's winner."""
    import numpy as np

    from align.audit.behaviour import sampling_seed
    from align.scenes.behaviour import context, context_id
    from align.tuning.pairs import combine_axes
    from align.world_models.engine import roll_out
    from align.world_models.pool import cached_policy, cached_world_model
    from reward_models.model import RewardModel

    config, largest = job.config, max(job.config.n)
    model, policy = cached_world_model(config.model), cached_policy(config.model, config.adapter)
    reward = RewardModel.from_pretrained(Path(config.reward_model), model.tokenizer)
    starts = [context(job.scene, seed) for seed in job.seeds]
    prompts = model.encode(np.stack([s[0] for s in starts]), np.stack([s[1] for s in starts])).repeat_interleave(largest, 0)
    first = model.to_input(np.stack([s[0][0] for s in starts])).repeat_interleave(largest, 0)
    chance = [sampling_seed(seed, sample) for seed in job.seeds for sample in range(largest)]
    ids = roll_out(policy, prompts, chance, temperature=config.temperature).ids
    scores = reward.score(model.to_input(model.decode(ids, first))).lower_confidence_bound(config.uncertainty_weight)
    axes = config.axes[job.scene]
    utility = combine_axes({axis: scores[:, reward.axes.index(axis)].numpy() for axis in axes}, axes)
    actions = model.actions(ids)
    rows = []
    for i, seed in enumerate(job.seeds):
        for n in config.n:
            pool = slice(i * largest, i * largest + n)
            winner = actions[pool][int(np.argmax(utility[pool]))]
            rows.append(
                {"n": n, "scene": job.scene, "context_id": context_id(job.scene, seed), **_carry_out(job.scene, seed, winner)}
            )
    return rows


def _carry_out(scene: str, seed: int, actions: Any) -> dict[str, float]:
    import numpy as np

    from align.scenes import make_scene

    env = make_scene(scene)
    env.reset(seed)
    for action in actions:
        env.step(np.clip(action, -1, 1))
    outcome = env.outcome()
    return {"hazard": float(outcome.hazards[env.axis]), "success": float(outcome.success)}
