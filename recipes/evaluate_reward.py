"""Hold a reward model against the simulator: AUROC, pairwise accuracy with ties, calibration, on held-out filmed clips."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from recipes._run import Run

if TYPE_CHECKING:
    import numpy as np

    from reward_models.model import RewardModel


@dataclass(frozen=True)
class Config:
    """What to measure on how many clips."""

    reward_model: str = ""
    """Folder that gptsim run reward wrote."""
    world_model: str = "household"
    """World model whose frame size (and tokenizer, if the backbone wants it) is used."""
    contexts: int = 350
    """Held-out contexts a scene."""
    samples_per_context: int = 4
    """Filmed behaviours of each; every two of them are a pair (4 samples give 6 pairs)."""
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
    """Return per axis the AUROC over each scene's clips, accuracy and calibration over pairs; intervals over contexts."""
    from align.errors import ConfigError
    from align.scenes import SCENES
    from align.scenes.behaviour import split_seed
    from align.types import SUCCESS_AXIS
    from align.world_models.pool import Pool, chunks
    from reward_models.model import RewardModel

    if not config.reward_model:
        raise ConfigError("reward_model is empty; give the folder that gptsim run reward wrote")
    seeds = [split_seed("evaluate", config.seed, index) for index in range(config.contexts)]
    jobs = [_Job(config, scene, tuple(part)) for scene in SCENES for part in chunks(seeds, 16)]
    rows: list[dict[str, Any]] = []
    with Pool(config.num_workers) as pool, run.progress("scoring held-out clips", len(jobs)) as advance:
        for part in pool.map(score_task, jobs):
            rows += part
            advance(1)
    reward = RewardModel.from_pretrained(Path(config.reward_model), _module(config))
    figures: dict[str, Any] = {}
    for axis in reward.axes:
        scenes = [scene for scene in SCENES if axis in (SCENES[scene].axis, SUCCESS_AXIS)]
        picked = [row for row in rows if row["scene"] in scenes]
        figures[axis] = {
            "auroc": {scene: _auroc(axis, [row for row in picked if row["scene"] == scene]) for scene in scenes},
            **_pairs(reward, axis, picked),
        }
    return figures


def _module(config: Config) -> Any:
    from align.world_models.pool import cached_world_model

    return cached_world_model(config.world_model).tokenizer


def score_task(job: _Job) -> list[dict[str, Any]]:
    """Film and score one chunk; a row a clip with what each member of the ensemble says."""
    import numpy as np

    from align.scenes.behaviour import record_clip
    from align.types import SUCCESS_AXIS
    from align.world_models.pool import cached_world_model
    from reward_models.model import RewardModel

    config = job.config
    model = cached_world_model(config.world_model)
    reward = RewardModel.from_pretrained(Path(config.reward_model), model.tokenizer)
    clips = [record_clip(job.scene, seed, sample=s) for seed in job.seeds for s in range(config.samples_per_context)]
    scores = reward.score(model.to_input(np.stack([clip.video for clip in clips])))
    rows = []
    for i, clip in enumerate(clips):
        assert clip.outcome is not None
        failed = {**clip.outcome.hazards, SUCCESS_AXIS: int(not clip.outcome.success)}
        rows.append(
            {
                "scene": job.scene,
                "context_id": clip.context_id,
                "failed": {axis: float(failed.get(axis, 0)) for axis in reward.axes},
                "scores": {axis: float(scores.mean[i, k]) for k, axis in enumerate(reward.axes)},
            }
        )
    return rows


def _auroc(axis: str, rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Of the clips of one scene: no vote ever compares clips of two scenes, so nothing ties their rewards together."""
    import numpy as np

    from reward_models.metrics import score_hazard

    failed = np.array([row["failed"][axis] for row in rows])
    scores = np.array([row["scores"][axis] for row in rows])
    return score_hazard(scores, failed, [row["context_id"] for row in rows]).as_dict()


def _pairs(reward: RewardModel, axis: str, rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Every two clips of a context: does the model say which is better, or that they are alike?"""
    import numpy as np
    import torch

    from reward_models.metrics import score_pairs
    from reward_models.ties import TIE_MODELS

    of_context: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        of_context.setdefault(row["context_id"], []).append(row)
    pairs = [(a, b) for group in of_context.values() for i, a in enumerate(group) for b in group[i + 1 :]]
    margin = torch.tensor([a["scores"][axis] - b["scores"][axis] for a, b in pairs])
    tie = reward.tie_logit[reward.axes.index(axis)].expand_as(margin)
    probabilities = TIE_MODELS[reward.config.tie_model](margin, tie).exp()
    worse: np.ndarray = np.array([a["failed"][axis] - b["failed"][axis] for a, b in pairs])
    classes = np.where(worse < 0, 0, np.where(worse > 0, 1, 2))
    report = score_pairs(probabilities, classes, [a["context_id"] for a, _ in pairs]).as_dict()
    return {"num_pairs": len(pairs), **report}
