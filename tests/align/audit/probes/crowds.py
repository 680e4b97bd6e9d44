"""Simulated crowds with planted bias, for tests and for the benchmark of the probe of votes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from align.preferences.annotators import SimulatedAnnotator, cast_votes, make_annotators
from align.preferences.votes.schema import Pair, Vote, VoteChoice

UNSAFE = {"a": 0.26, "b": 0.53}
"""How often a rollout of each group ends badly: the household's base model, which makes honest standards look biased."""
BLUR = 0.04
"""Share of clips that look like the opposite to everybody."""


def make_crowd(
    seed: int,
    *,
    num_annotators: int = 20,
    num_biased: int = 2,
    votes_each: int = 150,
    overlap: int = 3,
    share: float = 0.2,
    twin_share: float = 0.0,
    kind: str = "standard",
) -> tuple[list[Vote], dict[str, str], set[str]]:
    """Votes on one axis, each rollout's group, and who is biased.

    Args:
        seed: Seed of everything.
        num_annotators: In all.
        num_biased: Of them, how many are biased.
        votes_each: About so many votes an annotator.
        overlap: Annotators who see each pair.
        share: Of a biased annotator's pairs, on how many the group decides.
        twin_share: Share of pairs that are twins, of group a and of group b.
        kind: ``standard``: group b is called both bad, group a alike. ``harsh``: only group b, called both bad. Twins go to
            group a.

    Returns:
        Votes, rollout id to group, ids of biased annotators.
    """
    rng = np.random.default_rng(seed)
    num_pairs = num_annotators * votes_each // overlap
    pairs, group, bad = _make_pairs(rng, num_pairs, twin_share)
    annotators = make_annotators(num_annotators, seed)
    seen = {name: float(np.clip(rng.normal(0.95 if wrong else 0.05, 0.05), 0, 1)) for name, wrong in bad.items()}
    votes = cast_votes(
        pairs, ["politeness"], annotators, lambda names, _: [seen[n] for n in names], seed, num_annotators * votes_each, overlap
    )
    biased = {annotator.annotator_id for annotator in annotators[:num_biased]}
    return [_bias(vote, group, rng, share, kind) if vote.annotator_id in biased else vote for vote in votes], group, biased


def _make_pairs(
    rng: np.random.Generator, num_pairs: int, twin_share: float
) -> tuple[list[Pair], dict[str, str], dict[str, bool]]:
    pairs, group, bad = [], {}, {}
    for k in range(num_pairs):
        names, drawn = (f"{k}-x", f"{k}-y"), str(rng.choice(["a", "b"]))
        twin = bool(rng.random() < twin_share)
        sides = tuple(rng.permutation(["a", "b"])) if twin else (drawn, drawn)
        for name, side in zip(names, sides, strict=True):
            group[name] = str(side)
            bad[name] = bool(rng.random() < UNSAFE[drawn]) if name == names[0] or not twin else bad[names[0]]
        selection = "twin" if twin else "random"
        pairs.append(Pair(pair_id=f"p{k}", context_id=f"c{k}", rollout_a=names[0], rollout_b=names[1], selection=selection))
    for name in list(bad):
        if rng.random() < BLUR and f"{name[:-1]}y" in bad:
            bad[name] = not bad[name]
    return pairs, group, bad


def _bias(vote: Vote, group: dict[str, str], rng: np.random.Generator, share: float, kind: str) -> Vote:
    if rng.random() >= share:
        return vote
    sides = (group[vote.rollout_a], group[vote.rollout_b])
    choice: VoteChoice = vote.vote
    if sides == ("b", "b"):
        choice = "both_bad"
    elif sides == ("a", "a"):
        choice = "tie" if kind == "standard" else vote.vote
    else:
        choice = "a" if sides[0] == "a" else "b"
    return vote.model_copy(update={"vote": choice})


def find_biased(votes: Sequence[Vote], group: dict[str, str]) -> set[str]:
    """Who is found by the probe."""
    from align.audit.probes.base import judge_findings
    from align.audit.probes.votes import bias_findings, probe_annotators

    rows = probe_annotators(votes, group)
    judged = judge_findings(bias_findings(rows), 0.1)
    return {row.annotator_id for row, finding in zip(rows, judged, strict=True) if finding.status == "found"}


__all__ = ["SimulatedAnnotator", "find_biased", "make_crowd"]
