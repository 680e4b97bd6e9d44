"""What stands between a click on the admin's page and what it does: who is asking, and what to say when it fails."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import gradio as gr
from sqlalchemy.exc import OperationalError

from align.errors import GptsimError
from align.preferences.accounts import Account, Accounts
from align.preferences.campaign import Campaign
from align.preferences.storage.store import LabelStore
from ui.web.markup import notice
from ui.web.media import Media
from ui.web.standing import Statistics
from ui.web.state import COOKIE

Work = Callable[..., Any]
_log = logging.getLogger(__name__)

ROW_BUTTONS = """
const keyOf = (button) => JSON.stringify({...button.dataset});
let last = null, inside = false;
const back = () => {
  if (last === null || document.activeElement !== document.body) return;
  const same = [...element.querySelectorAll('button[data-act]')].find((button) => keyOf(button) === last);
  if (same) same.focus();
};
element.addEventListener('click', (event) => {
  const button = event.target.closest('button[data-act]');
  if (!button) return;
  last = keyOf(button);
  trigger('pick', {...button.dataset});
});
element.addEventListener('focusin', (event) => { inside = true; if (event.target.dataset.act) last = keyOf(event.target); });
element.addEventListener('focusout', (event) => { if (event.relatedTarget) inside = false; });
watch('value', () => { if (inside) back(); });
document.addEventListener('rows-back', back);
"""
"""Buttons in a table trigger ``pick`` with their data. One that is drawn anew keeps the keyboard's focus, and gets it back when
the document hears ``rows-back``."""


@dataclass
class Desk:
    """What the handlers of the admin's page work with.

    Attributes:
        media: The clips that are asked about, where they are at hand.
        runs_dir: Where trained models are looked for when somebody withdraws.
        statistics: Agreement, annotators and rankings.
    """

    campaign: Campaign
    accounts: Accounts
    store: LabelStore
    media: Media | None
    runs_dir: Path
    statistics: Statistics = field(init=False)

    def __post_init__(self) -> None:
        makers = self.media.makers() if self.media else {}
        self.statistics = Statistics(self.store, self.campaign, makers)

    def clip_url(self, rollout_id: str) -> str | None:
        """Where a signed-in browser finds a clip, under a name that tells nothing about it; None for an unknown clip."""
        return self.media.find_url(rollout_id) if self.media else None


def require_admin(accounts: Accounts, request: gr.Request | None) -> Account:
    """Who sent an event, by the session cookie that came with it.

    Raises:
        gr.Error: It isn't an admin.
    """
    token = request.cookies.get(COOKIE, "") if request is not None else ""
    account = accounts.session(token) if token else None
    if account is None or account.role != "admin":
        raise gr.Error("This page is for admins; sign in again.", print_exception=False)
    return account


def bind(
    desk: Desk,
    trigger: Callable[..., Any],
    work: Work,
    inputs: Sequence[Any] = (),
    outputs: Sequence[Any] = (),
    *,
    message: Any = None,
    picked: bool = False,
    quiet: bool = False,
    alone: bool = False,
    ticking: bool = False,
) -> Any:
    """Let an event do ``work(desk, account, *values)``, for admins only.

    Args:
        desk: What it works with.
        trigger: The event, for example ``button.click``.
        work: Returns one value an output; with a ``message``, first what to say. A ``GptsimError`` or ``ValueError`` from it
            is said instead, and the outputs stay.
        inputs: Components whose values it gets.
        outputs: Components that get its results.
        message: The component that says what came of it.
        picked: The event comes from one of ``ROW_BUTTONS``; the work gets the button's data first, a mapping.
        quiet: Show no sign of progress. Of events that come while one is under way, the last follows.
        alone: One at a time, for work that is heavy.
        ticking: The event is a clock's: it is quiet, and left out while the one before is under way.
    """
    told = [*([message] if message is not None else []), *outputs]

    def answer(request: gr.Request, values: Sequence[Any]) -> Any:
        account = require_admin(desk.accounts, request)
        try:
            result = work(desk, account, *values)
        except (GptsimError, ValueError, OperationalError) as error:
            if message is None:
                raise gr.Error("The numbers can't be read now; the server's log says why.") from error
            return [notice(_explain(error), "bad"), *(gr.skip() for _ in outputs)]
        return result[0] if len(told) == 1 else result

    def on_event(request: gr.Request, *values: Any) -> Any:
        return answer(request, values)

    def on_pick(request: gr.Request, event: gr.EventData, *values: Any) -> Any:
        data = event._data if isinstance(event._data, Mapping) else {}
        return answer(request, [{str(key): str(value) for key, value in data.items()}, *values])

    return trigger(
        on_pick if picked else on_event,
        list(inputs),
        told,
        api_visibility="private",
        show_progress="hidden" if quiet or ticking else "minimal",
        concurrency_limit=1 if alone else None,
        trigger_mode="always_last" if quiet else "once",
    )


def _explain(error: Exception) -> str:
    if isinstance(error, OperationalError):
        _log.warning("the label database didn't answer an admin", exc_info=error)
        return "The label database is busy or away; try again."
    text = str(error)
    return text[:1].upper() + text[1:]
