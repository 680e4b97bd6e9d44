"""A labelling campaign: settings, tasks, leases and submissions, in the database of the votes.

Everything a web page does to labels goes through ``Campaign``. It holds no state of its own: any number of threads, processes
and machines may use one each on the same database.
"""

from __future__ import annotations

import random
import secrets
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import select

from align.preferences.campaign import leasing, marks, submitting, withdrawal
from align.preferences.campaign import settings as campaign_settings
from align.preferences.campaign.schema import FlagRequest, Guideline, Lease, Receipt, Settings, Submission, Task, parse
from align.preferences.campaign.tasks import insert_tasks, requeue, task_from_row
from align.preferences.storage.campaign_tables import TASKS, lock_queue, rows_of
from align.preferences.storage.database import writing
from align.preferences.storage.store import LabelStore
from align.preferences.votes.schema import Breakpoint, Flag, FlagKind


class Campaign:
    """A labelling campaign.

    Args:
        store: Where its votes go; the campaign uses the same database and doesn't close it.
        rng: Draws the order of tasks, the sides of clips and the checks; by default the operating system's.
    """

    def __init__(self, store: LabelStore, rng: random.Random | None = None) -> None:
        self._engine = store.engine
        self._rng = rng or secrets.SystemRandom()

    def settings(self) -> Settings:
        """The settings, or the defaults where none were saved."""
        with self._engine.connect() as connection:
            return campaign_settings.load_settings(connection)

    def save_settings(self, settings: Settings) -> None:
        """Save the settings; they hold from the next lease on."""
        campaign_settings.save_settings(self._engine, settings)

    def add_tasks(self, tasks: Sequence[Task], keep_order: bool = False) -> int:
        """Store tasks, all or none; a known task takes a new priority if it has one. Returns how many were new.

        Args:
            tasks: What to ask; it is asked in an order drawn at random.
            keep_order: The tasks come in an order that was drawn at random already, for example one that spreads contexts.

        Raises:
            Conflict: A task_id is taken by a task of another content.
        """
        with writing(self._engine, bulk=True) as connection:
            lock_queue(connection)
            added = insert_tasks(connection, tasks, self._rng, keep_order)
            requeue(connection, campaign_settings.load_settings(connection))
        return added

    def tasks(self) -> list[Task]:
        """All tasks with their gold answers, in the order in which they came in."""
        with self._engine.connect() as connection:
            return [task_from_row(row) for row in rows_of(connection, select(TASKS).order_by(TASKS.c.row_id))]

    def lease(self, annotator_id: str, count: int, now: datetime | None = None) -> list[Lease]:
        """Give an annotator up to ``count`` open leases in all: those still open first, renewed, then new ones.

        Args:
            annotator_id: Who will look at them.
            count: From 1 to 50.
            now: The time, for tests.
        """
        return leasing.lease_tasks(self._engine, self._rng, annotator_id, count, now)

    def give_back(self, lease_id: str, annotator_id: str) -> None:
        """Hand a lease back, so that others may get its task at once; does nothing where it isn't open.

        Raises:
            NotFound: There is no such lease.
            Forbidden: It is somebody else's.
        """
        leasing.give_back(self._engine, lease_id, annotator_id)

    def submit(self, submission: Submission, annotator_id: str, now: datetime | None = None) -> Receipt:
        """Store what an annotator answered; it is durable when this returns.

        The same submission once more does nothing. Another one for the same lease is a correction. A lease that has expired
        is no reason to refuse work that was done.

        Raises:
            NotFound: There is no such lease.
            Forbidden: It is somebody else's.
            Conflict: The submission_id was used for something else.
            DataError: The answers don't fit the task.
        """
        return submitting.submit(self._engine, submission, annotator_id, now)

    def flag(
        self,
        flag_id: str,
        lease_id: str,
        position: int,
        kind: FlagKind,
        raised: bool,
        annotator_id: str,
        comment: str = "",
    ) -> None:
        """Store a flag on the clip at a position, or (``raised=False``) that it is taken back; once more does nothing.

        Raises:
            NotFound: There is no such lease.
            Forbidden: It is somebody else's.
            Conflict: The flag_id was used for something else.
            DataError: A value is no good.
        """
        raw = {"flag_id": flag_id, "lease_id": lease_id, "position": position, "kind": kind, "raised": raised}
        marks.flag_clip(self._engine, parse(FlagRequest, raw | {"comment": comment}), annotator_id)

    def flags(self) -> list[Flag]:
        """Every flag raised and taken back, in the order in which they came in."""
        return marks.load_flags(self._engine)

    def breakpoints(self, effective: bool = True) -> list[Breakpoint]:
        """Break-points in the order in which they came in, by default without those that were corrected."""
        return marks.load_breakpoints(self._engine, effective)

    def progress(self, annotator_id: str) -> dict[str, int]:
        """``num_today`` (since midnight UTC) and ``num_total`` tasks an annotator has done, ``num_open_tasks`` left to do."""
        with self._engine.connect() as connection:
            return leasing.progress(connection, annotator_id)

    def guideline(self, version: str | None = None) -> Guideline | None:
        """A version of the guideline, by default the newest; None where there is none."""
        return campaign_settings.load_guideline(self._engine, version)

    def publish_guideline(self, body: str, by: str) -> str:
        """Publish a text (Markdown) as the next version; returns the version, ``1``, ``2``, …"""
        return campaign_settings.publish_guideline(self._engine, body, by)

    def secret(self) -> bytes:
        """32 random bytes, drawn once in the life of the database."""
        return campaign_settings.load_secret(self._engine)

    def withdraw(self, annotator_id: str) -> dict[str, Any]:
        """Delete everything of one person.

        Returns:
            Counts of what was deleted (``num_votes``, …) and the ``vote_ids``, for ``withdrawal.affected_models``.

        Raises:
            NotFound: Nobody has this id.
        """
        return withdrawal.withdraw(self._engine, annotator_id)
