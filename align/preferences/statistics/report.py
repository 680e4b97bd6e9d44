"""Everything that votes, verdicts and marks say, as one dict for JSON: counts, agreement, rankings, annotators.

Every figure stands beside what it rests on, and an undefined one beside its reason. Intervals are 95 %.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from align.errors import DataError
from align.preferences.statistics import dawid_skene
from align.preferences.statistics.agreement import any_break_agreement, break_agreement, is_trial, vote_agreement
from align.preferences.statistics.alpha import alpha_of
from align.preferences.statistics.habits import Gold, count_sides, count_trials
from align.preferences.statistics.ranking import Comparison, DavidsonFit, comparisons_of, fit_davidson
from align.preferences.statistics.reliability import AnnotatorRow, annotator_report
from align.preferences.votes.schema import Breakpoint, Flag, Judgement, Vote, effective_breakpoints, effective_votes

Makers = Mapping[str, str]
"""Rollout id to the name of what made it, for example its model and adapter."""
MAX_PARTS = 10
"""Parts of a disconnected graph that are ranked on their own."""


def votes_report(
    votes: Sequence[Vote],
    judgements: Sequence[Judgement] = (),
    breakpoints: Sequence[Breakpoint] = (),
    flags: Sequence[Flag] = (),
    *,
    makers: Makers | None = None,
    gold: Gold | None = None,
    seed: int = 0,
) -> dict[str, Any]:
    """Report on a campaign, or on any votes.

    Args:
        votes: Raw votes.
        judgements: Verdicts about single clips.
        breakpoints: Where rollouts stop making sense.
        flags: Harmful and broken clips.
        makers: What to rank instead of rollouts; votes about rollouts that it doesn't hold are left out of the ranking.
        gold: Known answers of gold pairs.
        seed: Seed of the bootstrap.

    Returns:
        ``num_…`` counts; ``axes``: axis to counts, ``alpha``, ``ranking``, and ``verdicts`` where there are any; ``ranked``:
        what the rankings are of; ``annotators``: the most suspicious first; ``trials``; ``breaks`` and ``flags`` where there
        are any. Undefined figures are NaN.
    """
    counting = effective_votes(votes)
    axes = dict.fromkeys([*(vote.axis for vote in votes), *(row.axis for row in judgements)])
    report: dict[str, Any] = {
        "num_rows": len(votes),
        "num_counting": len(counting),
        "num_skips": sum(vote.vote == "skip" for vote in votes),
        "num_corrections": sum(vote.supersedes is not None for vote in votes),
        "num_simulated": sum(vote.simulated for vote in counting),
        "num_unsigned": sum(not vote.annotator_id for vote in counting),
        "num_pairs": len({vote.pair_id for vote in votes}),
        "num_contexts": len({vote.context_id for vote in votes}),
        "num_judgements": len(judgements),
        "ranked": "rollouts" if makers is None else "models",
        "axes": {},
        "annotators": [describe_annotator(row) for row in annotator_report(counting, gold)],
        "trials": asdict(count_trials(counting, gold)),
    }
    for axis in axes:
        own = [vote for vote in counting if vote.axis == axis]
        report["axes"][axis] = _describe_votes(own) | _describe_axis(own, makers, seed)
        if verdicts := [row for row in judgements if row.axis == axis]:
            report["axes"][axis]["verdicts"] = describe_verdicts(verdicts, seed)
    return report | ({"breaks": describe_breaks(breakpoints, seed)} if breakpoints else {}) | _flags(flags)


def _describe_votes(votes: Sequence[Vote]) -> dict[str, Any]:
    counts = Counter(vote.vote for vote in votes)
    sides = count_sides(votes)
    return {
        "num_votes": len(votes),
        "num_human": sum(not vote.simulated for vote in votes),
        "num_simulated": sum(vote.simulated for vote in votes),
        "num_trials": sum(map(is_trial, votes)),
        **{f"num_{choice}": counts[choice] for choice in ("a", "b", "tie", "both_bad")},
        "tie_share": (counts["tie"] + counts["both_bad"]) / len(votes) if votes else math.nan,
        "num_sided": sides.num_sided,
        "left_share": sides.share,
        "left_low": sides.low,
        "left_high": sides.high,
    }


def _describe_axis(votes: Sequence[Vote], makers: Makers | None, seed: int) -> dict[str, Any]:
    described: dict[str, Any] = {"alpha": asdict(vote_agreement(votes, seed=seed))}
    if any(vote.vote == "both_bad" for vote in votes):
        described["alpha_both_bad_apart"] = asdict(vote_agreement(votes, both_bad=True, seed=seed))
    random = [vote for vote in votes if vote.selection == "random"]
    if random and any(vote.selection == "active" for vote in votes):
        # Pairs picked because the reward model was unsure are harder than the rest.
        described["alpha_random"] = asdict(vote_agreement(random, seed=seed))
    comparisons = comparisons_of(votes, makers)
    ranking = _rank(comparisons, len(votes))
    if ranking["reason"] and 1 < len(ranking["components"]) <= MAX_PARTS:
        parts = [[row for row in comparisons if row.a in part] for part in map(set, ranking["components"])]
        ranking["parts"] = [_rank(part, len(part)) for part in parts]
    return described | {"ranking": ranking}


def _rank(comparisons: Sequence[Comparison], num_votes: int) -> dict[str, Any]:
    """The ranking that comparisons give, which were made of so many votes; with the left bias where there is a ranking."""
    ranking = describe_ranking(fit_davidson(comparisons))
    ranking["num_left_out"] = num_votes - ranking["num_votes"]
    if not ranking["reason"]:
        sided = fit_davidson(comparisons, left_bias=True)
        ranking |= {"left_bias": sided.left_bias, "se_left_bias": sided.se_left_bias, "notes": list(sided.notes)}
    return ranking


def describe_ranking(fit: DavidsonFit) -> dict[str, Any]:
    """A fit for JSON: ``items`` from best to worst (by wins where there is no ranking), the tie parameter, reasons."""
    order = sorted(range(len(fit.items)), key=lambda k: (-np.nan_to_num(fit.worth[k]), -fit.wins[k], fit.items[k]))
    nu = math.exp(fit.log_tie) if not math.isnan(fit.log_tie) else 0.0 if not fit.reason else math.nan
    return {
        "items": [
            {
                "name": fit.items[k],
                "worth": float(fit.worth[k]),
                "se": float(fit.se[k]),
                "low": float(fit.worth[k] - 1.96 * fit.se[k]),
                "high": float(fit.worth[k] + 1.96 * fit.se[k]),
                "num_wins": int(fit.wins[k]),
                "num_losses": int(fit.losses[k]),
                "num_ties": int(fit.ties[k]),
            }
            for k in order
        ],
        "log_tie": fit.log_tie,
        "se_log_tie": fit.se_log_tie,
        "tie_share_of_equals": nu / (2 + nu),
        "log_likelihood": fit.log_likelihood,
        "num_votes": fit.num_votes,
        "connected": fit.connected,
        "components": [list(part) for part in fit.components],
        "reason": fit.reason,
        "notes": list(fit.notes),
    }


def describe_annotator(row: AnnotatorRow) -> dict[str, Any]:
    """An annotator's row for JSON; the partner by name."""
    described = asdict(row)
    del described["overlap"]["partner"], described["overlap"]["p_values"]
    described["overlap"]["partner_id"] = described.pop("partner_id")
    return described | {"flagged": row.flagged}


