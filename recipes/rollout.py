"""Dream clips from contexts: the first frames of a clip folder, continued by a world model with or without an adapter."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from recipes._run import Run

if TYPE_CHECKING:
    import numpy as np

    from align.video.folder import ClipFolder

MANY_PROCESSES = True


@dataclass(frozen=True)
class Config:
    """What to continue with what."""

    model: str = "household"
    """World model: a shipped name or a folder."""
    adapter: str = ""
    """Adapter folder; empty is the base."""
    contexts: str = "clips/household"
    """Clip folder whose first frames are continued."""
    out: str = "rollouts/household"
    """Rollout folder to write."""
    samples_per_context: int = 4
    """Rollouts of each context, each with a seed of its own."""
    given_actions: bool = False
    """Replay the clips' own actions instead of letting the model choose."""
    temperature: float = 1.0
    """Sampling temperature of actions; frames are drawn at 0.7, or at this if it is lower; 0 is greedy."""
    num_workers: int = 2
    """Processes."""
    seed: int = 0
    """Seed from which every rollout's own is drawn."""


@dataclass(frozen=True)
class _Job:
    """One chunk of rollouts for a worker process."""

    config: Config
    rows: tuple[tuple[int, int], ...]


CHUNK = 64
"""Clips that a worker dreams at a time."""


def main(config: Config, run: Run) -> dict[str, Any]:
    """Write the rollout folder; returns how many clips were dreamed."""
    from align.errors import DataError
    from align.video.folder import load_clip_folder
    from align.world_models.pool import cached_world_model, chunks

    if Path(config.out).exists():
        folder = load_clip_folder(config.out)
        if not run.resumed:
            raise DataError(f"{config.out} exists already; choose another out")
        return {"num_rollouts": len(folder), "out": config.out}
    contexts = load_clip_folder(config.contexts)
    run.record_input("contexts", config.contexts)
    layout = cached_world_model(config.model).layout
    _check_contexts(contexts, layout.context_frames, layout.action_space.num_dims)
    rows = [(index, sample) for index in range(len(contexts)) for sample in range(config.samples_per_context)]
    jobs = [_Job(config, tuple(chunk)) for chunk in chunks(rows, CHUNK)]
    info = {**contexts.info, "source": f"rollouts of {config.model}", "adapter": config.adapter}
    _write(config, run, jobs, info)
    return {"num_rollouts": len(rows), "out": config.out}


def _write(config: Config, run: Run, jobs: list[_Job], info: dict[str, Any]) -> None:
    """Each rank dreams and encodes its share of the chunks; the first one keeps the journal."""
    from align.tuning.ranks import Ranks
    from align.video.writer import ClipFolderWriter, encode_row
    from align.world_models.pool import Pool

    ranks = Ranks.here()
    why = "the world model continues each context with actions of its own"
    with ExitStack() as stack:
        writer = None
        if run.is_main:
            writer = stack.enter_context(ClipFolderWriter(config.out, info, resume=True, keep_partial=True))
        videos = Path(config.out).with_name(Path(config.out).name + ".partial") / "videos"
        done, taken = ranks.gather(None if writer is None else (writer.done_tasks, set(writer.rows)))[0]
        pool = stack.enter_context(Pool(config.num_workers))
        advance = stack.enter_context(run.progress("dreaming", sum(len(job.rows) for job in jobs), why))
        advance(sum(len(jobs[number].rows) for number in done))
        todo = [number for number in range(len(jobs)) if number not in done]
        mine = pool.map(roll_out_chunk, [jobs[number] for number in todo[ranks.index :: ranks.count]])
        for start in range(0, len(todo), ranks.count):
            made = [encode_row(item, videos, {}, taken=dict.fromkeys(taken)) for item in next(mine, [])]
            for number, finished in zip(todo[start : start + ranks.count], ranks.gather(made), strict=False):
                # A chunk enters the journal as a whole, so one that was cut off by a kill is made again.
                if writer is not None:
                    writer.record(finished, task=number)
                advance(len(finished))


