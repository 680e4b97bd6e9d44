"""Draw dreams with forced actions as contact sheets to be judged by eye; the simulator's answers lie in a file beside them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from recipes._run import Run

if TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True)
class Config:
    """How many dreams of what."""

    model: str = "household"
    """World model."""
    adapter: str = ""
    """Adapter folder; empty is the base."""
    clips: int = 20
    """Dreams a scene; careless or careful is drawn by chance for each."""
    columns: int = 8
    """Frames shown of each clip, evenly spaced, the last one included."""
    scale: int = 2
    """Screen pixels a pixel."""
    show_truth: bool = False
    """Draw the simulator's clip under each dream and print the answer; leave it off to judge blind."""
    seed: int = 0
    """Draws contexts and styles."""


def main(config: Config, run: Run) -> dict[str, Any]:
    """Write one PNG a scene and answers.json; returns their paths."""
    import numpy as np

    from align.scenes import SCENES
    from align.scenes.base import CAREFUL, CARELESS
    from align.scenes.behaviour import record_clip, split_seed

    rng = np.random.default_rng(config.seed)
    answers: dict[str, int] = {}
    sheets = []
    for scene_name, scene in SCENES.items():
        styles = {kind: [s for s, (k, _) in scene.styles.items() if k == kind] for kind in (CAREFUL, CARELESS)}
        clips = []
        for index in range(config.clips):
            names = styles[CARELESS if rng.random() < 0.5 else CAREFUL]
            seed = split_seed("evaluate", 50 + config.seed, index)
            clips.append(record_clip(scene_name, seed, style=names[int(rng.integers(len(names)))]))
        dreams, truth = _dream(config, clips)
        labels = []
        for index, clip in enumerate(clips):
            assert clip.outcome is not None
            name = f"{scene_name}-{index:02d}"
            answers[name] = clip.outcome.hazards[scene.axis]
            labels.append(f"{name} {scene.axis}: {answers[name]}" if config.show_truth else name)
        path = run.path / f"{scene_name}.png"
        _draw(config, path, dreams, truth if config.show_truth else None, labels)
        sheets.append(str(path))
    run.save_json("answers", answers)
    return {"sheets": sheets, "answers": str(run.path / "answers.json")}


def _dream(config: Config, clips: list[Any]) -> tuple[np.ndarray, np.ndarray]:
    """The model's dreams under the clips' actions and the clips themselves, uint8 [n, T, h, w, 3]."""
    import numpy as np
    import torch

    from align.world_models.engine import roll_out
    from align.world_models.pool import cached_policy, cached_world_model

    model, policy = cached_world_model(config.model), cached_policy(config.model, config.adapter)
    video, actions = np.stack([c.video for c in clips]), np.stack([c.actions for c in clips])
    ids, pixels = model.encode(video, actions), model.to_input(video)
    bins = model.layout.actions_to_bins(torch.from_numpy(actions))
    prompts = ids[:, : model.layout.prompt_length]
    dreamed = roll_out(policy, prompts, [c.seed for c in clips], bins=bins, batch_size=len(clips)).ids
    return model.decode(dreamed, pixels[:, 0]), (pixels.permute(0, 1, 3, 4, 2) * 255).round().byte().numpy()


def _draw(config: Config, path: Path, dreams: np.ndarray, truth: np.ndarray | None, labels: list[str]) -> None:
    import numpy as np
    from PIL import Image, ImageDraw

    from align.io import atomic_path

    picked = np.linspace(0, dreams.shape[1] - 1, config.columns).round().astype(int)
    rows = [np.concatenate(list(clip[picked]), axis=1) for clip in dreams]
    if truth is not None:
        below = [np.concatenate(list(clip[picked]), axis=1) for clip in truth]
        rows = [np.concatenate([row, real]) for row, real in zip(rows, below, strict=True)]
    height, width = rows[0].shape[0] * config.scale, rows[0].shape[1] * config.scale
    sheet = Image.new("RGB", (width, len(rows) * (height + 14)), "white")
    pen = ImageDraw.Draw(sheet)
    for number, (row, label) in enumerate(zip(rows, labels, strict=True)):
        top = number * (height + 14)
        pen.text((2, top + 1), label, fill="black")
        sheet.paste(Image.fromarray(row).resize((width, height), Image.Resampling.NEAREST), (0, top + 14))
    with atomic_path(path) as temporary:
        sheet.save(temporary, format="PNG")
