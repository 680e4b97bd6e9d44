"""Rollouts with a proxy reward and the truth beside it: dreamed and carried out in the household, or read from a folder."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from recipes._scoring import OBJECTIVE

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    import torch

    from align.types import UInt8
    from reward_models.model import RewardModel

BATCH = 128
"""Dreams that a worker makes at a time."""


@dataclass(frozen=True)
class Proxy:
    """The reward that is optimised.

    Attributes:
        reward_model: Folder.
        axes: Scene to the axes that count there; all of the reward model's where a scene is not named.
        uncertainty_weight: k of the lower confidence bound.
    """

    reward_model: str
    axes: Mapping[str, Sequence[str]]
    uncertainty_weight: float

    def score(self, world_model: str, scene: str, video: UInt8) -> np.ndarray:
        """Reward [B] of clips uint8 [B, T, H, W, 3]: the log-probability of being good on every axis."""
        from align.tuning.pairs import combine_axes
        from align.world_models.pool import cached_world_model

        model, reward = cached_world_model(world_model), _load_reward(self.reward_model, world_model)
        bounds = reward.score(model.to_input(video)).lower_confidence_bound(self.uncertainty_weight)
        axes = self.axes.get(scene) or reward.axes
        return combine_axes({axis: bounds[:, reward.axes.index(axis)].numpy() for axis in axes}, axes)

    def check(self, world_model: str) -> None:
        """Raise ConfigError where there is no reward model, or it lacks an axis."""
        from align.errors import ConfigError

        if not self.reward_model:
            raise ConfigError("reward_model is empty; give the folder that gptsim run reward wrote")
        known = _load_reward(self.reward_model, world_model).axes
        if missing := sorted({axis for axes in self.axes.values() for axis in axes} - set(known)):
            raise ConfigError(f"{self.reward_model} has no axis {', '.join(missing)}, only {', '.join(known)}; change axes")


@functools.lru_cache(maxsize=1)
def _load_reward(folder: str, world_model: str) -> RewardModel:
    from align.world_models.pool import cached_world_model
    from reward_models.model import RewardModel

    return RewardModel.from_pretrained(folder, cached_world_model(world_model).tokenizer)


@dataclass(frozen=True)
class PoolJob:
    """Contexts of one scene, of each of which a policy dreams some rollouts.

    Attributes:
        world_model: Name or folder.
        adapter: Folder, or "" for the base.
        proxy: The reward that is optimised.
        scene: Scene.
        rollouts: (scene seed, sample) of each dream.
    """

    world_model: str
    adapter: str
    proxy: Proxy
    scene: str
    rollouts: tuple[tuple[int, int], ...]


def pool_task(job: PoolJob) -> list[dict[str, Any]]:
    """Dream, score by the proxy, carry the actions out; rows with the truth and the rollout's distance from the base."""
    from align.scenes.behaviour import context_id
    from align.world_models.pool import cached_world_model

    ids, video = dream(job)
    proxy = job.proxy.score(job.world_model, job.scene, video)
    actions, kl = cached_world_model(job.world_model).actions(ids), estimate_kl(job, ids)
    rows: list[dict[str, Any]] = []
    for i, (seed, sample) in enumerate(job.rollouts):
        hazard, success, _ = carry_out(job.scene, seed, actions[i])
        truth = {"gold": float(success and not hazard), "hazard": float(hazard), "failure": float(not success)}
        rows.append(
            {
                "scene": job.scene,
                "context_id": context_id(job.scene, seed),
                "seed": seed,
                "sample": sample,
                "proxy": float(proxy[i]),
                **truth,
                "kl": float(kl[i]),
            }
        )
    return rows


def dream(job: PoolJob) -> tuple[torch.Tensor, UInt8]:
    """Ids int64 [B, L] and clips uint8 [B, T, h, w, 3] of the job's dreams, actions drawn at temperature 1."""
    import numpy as np
    import torch

    from align.audit.behaviour import sampling_seed
    from align.scenes.behaviour import context
    from align.world_models.engine import roll_out
    from align.world_models.pool import cached_policy, cached_world_model

    model, policy = cached_world_model(job.world_model), cached_policy(job.world_model, job.adapter)
    seeds = list(dict.fromkeys(seed for seed, _ in job.rollouts))
    starts = [context(job.scene, seed) for seed in seeds]
    pick = torch.tensor([seeds.index(seed) for seed, _ in job.rollouts])
    prompts = model.encode(np.stack([s[0] for s in starts]), np.stack([s[1] for s in starts]))[pick]
    first = model.to_input(np.stack([s[0][0] for s in starts]))[pick]
    with torch.no_grad():
        ids = roll_out(policy, prompts, [sampling_seed(*rollout) for rollout in job.rollouts]).ids
    return ids, model.decode(ids, first)


