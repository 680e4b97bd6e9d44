"""The admin's tab about checks: gold pairs, whose answer is known, and catch trials, which show one clip twice."""

from __future__ import annotations

import json
import random
import secrets
from collections.abc import Mapping, Sequence
from typing import Any

import gradio as gr
from markupsafe import Markup

from align.errors import DataError
from align.preferences.accounts import Account
from align.preferences.campaign.gold import (
    Agreed,
    Check,
    correct_gold,
    find_agreed,
    list_checks,
    make_catch,
    make_gold,
    parse_answers,
    retire_gold,
)
from ui.web.desk import ROW_BUTTONS, Desk, bind
from ui.web.markup import EMPTY, button, join, notice, section, table

MAX_LISTED = 200


def build(desk: Desk, message: gr.HTML) -> Sequence[tuple[Any, Sequence[Any]]]:
    """Lay the tab out; returns what reads its numbers again, with where they go."""
    checks = gr.HTML(js_on_load=ROW_BUTTONS, elem_id="checks", apply_default_css=False)
    hint = "What many people agree on can check those who come later. Look at the clips first: most people may be wrong."
    gr.HTML(section("Pairs that people agree on", hint=hint), apply_default_css=False)
    with gr.Row():
        least = gr.Number(label="People, at least", value=3, precision=0, minimum=2, maximum=100)
        share = gr.Slider(0.55, 1, value=0.9, step=0.05, label="Share that gave the same answer, at least")
    find = gr.Button("Find pairs", size="md")
    found = gr.HTML(js_on_load=ROW_BUTTONS, elem_id="agreed", apply_default_css=False)
    hint = "For a pair that is gold already this changes what is expected; answers that came are judged anew."
    gr.HTML(section("Make one yourself", hint=hint), apply_default_css=False)
    with gr.Row():
        pair_id = gr.Textbox(label="Pair id", info="As in the exported votes.", max_length=400)
        expected = gr.Textbox(label="Expected answers", info="For example spill=a, success=tie.", max_length=1000)
    make = gr.Button("Make it gold", size="md")
    number = gr.Number(label="Catch trials to add", value=10, precision=0, minimum=1, maximum=1000)
    catch = gr.Button("Add catch trials", size="md")

    bind(desk, checks.pick, retire, [], [checks], message=message, picked=True)
    bind(desk, find.click, show_agreed, [least, share], [found], message=message, alone=True)
    bind(desk, found.pick, take_agreed, [], [checks], message=message, picked=True)
    bind(desk, make.click, make_typed, [pair_id, expected], [checks, pair_id, expected], message=message)
    bind(desk, catch.click, add_catch, [number], [checks], message=message)
    return [(show_checks, [checks])]


def show_checks(desk: Desk, account: Account) -> list[Any]:
    """Gold pairs with their answers and how people did, and how many catch trials there are."""
    gold, catch = (list_checks(desk.store.engine, selection) for selection in ("gold", "catch"))
    header = ["Clips", "Pair id", "Expected", "Answers", "Right", "Change"]
    parts = [table("Gold pairs", header, [_gold_row(desk, check) for check in gold[:MAX_LISTED]], empty="There is none yet.")]
    if len(gold) > MAX_LISTED:
        parts.append(Markup("<p>The first {} of {} are shown.</p>").format(MAX_LISTED, len(gold)))
    answered, right = sum(check.num_answers for check in catch), sum(check.num_right for check in catch)
    told = Markup("<p><b>Catch trials:</b> {}, answered {} times, {} as a tie.</p>").format(
        len(catch), answered, _share(right, answered)
    )
    return [join([*parts, told])]


def _gold_row(desk: Desk, check: Check) -> Sequence[Any]:
    right = _share(check.num_right, check.num_answers)
    act = button("Retire", check.pair_id, act="retire", task=check.task.task_id)
    return (_clips(desk, check.task.rollouts), check.pair_id, _text(check.expected), check.num_answers, right, act)


