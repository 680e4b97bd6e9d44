"""What every route of the labelling app works with."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from fastapi import Depends, Request

from align.preferences.accounts import Account, Accounts
from align.preferences.campaign import Campaign
from align.preferences.storage.store import LabelStore
from ui.web.media import Media

COOKIE = "gptsim_session"


@dataclass(frozen=True)
class State:
    """One running app.

    Attributes:
        store: The label database.
        campaign: Tasks, leases and settings in it.
        accounts: Who may sign in, in it.
        media: The clips of the rollout folder.
        db_url: SQLAlchemy URL of the label database.
        public_url: How browsers reach the app, without a slash at the end; empty where nobody said.
        runs_dir: Where trained models are looked for when somebody withdraws their data.
    """

    store: LabelStore
    campaign: Campaign
    accounts: Accounts
    media: Media
    db_url: str
    public_url: str = ""
    runs_dir: Path = Path("runs")

    @property
    def secure(self) -> bool:
        """Whether cookies may travel over TLS only."""
        return self.public_url.startswith("https://")


async def get_state(request: Request) -> State:
    """The app's state, for routes."""
    state: State = request.app.state.gptsim
    return state


async def get_account(request: Request) -> Account:
    """Who asks; the guard has let nobody else through."""
    account: Account = request.state.account
    return account


StateOf = Annotated[State, Depends(get_state)]
AccountOf = Annotated[Account, Depends(get_account)]
