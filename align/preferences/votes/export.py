"""Preference sets that TRL reads, derived from votes.

Votes are counted per pair and axis, without superseded ones, skips and catch trials (whose two clips are the same).
``choice`` says how:

- ``majority``: one row a pair and axis, chosen where one rollout has more votes than the other *and* more than there are ties;
  everything else is a tie.
- ``all``: one row a vote; who disagrees stays visible to the loss.

Ties are never broken and never dropped: they are a table of their own.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from align.errors import DataError
from align.io import atomic_path
from align.preferences.votes.schema import Vote, effective_votes
from align.preferences.votes.tables import raise_problems

if TYPE_CHECKING:
    import pandas as pd

Choice = Literal["majority", "all"]
_PREFERENCE = ("prompt", "chosen", "rejected", "axis", "pair_id", "num_votes", "num_chosen", "num_rejected")
_TIE = ("prompt", "rollout_a", "rollout_b", "axis", "pair_id", "num_votes", "num_a", "num_b")
_IDS = {"prompt": "context_id", "chosen": "chosen_rollout", "rejected": "rejected_rollout"}
"""Other names for ids beside tokens: TRL's DPOTrainer would take a text called "chosen" for what to train on."""
_SHARED = ("num_ties", "num_both_bad", "simulated_share")
_COUNTS = ("num_votes", "num_chosen", "num_rejected", "num_a", "num_b", "num_ties", "num_both_bad")


@dataclass(frozen=True)
class PreferenceRows:
    """Rows of a preference set.

    Attributes:
        preferences: ``prompt`` (context_id), ``chosen`` and ``rejected`` (rollout ids), ``axis``, ``pair_id``, counts of
            votes, ``simulated_share``; with tokens ``context_id``, ``chosen_rollout`` and ``rejected_rollout`` in place of the
            first three, and ``prompt_ids``, ``chosen_ids``, ``rejected_ids``.
        ties: ``prompt``, ``rollout_a``, ``rollout_b``, ``axis``, ``pair_id``, counts of votes, ``simulated_share``; with
            tokens ``context_id`` in place of the first, and ``prompt_ids``, ``a_ids``, ``b_ids``.
    """

    preferences: list[dict[str, Any]] = field(default_factory=list)
    ties: list[dict[str, Any]] = field(default_factory=list)


def preference_rows(votes: Iterable[Vote], choice: Choice = "majority", axes: Sequence[str] | None = None) -> PreferenceRows:
    """Derive chosen/rejected rows and ties from votes.

    Args:
        votes: Raw votes.
        choice: ``majority`` or ``all``, see the module's text.
        axes: Keep only these axes; None keeps all.
    """
    if choice not in ("majority", "all"):
        raise ValueError(f"choice must be 'majority' or 'all', got {choice!r}")
    groups: dict[tuple[str, ...], list[Vote]] = {}
    for vote in effective_votes(votes):
        if vote.selection != "catch" and (axes is None or vote.axis in axes):
            key = (vote.pair_id, vote.axis) if choice == "majority" else (vote.pair_id, vote.axis, vote.vote_id)
            groups.setdefault(key, []).append(vote)
    rows = PreferenceRows()
    for group in groups.values():
        winner, row = _decide(group)
        (rows.ties if winner is None else rows.preferences).append(row)
    return rows


def _decide(group: Sequence[Vote]) -> tuple[str | None, dict[str, Any]]:
    counts: Counter[str] = Counter(vote.vote for vote in group)
    num_ties = counts["tie"] + counts["both_bad"]
    first = group[0]
    row: dict[str, Any] = {"prompt": first.context_id, "axis": first.axis, "pair_id": first.pair_id, "num_votes": len(group)}
    row |= {"num_ties": num_ties, "num_both_bad": counts["both_bad"]}
    row["simulated_share"] = sum(vote.simulated for vote in group) / len(group)
    rollouts = {"a": first.rollout_a, "b": first.rollout_b}
    for winner, loser in (("a", "b"), ("b", "a")):
        if counts[winner] > max(counts[loser], num_ties):
            sides = {"chosen": rollouts[winner], "rejected": rollouts[loser]}
            return winner, row | sides | {"num_chosen": counts[winner], "num_rejected": counts[loser]}
    return None, row | {"rollout_a": rollouts["a"], "rollout_b": rollouts["b"], "num_a": counts["a"], "num_b": counts["b"]}


