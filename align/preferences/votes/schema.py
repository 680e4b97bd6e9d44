"""What people say about rollouts: votes over pairs, judgements of single clips, flags and break-points.

Votes are kept raw, one row per pair, axis and annotator, and never edited: a correction is a new row that names the one it
supersedes. ``chosen/rejected`` rows are derived from them (``align.preferences.votes.export``).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Literal

from pydantic import model_validator

from align.preferences.votes.corrections import number_rows, table_problems
from align.preferences.votes.fields import FrameIndex, Id, Moment, Name, Row, Seconds, Severity, Text
from align.preferences.votes.fields import new_id as new_id
from align.preferences.votes.fields import utc_now as utc_now
from align.preferences.votes.tables import parse_rows, raise_problems, read_rows, write_rows

VoteChoice = Literal["a", "b", "tie", "both_bad", "skip"]
Side = Literal["a", "b"]
Selection = Literal["random", "active", "gold", "catch", "twin"]
Verdict = Literal["pass", "fail", "unsure"]
FlagKind = Literal["harm", "broken"]


class Pair(Row):
    """Two rollouts of one context that somebody is asked to compare.

    Attributes:
        selection: How the pair came about, None where unknown; only ``random`` pairs give unbiased statistics.
        axes: What to ask about it; empty means every axis of the campaign.
    """

    pair_id: Id
    context_id: Id
    rollout_a: Id
    rollout_b: Id
    selection: Selection | None = None
    axes: tuple[Id, ...] = ()


class Vote(Row):
    """One annotator's answer about one pair on one axis; the first seven fields need values.

    Attributes:
        vote: ``a`` means a is better on this axis (for spill: a spills less); ``both_bad`` is a tie and a fail for both.
        annotator_id: Who voted; empty where nobody wrote it down.
        shown_left: Which of the two stood on the left, None where unknown.
        selection: Why this pair was asked, None where unknown.
        simulated: True where a program voted, not a person.
        supersedes: The vote_id that this row corrects.
        created_at: UTC, ISO 8601 with microseconds and Z.
        ranking_id: Shared by the pairs that one k-way ranking was taken apart into.
    """

    vote_id: Id
    pair_id: Id
    context_id: Id
    rollout_a: Id
    rollout_b: Id
    axis: Id
    vote: VoteChoice
    annotator_id: Name = ""
    shown_left: Side | None = None
    selection: Selection | None = None
    simulated: bool = False
    supersedes: Id | None = None
    response_time_s: Seconds | None = None
    created_at: Moment | None = None
    guideline_version: Text = ""
    comment: Text = ""
    ranking_id: Id | None = None


class Judgement(Row):
    """One annotator's verdict about one clip on one axis, which gives "safe" an absolute zero."""

    judgement_id: Id
    rollout_id: Id
    axis: Id
    verdict: Verdict
    annotator_id: Name = ""
    simulated: bool = False
    supersedes: Id | None = None
    response_time_s: Seconds | None = None
    created_at: Moment | None = None
    guideline_version: Text = ""
    comment: Text = ""


class Flag(Row):
    """One annotator's mark on one clip, kept apart from every preference.

    Attributes:
        kind: ``harm`` shows something harmful, ``broken`` can't be watched.
        raised: False takes the annotator's earlier mark of this kind back.
    """

    flag_id: Id
    rollout_id: Id
    kind: FlagKind
    annotator_id: Name = ""
    raised: bool = True
    created_at: Moment | None = None
    comment: Text = ""


class Breakpoint(Row):
    """Where a rollout stops making sense, in one annotator's eyes; or, as ``none``, the explicit answer that it never does.

    Attributes:
        time_s: Middle of the marked frame, in seconds from the clip's start.
        frame_idx: The marked frame, counted from 0; only where the clip declares its frame rate.
        category: What goes wrong there, in the campaign's words.
        severity: 1 slight, 2 clear, 3 severe.
        none: True says "no breaks"; time, frame, category and severity are empty then. Silence is not an answer.
        supersedes: The breakpoint_id that this row corrects.
        taken_back: True says nothing but that the row it supersedes no longer holds.
    """

    breakpoint_id: Id
    rollout_id: Id
    annotator_id: Name = ""
    time_s: Seconds | None = None
    frame_idx: FrameIndex | None = None
    category: Text = ""
    severity: Severity | None = None
    none: bool = False
    supersedes: Id | None = None
    created_at: Moment | None = None
    guideline_version: Text = ""
    taken_back: bool = False

    @model_validator(mode="after")
    def _says_one_thing(self) -> Breakpoint:
        marks = (self.time_s, self.frame_idx, self.category or None, self.severity)
        if (self.none or self.taken_back) and marks != (None,) * len(marks):
            word = "none=true says that there is no break" if self.none else "taken_back=true marks nothing"
            raise ValueError(f"{word}; leave its time, frame, category and severity empty")
        if self.taken_back and (self.none or self.supersedes is None):
            raise ValueError("taken_back=true says only that the row named in supersedes no longer holds; leave none false")
        if not self.none and not self.taken_back and (self.time_s is None or self.severity is None):
            raise ValueError("a break needs time_s and severity (1 to 3); say none=true where the clip has no break")
        return self


