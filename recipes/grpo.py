"""Tune a LoRA adapter by GRPO on action tokens: task success is the objective, every hazard has a budget."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from align.tuning.monitors import Limits
from recipes._estimate import Workload, tuning_workload
from recipes._run import Run
from recipes._scoring import OBJECTIVE, check_scenes, gold_score, hazards_of, reward_score
from recipes._tuning import last_checkpoint, log_history, make_anchor, restore_adapter, save_tuned, train, trainer_settings

if TYPE_CHECKING:
    from align.tuning.contexts import Contexts
    from align.tuning.grpo import Score
    from align.tuning.oversight import Oversight
    from align.world_models.world_model import WorldModel

MANY_PROCESSES = True


@dataclass(frozen=True)
class Config:
    """What to tune on what."""

    model: str = "household"
    """World model: a shipped name or a folder."""
    contexts: str = "clips/household"
    """Clip folder of whole clips with actions; their first frames are dreamed on."""
    reward_model: str = ""
    """Reward model that judges the rollouts; its lower confidence bound counts."""
    gold: str = ""
    """A reward that is only watched: another reward model, or an outcome judge's path without suffix. Empty watches none."""
    out: str = ""
    """Adapter folder; empty puts it into the run folder."""
    axes: dict[str, tuple[str, ...]] = field(
        default_factory=lambda: {
            "pour": ("spill", "success"),
            "shelf": ("breakage", "success"),
            "corridor": ("politeness", "success"),
        }
    )
    """Axes that count in each scene: success is maximised, the others are constraints."""
    budget_share: float = 0.2
    """Budget of a hazard as a share of the base's own rate, by the same reward model."""
    budgets: dict[str, float] = field(default_factory=dict)
    """Budgets given as rates, by axis; they win over the share."""
    multiplier_start: float = 1.0
    """Multiplier of every hazard at first: what a failure costs in successes."""
    multiplier_rate: float = 0.5
    """How fast a multiplier rises while its budget is exceeded."""
    multiplier_max: float = 20.0
    """Cap of the multipliers."""
    uncertainty_weight: float = 0.5
    """k of the lower confidence bound: mean - k * uncertainty."""
    path: str = "action"
    """What the adapter may change: action (frames stay the base's, exactly) or shared (all, held by the anchor)."""
    anchor_weight: float = 1.0
    """Weight of KL(base || policy) on frame tokens of real clips; only used with path=shared."""
    anchor_clips: str = ""
    """Clip folder for the anchor, unsafe clips included; empty takes the contexts."""
    rank: int = 8
    """LoRA rank."""
    alpha: int = 16
    """LoRA alpha."""
    beta: float = 0.02
    """Weight of KL(policy || base) on actions."""
    learning_rate: float = 1e-3
    """Peak of AdamW."""
    num_steps: int = 60
    """Optimiser steps."""
    updates_per_rollout: int = 2
    """Optimiser steps on each batch of rollouts."""
    contexts_per_step: int = 9
    """Contexts in a batch of rollouts, for each process."""
    samples_per_context: int = 8
    """Rollouts of each context, a group."""
    held_out: int = 20
    """Contexts of each scene that are not tuned on but watched."""
    held_out_samples: int = 4
    """Rollouts of each of those at every check."""
    save_every: int = 20
    """Steps between checkpoints; each is measured on the held-out contexts."""
    limits: Limits = field(default_factory=Limits)
    """When to stop; see ``align.tuning.monitors``."""
    seed: int = 0
    """Seed of everything."""


def main(config: Config, run: Run) -> dict[str, Any]:
    """Write the adapter of the last good checkpoint; returns rates against budgets, and why it stopped."""
    from transformers import TrainerState

    from align.tuning.oversight import STATE
    from align.world_models.pool import cached_world_model

    _check(config)
    world_model = cached_world_model(config.model)
    trainer, oversight = _assemble(config, run, world_model)
    last = last_checkpoint(run, STATE)
    if last is None:
        oversight.measure_base(config.budget_share, config.budgets)
    else:
        oversight.load_state(last)
    run.save_json("budgets", oversight.multipliers.budgets)
    if last is not None and oversight.alarms:
        # Killed between the alarm and the end.
        trainer.state = TrainerState.load_from_json(str(last / "trainer_state.json"))
        log_history(run, trainer.state)
    else:
        why = "actions that succeed within the hazards' budgets become likelier; frames stay what they are"
        train(trainer, run, config.num_steps, last, why)
    return _finish(config, run, trainer, oversight)


def workload(config: Config) -> Workload:
    """What ``--dry-run`` shows; the held-out contexts at every checkpoint come on top."""
    clips, dreams = config.contexts_per_step * config.samples_per_context, config.num_steps // config.updates_per_rollout
    return tuning_workload(config.model, config.rank, config.alpha, clips, config.num_steps, clips_dreamed=dreams * clips)


def _check(config: Config) -> None:
    from align.errors import ConfigError
    from align.world_models.adapters import PATHS

    updates = config.updates_per_rollout
    problems = {
        "reward_model is empty; give the folder that gptsim run reward wrote": not config.reward_model,
        f"path must be one of {', '.join(PATHS)}, got {config.path}": config.path not in PATHS,
        "samples_per_context and held_out_samples must be at least 2, or there is nothing to compare": (
            min(config.samples_per_context, config.held_out_samples) < 2
        ),
        "held_out must be at least 2, or nothing tells a change from noise": config.held_out < 2,
        "num_steps and save_every must be multiples of updates_per_rollout, so that no batch is cut by a checkpoint": (
            updates < 1 or config.num_steps % updates > 0 or config.save_every % updates > 0
        ),
    }
    if wrong := [text for text, holds in problems.items() if holds]:
        raise ConfigError("; ".join(wrong))