def add_tokens(rows: PreferenceRows, rollouts: pd.DataFrame, num_prompt_tokens: int = 0) -> PreferenceRows:
    """Add the token ids of the rollouts, which TRL's trainers take as they are.

    Args:
        rows: From ``preference_rows``.
        rollouts: A rollouts table with ``rollout_id`` and ``tokens``.
        num_prompt_tokens: How many leading tokens are context. DPO needs them apart (``prompt_ids``); with 0 the prompt is
            empty and ``chosen_ids`` the whole sequence, as reward training wants it.

    Raises:
        DataError: A rollout is missing or has no tokens, or the two of a pair differ within the context.
    """
    if num_prompt_tokens < 0:
        raise ValueError(f"num_prompt_tokens must not be negative, got {num_prompt_tokens}")
    if "tokens" not in rollouts.columns:
        raise DataError("the rollouts table has no column 'tokens'; export without tokens or give token rollouts")
    filled = zip(rollouts["rollout_id"].astype(str), rollouts["tokens"], strict=True)
    tokens = {name: [int(token) for token in row] for name, row in filled if hasattr(row, "__len__") and len(row)}
    problems: list[str] = []
    out = PreferenceRows()
    for source, target, names in (
        (rows.preferences, out.preferences, {"chosen": "chosen_ids", "rejected": "rejected_ids"}),
        (rows.ties, out.ties, {"rollout_a": "a_ids", "rollout_b": "b_ids"}),
    ):
        for row in source:
            bare = [row[key] for key in names if len(tokens.get(row[key], ())) <= num_prompt_tokens]
            problems += [f"rollout {name!r} has no more than {num_prompt_tokens} tokens in the table" for name in bare]
            if bare:
                continue
            prompts = [tokens[row[key]][:num_prompt_tokens] for key in names]
            if prompts[0] != prompts[1]:
                problems.append(f"the rollouts of pair {row['pair_id']!r} differ within their first {num_prompt_tokens} tokens")
            parts = {column: tokens[row[key]][num_prompt_tokens:] for key, column in names.items()}
            named = {_IDS.get(key, key): value for key, value in row.items()}
            target.append(named | {"prompt_ids": prompts[0]} | parts)
    raise_problems("the preference set", list(dict.fromkeys(problems)))
    return out


def save_preferences(rows: PreferenceRows, out_dir: str | Path) -> None:
    """Save as a ``datasets.DatasetDict`` with the splits ``preferences`` and ``ties``; load it with ``load_from_disk``.

    Raises:
        DataError: ``out_dir`` exists already.
    """
    from datasets import DatasetDict

    out_dir = Path(out_dir)
    if out_dir.exists():
        raise DataError(f"{out_dir} exists already; choose another folder or remove it")
    splits = DatasetDict(
        {"preferences": _dataset(rows.preferences, _PREFERENCE + _SHARED), "ties": _dataset(rows.ties, _TIE + _SHARED)}
    )
    with atomic_path(out_dir) as temporary:
        # datasets writes no file at all for an empty split, and then can't load it: ask for one shard of each.
        splits.save_to_disk(str(temporary), num_shards=dict.fromkeys(splits, 1))


def _dataset(rows: Sequence[dict[str, Any]], columns: Sequence[str]) -> Any:
    from datasets import Dataset, Features, List, Value

    columns = list(rows[0] if rows else columns)
    kinds = {"simulated_share": Value("float64")} | {key: Value("int64") for key in _COUNTS}
    features = {key: List(Value("int32")) if key.endswith("_ids") else kinds.get(key, Value("string")) for key in columns}
    return Dataset.from_dict({key: [row[key] for row in rows] for key in columns}, features=Features(features))