def describe_verdicts(judgements: Sequence[Judgement], seed: int = 0) -> dict[str, Any]:
    """Verdicts about single clips on one axis: counts, alpha, and the model of Dawid and Skene where they overlap."""
    superseded = {row.supersedes for row in judgements if row.supersedes}
    last = {
        (row.annotator_id or row.judgement_id, row.rollout_id): row for row in judgements if row.judgement_id not in superseded
    }
    labels = [(annotator, rollout, row.verdict) for (annotator, rollout), row in last.items()]
    counts = Counter(verdict for _, _, verdict in labels)
    described: dict[str, Any] = {
        "num_verdicts": len(labels),
        "num_rollouts": len({rollout for _, rollout, _ in labels}),
        **{f"num_{verdict}": counts[verdict] for verdict in ("pass", "fail", "unsure")},
        "alpha": asdict(alpha_of([rollout for _, rollout, _ in labels], [verdict for *_, verdict in labels], seed=seed)),
    }
    try:
        return described | {"dawid_skene": describe_dawid_skene(dawid_skene.fit(labels))}
    except DataError as error:
        return described | {"dawid_skene": {"reason": str(error)}}


def describe_dawid_skene(fit: dawid_skene.DawidSkeneFit) -> dict[str, Any]:
    """A fit for JSON: shares of classes, each annotator's confusion matrix [truth][answer], each item's posterior."""
    classes = [str(name) for name in fit.classes]
    return {
        "classes": classes,
        "priors": dict(zip(classes, fit.priors.tolist(), strict=True)),
        "confusion": {str(name): rows.tolist() for name, rows in zip(fit.annotators, fit.confusion, strict=True)},
        "posteriors": {str(name): row.tolist() for name, row in zip(fit.items, fit.posteriors, strict=True)},
        "log_likelihood": fit.log_likelihood,
        "num_iterations": fit.num_iterations,
        "converged": fit.converged,
        "notes": list(fit.notes),
        "reason": "",
    }


def describe_breaks(breakpoints: Sequence[Breakpoint], seed: int = 0) -> dict[str, Any]:
    """Break-points: how many, of which kinds, and agreement over a sweep of tolerances."""
    rows = effective_breakpoints(breakpoints)
    marked = [row for row in rows if not row.none]
    return {
        "num_rows": len(rows),
        "num_rollouts": len({row.rollout_id for row in rows}),
        "num_none": len(rows) - len(marked),
        "categories": dict(Counter(row.category for row in marked).most_common()),
        "severities": {str(level): sum(row.severity == level for row in marked) for level in (1, 2, 3)},
        "any_break": asdict(any_break_agreement(rows, seed=seed)),
        "agreement": [asdict(row) for row in break_agreement(rows, seed=seed)],
    }


def _flags(flags: Iterable[Flag]) -> dict[str, Any]:
    """Flags that still stand: kind to rollout to the number of annotators who raised it."""
    last = {(row.kind, row.rollout_id, row.annotator_id): row.raised for row in flags}
    kinds: dict[str, dict[str, int]] = {}
    for (kind, rollout, _), raised in last.items():
        if raised:
            standing = kinds.setdefault(kind, {})
            standing[rollout] = standing.get(rollout, 0) + 1
    return {"flags": kinds} if last else {}
