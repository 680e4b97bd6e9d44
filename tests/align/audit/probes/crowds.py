"""Simulated crowds with planted bias, for tests and for the benchmark of the probe of votes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from align.preferences.annotators import CHOICES, SimulatedAnnotator, make_annotators
from align.preferences.votes.schema import Pair, Vote, VoteChoice

UNSAFE = {"a": 0.26, "b": 0.53}
"""How often a rollout of each group ends badly: the household's base model, which makes honest standards look biased."""
BLUR = 0.04
"""Share of clips that look like the opposite to everybody."""

Crowd = tuple[list[Vote], dict[str, str], set[str]]
"""Votes, rollout id to group, ids of biased annotators."""


def make_crowd(
    seed: int,
    *,
    num_annotators: int = 20,
    num_biased: int = 2,
    votes_each: int = 150,
    overlap: int = 3,
    share: float = 0.2,
    twin_share: float = 0.0,
    kind: str = "both ways",
    lapses: float | None = None,
    strict: float = 0.0,
) -> Crowd:
    """Votes on one axis of clips that show a person of group a or b, and who is biased.

    Args:
        seed: Seed of everything.
        num_annotators: In all.
        num_biased: Of them, how many are biased.
        votes_each: About so many votes an annotator.
        overlap: Annotators who see each pair.
        share: Of a biased annotator's pairs, on how many the group decides (half of all pairs show group b).
        twin_share: Share of pairs that are twins, one of group a and one of group b.
        kind: ``both ways``: on any of these pairs group b is called both bad, group a alike. ``harsh``: these pairs are all of
            group b, called both bad. Twins go to group a.
        lapses: Most careless annotator's share of random answers; None leaves all as they are made, at most 0.06.
        strict: The strictest annotator calls both bad on this share of all pairs, whoever they show; others on less.
    """
    rng = np.random.default_rng(seed)
    pairs, group, seen = _make_pairs(rng, num_annotators * votes_each // overlap, twin_share)
    annotators = make_annotators(num_annotators, seed)
    if lapses is not None:
        annotators = [replace(who, lapse_rate=float(rng.uniform(0.01, lapses))) for who in annotators]
    votes = _cast(rng, pairs, annotators, seen, overlap)
    if strict:
        often = {annotator.annotator_id: rng.uniform(0, strict) for annotator in annotators}
        votes = [
            vote.model_copy(update={"vote": "both_bad"}) if rng.random() < often[vote.annotator_id] else vote for vote in votes
        ]
    biased = {annotator.annotator_id for annotator in annotators[:num_biased]}
    return [_bias(vote, group, rng, share, kind) if vote.annotator_id in biased else vote for vote in votes], group, biased


def _cast(
    rng: np.random.Generator, pairs: list[Pair], annotators: list[SimulatedAnnotator], seen: dict[str, float], overlap: int
) -> list[Vote]:
    """Each pair is shown to ``overlap`` annotators; as ``align.preferences.annotators.cast_votes``, an annotator at a time."""
    looks = np.array([[seen[pair.rollout_a], seen[pair.rollout_b]] for pair in pairs])
    chosen = rng.random((len(pairs), len(annotators))).argsort(1)[:, :overlap]
    votes = []
    for who, annotator in enumerate(annotators):
        mine = np.flatnonzero((chosen == who).any(1))
        chances = annotator.vote_probabilities(*looks[mine].T, rng.random(len(mine)) < 0.5, "politeness")
        choices = (rng.random((len(mine), 1)) > chances.cumsum(1)[:, :-1]).sum(1)
        for number, choice in zip(mine, choices, strict=True):
            about = pairs[number].model_dump(include={"pair_id", "context_id", "rollout_a", "rollout_b", "selection"})
            answer = {"vote_id": f"{who}-{number}", "vote": CHOICES[choice], "annotator_id": annotator.annotator_id}
            votes.append(Vote(axis="politeness", simulated=True, **about, **answer))
    return votes


def _make_pairs(
    rng: np.random.Generator, num_pairs: int, twin_share: float
) -> tuple[list[Pair], dict[str, str], dict[str, float]]:
    """Pairs, rollout id to group, and how bad each clip looks in [0, 1]; twins look alike."""
    pairs, group, seen = [], {}, {}
    for k in range(num_pairs):
        names, drawn, twin = (f"{k}-x", f"{k}-y"), str(rng.choice(["a", "b"])), bool(rng.random() < twin_share)
        sides = [str(side) for side in rng.permutation(["a", "b"])] if twin else [drawn, drawn]
        wrong = (rng.random(2) < UNSAFE[drawn]) ^ (rng.random(2) < BLUR)
        looks = np.clip(rng.normal(np.where(wrong, 0.95, 0.05), 0.05), 0, 1)
        for name, side, look in zip(names, sides, looks[[0, 0]] if twin else looks, strict=True):
            group[name], seen[name] = side, float(look)
        about = {"context_id": f"c{k}", "rollout_a": names[0], "rollout_b": names[1]}
        pairs.append(Pair(pair_id=f"p{k}", selection="twin" if twin else "random", **about))
    return pairs, group, seen


def _bias(vote: Vote, group: dict[str, str], rng: np.random.Generator, share: float, kind: str) -> Vote:
    sides = (group[vote.rollout_a], group[vote.rollout_b])
    alike = sides[0] == sides[1]
    if rng.random() >= (2 * share if kind == "harsh" and alike else share) or (kind == "harsh" and sides == ("a", "a")):
        return vote
    choice: VoteChoice = ("both_bad" if sides[0] == "b" else "tie") if alike else ("a" if sides[0] == "a" else "b")
    return vote.model_copy(update={"vote": choice})


def find_biased(votes: Sequence[Vote], group: dict[str, str]) -> set[str]:
    """Who is found, with the share of the level that the recipe gives to this question."""
    from align.audit.probes.base import LEVEL, judge_findings
    from align.audit.probes.votes import BIAS, bias_findings, probe_annotators, share_level

    rows = [row for row in probe_annotators(votes, {"group": group}, level=LEVEL * BIAS) if not np.isnan(row.excess.p_value)]
    judged = judge_findings(share_level(bias_findings(rows), BIAS), 0.1)
    return {row.annotator_id for row, finding in zip(rows, judged, strict=True) if finding.status == "found"}
