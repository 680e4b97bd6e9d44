"""Tune a LoRA adapter by DPO on action tokens, from pairs that a reward model (or the votes themselves) labelled."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from align.errors import DataError
from recipes._estimate import Workload, tuning_workload
from recipes._run import Run
from recipes._tuning import last_checkpoint, make_anchor, save_tuned, train, trainer_settings

if TYPE_CHECKING:
    import numpy as np
    import torch

    from align.preferences.votes.schema import Vote
    from align.video.folder import ClipFolder
    from align.world_models.base import TokenWorldModel
    from align.world_models.world_model import WorldModel

MANY_PROCESSES = True


class TooFewPairs(DataError):
    """Fewer pairs differ clearly than make one batch."""


@dataclass(frozen=True)
class Config:
    """What to tune on what."""

    model: str = "household"
    """World model: a shipped name or a folder."""
    rollouts: str = "rollouts/household"
    """Rollout folder with tokens of this world model."""
    reward_model: str = ""
    """Reward model that labels pairs; empty takes the votes directly."""
    votes: str = ""
    """Vote file; without a reward model it gives the pairs, with one it only says which axes count in which scene."""
    out: str = ""
    """Adapter folder; empty puts it into the run folder."""
    axes: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """Axes that count in each scene, with a reward model; empty takes those that people were asked about."""
    start: str = ""
    """Adapter to go on from, which is then the reference as well; empty starts from the base."""
    path: str = "action"
    """What the adapter may change: action (frames stay the base's, exactly) or shared (all, held by the anchor)."""
    score: str = "actions"
    """Tokens that carry the preference loss: actions, or all (an ablation that makes the model lie)."""
    anchor_weight: float = 1.0
    """Weight of KL(base || policy) on frame tokens of real clips; only used with path=shared."""
    anchor_clips: str = ""
    """Clip folder for the anchor, unsafe clips included; needed with path=shared unless anchor_weight is 0."""
    axis_weights: dict[str, float] = field(default_factory=dict)
    """Weight of each axis in the combined reward; 1 where none is given."""
    uncertainty_weight: float = 0.5
    """k of the lower confidence bound: mean - k * uncertainty."""
    min_margin: float = 0.5
    """Smallest difference in combined reward of a pair, in nats."""
    max_pairs_per_context: int = 2
    """Pairs of one context."""
    rank: int = 8
    """LoRA rank."""
    alpha: int = 16
    """LoRA alpha."""
    beta: float = 0.1
    """DPO's beta."""
    chosen_weight: float = 1.0
    """Weight of the chosen actions' negative log-likelihood, which keeps DPO from forgetting the task."""
    learning_rate: float = 3e-4
    """Peak of AdamW."""
    num_steps: int = 200
    """Steps."""
    batch_size: int = 16
    """Pairs a step and process."""
    save_every: int = 50
    """Steps between checkpoints."""
    seed: int = 0
    """Seed of the adapter's initialisation and the order of pairs."""


def main(config: Config, run: Run) -> dict[str, Any]:
    """Write the adapter; returns training figures."""
    from align.errors import ConfigError
    from align.tuning.dpo import preference_rows
    from align.video.folder import load_clip_folder
    from align.world_models.adapters import PATHS, add_lora, start_from
    from align.world_models.pool import cached_world_model

    if config.path not in PATHS or config.score not in ("actions", "all"):
        raise ConfigError(f"path must be one of {', '.join(PATHS)} and score actions or all, got {config.path}, {config.score}")
    if config.path == "action" and config.score == "all":
        raise ConfigError("score=all changes frames, so it needs path=shared")
    world_model = cached_world_model(config.model)
    folder = load_clip_folder(config.rollouts)
    run.record_input("rollouts", config.rollouts)
    ids = _tokens(folder, world_model.model)
    pairs, pair_figures = _pairs(config, run, folder)
    rows = preference_rows(world_model.layout, ids[[c for c, _ in pairs]], ids[[r for _, r in pairs]])
    policy = add_lora(world_model.model, config.rank, config.alpha, config.seed)
    if config.start:
        run.record_input("start", config.start)
        start_from(policy, Path(config.start), config.path)
    trainer = _trainer(config, run, world_model, policy, rows)
    why = "actions that people prefer become likelier; frames stay what they are"
    history = train(trainer, run, config.num_steps, last_checkpoint(run), why)
    out = Path(config.out) if config.out else run.path / "adapter"
    figures = {
        "num_pairs": len(pairs),
        **pair_figures,
        "loss": float(history[-1]["loss"]),
        "margin": float(history[-1]["rewards/margins"]),
        "accuracy": float(history[-1]["rewards/accuracies"]),
        "chosen_log_prob_change": float(history[-1]["logps/chosen"]) - float(history[0]["logps/chosen"]),
    }
    about = f"direct preference optimisation on {'action' if config.score == 'actions' else 'all'} tokens of rollouts"
    votes = None if config.reward_model else [vote.vote_id for vote in _effective_votes(config)]
    save_tuned(run, policy, out, config.path, about, figures, config.model, votes)
    return {**figures, "out": str(out)}


def workload(config: Config) -> Workload:
    """What ``--dry-run`` shows: two clips a pair."""
    return tuning_workload(config.model, config.rank, config.alpha, 2 * config.batch_size, config.num_steps)


def _effective_votes(config: Config) -> list[Vote]:
    from align.preferences.votes.schema import effective_votes, read_votes

    return list(effective_votes(read_votes(Path(config.votes))))


def _tokens(folder: ClipFolder, model: TokenWorldModel) -> torch.Tensor:
    """Ids int64 [n, L] of all rollouts."""
    import numpy as np
    import torch

    tokens = [folder.tokens(index) for index in range(len(folder))]
    wrong = [i for i, ids in enumerate(tokens) if ids is None or len(ids) != model.layout.length]
    if wrong:
        name = folder.table["rollout_id"].iloc[wrong[0]]
        raise DataError(
            f"{folder.path}: rollout {name} has no tokens of this world model ({model.layout.length} ids); "
            "make rollouts with gptsim rollout and the same model"
        )
    return torch.from_numpy(np.stack([ids for ids in tokens if ids is not None])).long()


def _pairs(config: Config, run: Run, folder: ClipFolder) -> tuple[list[tuple[int, int]], dict[str, Any]]:
    """Row numbers (chosen, rejected) in the rollout folder, and what was chosen."""
    from align.errors import ConfigError

    if not config.votes and not (config.axes and config.reward_model):
        raise ConfigError("votes is empty; give the vote file, which says what was asked about each scene")
    if config.votes:
        run.record_input("votes", config.votes)
    if config.reward_model:
        run.record_input("reward_model", config.reward_model)
    pairs = _pairs_by_reward(config, run, folder) if config.reward_model else _pairs_by_vote(config, folder)
    if len(pairs) < config.batch_size:
        raise TooFewPairs(
            f"only {len(pairs)} pairs differ clearly, fewer than one batch of {config.batch_size}; "
            "make more rollouts per context, collect more votes or lower min_margin"
        )
    return pairs, {"labelled_by": "reward model" if config.reward_model else "votes"}


def _scene_axes(config: Config, folder: ClipFolder) -> dict[str, list[str]]:
    """Scene to the axes that count there: those given, or those that people were asked about."""
    from align.preferences.votes.schema import read_votes

    if config.axes:
        return {scene: list(config.axes[scene]) for scene in sorted(set(folder.table["scene"])) if scene in config.axes}
    scene_of = dict(zip(folder.table["rollout_id"], folder.table["scene"], strict=True))
    asked: dict[str, set[str]] = {}
    for vote in read_votes(Path(config.votes)):
        if vote.rollout_a in scene_of:
            asked.setdefault(str(scene_of[vote.rollout_a]), set()).add(vote.axis)
    return {scene: sorted(axes) for scene, axes in asked.items()}


def score_rollouts(config: Config, run: Run, folder: ClipFolder) -> dict[str, np.ndarray]:
    """Axis to the lower confidence bound [n] of every rollout, cached in the run folder."""
    import numpy as np

    from align.tuning.ranks import map_over_ranks
    from align.world_models.pool import cached_world_model, chunks
    from reward_models.model import RewardModel

    cache = run.path / "scores.json"
    if not cache.exists():
        world_model = cached_world_model(config.model)
        reward = RewardModel.from_pretrained(config.reward_model, world_model.tokenizer)
        parts = chunks(range(len(folder)), 64)
        with run.progress("scoring", len(folder), "the reward model looks at every rollout") as advance:

            def score(part: Sequence[int]) -> np.ndarray:
                videos = world_model.to_input(np.stack([folder.video(i) for i in part]))
                bound = reward.score(videos).lower_confidence_bound(config.uncertainty_weight)
                advance(len(part))
                return bound.numpy()

            table = np.concatenate(map_over_ranks(score, parts))
        scores = {axis: table[:, i].round(5).tolist() for i, axis in enumerate(reward.axes)}
        run.save_json("scores", scores)
    else:
        scores = json.loads(cache.read_text())
    # Not read back by every rank: only the first one writes, and the others must not wait for it.
    return {axis: np.array(values) for axis, values in scores.items()}


def _pairs_by_reward(config: Config, run: Run, folder: ClipFolder) -> list[tuple[int, int]]:
    import numpy as np

    from align.tuning.pairs import choose_pairs, combine_axes

    scores = score_rollouts(config, run, folder)
    pairs = []
    for scene, axes in _scene_axes(config, folder).items():
        rows = np.flatnonzero(folder.table["scene"].to_numpy() == scene)
        utility = combine_axes({axis: scores[axis][rows] for axis in axes}, axes, config.axis_weights)
        contexts = folder.table["context_id"].iloc[rows].tolist()
        chosen = choose_pairs(utility, contexts, min_margin=config.min_margin, max_per_context=config.max_pairs_per_context)
        pairs += [(int(rows[a]), int(rows[b])) for a, b in chosen]
    return pairs


def _pairs_by_vote(config: Config, folder: ClipFolder) -> list[tuple[int, int]]:
    """Pairs that won more axes than they lost; the ablation without a reward model."""
    from collections import defaultdict

    row_of = {name: index for index, name in enumerate(folder.table["rollout_id"])}
    balance: defaultdict[tuple[str, str], float] = defaultdict(float)
    for vote in _effective_votes(config):
        weight = config.axis_weights.get(vote.axis, 1.0)
        balance[vote.rollout_a, vote.rollout_b] += weight * ((vote.vote == "a") - (vote.vote == "b"))
    ordered = [(a, b) if score > 0 else (b, a) for (a, b), score in balance.items() if score != 0]
    return [(row_of[a], row_of[b]) for a, b in ordered if a in row_of and b in row_of]


def _trainer(config: Config, run: Run, world_model: WorldModel, policy: Any, rows: Any) -> Any:
    import torch
    from trl import DPOConfig

    from align.tuning.dpo import BehaviourCollator, BehaviourDPOTrainer
    from align.tuning.policy import id_tokenizer

    layout = world_model.layout
    scored = layout.action_mask() if config.score == "actions" else torch.arange(layout.length) >= layout.prompt_length
    # An adapter of the action path can't touch frames, and who trains on all tokens wants them changed.
    anchored = config.path == "shared" and config.anchor_weight != 0 and config.score == "actions"
    arguments = DPOConfig(
        **trainer_settings(run, config.num_steps, config.save_every, config.learning_rate, config.seed),
        per_device_train_batch_size=config.batch_size,
        beta=config.beta,
        loss_type=["sigmoid", "sft"],
        loss_weights=[1.0, config.chosen_weight],
        max_length=None,
        activation_checkpointing=False,
        logging_steps=min(5, config.num_steps, config.save_every),
        save_total_limit=2,
    )
    return BehaviourDPOTrainer(
        model=policy,
        args=arguments,
        train_dataset=rows,
        processing_class=id_tokenizer(layout),
        data_collator=BehaviourCollator(layout.pad_id, scored=scored, frames=config.score == "all"),
        anchor=make_anchor(run, world_model, config.anchor_clips, config.batch_size, config.seed) if anchored else None,
        anchor_weight=config.anchor_weight,
    )
