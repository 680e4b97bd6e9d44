"""Choose what to ask next: questions that a reward model would learn most from, mixed with random ones."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from recipes._run import Run

if TYPE_CHECKING:
    from align.preferences.votes.schema import Pair
    from align.video.folder import ClipFolder


@dataclass(frozen=True)
class Config:
    """Where to look for questions, and where they go."""

    rollouts: str = "rollouts/household"
    """Rollout folder."""
    reward_model: str = ""
    """Reward model whose members disagree about the answers worth having; empty draws all questions at random."""
    world_model: str = "household"
    """World model whose frame size (and tokenizer, if the backbone wants it) is used."""
    out: str = ""
    """Pairs file to write (.jsonl), for `annotate pairs=…`; empty writes none."""
    db: str = ""
    """Label database (SQLAlchemy URL) that gets the questions as tasks; empty adds none."""
    votes: str = ""
    """Vote file whose questions don't come again; those in the database never do."""
    budget: int = 100
    """Questions in all; a question is one pair and one axis."""
    random_share: float = 0.2
    """Share of random questions, at least 0.2: only they give unbiased statistics."""
    max_per_context: int = 2
    """Most questions about one context, because those tell alike things."""
    axes: dict[str, tuple[str, ...]] = field(
        default_factory=lambda: {
            "pour": ("spill", "success"),
            "shelf": ("breakage", "success"),
            "corridor": ("politeness", "success"),
        }
    )
    """What may be asked about each scene."""
    seed: int = 0
    """Seed of the random part and of all orders."""


def main(config: Config, run: Run) -> dict[str, Any]:
    """Write the questions; returns how many of each axis and selection, and what they promise to teach."""
    from collections import Counter

    import numpy as np

    from align.errors import ConfigError, DataError
    from align.io import read_json
    from align.preferences.votes.schema import Pair

    if not config.out and not config.db:
        raise ConfigError("out and db are both empty; give a pairs file to write, a label database to fill, or both")
    if config.out and Path(config.out).suffix != ".jsonl":
        raise ConfigError(f"out must end in .jsonl, got {config.out}")
    if config.out and Path(config.out).exists() and not run.resumed:
        raise DataError(f"{config.out} exists already; choose another out")
    # Kept, because a resumed run finds its own tasks in the database and would choose others.
    kept = run.path / "questions.json"
    if not kept.exists():
        run.save_json("questions", _choose(config, run))
    record = read_json(kept)
    questions = [(Pair.model_validate(item["pair"]), item["gain"]) for item in record["questions"]]
    if config.out:
        _write_pairs(config, questions)
    added = _add_tasks(config, questions) if config.db else 0
    active = [gain for pair, gain in questions if pair.selection == "active"]
    return {
        "num_questions": len(questions),
        "num_tasks_added": added,
        "selection": dict(Counter(str(pair.selection) for pair, _ in questions)),
        "axes": dict(Counter(pair.axes[0] for pair, _ in questions)),
        "mean_gain_active": float(np.mean(active)) if active else None,
        "mean_gain_all": record["mean_gain_all"],
        "out": config.out,
    }


def _choose(config: Config, run: Run) -> dict[str, Any]:
    """Questions with their gains, as JSON."""
    import numpy as np

    from align.preferences.pairing import COLUMNS, candidate_pairs, select_pairs
    from align.video.folder import load_clip_folder
    from reward_models.acquisition import as_questions

    folder = load_clip_folder(config.rollouts)
    run.record_input("rollouts", config.rollouts)
    # Only these columns: nothing here may see what truly happened.
    candidates = candidate_pairs(folder.table[list(COLUMNS)], config.axes, config.seed)
    questions = as_questions(candidates, _asked(config))
    gains = _gains(config, run, folder, questions) if config.reward_model else np.zeros(len(questions))
    share = config.random_share if config.reward_model else 1.0
    chosen = select_pairs(questions, gains, config.budget, config.seed, share, config.max_per_context)
    gain_of = {(pair.pair_id, pair.axes): float(gain) for pair, gain in zip(questions, gains, strict=True)}
    return {
        "questions": [{"pair": pair.model_dump(), "gain": gain_of[pair.pair_id, pair.axes]} for pair in chosen],
        "mean_gain_all": float(np.mean(gains)) if config.reward_model else None,
    }


def _asked(config: Config) -> set[tuple[frozenset[str], str]]:
    """Questions that were answered or stand in the queue: the two rollouts in any order, and the axis."""
    from itertools import combinations

    from align.preferences.campaign import Campaign
    from align.preferences.storage.store import LabelStore
    from align.preferences.votes.schema import read_votes

    votes = read_votes(Path(config.votes)) if config.votes else []
    queued = set()
    if config.db:
        with LabelStore(config.db) as store:
            votes += store.votes()
            campaign = Campaign(store)
            every = [axis.name for axis in campaign.settings().axes]
            for task in campaign.tasks():
                pairs = [frozenset(pair) for pair in combinations(task.rollouts, 2)]
                queued |= {(pair, axis) for pair in pairs for axis in task.axes or every}
    return queued | {(frozenset((vote.rollout_a, vote.rollout_b)), vote.axis) for vote in votes}


def _gains(config: Config, run: Run, folder: ClipFolder, questions: list[Pair]) -> Any:
    """What every question is worth in nats, float [len(questions)]."""
    import numpy as np
    import torch

    from align.world_models.pool import cached_world_model
    from reward_models.acquisition import score_questions
    from reward_models.model import RewardModel

    world_model = cached_world_model(config.world_model)
    run.record_input("reward_model", config.reward_model)
    reward = RewardModel.from_pretrained(Path(config.reward_model), world_model.tokenizer)
    features = []
    with run.progress("looking", len(folder), "where do the members of the reward model disagree?") as advance:
        for start in range(0, len(folder), 64):
            part = range(start, min(start + 64, len(folder)))
            features.append(reward.backbone.features(world_model.to_input(np.stack([folder.video(i) for i in part]))))
            advance(len(part))
    rows = {str(name): row for row, name in enumerate(folder.table["rollout_id"])}
    scores = reward.score_features(torch.cat(features))
    # More than are asked for, because some will be left out where a context has enough.
    return score_questions(reward, scores, rows, questions, 2 * config.budget, config.seed).numpy()


def _write_pairs(config: Config, questions: list[tuple[Pair, float]]) -> None:
    from align.preferences.votes.schema import Pair
    from align.preferences.votes.tables import write_rows
    from reward_models.acquisition import join_questions

    write_rows(Path(config.out), join_questions([pair for pair, _ in questions]), Pair)


def _add_tasks(config: Config, questions: list[tuple[Pair, float]]) -> int:
    """Queue the pairs; active ones carry their gain as priority. Doing it again adds nothing."""
    from align.preferences.campaign import Campaign, Task
    from align.preferences.storage.store import LabelStore
    from reward_models.acquisition import join_questions

    gain_of = {(pair.pair_id, pair.axes[0]): gain for pair, gain in questions}
    tasks = [
        Task(
            task_id="-".join((str(pair.selection), pair.pair_id, *pair.axes)),
            context_id=pair.context_id,
            rollouts=(pair.rollout_a, pair.rollout_b),
            axes=pair.axes,
            selection=pair.selection or "random",
            priority=sum(gain_of[pair.pair_id, axis] for axis in pair.axes) if pair.selection == "active" else None,
        )
        for pair in join_questions([pair for pair, _ in questions])
    ]
    with LabelStore(config.db) as store:
        return Campaign(store).add_tasks(tasks)
