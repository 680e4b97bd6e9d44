"""From what a labeler sends to rows that are kept: one transaction, once, whatever happens to the connection.

Ids of votes are derived from the id of the submission, so the same submission can't be stored as two sets of votes. A second
submission about the same lease is a correction: its rows supersede those of the one before.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Engine, Table, bindparam, false, select, update
from sqlalchemy.exc import IntegrityError

from align.errors import Conflict
from align.preferences.campaign.answers import Shown, check_answers, derived_id, votes_of
from align.preferences.campaign.leasing import AT_ONCE, count_done, own_lease
from align.preferences.campaign.schema import Receipt, Submission, parse
from align.preferences.campaign.settings import load_settings
from align.preferences.storage.campaign_tables import BREAKPOINTS, LEASES, SUBMISSIONS, moment_text
from align.preferences.storage.database import writing
from align.preferences.storage.store import JUDGEMENTS, VOTES
from align.preferences.votes.schema import Breakpoint

_Earlier = dict[tuple[str, str], str]
"""(pair or rollout, axis) to the id of the row that says so far what this lease's annotator thinks."""

_KNOWN = select(SUBMISSIONS.c.annotator_id, SUBMISSIONS.c.digest).where(SUBMISSIONS.c.submission_id == bindparam("name"))
_FINISH = (
    update(LEASES)
    .where(LEASES.c.lease_id == bindparam("name"))
    .values({name: bindparam(name) for name in ("state", "skipped", "settle_at", "done_at")})
)


def submit(engine: Engine, submission: Submission, annotator_id: str, now: datetime | None = None) -> Receipt:
    """Store what an annotator answered; it is durable when this returns.

    Raises:
        NotFound: There is no such lease.
        Forbidden: It is somebody else's.
        Conflict: The submission_id was used for something else.
        DataError: The answers don't fit the task.
    """
    created_at = moment_text(now)
    with writing(engine) as connection:
        lease = own_lease(connection, submission.lease_id, annotator_id)
        if not _is_known(connection, submission, annotator_id):
            _store(connection, submission, lease, created_at)
        done = count_done(connection, annotator_id)
    return Receipt(submission.submission_id, **done)


def _is_known(connection: Connection, submission: Submission, annotator_id: str) -> bool:
    row = connection.execute(_KNOWN, {"name": submission.submission_id}).one_or_none()
    if row is not None and tuple(row) != (annotator_id, submission.digest()):
        raise _used_id(submission)
    return row is not None


def _used_id(submission: Submission) -> Conflict:
    return Conflict(f"the submission_id {submission.submission_id!r} was used for other answers; give these a new one")


def _store(connection: Connection, submission: Submission, lease: Mapping[str, Any], created_at: str) -> None:
    shown = Shown.from_lease(lease)
    axes = json.loads(lease["axes"]) or [axis.name for axis in load_settings(connection).axes]
    check_answers(submission, shown, axes)
    earlier_ids = _submissions_of(connection, lease)
    who = {"annotator_id": lease["annotator_id"], "created_at": created_at}
    key = {"submission_id": submission.submission_id, "lease_id": submission.lease_id}
    try:
        connection.execute(SUBMISSIONS.insert(), {**key, **who, "digest": submission.digest()})
    except IntegrityError:  # under PostgreSQL the id may have been used in this moment, for another lease
        raise _used_id(submission) from None
    shared = {**who, "simulated": lease["simulated"], "comment": submission.comment}
    shared["guideline_version"] = submission.guideline_version
    earlier = _store_answers(connection, submission, shown, shared | {"selection": lease["drawn"]}, earlier_ids)
    _store_breaks(connection, submission, shown, shared, earlier_ids)
    answered_before = {axis for _, axis in earlier} if not lease["skipped"] else set()
    skipped = submission.is_skip and answered_before <= {answer.axis for answer in submission.answers}
    # A place is taken or freed by anything but a plain answer to an open lease; who next gives out work counts it anew.
    plain = lease["state"] == "open" and not skipped
    values = {"state": "done", "skipped": skipped, "settle_at": None if plain else AT_ONCE}
    values["done_at"] = lease["done_at"] or created_at
    connection.execute(_FINISH, {"name": submission.lease_id, **values})


