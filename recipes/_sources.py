"""Source clips as a reward model sees them: one row a clip, with what it is compared by and what it was found to be."""

from __future__ import annotations

import functools
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from recipes._run import Run

if TYPE_CHECKING:
    import pandas as pd

    from align.video.folder import ClipFolder
    from recipes._probe import Labelled
    from reward_models.model import RewardModel

CHUNK = 64
"""Clips that a worker scores at a time."""
EMPTY = "(empty)"
MOST_VALUES = 8
"""An attribute with more values is not compared by, unless it is named."""
NOT_GROUPS = ("style",)
"""How the household's scripts behaved: a cause of hazards, not a group of clips."""


@dataclass(frozen=True)
class Seer:
    """The reward model that looks at the clips.

    Attributes:
        reward_model: Folder.
        world_model: World model whose frame size (and tokenizer) is used.
        axes: Scene to the axes that count there; all of the reward model's where a scene is not named.
    """

    reward_model: str
    world_model: str
    axes: Mapping[str, Sequence[str]]

    def load(self) -> RewardModel:
        """The reward model of this process."""
        return _load_reward(self.reward_model, self.world_model)

    def axes_of(self, scene: str) -> Sequence[str]:
        """Axes that apply in a scene."""
        return self.axes.get(scene) or self.load().axes

    def check(self, scenes: Iterable[str]) -> None:
        """Raise ConfigError or DataError unless every axis of these scenes has a probability of failing."""
        import torch

        from align.errors import ConfigError, DataError

        if not self.reward_model:
            raise ConfigError("reward_model is empty; give the folder that gptsim run reward wrote")
        reward = self.load()
        wanted = sorted({axis for scene in scenes for axis in self.axes_of(scene)})
        if missing := [axis for axis in wanted if axis not in reward.axes]:
            raise ConfigError(
                f"{self.reward_model} has no axis {', '.join(missing)}, only {', '.join(reward.axes)}; change axes"
            )
        blind = [axis for axis in wanted if not torch.isfinite(reward.fail_slope[reward.axes.index(axis)])]
        if blind:
            raise DataError(
                f"{self.reward_model} can't say what is bad in itself on {', '.join(blind)}; leave the axis out of axes, or "
                "collect some votes 'both bad' or single verdicts on it and train again"
            )


@functools.lru_cache(maxsize=1)
def _load_reward(folder: str, world_model: str) -> RewardModel:
    from align.world_models.pool import cached_world_model
    from reward_models.model import RewardModel

    return RewardModel.from_pretrained(folder, cached_world_model(world_model).tokenizer)


@dataclass(frozen=True)
class SourceJob:
    """Some clips of a folder."""

    seer: Seer
    clips: str
    rows: tuple[int, ...]


def score_sources(run: Run, seer: Seer, folders: Sequence[str], source: str, num_workers: int) -> pd.DataFrame:
    """A row for every clip of the folders; a clip that the reward model refuses has no probabilities.

    Args:
        run: The run; scoring is done once.
        seer: Who looks.
        folders: Clip folders.
        source: Column or attribute that says where a clip comes from; empty takes the folders' names.
        num_workers: Processes.
    """
    import pandas as pd

    from align.video.folder import load_clip_folder
    from align.world_models.pool import chunks
    from recipes._probe import make_frame, run_stage

    jobs: list[Labelled] = []
    tables = []
    for path in folders:
        folder = load_clip_folder(path)
        seer.check(folder.table["scene"].astype(str).unique())
        tables.append(_describe(folder, source))
        jobs += [({}, SourceJob(seer, path, tuple(part))) for part in chunks(range(len(folder)), CHUNK)]
    rows = run_stage(run, "scores", "the reward model looks at every clip", source_task, jobs, num_workers)
    # In alphabetical order, so that a resumed run writes the same bytes.
    names = sorted({name for row in rows for name in row})
    return pd.concat([pd.concat(tables, ignore_index=True), make_frame(rows, names)[names]], axis=1)


