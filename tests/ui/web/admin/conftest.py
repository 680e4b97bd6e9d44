"""A campaign behind the admin's page, with an admin, a labeler, and answers that are attacks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from align.preferences.accounts import Accounts
from align.preferences.campaign import AxisSetting, Campaign, Settings, Submission, Task
from align.preferences.storage.store import LabelStore
from ui.web.desk import Desk

EVIL = "<img src=x onerror=alert(1)>"


@pytest.fixture
def evil() -> str:
    """What must never reach a page as it is."""
    return EVIL


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    """A campaign of four pairs about two axes, with an admin and a labeler."""
    with LabelStore(f"sqlite:///{tmp_path / 'labels.db'}") as store:
        campaign, accounts = Campaign(store), Accounts(store)
        campaign.save_settings(
            Settings(axes=(AxisSetting(name="spill"), AxisSetting(name="care")), gold_share=0, catch_share=0)
        )
        campaign.add_tasks([Task(task_id=f"t{i}", context_id=f"c{i}", rollouts=(f"x{i}", f"y{i}")) for i in range(4)])
        for name, role in (("root", "admin"), ("ann", "labeler")):
            accounts.redeem(accounts.invite(role, "test"), name)  # type: ignore[arg-type]
        yield Desk(campaign, accounts, store, None, tmp_path / "runs")


@pytest.fixture
def root(desk: Desk) -> Any:
    """The admin's account."""
    return next(account for account in desk.accounts.accounts() if account.annotator_id == "root")


@pytest.fixture
def label(desk: Desk) -> Callable[..., None]:
    """``label(name)``: this person answers one task and flags a clip, with a comment that is an attack."""

    def answer(name: str, choice: str = "left") -> None:
        (lease,) = desk.campaign.lease(name, 1)
        answers = [{"axis": axis, "choice": choice, "response_time_s": 2.0} for axis in lease.axes]
        raw = {"submission_id": f"{name}-{lease.lease_id}", "lease_id": lease.lease_id, "answers": answers, "comment": "=1+1"}
        desk.campaign.submit(Submission.model_validate(raw), name)
        desk.campaign.flag(f"flag-{name}-{lease.lease_id}", lease.lease_id, 0, "harm", True, name, EVIL)

    return answer