def _check_contexts(contexts: ClipFolder, context_frames: int, num_dims: int) -> None:
    from align.errors import DataError

    names = contexts.info.get("action_names") or []
    if int(contexts.table["num_frames"].min()) < context_frames:
        raise DataError(f"{contexts.path}: the model needs {context_frames} context frames and a clip is shorter")
    if len(names) != num_dims and context_frames > 1:
        raise DataError(f"{contexts.path} has {len(names)} action dims but the model was trained with {num_dims}")


def roll_out_chunk(job: _Job) -> list[tuple[dict[str, Any], np.ndarray]]:
    """Dream one chunk in a worker; returns rows of the rollout schema with their videos."""
    import torch

    from align.world_models.engine import roll_out
    from align.world_models.pool import cached_policy, cached_world_model

    config = job.config
    model, policy = cached_world_model(config.model), cached_policy(config.model, config.adapter)
    prompts, first, bins, about = _read_contexts(job)
    seeds = [row["seed"] for row in about]
    given = bins if config.given_actions else None
    with torch.no_grad():
        ids = roll_out(policy, prompts, seeds, bins=given, temperature=config.temperature, batch_size=CHUNK).ids
    videos, actions = model.decode(ids, first), model.actions(ids)
    shared = {
        "model_id": config.model,
        "adapter_id": config.adapter,
        "context_frames": model.layout.context_frames,
        "tokenizer_id": f"{config.model}:{model.info.get('clips_sha256', '')[:12]}",
    }
    return [
        ({**row, **shared, "actions": actions[i].tolist(), "tokens": ids[i].tolist()}, video)
        for i, (row, video) in enumerate(zip(about, videos, strict=True))
    ]


def _read_contexts(job: _Job) -> tuple[Any, Any, Any, list[dict[str, Any]]]:
    """Prompts int64 [B, P], frame 0 float32 [B, 3, h, w], the clips' own action bins or None, and a row for each rollout."""
    import numpy as np
    import torch

    from align.errors import DataError
    from align.video.folder import load_clip_folder
    from align.world_models.pool import cached_world_model

    model, folder = cached_world_model(job.config.model), load_clip_folder(job.config.contexts)
    count = model.layout.context_frames
    indices = list(dict.fromkeys(index for index, _ in job.rows))
    place = {index: i for i, index in enumerate(indices)}
    videos = np.stack([folder.video(index)[:count] for index in indices])
    known = [folder.actions(index) for index in indices]
    dims = model.layout.num_dims
    context_actions = np.stack([np.zeros((count - 1, dims), np.float32) if a is None else a[: count - 1] for a in known])
    pick = torch.tensor([place[index] for index, _ in job.rows])
    pixels = model.to_input(videos)
    prompts = model.encode(videos, context_actions)[pick]
    bins = None
    if job.config.given_actions:
        steps = model.layout.num_frames - 1
        given = [a for a in known if a is not None and len(a) == steps]
        if len(given) != len(known):
            raise DataError(
                f"given_actions=true needs {steps} actions in every clip of {folder.path}, but some have none or fewer"
            )
        bins = model.layout.actions_to_bins(torch.from_numpy(np.stack(given)))[pick]
    return prompts, pixels[pick, 0], bins, list(_describe(job, folder))


def _describe(job: _Job, folder: ClipFolder) -> Iterator[dict[str, Any]]:
    from align.audit.behaviour import sampling_seed

    for index, sample in job.rows:
        row = folder.table.iloc[index]
        seed = sampling_seed(job.config.seed * 1_000_003 + index, sample)
        attributes = {key: value for key, value in folder.attributes(index).items() if key != "style"}
        yield {
            "rollout_id": f"{row['rollout_id']}-r{job.config.seed}-{sample}",
            "context_id": str(row["context_id"]),
            "scene": str(row["scene"]),
            "task": str(row["task"]),
            "seed": seed % 2**63,
            "fps_hz": float(row["fps_hz"]),
            "attributes": attributes,
        }
