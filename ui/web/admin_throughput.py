"""The admin's tab about how the work goes: tasks, answers an hour and a day, people, flags."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import gradio as gr
from markupsafe import Markup

from align.preferences.accounts import Account
from align.preferences.campaign.overview import DAY, HOUR, count_answers, count_queue, list_people, standing_flags
from align.preferences.votes.schema import Flag
from ui.web.desk import Desk
from ui.web.markup import badge, facts, figure, join, section, show_age, table
from ui.web.plots import draw_bars

HOURS, DAYS = 48, 30
MAX_FLAGS = 200


def build(desk: Desk, message: gr.HTML) -> Sequence[tuple[Any, Sequence[Any]]]:
    """Lay the tab out; returns what reads its numbers again, with where they go."""
    counts = gr.HTML(elem_id="counts", apply_default_css=False)
    plots = gr.HTML(elem_id="rates", apply_default_css=False)
    flags = gr.HTML(elem_id="flags", apply_default_css=False)
    return [(show_counts, [counts]), (show_plots, [plots]), (show_flags, [flags])]


def show_counts(desk: Desk, account: Account) -> list[Any]:
    """Where the tasks stand, and who does how much; cheap enough to be read again and again."""
    queue = count_queue(desk.store.engine)
    tasks = facts(
        {"Tasks": queue.total, "Done": queue.done, "Leased": queue.leased, "Open": queue.open, "Paused": queue.paused}
    )
    people = [person for person in list_people(desk.store.engine) if not person.simulated]
    people.sort(key=lambda person: (-person.num_today, -person.num_done, person.annotator_id))
    rows = [(p.annotator_id, p.num_today, p.num_done, p.num_answers, p.num_held, show_age(p.last_seen)) for p in people]
    header = ["Name", "Tasks today", "Tasks in all", "Answers", "Holds now", "Last seen"]
    about = f"Checks come on top: {queue.checks} gold tasks and catch trials. Days begin at midnight UTC."
    return [section("Work", tasks, table("Work of each person", header, rows), hint=about)]


def show_plots(desk: Desk, account: Account) -> list[Any]:
    """Answers an hour and a day."""
    now = datetime.now(UTC)
    hours = count_answers(desk.store.engine, HOUR, now - timedelta(hours=HOURS - 1))
    days = count_answers(desk.store.engine, DAY, now - timedelta(days=DAYS - 1))
    by_hour = [(f"{name[11:]} h", number) for name, number in hours.items()]
    by_day = [(name[5:], number) for name, number in days.items()]
    drawn = join([_bars(by_hour, f"Answers an hour, last {HOURS} hours"), _bars(by_day, f"Answers a day, last {DAYS} days")])
    hint = "Answers are votes and judgements, one an axis; corrections count. Times are UTC."
    return [section("Speed", Markup('<div class="plots">{}</div>').format(drawn), hint=hint)]


def _bars(bars: Sequence[tuple[str, int]], title: str) -> Markup:
    counts = [number for _, number in bars]
    label = f"{title}: {sum(counts)} in all, at most {max(counts)}, newest {counts[-1]}"
    return Markup("<div><h3>{}</h3>{}</div>").format(title, figure(draw_bars(bars, "answers"), label))


def show_flags(desk: Desk, account: Account) -> list[Any]:
    """Clips that somebody flagged, newest first."""
    flags = standing_flags(desk.store.engine)
    rows = [_flag_row(desk, flag) for flag in flags[:MAX_FLAGS]]
    hint = (
        "Flags that stand: raised, and not taken back by who raised them. Clips open under names that tell nothing about them."
    )
    if len(flags) > MAX_FLAGS:
        hint += f" The newest {MAX_FLAGS} of {len(flags)} are shown; the export has all."
    shown = table("Flagged clips", ["Clip", "Flag", "By", "When", "Comment"], rows, empty="No clip is flagged.")
    return [section("Flags", shown, hint=hint)]


def _flag_row(desk: Desk, flag: Flag) -> Sequence[Any]:
    url = desk.clip_url(flag.rollout_id)
    clip: Any = flag.rollout_id
    if url:
        clip = Markup('<a href="{}" target="_blank">{}</a>').format(url, flag.rollout_id)
    return (clip, badge(flag.kind, "bad"), flag.annotator_id, show_age(flag.created_at), flag.comment)
