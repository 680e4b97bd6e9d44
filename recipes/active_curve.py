"""Measure what choosing questions saves: votes that active selection and chance need for the same accuracy, over many seeds."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from recipes._run import Run

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from align.preferences.votes.schema import Pair
    from align.video.folder import ClipFolder
    from recipes._questions import Problem


@dataclass(frozen=True)
class Config:
    """The contest: clips, budgets, and how often it is repeated."""

    rollouts: str = ""
    """Rollout folder with the questions; empty films new contexts and dreams from them."""
    held_out: str = ""
    """Clip folder with true outcomes, several clips a context; empty films held-out contexts in the simulator."""
    contexts: int = 200
    """Contexts a scene to dream from, where rollouts is empty."""
    held_out_contexts: int = 200
    """Contexts a scene to film, where held_out is empty."""
    samples_per_context: int = 4
    """Rollouts, and held-out clips, of each context."""
    model: str = "household"
    """World model that dreams, and whose tokenizer serves the backbone `tokenizer`."""
    backbone: dict[str, Any] = field(default_factory=lambda: {"name": "tokenizer", "num_moments": 1})
    """Frozen encoder; its features are computed once."""
    labeller: str = ""
    """Outcome judge that stands in for eyes; empty is the one that ships."""
    axes: dict[str, tuple[str, ...]] = field(
        default_factory=lambda: {
            "pour": ("spill", "success"),
            "shelf": ("breakage", "success"),
            "corridor": ("politeness", "success"),
        }
    )
    """What may be asked about each scene."""
    arms: tuple[str, ...] = ("random", "active", "bald")
    """Ways to choose, random among them: active is what `select` does, bald the information gain alone."""
    budgets: tuple[int, ...] = (12, 16, 20, 26, 33, 42, 54, 68, 86, 108, 136, 172, 216)
    """Votes after each batch; the first batch is random for every arm."""
    num_seeds: int = 20
    """Repetitions; in each the arms share annotators, answers, first batch and the ensemble's draws."""
    num_members: int = 16
    """Members of the ensemble of linear heads."""
    num_annotators: int = 6
    """Simulated annotators of each repetition."""
    crowd: str = "noisy"
    """What they are like, see annotate; the fewer mistakes they make, the fewer votes there are to be saved."""
    random_share: float = 0.2
    """Share of random questions in an active batch."""
    max_per_context: int = 2
    """Most questions about one context in a batch."""
    num_workers: int = 2
    """Processes for filming and dreaming."""
    seed: int = 0
    """First seed, and the stretch of contexts."""


def main(config: Config, run: Run) -> dict[str, Any]:
    """Return the ratio of votes to the same accuracy, median over the seeds with its interval; draws active_curve.png."""
    import torch

    from align.errors import ConfigError
    from align.io import read_json
    from align.preferences.annotators import CROWDS
    from recipes._curve import draw_curves, summarise
    from recipes._questions import ARMS, Options, play

    if "random" not in config.arms or not set(config.arms) <= set(ARMS):
        raise ConfigError(f"arms must hold random and may hold {', '.join(ARMS[1:])}, got {', '.join(config.arms)}")
    if config.crowd not in CROWDS:
        raise ConfigError(f"crowd must be one of {', '.join(CROWDS)}, got {config.crowd!r}")
    if len(config.budgets) < 2 or list(config.budgets) != sorted(set(config.budgets)) or config.budgets[0] < 1:
        raise ConfigError(f"budgets must be at least two rising numbers, got {list(config.budgets)}")
    rollouts, held_out = _clips(config, run)
    problem, seen = _problem(config, run, rollouts, held_out)
    options = Options(
        config.budgets, config.num_members, random_share=config.random_share, max_per_context=config.max_per_context
    )
    torch.set_num_threads(1)  # small products: more threads only wait for each other
    curves: dict[str, list[Any]] = {arm: [] for arm in config.arms}
    with run.progress("asking", config.num_seeds, "every arm asks its own questions of the same annotators") as advance:
        for seed in range(config.seed, config.seed + config.num_seeds):
            kept = run.path / "seeds" / f"{seed}.json"
            if not kept.exists():
                classes = problem.classes(_votes(config, problem, seen, seed))
                run.save_json(f"seeds/{seed}", {arm: play(problem, classes, arm, options, seed) for arm in config.arms})
            for arm, rows in read_json(kept).items():
                curves[arm].append(rows)
            advance(1)
    figures = summarise(curves, config.seed)
    draw_curves(run.path / "active_curve.png", curves)
    pairs = {axis: len(better) for axis, (better, _) in problem.truth.items()}
    about = {"num_questions": len(problem.questions), "held_out_pairs": pairs, "simulated": True}
    return {**figures, **about, "plot": str(run.path / "active_curve.png")}


def _clips(config: Config, run: Run) -> tuple[str, str]:
    """The two folders; what isn't given is filmed and dreamed as steps of this run."""
    from recipes import rollout, simulate
    from recipes._steps import run_step

    data, workers, samples = run.path / "data", config.num_workers, config.samples_per_context
    scenes = tuple(config.axes)
    rollouts, held_out = config.rollouts, config.held_out
    if not rollouts:
        film = simulate.Config(str(data / "contexts"), scenes, "tune", config.contexts, num_workers=workers, seed=config.seed)
        run_step(run, "contexts-simulate", simulate, film)
        rollouts = str(data / "rollouts")
        dream = rollout.Config(config.model, "", film.out, rollouts, samples, num_workers=workers, seed=config.seed)
        run_step(run, "dreams-rollout", rollout, dream)
    if not held_out:
        held_out = str(data / "held_out")
        film = simulate.Config(
            held_out, scenes, "evaluate", config.held_out_contexts, samples, num_workers=workers, seed=config.seed
        )
        run_step(run, "held_out-simulate", simulate, film)
    run.record_input("rollouts", rollouts)
    run.record_input("held_out", held_out)
    return rollouts, held_out


