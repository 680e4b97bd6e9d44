"""Tune a LoRA adapter by the gradient of the reward itself, through rollouts made differentiable.

The default for tuning is ``dpo`` or ``grpo``: what is biased here, and what it costs, stands in
docs/design/reward_gradient.md.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from align.tuning.monitors import Limits
from recipes._estimate import Workload
from recipes._run import Run
from recipes._scoring import check_scenes, gold_score, reward_score, soft_reward_score
from recipes._tuning import last_checkpoint, log_history, make_anchor, restore_adapter, save_tuned, train, trainer_settings

if TYPE_CHECKING:
    from torch import Tensor

    from align.tuning.contexts import Contexts
    from align.tuning.oversight import Oversight
    from align.tuning.reward_gradient import SoftScore
    from align.tuning.unroll import Relaxation
    from align.world_models.world_model import WorldModel


@dataclass(frozen=True)
class Config:
    """What to tune on what."""

    model: str = "household"
    """World model: a shipped name or a folder."""
    contexts: str = "clips/household"
    """Clip folder of whole clips with actions; their first frames are dreamed on."""
    reward_model: str = ""
    """Reward model that gradients come from; its backbone must be differentiable."""
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
    """Axes that count in each scene, success among them."""
    axis_weights: dict[str, float] = field(default_factory=dict)
    """Weight of each axis's log-probability of passing; 1 where none is given."""
    uncertainty_weight: float = 0.5
    """k of the lower confidence bound: mean - k * uncertainty; 0 takes the ensemble's mean."""
    temperature: float = 1.0
    """Of the actions' relaxation; smaller is less biased and noisier. Actions are drawn at 1, always."""
    straight_through: bool = True
    """One-hot tokens forward, soft ones backward; false is soft both ways, on pictures that the model never dreams."""
    last_steps: int = 0
    """Steps of a rollout that gradients pass through, counted from its end; 0 takes all."""
    checkpointed: bool = True
    """Compute each step of time again in the backward pass instead of keeping it."""
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
    beta: float = 0.1
    """Weight of KL(policy || base) on actions, in nats a token."""
    learning_rate: float = 3e-4
    """Peak of AdamW."""
    num_steps: int = 100
    """Optimiser steps."""
    contexts_per_step: int = 12
    """Rollouts in a step, each of another context."""
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
    """Write the adapter of the last good checkpoint; returns what it passes by axis, and why it stopped."""
    from transformers import TrainerState

    from align.tuning.oversight import STATE
    from align.world_models.pool import cached_world_model

    _check(config)
    world_model = cached_world_model(config.model)
    trainer, oversight = _assemble(config, run, world_model)
    last = last_checkpoint(run, STATE)
    if last is None:
        oversight.measure_base(1.0, {})
    else:
        oversight.load_state(last)
    if last is not None and oversight.alarms:
        # Killed between the alarm and the end.
        trainer.state = TrainerState.load_from_json(str(last / "trainer_state.json"))
        log_history(run, trainer.state)
    else:
        train(trainer, run, config.num_steps, last, "the reward's own gradient moves the actions; frames stay what they are")
    return _finish(config, run, trainer, oversight)


def workload(config: Config) -> Workload:
    """What ``--dry-run`` shows; activations are what passes from step to step, one step's own come on top."""
    import torch

    from align.tuning.preflight import random_clips
    from align.tuning.unroll import draw_exponentials, unroll
    from align.world_models.adapters import add_lora, policy_of
    from align.world_models.engine import Policy, roll_out
    from align.world_models.pool import cached_world_model
    from align.world_models.soft import check_tokenizer

    world_model, clips = cached_world_model(config.model), config.contexts_per_step
    check_tokenizer(world_model.tokenizer)
    base, layout, size = world_model.model, world_model.layout, world_model.tokenizer.config.size
    world_model.tokenizer.requires_grad_(False)
    peft = add_lora(base, config.rank, config.alpha, 0)
    tuned: Any = peft.get_base_model()
    policy = Policy(tuned, base if config.path == "action" else tuned)

    def loss(count: int) -> Tensor:
        ids, chance = random_clips(layout, count), draw_exponentials(range(count), layout)
        first = torch.zeros(count, 3, *size)
        return unroll(policy, world_model.tokenizer, ids, first, _relaxation(config), exponentials=chance).mean()

    def dream(count: int) -> None:
        roll_out(policy_of(peft, base, config.path), random_clips(layout, count)[:, : layout.prompt_length], range(count))

    return Workload(peft, loss, clips, config.num_steps, dream, clips * config.num_steps)


def _relaxation(config: Config) -> Relaxation:
    from align.tuning.unroll import Relaxation

    return Relaxation(
        temperature=config.temperature,
        straight_through=config.straight_through,
        last_steps=config.last_steps or None,
        checkpointed=config.checkpointed,
    )


