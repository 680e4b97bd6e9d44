"""Cast simulated votes on rollouts, from their pixels; for trying the loop, never for claims about people."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from recipes._run import Run


@dataclass(frozen=True)
class Config:
    """Who votes on what."""

    rollouts: str = "rollouts/household"
    """Rollout folder."""
    out: str = "votes.parquet"
    """Vote file; CSV, JSONL or parquet by suffix."""
    budget: int = 600
    """Votes in all; a vote is one row: pair, axis and annotator."""
    num_annotators: int = 6
    """Simulated annotators."""
    crowd: str = "plain"
    """What they are like: plain sees clear outcomes clearly, noisy sees little and seldom ties."""
    axes: dict[str, tuple[str, ...]] = field(
        default_factory=lambda: {
            "pour": ("spill", "success"),
            "shelf": ("breakage", "success"),
            "corridor": ("politeness", "success"),
        }
    )
    """What is asked about each scene, the most important axis first."""
    others_every: int = 2
    """A scene's first axis is asked of every pair, its other axes of every second."""
    labeller: str = ""
    """Outcome judge that stands in for eyes; empty is the one that ships."""
    pairs: str = ""
    """Pairs file that gptsim run select wrote; empty draws random pairs."""
    seed: int = 0
    """Seed of pairs, annotators and votes."""


def main(config: Config, run: Run) -> dict[str, Any]:
    """Write the vote file; returns counts an axis."""
    from collections import Counter

    import numpy as np

    from align.audit.judge import OutcomeJudge
    from align.errors import ConfigError, DataError
    from align.preferences.annotators import CROWDS, cast_votes, make_annotators
    from align.preferences.pairing import make_pairs, thin_axes
    from align.preferences.votes.schema import Pair, write_votes
    from align.preferences.votes.tables import parse_rows, read_rows
    from align.video.folder import load_clip_folder
    from align.world_models.world_model import SHIPPED

    if config.crowd not in CROWDS:
        raise ConfigError(f"crowd must be one of {', '.join(CROWDS)}, got {config.crowd!r}")
    if Path(config.out).exists() and not run.resumed:
        raise DataError(f"{config.out} exists already and may hold people's votes; choose another out")
    folder = load_clip_folder(config.rollouts)
    run.record_input("rollouts", config.rollouts)
    # Only these columns: nothing here may see what truly happened.
    table = folder.table[["rollout_id", "context_id", "scene", "file_name", "sha256"]]
    if config.pairs:
        run.record_input("pairs", config.pairs)
        pairs = parse_rows(read_rows(config.pairs), Pair, config.pairs)
    else:
        most = max(len(axes) for axes in config.axes.values())
        num_pairs = max(1, config.budget * config.others_every // (config.others_every + most - 1))
        # two pairs a context are there at most, of two clips only one; what is left of the budget buys second opinions
        num_pairs = min(num_pairs, sum(min(2, count * (count - 1) // 2) for count in table["context_id"].value_counts()))
        pairs = thin_axes(make_pairs(table, num_pairs, config.axes, config.seed), config.others_every)
    judge = OutcomeJudge.load(Path(config.labeller) if config.labeller else SHIPPED["household"] / "labeller")
    needed = sorted({name for pair in pairs for name in (pair.rollout_a, pair.rollout_b)})
    row_of = {name: index for index, name in enumerate(table["rollout_id"])}
    if missing := sorted(set(needed) - set(row_of)):
        raise DataError(f"{config.pairs} names {len(missing)} rollouts that {config.rollouts} lacks, first {missing[0]}")
    with run.progress("watching", len(needed), "simulated annotators look at the clips' pixels") as advance:
        seen: dict[str, dict[str, float]] = {}
        for start in range(0, len(needed), 64):
            part = needed[start : start + 64]
            read = judge.judge(np.stack([folder.video(row_of[name]) for name in part]))
            # Who can't tell is undecided.
            seen |= {
                name: {axis: float(np.nan_to_num(values[i], nan=0.5)) for axis, values in read.items()}
                for i, name in enumerate(part)
            }
            advance(len(part))
    axes = sorted({axis for names in config.axes.values() for axis in names})
    votes = cast_votes(
        pairs,
        axes,
        make_annotators(config.num_annotators, config.seed, config.crowd),
        lambda names, axis: [seen[name][axis] for name in names],
        config.seed,
        config.budget,
    )
    write_votes(Path(config.out), votes)
    counts = Counter((vote.axis, vote.vote) for vote in votes)
    return {
        "num_votes": len(votes),
        "num_pairs": len({vote.pair_id for vote in votes}),
        "simulated": True,
        "out": config.out,
        "votes": {axis: {c: counts[axis, c] for c in ("a", "b", "tie", "both_bad")} for axis in axes},
    }