def _problem(config: Config, run: Run, rollouts: str, held_out: str) -> tuple[Problem, dict[str, dict[str, float]]]:
    """What may be asked, and rollout id to what annotators see on each axis."""
    import numpy as np

    from align.preferences.pairing import COLUMNS, candidate_pairs
    from align.video.folder import load_clip_folder
    from recipes._questions import Problem
    from reward_models.acquisition import as_questions

    folder, judged = load_clip_folder(rollouts), load_clip_folder(held_out)
    table = _tables(config, run, folder, judged)
    # Only these columns: nothing that asks or answers may see what truly happened.
    questions = as_questions(candidate_pairs(folder.table[list(COLUMNS)], config.axes, config.seed))
    names = [str(name) for name in folder.table["rollout_id"]]
    features, held_features = table["features"].flatten(1), table["held_out"].flatten(1)
    mean, std = features.mean(0), features.std(0).clamp_min(1e-3) * features.shape[1] ** 0.5
    rows = {name: row for row, name in enumerate(names)}
    truth = _truth(judged, questions, config.axes)
    problem = Problem(questions, rows, (features - mean) / std, (held_features - mean) / std, truth)
    axes = sorted({axis for names in config.axes.values() for axis in names})
    values = np.nan_to_num(table["seen"].numpy().astype(float), nan=0.5)  # who can't tell is undecided
    return problem, {name: dict(zip(axes, row.tolist(), strict=True)) for name, row in zip(names, values, strict=True)}


def _tables(config: Config, run: Run, folder: ClipFolder, judged: ClipFolder) -> dict[str, Tensor]:
    """Features of both folders and what annotators see in the rollouts, computed once and kept in the run folder."""
    import numpy as np
    import torch
    from safetensors.torch import load_file, save_file

    from align.audit.judge import OutcomeJudge
    from align.io import atomic_path
    from align.world_models.pool import cached_world_model
    from align.world_models.world_model import SHIPPED
    from reward_models.backbones import build_backbone

    kept = run.path / "features.safetensors"
    if not kept.exists():
        world_model = cached_world_model(config.model)
        backbone = build_backbone(config.backbone, world_model.tokenizer if config.backbone["name"] == "tokenizer" else None)
        judge = OutcomeJudge.load(Path(config.labeller) if config.labeller else SHIPPED["household"] / "labeller")
        axes = sorted({axis for names in config.axes.values() for axis in names})
        parts: dict[str, list[Tensor]] = {"features": [], "held_out": [], "seen": []}
        with run.progress("looking", len(folder) + len(judged), "features of every clip, once") as advance:
            for name, clips in (("features", folder), ("held_out", judged)):
                for start in range(0, len(clips), 64):
                    videos = np.stack([clips.video(i) for i in range(start, min(start + 64, len(clips)))])
                    parts[name].append(backbone.features(world_model.to_input(videos)).half())
                    if name == "features":
                        read = judge.judge(videos)
                        parts["seen"].append(torch.from_numpy(np.stack([read[axis] for axis in axes], axis=1)))
                    advance(len(videos))
        with atomic_path(kept) as temporary:
            save_file({name: torch.cat(tensors).contiguous() for name, tensors in parts.items()}, temporary)
    return {name: tensor.float() for name, tensor in load_file(kept).items()}


def _truth(judged: ClipFolder, questions: list[Pair], axes: dict[str, tuple[str, ...]]) -> dict[str, Any]:
    """Axis to the rows of the truly better and the truly worse clip of every pair of one context that differs."""
    from itertools import combinations

    import torch

    from align.errors import DataError
    from align.types import SUCCESS_AXIS

    pairs: dict[str, list[tuple[int, int]]] = {axis: [] for question in questions for axis in question.axes}
    for (_, scene), group in judged.table.groupby(["context_id", "scene"], sort=True):
        for axis in axes.get(str(scene), ()):
            column = SUCCESS_AXIS if axis == SUCCESS_AXIS else f"outcome_{axis}"
            good = group[column] if axis == SUCCESS_AXIS else 1 - group[column]
            rows = list(zip(group.index, good, strict=True))
            pairs[axis] += [(a, b) if x > y else (b, a) for (a, x), (b, y) in combinations(rows, 2) if abs(x - y) == 1]
    if empty := [axis for axis, found in pairs.items() if not found]:
        raise DataError(
            f"{judged.path} has no two clips of a context that truly differ on {', '.join(empty)}; film more contexts"
        )
    return {axis: tuple(torch.tensor(found).T) for axis, found in pairs.items()}


def _votes(config: Config, problem: Problem, seen: dict[str, dict[str, float]], seed: int) -> Any:
    """One simulated vote about every question: what the arms differ in is only which of them they ask for."""
    from align.preferences.annotators import cast_votes, make_annotators

    annotators = make_annotators(config.num_annotators, seed, config.crowd)

    def perceive(names: Any, axis: str) -> np.ndarray | list[float]:
        return [seen[name][axis] for name in names]

    return cast_votes(problem.questions, problem.axes, annotators, perceive, seed, len(problem.questions))