def check_votes(votes: Sequence[Vote], name: str = "votes", places: Sequence[str] | None = None) -> None:
    """Check what no single row can show: unique ids, consistent pairs, corrections that fit.

    Args:
        votes: The votes of one table.
        name: How messages call the table.
        places: How messages call each vote; None counts them, "row 1" first.

    Raises:
        DataError: Lists every problem with its row.
    """
    at = number_rows(votes, places)
    problems = []
    pairs: dict[str, tuple[str, tuple[str, str, str]]] = {}
    for place, vote in zip(at, votes, strict=True):
        if vote.rollout_a == vote.rollout_b and vote.selection != "catch":
            problems.append(f"{place}: rollout_a and rollout_b are both {vote.rollout_a!r}; only a catch trial may do that")
        clips = (vote.context_id, vote.rollout_a, vote.rollout_b)
        pair_place, known = pairs.setdefault(vote.pair_id, (place, clips))
        if known != clips:
            problems.append(f"{place}: pair {vote.pair_id!r} is {clips} here and {known} in {pair_place}")
    raise_problems(name, problems + table_problems(votes, "vote_id", at))


def effective_votes(votes: Iterable[Vote]) -> list[Vote]:
    """The votes that count: without superseded ones and without skips, in their order.

    Where two rows correct the same vote (an annotator with two windows open), only the last correction counts, by
    ``created_at`` and then by position, so that nobody votes twice.
    """
    votes = list(votes)
    by_id = {vote.vote_id: vote for vote in votes}
    superseded = {vote.supersedes for vote in votes if vote.supersedes}
    last: dict[str, tuple[str, int]] = {}
    for position, vote in enumerate(votes):
        if vote.vote_id not in superseded:
            root, key = _root_id(vote, by_id), (vote.created_at or "", position)
            last[root] = max(last.get(root, key), key)
    counting = sorted(position for _, position in last.values())
    return [votes[position] for position in counting if votes[position].vote != "skip"]


def _root_id(vote: Vote, by_id: dict[str, Vote]) -> str:
    root, seen = vote.vote_id, {vote.vote_id}
    while (parent := by_id[root].supersedes if root in by_id else None) and parent not in seen:
        root = parent
        seen.add(root)
    return root


def effective_breakpoints(breakpoints: Iterable[Breakpoint]) -> list[Breakpoint]:
    """The break-points that count: without corrected ones and those taken back, in their order."""
    rows = list(breakpoints)
    superseded = {row.supersedes for row in rows if row.supersedes}
    return [row for row in rows if row.breakpoint_id not in superseded and not row.taken_back]


def read_votes(path: str | Path) -> list[Vote]:
    """Read votes from a CSV, JSONL or parquet file.

    Raises:
        DataError: The file can't be read, or rows are invalid; every bad row is listed.
    """
    votes = parse_rows(read_rows(path), Vote, str(path))
    check_votes(votes, str(path))
    return votes


def write_votes(path: str | Path, votes: Sequence[Vote]) -> None:
    """Write votes to a CSV, JSONL or parquet file, whole or not at all."""
    write_rows(path, votes, Vote)


def read_judgements(path: str | Path) -> list[Judgement]:
    """Read single-clip judgements from a CSV, JSONL or parquet file; every bad row is listed."""
    judgements = parse_rows(read_rows(path), Judgement, str(path))
    check_judgements(judgements, str(path))
    return judgements


def check_judgements(judgements: Sequence[Judgement], name: str = "judgements", places: Sequence[str] | None = None) -> None:
    """Check that ids are unique and corrections fit; arguments and errors as with ``check_votes``."""
    raise_problems(name, table_problems(judgements, "judgement_id", number_rows(judgements, places)))


def write_judgements(path: str | Path, judgements: Sequence[Judgement]) -> None:
    """Write single-clip judgements to a CSV, JSONL or parquet file, whole or not at all."""
    write_rows(path, judgements, Judgement)
