"""Plain counts of what was voted; agreement and rankings are reported elsewhere."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from typing import Any

from align.preferences.schema import Vote, effective_votes


def summarise_votes(votes: Sequence[Vote]) -> dict[str, Any]:
    """Counts per axis and per annotator, as a dict for JSON.

    Shares are over the votes that count (no superseded ones, no skips); a share of nothing is NaN, with its count beside it.
    ``left_share`` is over the decided votes whose shown side is known: 0.5 without a left bias.
    """
    counting = effective_votes(votes)
    axes = list(dict.fromkeys(vote.axis for vote in votes))
    names = list(dict.fromkeys(vote.annotator_id for vote in votes))
    return {
        "num_rows": len(votes),
        "num_counting": len(counting),
        "num_skips": sum(vote.vote == "skip" for vote in votes),
        "num_corrections": sum(vote.supersedes is not None for vote in votes),
        "num_simulated": sum(vote.simulated for vote in counting),
        "num_pairs": len({vote.pair_id for vote in votes}),
        "num_contexts": len({vote.context_id for vote in votes}),
        "axes": {axis: _describe([vote for vote in counting if vote.axis == axis]) for axis in axes},
        "annotators": {name: _describe([vote for vote in counting if vote.annotator_id == name]) for name in names},
    }


def _describe(votes: Sequence[Vote]) -> dict[str, Any]:
    counts = Counter(vote.vote for vote in votes)
    sided = [vote for vote in votes if vote.vote in ("a", "b") and vote.shown_left is not None]
    return {
        "num_votes": len(votes),
        "num_simulated": sum(vote.simulated for vote in votes),
        "num_human": sum(not vote.simulated for vote in votes),
        **{f"num_{choice}": counts[choice] for choice in ("a", "b", "tie", "both_bad")},
        "tie_share": _share(counts["tie"] + counts["both_bad"], len(votes)),
        "num_sided": len(sided),
        "left_share": _share(sum(vote.vote == vote.shown_left for vote in sided), len(sided)),
    }


def _share(part: int, whole: int) -> float:
    return part / whole if whole else math.nan