def _describe(folder: ClipFolder, source: str) -> pd.DataFrame:
    """Ids, cluster, scene, source, attributes as text, and the truth where the folder knows it."""
    import pandas as pd

    table = folder.table
    attributes = pd.DataFrame([json.loads(text or "{}") for text in table["attributes"]], index=table.index)
    about = pd.DataFrame({"folder": str(folder.path), "rollout_id": table["rollout_id"], "context_id": table["context_id"]})
    about["scene"] = table["scene"].astype(str).replace("", "all")
    about["source"] = _source(folder, attributes, source)
    for name in attributes:
        if str(name) not in about:
            about[str(name)] = attributes[name].map(_as_text)
    for name in (str(name) for name in table if str(name).startswith("outcome_")):
        about[f"truth_{name.removeprefix('outcome_')}"] = table[name].astype(float)
    if "success" in table:
        about["truth_success"] = 1 - table["success"].astype(float)
    return about


def _as_text(value: Any) -> str:
    return EMPTY if value is None or value != value or value == "" else str(value)


def _source(folder: ClipFolder, attributes: pd.DataFrame, source: str) -> pd.Series | str:
    from align.errors import DataError

    if not source:
        return Path(folder.path).name
    for table in (attributes, folder.table):
        if source in table:
            return table[source].map(_as_text)
    raise DataError(
        f"{folder.path} has no attribute or column {source}; attributes are {', '.join(map(str, attributes)) or 'none'}"
    )


def source_task(job: SourceJob) -> list[dict[str, Any]]:
    """Score, uncertainty, probability of failing, and whether the members disagree, for each axis that applies."""
    import numpy as np

    from align.video.folder import load_clip_folder

    folder = load_clip_folder(job.clips)
    rows: list[dict[str, Any]] = [{} for _ in job.rows]
    of_shape: dict[tuple[int, ...], list[int]] = {}
    videos = [folder.video(row) for row in job.rows]
    for place, video in enumerate(videos):
        of_shape.setdefault(video.shape, []).append(place)
    for places in of_shape.values():
        seen = _look(job.seer, np.stack([videos[place] for place in places]))
        for i, place in enumerate(places):
            scene = str(folder.table["scene"].iloc[job.rows[place]])
            for axis in job.seer.axes_of(scene):
                rows[place] |= {f"{kind}_{axis}": float(values[i]) for kind, values in seen.get(axis, {}).items()}
    for row, place in zip(rows, job.rows, strict=True):
        row.setdefault("row", place)
    return rows


def _look(seer: Seer, video: Any) -> dict[str, dict[str, Any]]:
    """Axis to kind to values [B]; nothing where clips of this length can't be scored."""
    from align.world_models.pool import cached_world_model

    reward = seer.load()
    try:
        scores = reward.score(cached_world_model(seer.world_model).to_input(video))
    except ValueError:
        return {}
    fails = reward.fail_slope * scores.members + reward.fail_bias < 0
    unsafe, doubtful = reward.fail_probability(scores), fails.any(0) & ~fails.all(0)
    kinds = {"score": scores.mean, "uncertainty": scores.uncertainty, "unsafe": unsafe, "doubtful": doubtful.float()}
    return {axis: {kind: values[:, k].numpy() for kind, values in kinds.items()} for k, axis in enumerate(reward.axes)}


def choose_columns(table: pd.DataFrame, attributes: Sequence[str]) -> list[str]:
    """What clips are compared by: the source where there are several, and attributes.

    Args:
        table: What :func:`score_sources` made.
        attributes: Names; empty takes all with 2 to ``MOST_VALUES`` values.

    Raises:
        DataError: An attribute that is named isn't there.
    """
    from align.errors import DataError

    numbers = ("score_", "uncertainty_", "unsafe_", "doubtful_", "truth_")
    taken = {"folder", "rollout_id", "context_id", "scene", "source", "row"}
    there = [str(name) for name in table if name not in taken and not str(name).startswith(numbers)]
    if missing := [name for name in attributes if name not in there]:
        raise DataError(f"the clips have no attribute {', '.join(missing)}; they have {', '.join(there) or 'none'}")
    wanted = [name for name in there if name not in NOT_GROUPS and 2 <= table[name].nunique() <= MOST_VALUES]
    return [*(["source"] if table["source"].nunique() > 1 else []), *(attributes or wanted)]
