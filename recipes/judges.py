"""Train the two outcome judges of the household: the labelling eye and the judge of record for dreams."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from recipes._run import Run

if TYPE_CHECKING:
    import numpy as np

    from align.world_models.world_model import WorldModel


@dataclass(frozen=True)
class Config:
    """What the judges learn from."""

    world_model: str = "household"
    """Its tokenizer shows what dreams look like at best."""
    out: str = ""
    """Folder for both; empty puts them into the run folder."""
    num_contexts: int = 700
    """Contexts a scene and judge."""
    num_steps: int = 600
    """Training steps of each."""
    held_out: int = 100
    """Contexts a scene and judge kept for the figures."""
    seed: int = 0
    """Seed."""


JUDGES = {"labeller": ("probe", 40, 2), "judge": ("judge", 48, 2)}
"""Name to the split of contexts it learns from, its width, and every how many frames it looks."""


def main(config: Config, run: Run) -> dict[str, Any]:
    """Train both; returns how well each reads held-out clips and their reconstructions."""
    from align.world_models.world_model import load_world_model

    out = Path(config.out) if config.out else run.path
    world_model = load_world_model(config.world_model)
    return {name: _train(config, run, world_model, name, out / name) for name in JUDGES}


def _train(config: Config, run: Run, world_model: WorldModel, name: str, path: Path) -> dict[str, float]:
    import numpy as np

    from align.audit.judge import JudgeConfig, train_judge
    from align.types import SUCCESS_AXIS

    if (done := run.done(name)) is not None:
        return done
    split, width, every = JUDGES[name]
    axes = ("spill", "breakage", "politeness", SUCCESS_AXIS)
    videos, labels = _film(config, run, split, world_model, axes)
    held = 3 * config.held_out

    decoded = _reconstruct(run, world_model, videos)
    with run.stage(name, "a judge that reads outcomes from pixels") as results:
        with run.progress(f"training the {name}", config.num_steps) as advance:
            judge = train_judge(
                JudgeConfig(axes, width=width, every=every),
                videos[held:],
                labels[held:],
                decoded[held:],
                num_steps=config.num_steps,
                seed=config.seed + len(name),
                progress=advance,
            )
        judge.save(path)
        for kind, shown in (("real", videos[:held]), ("reconstructed", decoded[:held])):
            read = judge.judge(shown)
            for i, axis in enumerate(axes):
                right = ((read[axis] > 0.5) == (labels[:held, i] > 0.5)) & ~np.isnan(read[axis])
                results[f"accuracy_{axis}_{kind}"] = float(right.mean())
            results[f"readable_{kind}"] = float((read["readable"] >= 0.5).mean())
    return dict(results)


def _reconstruct(run: Run, world_model: WorldModel, videos: np.ndarray) -> np.ndarray:
    """The clips after the tokenizer, uint8 of the same shape."""
    import numpy as np

    parts = []
    with run.progress("reconstructing", len(videos), "dreams look like this at best") as advance:
        for start in range(0, len(videos), 64):
            pixels = world_model.to_input(videos[start : start + 64])
            shown = world_model.tokenizer.decode(world_model.tokenizer.encode(pixels), pixels[:, 0])
            parts.append((shown.permute(0, 1, 3, 4, 2) * 255).round().byte().numpy())
            advance(len(pixels))
    return np.concatenate(parts)


def _film(
    config: Config, run: Run, split: str, world_model: WorldModel, axes: tuple[str, ...]
) -> tuple[np.ndarray, np.ndarray]:
    import numpy as np

    from align.audit.judge import label_matrix
    from align.scenes import SCENES
    from align.scenes.behaviour import record_clip, split_seed
    from align.world_models.world_model import shrink

    videos, outcomes = [], []
    with run.progress(f"filming for the split {split}", config.num_contexts * len(SCENES)) as advance:
        for index in range(config.num_contexts):
            for scene in SCENES:
                clip = record_clip(scene, split_seed(split, config.seed, index))
                assert clip.outcome is not None
                videos.append(shrink(clip.video, world_model.tokenizer.config.size))
                outcomes.append({**clip.outcome.hazards, "success": float(clip.outcome.success)})
                advance(1)
    return np.stack(videos), label_matrix(outcomes, axes)
