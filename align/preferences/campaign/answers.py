"""What a labeler's answers mean: positions on the page become the a and b of pairs, a ranking becomes its pairs."""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, Self

from align.errors import DataError
from align.preferences.campaign.schema import SINGLE_ANSWERS, Answer, Submission

_ALLOWED = {
    1: (*SINGLE_ANSWERS, "skip"),
    2: ("left", "right", "tie", "both_bad", "skip"),
    3: ("an order", "skip"),
    4: ("an order", "skip"),
}


@dataclass(frozen=True)
class Shown:
    """What an annotator saw.

    Attributes:
        rollouts: Rollout ids from left to right.
        pairs: Pair id, position of its a, position of its b.
    """

    rollouts: tuple[str, ...]
    pairs: tuple[tuple[str, int, int], ...]

    @classmethod
    def from_lease(cls, row: Mapping[str, Any]) -> Self:
        """From the row of a lease with its task's."""
        rollouts, indices = json.loads(row["rollouts"]), json.loads(row["shown"])
        position = {index: place for place, index in enumerate(indices)}
        pairs = tuple((pair_id, position[a], position[b]) for pair_id, a, b in json.loads(row["pairs"]))
        return cls(rollouts=tuple(rollouts[index] for index in indices), pairs=pairs)


def derived_id(*parts: str) -> str:
    """An id that follows from what it is made of, in the form of a UUID."""
    return str(uuid.UUID(bytes=hashlib.sha256("\n".join(parts).encode()).digest()[:16], version=5))


def check_answers(submission: Submission, shown: Shown, axes: Collection[str]) -> None:
    """Check that the answers fit what was shown.

    Args:
        submission: What came from the page.
        shown: What the page had to show.
        axes: What may be answered.

    Raises:
        DataError: Lists everything that doesn't fit.
    """
    num_clips = len(shown.rollouts)
    names = [answer.axis for answer in submission.answers]
    problems = [f"the axis {name!r} is answered more than once" for name in sorted({n for n in names if names.count(n) > 1})]
    problems += [f"the axis {name!r} is not asked here (asked: {', '.join(axes)})" for name in names if name not in axes]
    problems += [
        f"the answer about {answer.axis!r} must be {' or '.join(_ALLOWED[num_clips])} where {num_clips} clip(s) are shown"
        for answer in submission.answers
        if not _fits(answer, num_clips)
    ]
    places = [item.position for item in submission.breaks]
    problems += [f"there is no clip at position {place}" for place in sorted(set(places)) if place >= num_clips]
    whole = sorted({item.position for item in submission.breaks if item.none and places.count(item.position) > 1})
    problems += [f"the clip at position {place} can't have a break-point and none" for place in whole]
    if problems:
        raise DataError(f"these answers can't be taken: {'; '.join(problems)}")


def _fits(answer: Answer, num_clips: int) -> bool:
    if answer.order is None:
        return answer.choice in _ALLOWED[num_clips]
    ranked = [position for group in answer.order for position in group]
    return num_clips > 2 and sorted(ranked) == list(range(num_clips)) and all(answer.order)


def votes_of(answer: Answer, submission_id: str, shown: Shown) -> list[dict[str, Any]]:
    """The votes, one a pair, that an answer about two or more clips is: those columns of ``Vote`` that follow from it."""
    ranking_id = derived_id(submission_id, answer.axis) if len(shown.rollouts) > 2 else None
    rows = []
    for pair_id, a, b in shown.pairs:
        shown_left = "a" if a < b else "b"
        row: dict[str, Any] = {"pair_id": pair_id, "axis": answer.axis, "vote": _vote(answer, a, b), "shown_left": shown_left}
        row |= {"ranking_id": ranking_id, "response_time_s": answer.response_time_s}
        rows.append(row | {"vote_id": derived_id(submission_id, pair_id, answer.axis)})
    return rows


def _vote(answer: Answer, a: int, b: int) -> str:
    """The answer in terms of a and b, which stand at these positions."""
    if answer.order is not None:
        rank = {position: place for place, group in enumerate(answer.order) for position in group}
        return "tie" if rank[a] == rank[b] else "a" if rank[a] < rank[b] else "b"
    if answer.choice in ("left", "right"):
        return "a" if (answer.choice == "left") == (a < b) else "b"
    return str(answer.choice)