def _check(config: Config) -> None:
    from align.errors import ConfigError
    from align.world_models.adapters import PATHS

    problems = {
        "reward_model is empty; give the folder that gptsim run reward wrote": not config.reward_model,
        f"path must be one of {', '.join(PATHS)}, got {config.path}": config.path not in PATHS,
        f"temperature must be above 0, got {config.temperature}": config.temperature <= 0,
        f"last_steps must be at least 0, got {config.last_steps}": config.last_steps < 0,
        "held_out and held_out_samples must be at least 2, or nothing tells a change from noise": (
            min(config.held_out, config.held_out_samples) < 2
        ),
    }
    if wrong := [text for text, holds in problems.items() if holds]:
        raise ConfigError("; ".join(wrong))


def _assemble(config: Config, run: Run, world_model: WorldModel) -> tuple[Any, Oversight]:
    """The trainer and what watches it."""
    from align.tuning.checks import HeldOutCheck, measure_policy
    from align.tuning.constraints import Multipliers
    from align.tuning.contexts import load_contexts, split_held_out
    from align.tuning.oversight import Oversight
    from align.video.folder import load_clip_folder

    folder = load_clip_folder(config.contexts)
    axes = {scene: config.axes.get(scene, ()) for scene in sorted(set(folder.table["scene"]))}
    check_scenes(axes)
    score = reward_score(config.reward_model, world_model, axes, config.uncertainty_weight)
    gold = gold_score(run, config.gold, world_model, axes) if config.gold else None
    contexts = load_contexts(world_model, folder)
    tuned, held_out = split_held_out(contexts, config.held_out, config.seed)
    soft = soft_reward_score(config.reward_model, world_model, axes, config.uncertainty_weight)
    trainer = _trainer(config, run, world_model, contexts.take(tuned), soft)
    check = HeldOutCheck(
        world_model,
        contexts.take(held_out),
        score,
        gold,
        samples=config.held_out_samples,
        seed=config.seed,
        frames=config.path == "shared",
    )
    # Measured, watched and stopped as grpo is, but with nothing constrained.
    oversight = Oversight(
        (), Multipliers(), lambda: measure_policy(check, trainer, world_model.model, config.path), config.limits
    )
    trainer.add_callback(oversight)
    return trainer, oversight


def _trainer(config: Config, run: Run, world_model: WorldModel, contexts: Contexts, score: SoftScore) -> Any:
    from transformers import TrainingArguments

    from align.tuning.contexts import plan_rows
    from align.tuning.reward_gradient import RewardGradientTrainer, context_rows
    from align.world_models.adapters import add_lora

    arguments = TrainingArguments(
        **trainer_settings(run, config.num_steps, config.save_every, config.learning_rate, config.seed),
        per_device_train_batch_size=config.contexts_per_step,
        logging_steps=1,
    )
    anchored = config.path == "shared" and config.anchor_weight != 0
    clips = config.anchor_clips or config.contexts
    return RewardGradientTrainer(
        model=add_lora(world_model.model, config.rank, config.alpha, config.seed),
        args=arguments,
        train_dataset=context_rows(plan_rows(contexts.scenes, config.num_steps * config.contexts_per_step, config.seed)),
        world_model=world_model,
        path=config.path,
        contexts=contexts,
        score=score,
        weights=config.axis_weights,
        beta=config.beta,
        how=_relaxation(config),
        anchor=make_anchor(run, world_model, clips, config.contexts_per_step, config.seed) if anchored else None,
        anchor_weight=config.anchor_weight,
    )


def _finish(config: Config, run: Run, trainer: Any, oversight: Oversight) -> dict[str, Any]:
    """Put the last good checkpoint's adapter into its folder, and what happened into the run's."""
    from recipes._constraints import prune_checkpoints

    kept = oversight.kept_step
    policy = trainer.accelerator.unwrap_model(trainer.model)
    restore_adapter(policy, run.checkpoints / f"checkpoint-{kept}" if kept else None)
    rows = [entry for entry in trainer.state.log_history if "loss" in entry]
    figures = {**_summarise(oversight), "num_steps": len(rows), "kl": rows[-1]["kl"], "entropy": rows[-1]["entropy"]}
    out = Path(config.out) if config.out else run.path / "adapter"
    save_tuned(run, policy, out, config.path, "the reward's gradient through its own rollouts", figures, config.model)
    prune_checkpoints(run.checkpoints, kept)
    run.save_json(
        "held_out", [{"step": m.step, **{k: sum(v) / len(v) for k, v in m.figures.items()}} for m in oversight.history]
    )
    for alarm in oversight.alarms:
        run.say(f"stopped at step {oversight.history[-1].step}: {alarm.monitor}: {alarm.why}; kept the adapter of step {kept}")
    return {**figures, "out": str(out)}


def _summarise(oversight: Oversight) -> dict[str, Any]:
    """Held-out chances to pass, by axis and scene and for everything, of the base and of what was kept."""
    kept = next(row for row in oversight.history if row.step == oversight.kept_step)
    figures: dict[str, Any] = {
        "kept_step": kept.step,
        "measured_steps": len(oversight.history) - 1,
        "stopped": "; ".join(f"{alarm.monitor}: {alarm.why}" for alarm in oversight.alarms),
    }
    for when, measured in (("base", oversight.history[0].figures), ("kept", kept.figures)):
        for name, values in measured.items():
            if name.startswith(("proxy/", "gold/")):
                figures[f"{when}_{name.replace('/', '_')}"] = sum(values) / len(values)
    return figures
