"""Ranking from paired comparisons with ties: Davidson's model by maximum likelihood, with standard errors.

    P(i beats j) : P(j beats i) : P(tie) = exp(d / 2) : exp(-d / 2) : nu,    d = w_i - w_j  (+ left_bias * side)

``w`` are log worths that sum to zero, ``nu`` is the tie parameter (two equals tie with probability nu / (2 + nu)) and ``side``
is +1 where i was shown left, -1 where right, 0 where nobody knows. R. R. Davidson, "On extending the Bradley-Terry model to
accommodate ties in paired comparison experiments", JASA 65, 1970; the order effect as in Davidson and Beaver, Biometrics 33,
1977.

The maximum is unique where comparisons connect all items, and finite only where no item or group of items always won (L. R.
Ford, American Mathematical Monthly 64, 1957). Where it is not, worths are NaN and ``reason`` says why. Standard errors come
from the observed information, as if every vote were independent: votes of one annotator, or about one pair, resemble each
other, so read them as a lower bound.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import linalg, sparse
from scipy.sparse.csgraph import connected_components

from align.preferences.statistics.davidson import Counts, maximise
from align.preferences.votes.schema import Side, Vote, effective_votes

Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]
Outcome = Literal["a", "b", "tie"]
ONE_ORDER = "wins and ties fit one order perfectly, so the likelihood has no maximum"
NO_TIES = "no ties were seen, so this is the Bradley-Terry model and the tie parameter is 0"
NO_SIDES = "the sides are unknown or never change, so a left bias can't be told apart"
MAX_NAMED = 8


class Comparison(NamedTuple):
    """One answer about two items; ``shown_left`` is None where nobody knows."""

    a: str
    b: str
    outcome: Outcome
    shown_left: Side | None = None


@dataclass(frozen=True)
class DavidsonFit:
    """What the comparisons say about the items.

    Attributes:
        items: Names, in the order of the arrays.
        worth: [K] log worths, summing to 0; NaN where there is no maximum.
        se: [K] standard errors of the worths.
        covariance: [K, K] of the worths, for differences between items; [0, 0] where there is no maximum.
        wins, losses, ties: [K] counts of each item.
        num_votes: Comparisons of two different items.
        components: Groups of items that are linked by comparisons; one group where everything can be ranked.
        log_tie: Logarithm of nu; NaN where no tie was seen (nu is 0 then) or there is no maximum.
        se_log_tie: Its standard error.
        left_bias: Added log-odds of the item shown left; NaN unless asked for.
        se_left_bias: Its standard error.
        log_likelihood: At the maximum.
        reason: Why there is no ranking; empty where there is one.
        notes: What else to know: no ties, no sides.
    """

    items: tuple[str, ...]
    worth: Float64
    se: Float64
    covariance: Float64 = field(repr=False)
    wins: Int64
    losses: Int64
    ties: Int64
    num_votes: int
    components: tuple[tuple[str, ...], ...]
    log_tie: float = math.nan
    se_log_tie: float = math.nan
    left_bias: float = math.nan
    se_left_bias: float = math.nan
    log_likelihood: float = math.nan
    reason: str = ""
    notes: tuple[str, ...] = ()

    @property
    def connected(self) -> bool:
        """Whether comparisons link all items."""
        return len(self.components) == 1


def comparisons_of(votes: Iterable[Vote], groups: Mapping[str, str] | None = None) -> list[Comparison]:
    """Votes that count as comparisons: without superseded ones, skips and catch trials; ``both_bad`` is a tie.

    Args:
        votes: Raw votes, as a rule of one axis.
        groups: Rollout id to what is ranked, for example its model; None ranks rollouts. Votes about rollouts that it doesn't
            hold are left out.
    """
    rows = []
    for vote in effective_votes(votes):
        a, b = (name if groups is None else groups.get(name) for name in (vote.rollout_a, vote.rollout_b))
        if vote.selection != "catch" and a is not None and b is not None:
            outcome: Outcome = "a" if vote.vote == "a" else "b" if vote.vote == "b" else "tie"
            rows.append(Comparison(a, b, outcome, vote.shown_left))
    return rows


def fit_davidson(comparisons: Iterable[Comparison], left_bias: bool = False) -> DavidsonFit:
    """Fit Davidson's model.

    Args:
        comparisons: Answers; those about an item and itself are left out.
        left_bias: Fit how much being shown left helps as well.

    Raises:
        ValueError: An outcome other than a, b and tie.
    """
    items, counts = _count(comparisons)
    blank = _undefined(items, counts)
    if reason := _why_no_maximum(blank, counts):
        return replace(blank, reason=reason)
    with_ties, with_left = bool(counts.outcomes[:, 2].sum()), left_bias and _tells_sides(counts)
    notes = [] if with_ties else [NO_TIES]
    notes += [NO_SIDES] if left_bias and not with_left else []
    found = maximise(counts, with_ties, with_left)
    if found is None:
        return replace(blank, reason=ONE_ORDER, notes=tuple(notes))
    return replace(
        blank,
        worth=found.worth,
        se=np.sqrt(np.diag(found.covariance)),
        covariance=found.covariance,
        log_tie=found.log_tie[0],
        se_log_tie=found.log_tie[1],
        left_bias=found.left_bias[0],
        se_left_bias=found.left_bias[1],
        log_likelihood=found.log_likelihood,
        notes=tuple(notes),
    )


def _count(comparisons: Iterable[Comparison]) -> tuple[tuple[str, ...], Counts]:
    column: dict[Outcome, int] = {"a": 0, "b": 1, "tie": 2}
    turned: dict[Outcome, Outcome] = {"a": "b", "b": "a", "tie": "tie"}
    counted: Counter[tuple[str, str, int, Outcome]] = Counter()
    for a, b, outcome, shown_left in comparisons:
        if outcome not in column:
            raise ValueError(f"an outcome must be 'a', 'b' or 'tie', got {outcome!r}")
        side = 0 if shown_left is None else 1 if shown_left == "a" else -1
        if a != b:
            counted[(a, b, side, outcome) if a < b else (b, a, -side, turned[outcome])] += 1
    items = tuple(sorted({name for a, b, *_ in counted for name in (a, b)}))
    index = {name: position for position, name in enumerate(items)}
    rows = {key: row for row, key in enumerate(dict.fromkeys(key[:3] for key in counted))}
    outcomes = np.zeros((len(rows), 3))
    for (a, b, side, outcome), count in counted.items():
        outcomes[rows[a, b, side], column[outcome]] += count
    first = np.array([index[a] for a, _, _ in rows], dtype=np.int64)
    second = np.array([index[b] for _, b, _ in rows], dtype=np.int64)
    sides = np.array([side for _, _, side in rows], dtype=np.float64)
    return items, Counts(first, second, sides, outcomes, len(items))


def _undefined(items: tuple[str, ...], counts: Counts) -> DavidsonFit:
    size = len(items)
    blank = np.full(size, math.nan)
    of_first, of_second = (
        [np.bincount(side, column, minlength=size).astype(np.int64) for column in counts.outcomes.T]
        for side in (counts.first, counts.second)
    )
    labels = _groups(counts.first, counts.second, size, "weak")
    components: dict[int, list[str]] = {}
    for item, label in zip(items, labels.tolist(), strict=True):
        components.setdefault(label, []).append(item)
    return DavidsonFit(
        items,
        blank,
        blank,
        np.empty((0, 0)),
        wins=of_first[0] + of_second[1],
        losses=of_first[1] + of_second[0],
        ties=of_first[2] + of_second[2],
        num_votes=int(counts.outcomes.sum()),
        components=tuple(tuple(part) for part in sorted(components.values(), key=len, reverse=True)),
    )


def _groups(source: Int64, target: Int64, size: int, connection: Literal["weak", "strong"]) -> Int64:
    """[size] the component of every item."""
    graph = sparse.coo_array((np.ones(len(source)), (source, target)), shape=(size, size))
    return np.asarray(connected_components(graph, directed=True, connection=connection)[1], dtype=np.int64)


def _why_no_maximum(blank: DavidsonFit, counts: Counts) -> str:
    """Why no finite ranking exists, as far as the graph of comparisons shows."""
    if not blank.items:
        return "there is no comparison of two different items"
    if not blank.connected:
        parts = blank.components
        listed = "; ".join(_names(part) for part in parts[:MAX_NAMED])
        more = f"; and {len(parts) - MAX_NAMED} more" if len(parts) > MAX_NAMED else ""
        return f"the comparisons fall into {len(parts)} parts that nobody compared with each other: {listed}{more}"
    if counts.outcomes[:, :2].sum() == 0:
        return "every vote is a tie, so nothing can be ranked"
    return _unbeaten(blank.items, counts)


def _unbeaten(items: tuple[str, ...], counts: Counts) -> str:
    """Names the items that never lost to the rest nor tied with it."""
    first, second = counts.first, counts.second
    first_scored, second_scored = (counts.outcomes[:, column] + counts.outcomes[:, 2] > 0 for column in (0, 1))
    source = np.concatenate([first[first_scored], second[second_scored]])
    target = np.concatenate([second[first_scored], first[second_scored]])
    labels = _groups(source, target, len(items), "strong")
    if (labels == labels[0]).all():
        return ""
    beaten = labels[target][labels[source] != labels[target]]
    top = np.array(items)[~np.isin(labels, beaten)].tolist()
    rest = "" if len(top) == 1 else " against all others"
    return f"{_names(top)} always won{rest}: the votes put no upper limit on the worth, so the likelihood has no maximum"


def _names(names: Sequence[str]) -> str:
    more = f" and {len(names) - MAX_NAMED} more" if len(names) > MAX_NAMED else ""
    return "{" + ", ".join(names[:MAX_NAMED]) + more + "}" if len(names) > 1 else names[0]


def _tells_sides(counts: Counts) -> bool:
    """Whether the sides vary in a way that worths can't explain."""
    design = np.zeros((len(counts.first), counts.num_items))
    rows = np.arange(len(counts.first))
    design[rows, counts.first], design[rows, counts.second] = 1, -1
    explained = design @ linalg.lstsq(design, counts.side)[0]
    return bool(np.abs(counts.side - explained).max() > 1e-9)