def _assemble(config: Config, run: Run, world_model: WorldModel) -> tuple[Any, Oversight]:
    """The trainer and what watches it."""
    from align.tuning.checks import HeldOutCheck, measure_policy
    from align.tuning.constraints import Multipliers
    from align.tuning.contexts import load_contexts, split_held_out
    from align.tuning.grpo import make_rewards
    from align.tuning.oversight import Oversight
    from align.video.folder import load_clip_folder

    folder = load_clip_folder(config.contexts)
    axes = {scene: config.axes.get(scene, ()) for scene in sorted(set(folder.table["scene"]))}
    check_scenes(axes)
    score = reward_score(config.reward_model, world_model, axes, config.uncertainty_weight)
    gold = gold_score(run, config.gold, world_model, axes) if config.gold else None
    contexts = load_contexts(world_model, folder)
    tuned, held_out = split_held_out(contexts, config.held_out, config.seed)
    multipliers = Multipliers(config.multiplier_start, config.multiplier_rate, config.multiplier_max)
    hazards = hazards_of(axes)
    trainer = _trainer(config, run, world_model, contexts.take(tuned), score, make_rewards(OBJECTIVE, multipliers, hazards))
    check = HeldOutCheck(
        world_model,
        contexts.take(held_out),
        score,
        gold,
        samples=config.held_out_samples,
        seed=config.seed,
        frames=config.path == "shared",
    )
    oversight = Oversight(
        hazards, multipliers, lambda: measure_policy(check, trainer, world_model.model, config.path), config.limits
    )
    oversight.attach(trainer.reward_weights)
    trainer.add_callback(oversight)
    return trainer, oversight


def _trainer(config: Config, run: Run, world_model: WorldModel, contexts: Contexts, score: Score, rewards: list[Any]) -> Any:
    from trl import GRPOConfig

    from align.tuning.contexts import plan_rows
    from align.tuning.grpo import BehaviourGRPOTrainer, DreamRollouts, prompt_rows
    from align.tuning.policy import id_tokenizer
    from align.world_models.adapters import add_lora

    layout = world_model.layout
    arguments = GRPOConfig(
        **trainer_settings(run, config.num_steps, config.save_every, config.learning_rate, config.seed),
        per_device_train_batch_size=config.contexts_per_step * config.samples_per_context,
        num_generations=config.samples_per_context,
        num_iterations=config.updates_per_rollout,
        max_completion_length=layout.length - layout.prompt_length,
        beta=config.beta,
        loss_type="grpo",
        # Advantages of groups that are alike stay small; dividing by their spread would blow the reward model's noise up.
        scale_rewards="none",
        temperature=1.0,
        disable_dropout=True,
        activation_checkpointing=False,
        shuffle_dataset=False,
        logging_steps=1,
    )
    batches = config.num_steps // config.updates_per_rollout
    plan = plan_rows(contexts.scenes, batches * config.contexts_per_step * arguments.world_size, config.seed)
    anchored = config.path == "shared" and config.anchor_weight != 0
    clips = config.anchor_clips or config.contexts
    return BehaviourGRPOTrainer(
        model=add_lora(world_model.model, config.rank, config.alpha, config.seed),
        reward_funcs=rewards,
        args=arguments,
        train_dataset=prompt_rows(plan),
        processing_class=id_tokenizer(layout),
        rollout_func=DreamRollouts(world_model, config.path, contexts, score, config.seed),
        anchor=make_anchor(run, world_model, clips, config.contexts_per_step, config.seed) if anchored else None,
        anchor_weight=config.anchor_weight,
    )


def _finish(config: Config, run: Run, trainer: Any, oversight: Oversight) -> dict[str, Any]:
    """Put the last good checkpoint's adapter into its folder, and what happened into the run's."""
    from recipes._constraints import draw_constraints, prune_checkpoints, summarise

    kept = oversight.kept_step
    policy = trainer.accelerator.unwrap_model(trainer.model)
    restore_adapter(policy, run.checkpoints / f"checkpoint-{kept}" if kept else None)
    figures = summarise(oversight)
    rows = [entry for entry in trainer.state.log_history if "loss" in entry]
    figures |= {"num_steps": len(rows), "kl": rows[-1].get("kl", float("nan")), "entropy": rows[-1]["entropy"]}
    out = Path(config.out) if config.out else run.path / "adapter"
    save_tuned(run, policy, out, config.path, "constrained GRPO on action tokens of its own rollouts", figures, config.model)
    if run.is_main:
        draw_constraints(run.path / "constraints.png", rows, oversight)
        prune_checkpoints(run.checkpoints, kept)
    run.save_json(
        "held_out", [{"step": m.step, **{k: sum(v) / len(v) for k, v in m.figures.items()}} for m in oversight.history]
    )
    for alarm in oversight.alarms:
        run.say(f"stopped at step {oversight.history[-1].step}: {alarm.monitor}: {alarm.why}; kept the adapter of step {kept}")
    return {**figures, "out": str(out)}
