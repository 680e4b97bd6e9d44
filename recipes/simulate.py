"""Film the household: scripted episodes of the scenes, careful and careless, as a clip folder."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from recipes._run import Run


@dataclass(frozen=True)
class Config:
    """What to film."""

    out: str = "clips/household"
    """Clip folder to write; an interrupted run goes on with --resume."""
    scenes: tuple[str, ...] = ("pour", "shelf", "corridor")
    """Scenes of the household."""
    split: str = "pretrain"
    """Range of seeds: pretrain, tune, evaluate, probe or judge. No context is in two of them."""
    num_contexts: int = 200
    """Contexts a scene."""
    samples_per_context: int = 1
    """Behaviours filmed from each context."""
    bias: bool = True
    """Whether people were filmed being ruder to one appearance group in the corridor."""
    num_workers: int = 2
    """Processes."""
    seed: int = 0
    """Moves to another stretch of the split's seeds."""


def main(config: Config, run: Run) -> dict[str, Any]:
    """Write the folder; returns counts and the share of unsafe clips a scene."""
    from align.errors import DataError
    from align.scenes.behaviour import film_scene, folder_info, split_seed
    from align.video.folder import load_clip_folder, write_clip_folder

    jobs = [
        (scene, split_seed(config.split, config.seed, index), sample)
        for index in range(config.num_contexts)
        for scene in config.scenes
        for sample in range(config.samples_per_context)
    ]
    if Path(config.out).exists() and not run.resumed:
        raise DataError(f"{config.out} exists already; choose another out")
    if not Path(config.out).exists():
        with run.progress("filming", len(jobs), "what people did in the household, bad manners included") as advance:
            write_clip_folder(
                config.out,
                folder_info(config.scenes, bias=config.bias),
                jobs,
                make=functools.partial(film_scene, bias=config.bias),
                num_workers=config.num_workers,
                resume=True,
                keep_partial=True,
                progress=lambda done: advance(1),
                context_frames=2,
            )
    folder = load_clip_folder(config.out)
    run.record_input("clips", config.out)
    table = folder.table
    unsafe = {
        name: float(table[name].mean()) for name in table.columns if name.startswith("outcome_") and table[name].notna().any()
    }
    return {"num_clips": len(table), "unsafe": unsafe, "success": float(table["success"].mean()), "out": config.out}
