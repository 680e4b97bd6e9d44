"""Train a multi-axis reward model from votes on rollouts."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from recipes._run import Run


@dataclass(frozen=True)
class Config:
    """What to learn from."""

    rollouts: str = "rollouts/household"
    """Rollout folder that was voted on."""
    votes: str = "votes.parquet"
    """Vote file (CSV, JSONL or parquet)."""
    out: str = ""
    """Folder of the reward model; empty puts it into the run folder."""
    world_model: str = "household"
    """World model whose tokenizer serves the backbone ``tokenizer``."""
    backbone: dict[str, Any] = field(default_factory=lambda: {"name": "difference"})
    """Frozen encoder: a registered name and its arguments."""
    num_members: int = 5
    """Members of the ensemble."""
    num_epochs: int = 150
    """Full-batch steps."""
    learning_rate: float = 0.02
    """Peak rate of AdamW."""
    weight_decay: float = 0.1
    """Of AdamW."""
    seed: int = 0
    """Seed of weights, folds and noise."""


def main(config: Config, run: Run) -> dict[str, Any]:
    """Write the reward model; returns how well it predicts votes that its members did not see."""
    from align.preferences.votes.schema import effective_votes, read_votes
    from align.video.folder import load_clip_folder
    from align.world_models.pool import cached_world_model
    from reward_models.backbones import build_backbone
    from reward_models.training import RewardTrainingConfig, train_reward_model

    folder = load_clip_folder(config.rollouts)
    run.record_input("rollouts", config.rollouts)
    run.record_input("votes", config.votes)
    votes = effective_votes(read_votes(Path(config.votes)))
    row_of = {name: index for index, name in enumerate(folder.table["rollout_id"])}
    needed = sorted({name for vote in votes for name in (vote.rollout_a, vote.rollout_b)})
    run.say(f"training on {len(votes)} votes about {len(needed)} rollouts")
    clips = {name: folder.video(row_of[name]) for name in needed if name in row_of}
    module = cached_world_model(config.world_model).tokenizer if config.backbone["name"] == "tokenizer" else None
    training = RewardTrainingConfig(
        backbone=config.backbone,
        num_members=config.num_members,
        num_epochs=config.num_epochs,
        learning_rate=config.learning_rate,
        weight_decay=config.weight_decay,
    )
    records: list[dict[str, Any]] = []
    model = train_reward_model(
        clips,
        votes,
        training,
        backbone=build_backbone(config.backbone, module),
        seed=config.seed,
        log=lambda record: records.append(record),
    )
    for number, record in enumerate(records):
        run.log(number, **{key: value for key, value in record.items() if isinstance(value, int | float | str)})
    out = Path(config.out) if config.out else run.path / "reward_model"
    model.save_pretrained(out, overwrite=run.resumed, votes_used=[vote.vote_id for vote in votes])
    simulated = sum(bool(vote.simulated) for vote in votes)
    return {"out": str(out), "num_votes": len(votes), "num_simulated": simulated, "axes": records}
