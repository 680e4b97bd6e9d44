"""Which rollouts to compare.

Pairs hold two different rollouts of one context. Nothing here reads an outcome or a success column: whoever picks pairs by
what truly happened leaks the answer into the labels.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations, groupby, zip_longest
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from align.errors import DataError
from align.preferences.votes.fields import pair_id_of
from align.preferences.votes.schema import Pair, Selection

COLUMNS = ("rollout_id", "context_id", "scene", "file_name", "sha256")
"""All that is read of a rollouts table."""
MIN_RANDOM_SHARE = 0.2

Axes = Sequence[str] | Mapping[str, Sequence[str]]


def candidate_pairs(rollouts: pd.DataFrame, axes: Axes, seed: int, exclude: Iterable[Pair] = ()) -> list[Pair]:
    """Every pair of two different rollouts of one context, in random order, each with a random a.

    Args:
        rollouts: A rollouts table (``metadata.parquet``); only ``COLUMNS`` are read.
        axes: Axes to ask about, for every pair or by scene.
        seed: Seed of the orders.
        exclude: Pairs that exist already; they don't come again, whichever of their rollouts is a.

    Raises:
        DataError: The table lacks a column, repeats a rollout_id, or a scene has no axes.
    """
    table = _checked_table(rollouts)
    rng = np.random.default_rng(seed)
    taken = {frozenset((pair.rollout_a, pair.rollout_b)) for pair in exclude}
    pairs = []
    # Not pandas' own groups: with two rollouts a context, cutting a table into thousands takes longer than everything else.
    rows: Iterable[Any] = table.sort_values(["context_id", "rollout_id"]).itertuples(index=False)
    for _, group in groupby(rows, key=lambda row: row.context_id):
        for first, second in combinations(group, 2):
            swap = rng.random() < 0.5  # drawn for every combination, so that `exclude` doesn't shift the others
            same = first.sha256 == second.sha256 or first.file_name == second.file_name
            if not same and frozenset((first.rollout_id, second.rollout_id)) not in taken:
                pairs.append(_make_pair(*((second, first) if swap else (first, second)), axes))
    return [pairs[index] for index in rng.permutation(len(pairs))]


def make_pairs(
    rollouts: pd.DataFrame,
    num_pairs: int,
    axes: Axes,
    seed: int,
    max_per_context: int = 2,
    exclude: Iterable[Pair] = (),
) -> list[Pair]:
    """Draw random pairs, spread over as many contexts as there are.

    Every context gives one pair before any gives a second one. The second pair of a context shares no rollout with the
    first where enough rollouts exist.

    Args:
        rollouts: A rollouts table (``metadata.parquet``); only ``COLUMNS`` are read.
        num_pairs: How many pairs to draw, exactly.
        axes: Axes to ask about, for every pair or by scene.
        seed: Seed of the draw.
        max_per_context: Most pairs of one context, because pairs of one context tell less than pairs of many.
        exclude: Pairs that exist already; they don't come again, but do not count towards ``max_per_context``.

    Raises:
        DataError: The table is no good, or has too few different pairs.
    """
    if num_pairs < 1 or max_per_context < 1:
        raise ValueError(f"num_pairs and max_per_context must be at least 1, got {num_pairs} and {max_per_context}")
    by_context: dict[str, list[Pair]] = {}
    for pair in candidate_pairs(rollouts, axes, seed, exclude):
        by_context.setdefault(pair.context_id, []).append(pair)
    # The candidates come in random order, so the contexts do too.
    rounds = zip_longest(*(_spread(pairs)[:max_per_context] for pairs in by_context.values()))
    drawn = [pair for one_each in rounds for pair in one_each if pair is not None]
    if len(drawn) < num_pairs:
        raise DataError(
            f"{num_pairs} pairs were asked for, but only {len(drawn)} are possible with {len(by_context)} contexts and at most "
            f"{max_per_context} a context; make more rollouts or ask for fewer pairs"
        )
    return [pair.model_copy(update={"selection": "random"}) for pair in drawn[:num_pairs]]


def thin_axes(pairs: Sequence[Pair], every: int) -> list[Pair]:
    """Ask the first axis of every pair, and the others of every ``every``-th pair of those with the same axes.

    A vote is spent on each axis asked. Where several scenes share an axis, such as success, asking it of all pairs would
    spend half of the votes on it.
    """
    if every < 1:
        raise ValueError(f"every must be at least 1, got {every}")
    seen: Counter[tuple[str, ...]] = Counter()
    thinned = []
    for pair in pairs:
        thinned.append(pair if seen[pair.axes] % every == 0 else pair.model_copy(update={"axes": pair.axes[:1]}))
        seen[pair.axes] += 1
    return thinned


def select_pairs(
    candidates: Sequence[Pair],
    scores: ArrayLike,
    num_pairs: int,
    seed: int,
    random_share: float = MIN_RANDOM_SHARE,
    max_per_context: int = 2,
) -> list[Pair]:
    """Select the pairs with the highest scores, mixed with random ones.

    The random part is drawn first and from all candidates, so it stays an unbiased sample of them; its pairs carry
    ``selection="random"``, the others ``"active"``. The order of the result is mixed.

    Args:
        candidates: For example from ``candidate_pairs``.
        scores: [len(candidates)], higher is more worth asking, for example the disagreement of an ensemble.
        num_pairs: How many pairs to select, exactly.
        seed: Seed of the random part and of the order.
        random_share: Share of random pairs, at least 0.2; rounded up.
        max_per_context: Most pairs of one context.

    Raises:
        DataError: Too few candidates.
    """
    values = np.asarray(scores, dtype=np.float64)
    if values.shape != (len(candidates),) or not np.isfinite(values).all():
        raise ValueError(f"scores must be {len(candidates)} finite numbers, got shape {values.shape}")
    if not MIN_RANDOM_SHARE <= random_share <= 1:
        raise ValueError(f"random_share must be in [{MIN_RANDOM_SHARE}, 1] to keep evaluation unbiased, got {random_share}")
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(candidates))
    by_score = order[np.argsort(-values[order], kind="stable")]  # equal scores in random order
    num_random = math.ceil(round(random_share * num_pairs, 9))
    used: Counter[str] = Counter()
    chosen: dict[int, Selection] = {}
    for indices, selection, until in ((order, "random", num_random), (by_score, "active", num_pairs)):
        for index in map(int, indices):
            if len(chosen) < until and index not in chosen and used[candidates[index].context_id] < max_per_context:
                chosen[index] = "random" if selection == "random" else "active"
                used[candidates[index].context_id] += 1
    if len(chosen) < num_pairs:
        raise DataError(f"{num_pairs} pairs were asked for, but the candidates give only {len(chosen)}; make more rollouts")
    picked = [candidates[index].model_copy(update={"selection": selection}) for index, selection in chosen.items()]
    return [picked[index] for index in rng.permutation(len(picked))]


def _checked_table(rollouts: pd.DataFrame) -> pd.DataFrame:
    missing = [column for column in COLUMNS if column not in rollouts.columns]
    if missing:
        raise DataError(f"the rollouts table lacks the column(s) {', '.join(missing)}; pairing needs {', '.join(COLUMNS)}")
    table = rollouts[list(COLUMNS)]
    empty = [column for column in COLUMNS if column != "scene" and (table[column].isna() | (table[column] == "")).any()]
    if empty:
        raise DataError(f"the rollouts table has empty cells in {', '.join(empty)}; identical clips could not be told apart")
    repeated = table["rollout_id"][table["rollout_id"].duplicated()].unique()
    if len(repeated):
        raise DataError(f"the rollouts table repeats the rollout_id(s) {', '.join(map(str, repeated[:10]))}; make them unique")
    return table


def _make_pair(first: Any, second: Any, axes: Axes) -> Pair:
    """The pair of two rows of the table, of which the first becomes a."""
    ids = (str(first.context_id), str(first.rollout_id), str(second.rollout_id))
    return Pair(
        pair_id=pair_id_of(*ids),
        context_id=ids[0],
        rollout_a=ids[1],
        rollout_b=ids[2],
        axes=_axes_of(str(first.scene), axes),
    )


def _axes_of(scene: str, axes: Axes) -> tuple[str, ...]:
    if not isinstance(axes, Mapping):
        return tuple(axes)
    if scene not in axes:
        raise DataError(f"the rollouts hold the scene {scene!r}, for which no axes are given (given: {', '.join(axes)})")
    return tuple(axes[scene])


def _spread(pairs: list[Pair]) -> list[Pair]:
    """Pairs that share no rollout with an earlier one first."""
    disjoint: list[Pair] = []
    rest: list[Pair] = []
    seen: set[str] = set()
    for pair in pairs:
        fresh = seen.isdisjoint((pair.rollout_a, pair.rollout_b))
        (disjoint if fresh else rest).append(pair)
        seen |= {pair.rollout_a, pair.rollout_b} if fresh else set()
    return disjoint + rest
