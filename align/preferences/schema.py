"""What people say about rollouts: votes over pairs and judgements of single clips.

Votes are kept raw, one row per pair, axis and annotator, and never edited: a correction is a new row that names the one it
supersedes. ``chosen/rejected`` rows are derived from them (``align.preferences.export``).
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints

from align.preferences.tables import parse_rows, raise_problems, read_rows, write_rows

VoteChoice = Literal["a", "b", "tie", "both_bad", "skip"]
Side = Literal["a", "b"]
Selection = Literal["random", "active", "gold", "catch", "twin"]
Verdict = Literal["pass", "fail", "unsure"]


def utc_now() -> str:
    """The time now as the ``created_at`` of a row, for example ``2026-01-31T09:30:00.000000Z``."""
    return _utc_text(datetime.now(UTC))


def new_id() -> str:
    """A random id for a vote or judgement that a person casts."""
    return str(uuid.uuid4())


def _utc_text(moment: datetime) -> str:
    # A fixed width makes the texts sort by time. The column is defined as UTC, so a time without an offset is taken as UTC.
    aware = moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
    try:
        return aware.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
    except OverflowError:
        raise ValueError("the time is out of range") from None


def _parse_moment(value: Any) -> Any:
    if isinstance(value, datetime):
        return _utc_text(value)
    try:
        return _utc_text(datetime.fromisoformat(value))
    except (TypeError, ValueError):
        raise ValueError("write an ISO 8601 time in UTC such as 2026-01-31T09:30:00Z") from None


def _no_nul(text: str) -> str:
    if "\x00" in text:
        raise ValueError("the text holds a NUL character, which databases refuse")
    return text


Id = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, pattern=r"^[^\x00-\x1f]+$")]
Name = Annotated[str, StringConstraints(strip_whitespace=True), AfterValidator(_no_nul)]
Text = Annotated[str, AfterValidator(_no_nul)]
Moment = Annotated[str, BeforeValidator(_parse_moment)]
Seconds = Annotated[float, Field(ge=0)]


class _Row(BaseModel):
    # Numbers as ids are common in other people's tables: 17 becomes "17".
    model_config = ConfigDict(frozen=True, extra="forbid", coerce_numbers_to_str=True, allow_inf_nan=False)


class Pair(_Row):
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


class Vote(_Row):
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


class Judgement(_Row):
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


def check_votes(votes: Sequence[Vote], name: str = "votes") -> None:
    """Check what no single row can show: unique ids, consistent pairs, corrections that fit.

    Raises:
        DataError: Lists every problem with its row number, the first row being row 1.
    """
    problems: list[str] = []
    first_row: dict[str, int] = {}
    by_id = {vote.vote_id: vote for vote in votes}
    pairs: dict[str, tuple[int, tuple[str, str, str]]] = {}
    for number, vote in enumerate(votes, start=1):
        if first_row.setdefault(vote.vote_id, number) != number:
            problems.append(f"row {number}: vote_id {vote.vote_id!r} repeats that of row {first_row[vote.vote_id]}")
        if vote.rollout_a == vote.rollout_b and vote.selection != "catch":
            problems.append(
                f"row {number}: rollout_a and rollout_b are both {vote.rollout_a!r}; only a catch trial may do that"
            )
        clips = (vote.context_id, vote.rollout_a, vote.rollout_b)
        pair_row, known = pairs.setdefault(vote.pair_id, (number, clips))
        if known != clips:
            problems.append(f"row {number}: pair {vote.pair_id!r} is {clips} here and {known} in row {pair_row}")
        problems += [f"row {number}: {problem}" for problem in supersede_problems(vote, by_id.get(vote.supersedes or ""))]
    problems += [f"the corrections {' -> '.join(cycle)} go in a circle" for cycle in _supersede_cycles(by_id)]
    raise_problems(name, problems)


def supersede_problems(vote: Vote, target: Vote | None) -> list[str]:
    """What is wrong with ``vote`` as a correction of ``target``; a target of None is not judged here."""
    if target is None:
        return []
    fields = ("pair_id", "axis", "annotator_id")
    differing = [field for field in fields if getattr(vote, field) != getattr(target, field)]
    return [f"it supersedes {target.vote_id!r}, which has another {field}" for field in differing]


def _supersede_cycles(by_id: dict[str, Vote]) -> list[list[str]]:
    done: set[str] = set()
    cycles = []
    for start in by_id:
        chain: list[str] = []
        current: str | None = start
        while current in by_id and current not in done and current not in chain:
            chain.append(current)
            current = by_id[current].supersedes
        if current in chain:
            cycles.append([*chain[chain.index(current) :], current])
        done.update(chain)
    return cycles


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
    first_row: dict[str, int] = {}
    numbered = list(enumerate((row.judgement_id for row in judgements), start=1))
    repeats = [(number, key) for number, key in numbered if first_row.setdefault(key, number) != number]
    raise_problems(str(path), [f"row {n}: judgement_id {key!r} repeats that of row {first_row[key]}" for n, key in repeats])
    return judgements


def write_judgements(path: str | Path, judgements: Sequence[Judgement]) -> None:
    """Write single-clip judgements to a CSV, JSONL or parquet file, whole or not at all."""
    write_rows(path, judgements, Judgement)