def estimate_kl(job: PoolJob, ids: torch.Tensor) -> np.ndarray:
    """KL(policy || base) over the actions of each rollout, in nats [B]."""
    import numpy as np

    from align.tuning import policy as tuned
    from align.world_models.pool import cached_policy

    if not job.adapter:
        return np.zeros(len(ids))
    policy, base = (cached_policy(job.world_model, adapter).behaviour for adapter in (job.adapter, ""))
    return tuned.estimate_kl(policy, base, ids).numpy()


def carry_out(scene: str, seed: int, actions: np.ndarray) -> tuple[bool, bool, UInt8]:
    """What truly happens under given actions [T-1, A]: hazard, success, and the simulator's clip."""
    import numpy as np

    from align.scenes import make_scene

    env = make_scene(scene)
    frames = [env.reset(seed), *(env.step(np.clip(action, -1, 1)) for action in actions)]
    outcome = env.outcome()
    return bool(outcome.hazards[env.axis]), bool(outcome.success), np.stack(frames)


@dataclass(frozen=True)
class FolderJob:
    """Some rollouts of a folder.

    Attributes:
        world_model: Its frame size (and tokenizer) is used to score.
        proxy: The reward that is optimised.
        folder: Rollout folder.
        scene: Scene of these rows.
        rows: Row numbers.
        judge: Path of an outcome judge; empty takes the folder's outcome columns.
    """

    world_model: str
    proxy: Proxy
    folder: str
    scene: str
    rows: tuple[int, ...]
    judge: str


def folder_task(job: FolderJob) -> list[dict[str, Any]]:
    """Score rollouts that somebody made by the proxy, and read what truly happened."""
    import numpy as np

    from align.video.folder import load_clip_folder

    whole = load_clip_folder(job.folder)
    folder = whole.select(list(job.rows))
    video = np.stack([folder.video(row) for row in range(len(folder))])
    proxy = job.proxy.score(job.world_model, job.scene, video)
    truth = _judged(job, video) if job.judge else read_recorded(whole.table, job.scene, job.rows)
    gold = 1 - np.max(list(truth.values()), axis=0)
    return [
        {
            "scene": job.scene or "all",
            "context_id": str(context),
            "proxy": float(proxy[i]),
            "gold": float(gold[i]),
            **{name: float(values[i]) for name, values in truth.items()},
        }
        for i, context in enumerate(folder.table["context_id"])
    ]


def _judged(job: FolderJob, video: UInt8) -> dict[str, np.ndarray]:
    """Hazard and failure [B] by an outcome judge; NaN where it can't read a clip, left out where it has no such axis."""
    import numpy as np

    from align.audit.judge import OutcomeJudge
    from align.errors import DataError

    read = OutcomeJudge.load(Path(job.judge)).judge(video)
    axes = [axis for axis in (job.proxy.axes.get(job.scene) or read) if axis != OBJECTIVE]
    truth = {}
    if axes and all(axis in read for axis in axes):
        truth["hazard"] = _decide(np.max([read[axis] for axis in axes], axis=0))
    if OBJECTIVE in read:
        truth["failure"] = _decide(1 - read[OBJECTIVE])
    if not truth:
        raise DataError(f"{job.judge} reads none of {', '.join([*axes, OBJECTIVE])}; give a judge that does, or change axes")
    return truth


def _decide(probability: np.ndarray) -> np.ndarray:
    import numpy as np

    return np.where(np.isnan(probability), np.nan, (probability > 0.5).astype(float))


def read_recorded(table: pd.DataFrame, scene: str, rows: Sequence[int]) -> dict[str, np.ndarray]:
    """Hazard and failure of some rows [B] from the folder's own columns; NaN where one was not read.

    Which columns a scene has is told by all its rows: one that is empty throughout is none, and its outcome is left out.

    Raises:
        DataError: The scene has neither.
    """
    import numpy as np

    from align.errors import DataError

    of_scene = table[table["scene"].astype(str) == scene]
    known = [str(name) for name in table if of_scene[name].notna().any()]
    names = [name for name in known if name.startswith("outcome_")]
    chosen, truth = table.iloc[list(rows)], {}
    if names:
        values = chosen[names].astype(float).to_numpy()
        truth["hazard"] = np.where((values >= 1).any(1), 1.0, values.max(1))
    if "success" in known:
        truth["failure"] = 1 - chosen["success"].to_numpy(float)
    if not truth:
        raise DataError(
            "the rollouts have no outcome_<axis> or success column with anything in it; give judge, an outcome judge"
        )
    return truth
