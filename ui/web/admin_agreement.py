"""The admin's tab about agreement, annotators, rankings and break-points."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import gradio as gr
from markupsafe import Markup

from align.preferences.accounts import Account
from align.preferences.statistics.alpha import NO_RATINGS
from ui.web.desk import Desk
from ui.web.markup import badge, figure, join, section, show_interval, show_number, table, unbroken
from ui.web.plots import Estimate, draw_forest, draw_lines
from ui.web.standing import Standing

Figures = Mapping[str, Any]
"""A part of the report."""
GUIDES = {0.67: "0.67", 0.8: "0.80"}
MAX_DRAWN = 40
_NOTHING = {"value": math.nan, "low": math.nan, "high": math.nan, "num_units": 0, "num_ratings": 0, "reason": NO_RATINGS}
_BADGES = {"flagged": "bad", "fine": "good"}
_AGREEMENT_HINT = (
    "Krippendorff's alpha of different people's answers about the same clips: 1 is full agreement, 0 what chance would give. "
    "From 0.80 an axis can be relied on, below 0.67 it can't. Gold and catch trials are left out."
)
_PEOPLE_HINT = (
    "Skill: 1 is the typical annotator here, 0 answers that have nothing to do with the clips. Flagged: in one campaign of "
    "twenty at most would anybody honest look like this, whatever the number of annotators. Watch: one in twenty of those "
    "named so is honest. It is a reason to look, not a verdict."
)
_RANKING_HINT = (
    "Log worths of Davidson's model, which knows ties, with 95 % intervals as if votes were independent. A difference of 1 "
    "means odds of 2.7 to 1."
)
_BREAK_HINT = (
    "Marks at most so far apart count as the same. Read the whole curve: no single tolerance is the right one. Whoever said "
    "neither where a clip breaks nor that it doesn't is left out."
)


def build(desk: Desk, message: gr.HTML) -> Sequence[tuple[Any, Sequence[Any]]]:
    """Lay the tab out; returns what reads its numbers again, with where they go."""
    shown = gr.HTML("Computing …", elem_id="agreement", apply_default_css=False)
    return [(show_agreement, [shown])]


def watch(desk: Desk, account: Account) -> list[Any]:
    """Let the clock of this tab run."""
    return [gr.Timer(active=True)]


def unwatch(desk: Desk, account: Account) -> list[Any]:
    """Stop it: another tab is open."""
    return [gr.Timer(active=False)]


def show_agreement(desk: Desk, account: Account) -> list[Any]:
    """Everything, newly computed where an answer came or went since the last time."""
    return [_render(desk, desk.statistics.get())]


def show_live(desk: Desk, account: Account) -> list[Any]:
    """The same for a clock, which may have to wait for new figures."""
    return [_render(desk, desk.statistics.get(patient=True))]


def _render(desk: Desk, standing: Standing) -> Markup:
    rows, report = standing.rows, standing.report
    told = Markup('<p class="hint">From {:,} votes, {:,} verdicts and {:,} break-point answers.</p>')
    names = [axis.name for axis in desk.campaign.settings().axes]
    axes: dict[str, Figures] = {name: report["axes"].get(name, {}) for name in [*names, *report["axes"]]}
    parts = [_agreement(axes), _annotators(report["annotators"]), _rankings(axes), _breaks(report.get("breaks"))]
    return join([told.format(rows.votes, rows.judgements, rows.breakpoints), *parts])


# --------------------------------------------------------------------------------------------------------------- agreement


def _agreement(axes: Mapping[str, Figures]) -> Markup:
    named = [entry for axis, figures in axes.items() for entry in _alphas(axis, figures)]
    header = ["Axis", "Alpha", "Shared clips or pairs", "Answers about them", "Note"]
    rows = [(name, _cell(alpha), alpha["num_units"], alpha["num_ratings"], alpha["reason"]) for name, alpha in named]
    shown = table("Agreement of each axis", header, rows, empty="The campaign asks about no axis.")
    if not named:
        return section("Agreement", shown)
    drawn = _forest("Agreement", [_estimate(name, alpha, alpha["value"] < 0.67) for name, alpha in named], "alpha", GUIDES)
    return section("Agreement", _beside(drawn, shown), hint=_AGREEMENT_HINT)


def _alphas(axis: str, figures: Figures) -> Iterator[tuple[str, Figures]]:
    """What the report has on the agreement about one axis, with names."""
    if "verdicts" not in figures or figures.get("num_votes"):
        yield axis, figures.get("alpha", _NOTHING)
    if "alpha_random" in figures:
        yield f"{axis} (random pairs)", figures["alpha_random"]
    if "verdicts" in figures:
        yield f"{axis} (single clips)", figures["verdicts"]["alpha"]


def _estimate(name: str, figures: Figures, bad: bool = False) -> Estimate:
    return Estimate(name, figures["value"], figures["low"], figures["high"], bad, figures.get("reason", ""))


def _text(figures: Figures) -> str:
    return show_interval(figures["value"], figures["low"], figures["high"])


def _cell(figures: Figures) -> Markup:
    return unbroken(_text(figures))


def _forest(title: str, rows: Sequence[Estimate], label: str, guides: dict[float, str], whole: bool = True) -> Markup:
    """A plot of at most ``MAX_DRAWN`` rows, and the same in words; ``whole`` shows 0 to 1 at least."""
    left_out = Markup("<p>The first {} of {} are drawn; the table has all.</p>").format(MAX_DRAWN, len(rows))
    about = left_out if len(rows) > MAX_DRAWN else ""
    rows = rows[:MAX_DRAWN]
    spoken = "; ".join(f"{row.name} {show_interval(row.value, row.low, row.high)}" for row in rows)
    return join([figure(draw_forest(rows, label, guides, (0.0, 1.0) if whole else None), f"{title}: {spoken}"), about])


def _beside(drawn: Markup, shown: Markup) -> Markup:
    return Markup('<div class="beside">{}{}</div>').format(drawn, shown)


# -------------------------------------------------------------------------------------------------------------- annotators


def _annotators(rows: Sequence[Figures]) -> Markup:
    if not rows:
        return section("Annotators", Markup("<p>Nobody has voted yet.</p>"), hint=_PEOPLE_HINT)
    header = ["Name", "State", "Why", "Votes", "Skill", "Left share", "Seconds a vote", "Failed checks"]
    shown = table("Annotators", header, [_annotator_row(row) for row in rows])
    skills = [
        Estimate(row["annotator_id"], seen["skill"], seen["skill_low"], seen["skill_high"], row["flagged"], "unknown")
        for row, seen in ((row, row["overlap"]) for row in rows)
    ]
    lefts = [
        Estimate(row["annotator_id"], sides["share"], sides["low"], sides["high"], row["flagged"], "unknown")
        for row, sides in ((row, row["sides"]) for row in rows)
    ]
    plots = [
        Markup("<div><h3>Skill</h3>{}</div>").format(_forest("Skill", skills, "skill", {0.0: "blind", 1.0: "typical"})),
        Markup("<div><h3>Left bias</h3>{}</div>").format(
            _forest("Left bias", lefts, "share of left answers among decided ones", {0.5: "no bias"})
        ),
    ]
    return section("Annotators", Markup('<div class="plots">{}</div>').format(join(plots)), shown, hint=_PEOPLE_HINT)


def _annotator_row(row: Figures) -> Sequence[Any]:
    name: Any = row["annotator_id"]
    if row["num_simulated"]:
        name = Markup("{} {}").format(name, badge("simulated"))
    seen, trials = row["overlap"], row["trials"]
    state = badge(row["status"], _BADGES.get(row["status"], ""))
    skill = unbroken(show_interval(seen["skill"], seen["skill_low"], seen["skill_high"]))
    num_trials, num_failed = (trials[f"num_catch{end}"] + trials[f"num_gold{end}"] for end in ("", "_failed"))
    checks = f"{num_failed} of {num_trials}" if num_trials else show_number(None)
    left, seconds = show_number(row["sides"]["share"]), show_number(row["response_time_s"], 1)
    return (name, state, row["reason"], row["num_votes"], skill, left, seconds, checks)


# ---------------------------------------------------------------------------------------------------------------- rankings


def _rankings(axes: Mapping[str, Figures]) -> Markup:
    parts = [_ranking(axis, figures["ranking"]) for axis, figures in axes.items() if figures.get("num_votes")]
    shown = Markup('<div class="plots">{}</div>').format(join(parts)) if parts else Markup("<p>Nobody has voted yet.</p>")
    return section("Ranking", shown, hint=_RANKING_HINT)


def _ranking(axis: str, ranking: Figures) -> Markup:
    items = [{**item, "value": item["worth"]} for item in ranking["items"]]
    header = ["What", "Log worth", "Won", "Lost", "Tied"]
    rows = [(item["name"], _cell(item), item["num_wins"], item["num_losses"], item["num_ties"]) for item in items]
    shown = table(f"Ranking: {axis}", header, rows, empty="There is nothing to rank.")
    if ranking["reason"]:
        return Markup("<div><h3>{}</h3><p>No ranking: {}.</p>{}</div>").format(axis, ranking["reason"], shown)
    estimates = [_estimate(item["name"], item) for item in items]
    drawn = _forest(f"Ranking on {axis}", estimates, "log worth", {0.0: "average"}, whole=False)
    notes = [f"Two equals tie in {100 * ranking['tie_share_of_equals']:.0f} % of votes", *ranking["notes"]]
    notes += [f"{ranking['num_left_out']} votes say nothing about it"] if ranking["num_left_out"] else []
    told = Markup('<p class="hint">{}.</p>').format("; ".join(notes))
    return Markup("<div><h3>{}</h3>{}{}{}</div>").format(axis, drawn, shown, told)


# ------------------------------------------------------------------------------------------------------------ break-points


def _breaks(breaks: Figures | None) -> Markup:
    if not breaks:
        return section("Break-points", Markup("<p>Nobody has said where a clip breaks, or that it doesn't.</p>"))
    whether, sweep = breaks["any_break"], breaks["agreement"]
    reason = f" ({whether['reason']})" if whether["reason"] else ""
    intro = Markup("<p>{} answers about {} clips, {} of them that it doesn't break. Whether it breaks at all: alpha {}{}.</p>")
    told = intro.format(breaks["num_rows"], breaks["num_rollouts"], breaks["num_none"], _text(whether), reason)
    shown = (
        _sweep(sweep)
        if sweep[0]["alpha"]["num_units"]
        else Markup("<p>No agreement: {}.</p>").format(sweep[0]["alpha"]["reason"])
    )
    return section("Break-points", told, shown, hint=_BREAK_HINT)


def _sweep(sweep: Sequence[Figures]) -> Markup:
    named = [(show_number(row["tolerance_s"]), row["alpha"], row["agreement"]) for row in sweep]
    rows = [(name, _cell(alpha), share, alpha["num_units"], alpha["reason"]) for name, alpha, share in named]
    shown = table("Agreement by tolerance", ["Seconds", "Alpha", "Mean overlap (F1)", "Shared clips", "Note"], rows)
    points = [(row["tolerance_s"], *(row["alpha"][key] for key in ("value", "low", "high"))) for row in sweep]
    spoken = "; ".join(f"within {name} s {_text(alpha)}" for name, alpha, _ in named)
    drawn = draw_lines({"alpha": points}, "tolerance, s", "alpha", log_x=True)
    return _beside(figure(drawn, f"Agreement by tolerance: {spoken}"), shown)