def retire(desk: Desk, account: Account, data: Mapping[str, str]) -> list[Any]:
    """Use the gold pair no more whose button was pressed."""
    retire_gold(desk.store.engine, data.get("task", ""))
    told = "The pair is retired: it checks nobody any more. Making it gold again brings it back, with its answers."
    return [notice(told), *show_checks(desk, account)]


def _share(part: int, whole: int) -> str:
    return f"{100 * part / whole:.0f} %" if whole else EMPTY


def _text(answers: Mapping[str, str]) -> str:
    return ", ".join(f"{axis}={answer}" for axis, answer in answers.items())


def _clips(desk: Desk, rollouts: Sequence[str]) -> Markup:
    """Links to the clips a and b of a pair."""
    links = []
    for name, rollout_id in zip("ab", rollouts, strict=False):
        url = desk.clip_url(rollout_id)
        link = '<a href="{}" target="_blank" title="{}">clip {}</a>' if url else '{}<span title="{}">clip {}</span>'
        links.append(Markup(link).format(url or "", rollout_id, name))
    return Markup(", ").join(links)


def show_agreed(desk: Desk, account: Account, least: float | None, share: float) -> list[Any]:
    """Pairs that could become gold."""
    taken = {frozenset(check.task.rollouts) for check in list_checks(desk.store.engine, "gold")}
    pairs = find_agreed(desk.store.votes(), int(least or 0), share)
    pairs = [pair for pair in pairs if frozenset((pair.rollout_a, pair.rollout_b)) not in taken]
    told = None if pairs else notice("No pair has so many people's agreement yet.", "bad")
    header = ["Clips", "Answers", "People", "Agree", "Change"]
    return [told, table("Pairs that people agree on", header, [_agreed_row(desk, pair) for pair in pairs], empty="None.")]


def _agreed_row(desk: Desk, pair: Agreed) -> Sequence[Any]:
    act = button("Make it gold", pair.pair_id, act="gold", pair=pair.pair_id, answers=json.dumps(pair.answers))
    clips = _clips(desk, (pair.rollout_a, pair.rollout_b))
    return (clips, _text(pair.answers), pair.num_annotators, f"{100 * pair.share:.0f} %", act)


def take_agreed(desk: Desk, account: Account, data: Mapping[str, str]) -> list[Any]:
    """Make the pair gold whose button was pressed."""
    try:
        answers = dict(json.loads(data.get("answers", "")))
    except (ValueError, TypeError):
        raise DataError("these answers can't be read; find the pairs again") from None
    return [_make(desk, data.get("pair", ""), answers), *show_checks(desk, account)]


def make_typed(desk: Desk, account: Account, pair_id: str, expected: str) -> list[Any]:
    """Make a pair gold by its id and answers as they were typed."""
    return [_make(desk, (pair_id or "").strip(), parse_answers(expected or "")), *show_checks(desk, account), "", ""]


def _make(desk: Desk, pair_id: str, answers: Mapping[str, str]) -> Markup:
    known = {axis.name for axis in desk.campaign.settings().axes}
    if unknown := sorted(set(answers) - known):
        raise DataError(f"the campaign doesn't ask about {', '.join(unknown)}; its axes are {', '.join(sorted(known))}")
    task = make_gold(desk.store.engine, pair_id, answers)
    if correct_gold(desk.store.engine, task):
        return notice(f"The pair was gold before; its expected answers are now {_text(answers)}.")
    added = desk.campaign.add_tasks([task])
    return notice(f"The pair is gold now: {_text(answers)}." if added else "The pair is gold already.")


def add_catch(desk: Desk, account: Account, number: float | None) -> list[Any]:
    """Add catch trials about clips that have none."""
    rng: random.Random = secrets.SystemRandom()
    added = desk.campaign.add_tasks(make_catch(desk.store.engine, int(number or 0), rng))
    return [notice(f"{added} catch trials added."), *show_checks(desk, account)]