def _submissions_of(connection: Connection, lease: Mapping[str, Any]) -> list[str]:
    """Earlier submissions about a lease, oldest first."""
    if lease["state"] != "done":
        return []
    query = select(SUBMISSIONS.c.submission_id).where(SUBMISSIONS.c.lease_id == lease["lease_id"])
    return list(connection.execute(query.order_by(SUBMISSIONS.c.row_id)).scalars())


def _store_answers(
    connection: Connection, submission: Submission, shown: Shown, shared: dict[str, Any], earlier_ids: Sequence[str]
) -> _Earlier:
    """Store votes, or judgements of a single clip; returns what they had to say before."""
    if len(shown.rollouts) > 1:
        earlier = _earlier(connection, VOTES, "vote_id", "pair_id", [pair_id for pair_id, _, _ in shown.pairs], earlier_ids)
        rows = [row for answer in submission.answers for row in votes_of(answer, submission.submission_id, shown)]
        rows = [row | shared | {"supersedes": earlier.get((row["pair_id"], row["axis"]))} for row in rows]
        connection.execute(VOTES.insert(), rows)
        return earlier
    (rollout,) = shown.rollouts
    earlier = _earlier(connection, JUDGEMENTS, "judgement_id", "rollout_id", [rollout], earlier_ids)
    rows = []
    for answer in submission.answers:
        before = earlier.get((rollout, answer.axis))
        if answer.choice == "skip" and before is None:
            continue  # no opinion is no row; but an opinion that is taken back must be superseded
        verdict = "unsure" if answer.choice == "skip" else answer.choice
        row: dict[str, Any] = {"judgement_id": derived_id(submission.submission_id, rollout, answer.axis)}
        row |= {"rollout_id": rollout, "axis": answer.axis, "verdict": verdict, "supersedes": before}
        row["response_time_s"] = answer.response_time_s
        rows.append(row | {key: value for key, value in shared.items() if key != "selection"})
    if rows:
        connection.execute(JUDGEMENTS.insert(), rows)
    return earlier


def _earlier(
    connection: Connection, table: Table, key: str, subject: str, subjects: Sequence[str], earlier_ids: Sequence[str]
) -> _Earlier:
    """The newest rows that these submissions made about these pairs or rollouts."""
    if not earlier_ids:
        return {}
    query = select(table.c[key], table.c[subject], table.c.axis).where(table.c[subject].in_(subjects)).order_by(table.c.row_id)
    found: _Earlier = {}
    for row_id, about, axis in connection.execute(query):
        # Other annotators, and other tasks of this one, may have said something about the same clips.
        if any(row_id == derived_id(submission_id, about, axis) for submission_id in earlier_ids):
            found[about, axis] = row_id
    return found


def _store_breaks(
    connection: Connection, submission: Submission, shown: Shown, shared: Mapping[str, Any], earlier_ids: Sequence[str]
) -> None:
    """Store the break-points of a submission, which replace all of the submission before; what none replaces is taken back."""
    before = _breaks_of(connection, earlier_ids)
    own = {key: shared[key] for key in ("annotator_id", "created_at", "guideline_version")}
    rows: list[dict[str, Any]] = []
    for item in submission.breaks:
        rollout = shown.rollouts[item.position]
        replaced = before[rollout].pop(0) if before.get(rollout) else None
        rows.append(item.model_dump(exclude={"position"}) | {"rollout_id": rollout, "supersedes": replaced})
    for rollout, names in before.items():
        rows += [{"rollout_id": rollout, "supersedes": name, "taken_back": True} for name in names]
    for number, row in enumerate(rows):
        row |= own | {"breakpoint_id": derived_id(submission.submission_id, "break", str(number))}
    if rows:
        made = [parse(Breakpoint, row).model_dump() for row in rows]
        connection.execute(BREAKPOINTS.insert(), [row | {"submission_id": submission.submission_id} for row in made])


def _breaks_of(connection: Connection, earlier_ids: Sequence[str]) -> dict[str, list[str]]:
    """Rollout to the break-points that the last of these submissions marked in it."""
    if not earlier_ids:
        return {}
    query = select(BREAKPOINTS.c.rollout_id, BREAKPOINTS.c.breakpoint_id).order_by(BREAKPOINTS.c.row_id)
    last = (BREAKPOINTS.c.submission_id == earlier_ids[-1], BREAKPOINTS.c.taken_back == false())
    found: dict[str, list[str]] = {}
    for rollout, name in connection.execute(query.where(*last)):
        found.setdefault(rollout, []).append(name)
    return found
