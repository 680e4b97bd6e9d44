"""How a campaign stands, in the statistics that take seconds: agreement, annotators, rankings. Computed once for all admins."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from align.preferences.campaign import Campaign
from align.preferences.campaign.gold import known_answers
from align.preferences.campaign.overview import Rows, count_rows
from align.preferences.statistics.habits import Gold
from align.preferences.statistics.report import votes_report
from align.preferences.storage.store import LabelStore


@dataclass(frozen=True)
class Standing:
    """A report, and what it was computed from.

    Attributes:
        report: From ``votes_report``, as in ``gptsim votes report --json``.
    """

    rows: Rows
    report: dict[str, Any]


class Statistics:
    """Computes by one thread at a time, and keeps what it found until an answer comes or goes.

    Args:
        store: Where votes and judgements are.
        campaign: Where break-points and flags are.
        makers: Rollout id to the name of what made it; empty ranks the clips themselves.
    """

    def __init__(self, store: LabelStore, campaign: Campaign, makers: Mapping[str, str]) -> None:
        self._store, self._campaign, self._makers = store, campaign, makers
        self._lock = threading.Lock()
        self._kept: tuple[Gold, Standing] | None = None
        self._took_s, self._ended_s = 0.0, 0.0

    def get(self, patient: bool = False) -> Standing:
        """The figures of what is stored now.

        Args:
            patient: Take older ones rather than spend more than a tenth of the time on computing, which labelers would feel.
        """
        with self._lock:
            if patient and self._kept is not None and time.monotonic() - self._ended_s < 9 * self._took_s:
                return self._kept[1]
            rows, gold = count_rows(self._store.engine), known_answers(self._store.engine)
            if self._kept is None or (self._kept[0], self._kept[1].rows) != (gold, rows):
                began_s = time.monotonic()
                self._kept = gold, Standing(rows, self._compute(gold))
                self._ended_s = time.monotonic()
                self._took_s = self._ended_s - began_s
            return self._kept[1]

    def _compute(self, gold: Gold) -> dict[str, Any]:
        votes, judgements = self._store.votes(), self._store.judgements()
        breakpoints, flags = self._campaign.breakpoints(), self._campaign.flags()
        return votes_report(votes, judgements, breakpoints, flags, makers=self._makers or None, gold=gold)
