"""The admin's tab about who gets what: overlap, order, checks, and the axes that are asked about."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import gradio as gr

from align.errors import NotFound
from align.preferences.accounts import Account
from align.preferences.campaign.overview import count_axes
from align.preferences.campaign.schema import AxisSetting, Settings, parse
from align.preferences.pairing import MIN_RANDOM_SHARE
from ui.web.desk import ROW_BUTTONS, Desk, bind
from ui.web.markup import badge, button, notice, section, table

POLICIES = [
    ("Random order", "random"),
    ("Active: most informative first", "active"),
    ("Hybrid: some at random, the rest active", "hybrid"),
]
MODES = [("Pairs and rankings", "pairs"), ("Single clips, pass or fail", "single")]


def build(desk: Desk, message: gr.HTML) -> Sequence[tuple[Any, Sequence[Any]]]:
    """Lay the tab out; returns what reads its numbers again, with where they go."""
    axes = gr.HTML(js_on_load=ROW_BUTTONS, elem_id="axes", apply_default_css=False)
    gr.HTML(section("Who gets what", hint="Changes hold from the next task that is handed out."), apply_default_css=False)
    with gr.Row():
        overlap = gr.Number(label="Overlap", info="How many people answer each task.", precision=0, minimum=1, maximum=100)
        minutes = gr.Number(
            label="Lease, in minutes", info="After that an unanswered task goes to somebody else.", minimum=0.1, maximum=10080
        )
    policy = gr.Radio(
        POLICIES, label="Order", info="Active needs priorities from a reward model, and leaves no random pairs to evaluate on."
    )
    share = gr.Slider(
        MIN_RANDOM_SHARE,
        1,
        step=0.05,
        label="Share of random tasks under hybrid",
        info="At least 0.2, so that there are always pairs to evaluate on without bias.",
    )
    with gr.Row():
        gold = gr.Slider(0, 0.5, step=0.01, label="Share of gold tasks", info="Their answer is known.")
        catch = gr.Slider(0, 0.5, step=0.01, label="Share of catch trials", info="One clip twice; the honest answer is a tie.")
    mode = gr.Radio(MODES, label="What is asked")
    blur = gr.Checkbox(label="Blur every clip until the labeler asks to see it", container=False)
    save = gr.Button("Save", variant="primary", size="md")

    form = [overlap, minutes, policy, share, gold, catch, mode, blur]
    bind(desk, axes.pick, pause_axis, [], [axes], message=message, picked=True)
    bind(desk, save.click, save_form, form, form, message=message)
    return [(show_axes, [axes]), (show_form, form)]


def show_axes(desk: Desk, account: Account) -> list[Any]:
    """The axes with a button each that pauses it or lets it go on."""
    counts = count_axes(desk.store.engine)
    rows = [_axis_row(axis, counts.get(axis.name, 0)) for axis in desk.campaign.settings().axes]
    return [table("Axes", ["Axis", "Question", "Answers", "State", "Change"], rows, empty="The campaign asks about no axis.")]


def _axis_row(axis: AxisSetting, number: int) -> Sequence[Any]:
    state = badge("paused", "bad") if axis.paused else badge("asked", "good")
    act = ("Resume", "resume") if axis.paused else ("Pause", "pause")
    return (axis.name, axis.question, number, state, button(act[0], axis.name, act="change", axis=axis.name))


def pause_axis(desk: Desk, account: Account, data: Mapping[str, str]) -> list[Any]:
    """Ask nobody about an axis for now, or ask again."""
    settings, name = desk.campaign.settings(), data.get("axis", "")
    axis = next((axis for axis in settings.axes if axis.name == name), None)
    if axis is None:
        raise NotFound(f"there is no axis {name!r}")
    changed = axis.model_copy(update={"paused": not axis.paused})
    axes = tuple(changed if other.name == name else other for other in settings.axes)
    desk.campaign.save_settings(settings.model_copy(update={"axes": axes}))
    told = f"Nobody is asked about {name} until it is resumed." if changed.paused else f"People are asked about {name} again."
    return [notice(told), *show_axes(desk, account)]


def show_form(desk: Desk, account: Account) -> list[Any]:
    """The settings as they are."""
    now = desk.campaign.settings()
    shown = [now.overlap, round(now.lease_s / 60, 2), now.policy, max(now.random_share, MIN_RANDOM_SHARE)]
    return [*shown, now.gold_share, now.catch_share, now.mode, now.blur]


def save_form(
    desk: Desk,
    account: Account,
    overlap: float | None,
    minutes: float | None,
    policy: str,
    share: float,
    gold: float,
    catch: float,
    mode: str,
    blur: bool,
) -> list[Any]:
    """Save the settings, but for the axes, which have buttons of their own."""
    changed = {"overlap": overlap, "lease_s": None if minutes is None else minutes * 60, "policy": policy, "mode": mode}
    changed |= {"random_share": share, "gold_share": gold, "catch_share": catch, "blur": blur}
    desk.campaign.save_settings(parse(Settings, desk.campaign.settings().model_dump() | changed))
    return [notice("Saved; it holds from the next task that is handed out."), *show_form(desk, account)]
