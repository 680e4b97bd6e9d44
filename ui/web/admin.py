"""The admin's page: people, assignment, guideline, checks, agreement, throughput, export.

It holds no data when it is served; every number comes through an event, and every event checks who asks (``ui.web.desk``),
though nobody but an admin gets as far as this (``ui.web.guard``).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import gradio as gr
from markupsafe import Markup

from align.preferences.accounts import Account, Accounts
from align.preferences.campaign import Campaign
from align.preferences.campaign.overview import count_queue, count_rows, list_people, standing_flags
from align.preferences.storage.store import LabelStore
from ui.web import (
    admin_agreement,
    admin_assignment,
    admin_export,
    admin_gold,
    admin_guideline,
    admin_people,
    admin_throughput,
)
from ui.web.desk import Desk, bind
from ui.web.markup import facts
from ui.web.media import Media

Shown = Sequence[tuple[Any, Sequence[Any]]]
"""What reads numbers, and where they go."""
REFRESH_S = 15
STATISTICS_S = 60
"""How often agreement is computed anew while somebody looks at it, if there are new answers."""
TABS: dict[str, ModuleType] = {
    "People": admin_people,
    "Assignment": admin_assignment,
    "Guideline": admin_guideline,
    "Checks": admin_gold,
    "Agreement": admin_agreement,
    "Throughput": admin_throughput,
    "Export": admin_export,
}
ONCE = (admin_assignment.show_form, admin_guideline.show_newest)
"""Forms are filled when the page opens, and never over what somebody has typed since."""
STYLE = '<link rel="stylesheet" href="/static/admin.css"><script src="/static/admin.js"></script>'
HEAD = """
element.addEventListener('click', (event) => { if (event.target.closest('[data-refresh]')) trigger('refresh'); });
"""
CLOSE = "element.addEventListener('click', (event) => { if (event.target.closest('[data-close]')) props.value = ''; });"


def make_blocks(
    campaign: Campaign,
    accounts: Accounts,
    store: LabelStore,
    media: Media | None = None,
    runs_dir: Path = Path("runs"),
) -> gr.Blocks:
    """The page; mount it behind a check that lets only admins in, with ``static`` served under ``/static``.

    Args:
        campaign: What is administered.
        accounts: Who may sign in; events are checked against it.
        store: The label database of both.
        media: The clips, for links to them and for a ranking of the models that made them; None goes without.
        runs_dir: Where trained models are looked for when somebody's data is withdrawn.
    """
    desk = Desk(campaign, accounts, store, media, runs_dir)
    with gr.Blocks(title="Labelling: admin", analytics_enabled=False, fill_width=True) as blocks:
        head = gr.HTML(head=STYLE, js_on_load=HEAD, elem_id="head", apply_default_css=False)
        message = gr.HTML(elem_id="message", js_on_load=CLOSE, apply_default_css=False)
        tabs: dict[str, gr.Tab] = {}
        shown: dict[str, Shown] = {}
        with gr.Tabs(elem_id="tabs"):
            for name, module in TABS.items():
                with gr.Tab(name) as tabs[name]:
                    shown[name] = module.build(desk, message)
        _bind_tabs(desk, head, message, tabs, shown)
        _bind_clocks(desk, blocks, head, tabs, shown)
    return blocks


def _bind_tabs(desk: Desk, head: Any, message: Any, tabs: dict[str, gr.Tab], shown: dict[str, Shown]) -> None:
    """A tab reads its numbers when it is opened, and all of them do on request."""
    for name, tab in tabs.items():
        tab.select(None, None, message, js="() => ''", api_visibility="private")
        for work, outputs in shown[name]:
            if work not in ONCE:
                heavy = work is admin_agreement.show_agreement
                for trigger in (tab.select, head.refresh):
                    bind(desk, trigger, work, [], outputs, quiet=not heavy, alone=heavy)


def _bind_clocks(desk: Desk, blocks: gr.Blocks, head: Any, tabs: dict[str, gr.Tab], shown: dict[str, Shown]) -> None:
    """What is there from the start, and what is read again and again."""
    clock, slow_clock = gr.Timer(REFRESH_S), gr.Timer(STATISTICS_S, active=False)
    for trigger in (blocks.load, head.refresh):
        bind(desk, trigger, show_head, [], [head], quiet=True)
    bind(desk, clock.tick, show_head, [], [head], ticking=True)
    for parts in shown.values():
        for work, outputs in parts:
            if work in (*ONCE, admin_people.show_people):
                bind(desk, blocks.load, work, [], outputs, quiet=True)
            if work is admin_throughput.show_counts:
                bind(desk, clock.tick, work, [], outputs, ticking=True)
            if work is admin_agreement.show_agreement:
                bind(desk, slow_clock.tick, admin_agreement.show_live, [], outputs, ticking=True, alone=True)
    for name, tab in tabs.items():
        switch = admin_agreement.watch if name == "Agreement" else admin_agreement.unwatch
        bind(desk, tab.select, switch, [], [slow_clock], quiet=True)


def show_head(desk: Desk, account: Account) -> list[Any]:
    """Who is signed in, and the figures that change by the minute."""
    rows, queue = count_rows(desk.store.engine), count_queue(desk.store.engine)
    people = list_people(desk.store.engine)
    numbers = facts(
        {
            "Answers": rows.votes + rows.judgements,
            "Tasks done": f"{queue.done} of {queue.total}",
            "Done today": sum(person.num_today for person in people),
            "Working now": sum(person.num_held > 0 for person in people),
            "Flags": len(standing_flags(desk.store.engine)),
        }
    )
    return [
        Markup(
            '<header><h1>Labelling</h1><p>Signed in as {} · <a href="/label/">Label clips</a></p>'
            '<button type="button" class="row-button" data-refresh>Refresh</button>'
            '<form method="post" action="/sign-out"><button class="row-button">Sign out</button></form></header>{}'
        ).format(account.annotator_id, numbers)
    ]
