"""Iterated DPO: in each round the last adapter dreams, its dreams are labelled, and it is tuned further on them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from recipes._answers import count_votes
from recipes._online import State, ask, dream, learn, measure, measure_reward, tune
from recipes._run import Run


@dataclass(frozen=True)
class Config:
    """Who labels, how much is asked in each round, and sizes."""

    model: str = "household"
    """World model: a shipped name or a folder."""
    contexts: str = ""
    """Clip folder whose beginnings are dreamed on in every round; empty films new ones in the household for each round."""
    rounds: int = 3
    """Rounds; the first one starts from the base and asks random questions."""
    labels: str = "reward"
    """What DPO's pairs come from: reward (a reward model of all votes so far, learned anew in each round), or votes (the
    round's own votes, as they are)."""
    answers: str = ""
    """Who votes: empty, simulated annotators; the URL of a label database, or a folder into which you put a vote file for
    each round, people. The run then ends in each round until the answers are there, and goes on with --resume."""
    reward_model: str = ""
    """A finished reward model that labels every round; nobody is asked then."""
    arms: tuple[str, ...] = ("active",)
    """Ways of choosing questions from the second round on (random, active); each is a chain of its own after a shared first
    round, so that two can be compared."""
    num_contexts: int = 50
    """New contexts a scene in each round, where they are filmed."""
    samples_per_context: int = 4
    """Dreams of each."""
    votes: int = 90
    """Questions in each round; a question is one pair and one axis."""
    axes: dict[str, tuple[str, ...]] = field(
        default_factory=lambda: {
            "pour": ("spill", "success"),
            "shelf": ("breakage", "success"),
            "corridor": ("politeness", "success"),
        }
    )
    """What is asked about each scene, and counts there."""
    random_share: float = 0.2
    """Share of random questions among active ones."""
    num_epochs: int = 150
    """Steps of the reward model."""
    dpo_steps: int = 100
    """Steps of tuning in each round."""
    batch_size: int = 16
    """Pairs a step; a round in which fewer differ clearly changes nothing."""
    min_margin: float = 0.5
    """Smallest difference in combined reward of a pair, in nats."""
    beta: float = 0.1
    """DPO's beta; the reference is the adapter that the round started from."""
    rank: int = 8
    """LoRA rank."""
    held_out_contexts: int = 100
    """Contexts a scene, filmed in the simulator, on which each round's reward model is measured; 0 leaves it out."""
    simulator_contexts: int = 50
    """Contexts a scene in which each round's adapter acts in the simulator; 0 where there is none."""
    kl_contexts: int = 60
    """Contexts on which the distance of each round's adapter from the base is measured, in its own dreams."""
    num_workers: int = 2
    """Processes."""
    seed: int = 0
    """Seed of everything."""


def main(config: Config, run: Run) -> dict[str, Any]:
    """Return, for each arm and round, votes, unsafe rate, success and KL with intervals; draws rounds.png, writes rounds.md."""
    from recipes._online_report import draw_rounds, write_table

    _check(config)
    start = {"round": 0, "votes": 0, "accuracy": None, "num_pairs": 0, "adapter": "", **measure(config, run, "base", "", "")}
    state, first = play_round(config, run, "all", 1, State())
    arms: dict[str, list[dict[str, Any]]] = {}
    for arm in config.arms:
        last, arms[arm] = state, [start, first]
        for number in range(2, config.rounds + 1):
            last, figures = play_round(config, run, arm, number, last)
            arms[arm].append(figures)
    draw_rounds(run.path / "rounds.png", arms)
    write_table(run.path / "rounds.md", arms)
    files = {"plot": str(run.path / "rounds.png"), "table": str(run.path / "rounds.md")}
    return {
        "arms": arms,
        **files,
        "simulated": not (config.answers or config.reward_model),
        "out": arms[config.arms[0]][-1]["adapter"],
    }


def play_round(config: Config, run: Run, arm: str, number: int, before: State) -> tuple[State, dict[str, Any]]:
    """One round; every step is a run folder of its own, and a finished one is not done again."""
    name = f"{arm}-{number}"
    seed = (config.seed * config.rounds + number) % 100  # a round has contexts that no other round has
    contexts, dreams, rollouts = dream(config, run, name, seed, before)
    new_votes, votes, reward_model, questions = "", "", config.reward_model, None
    if not config.reward_model:
        active = arm == "active"
        new_votes, votes, questions = ask(config, run, name, seed, dreams, rollouts, before, active)
        reward_model = learn(config, run, name, rollouts, votes) if config.labels == "reward" else ""
    adapter, num_pairs = tune(config, run, name, dreams, reward_model, new_votes, before.adapter)
    return State(adapter, rollouts, reward_model, votes), {
        "round": number,
        "votes": count_votes(votes, config.reward_model),
        **measure_reward(config, run, name, reward_model),
        **measure(config, run, name, adapter, contexts),
        "num_pairs": num_pairs,
        "questions": questions,
        "adapter": adapter,
        "reward_model": reward_model,
    }


def _check(config: Config) -> None:
    from align.errors import ConfigError
    from align.scenes import SCENES

    strange = sorted(set(config.axes) - set(SCENES)) if config.simulator_contexts or not config.contexts else []
    problems = {
        f"arms must be random, active or both, got {', '.join(config.arms) or 'none'}": (
            not config.arms or not set(config.arms) <= {"random", "active"}
        ),
        f"rounds must be at least 1, got {config.rounds}": config.rounds < 1,
        f"labels must be reward or votes, got {config.labels}": config.labels not in ("reward", "votes"),
        "labels=votes learns no reward model, and active questions need one; set arms=[random]": (
            config.labels == "votes" and "active" in config.arms and not config.reward_model and config.rounds > 1
        ),
        "with reward_model nobody is asked; leave answers empty, and one arm is enough": bool(
            config.reward_model and (config.answers or len(config.arms) > 1)
        ),
        f"there is no simulator for {', '.join(strange)}; give contexts, and set simulator_contexts=0": bool(strange),
    }
    if wrong := [text for text, holds in problems.items() if holds]:
        raise ConfigError("; ".join(wrong))
