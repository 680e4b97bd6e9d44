"""A report on votes as tables a person wants to read: every figure with its n and its 95 % interval."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

MAX_ROWS = 30
HABITS = ["ties %", "left % [95 %] of n", "s (usual = 1)", "failed", "repeated"]
"""Ties; left clips among decided votes; seconds a vote; trials failed; repeated questions answered as the first time."""
LEFT_OUT = " (catch trials, one item against itself, rollouts of unknown origin)"
STATUS_STYLES = {"flagged": "bold red", "watch": "yellow", "fine": "green", "too few": "dim"}


def print_report(report: Mapping[str, Any], console: Any) -> None:
    """Print a report of ``align.preferences.statistics.report.votes_report``."""
    console.print(_headline(report), highlight=False)
    axes = report["axes"]
    _print_axes(console, axes)
    for name, row in axes.items():
        if row["num_votes"]:
            _print_ranking(console, f"{name}: {report['ranked']}", row["ranking"])
        if "verdicts" in row:
            _print_verdicts(console, name, row["verdicts"])
    _print_annotators(console, report["annotators"])
    if "breaks" in report:
        _print_breaks(console, report["breaks"])
    for kind, rollouts in report.get("flags", {}).items():
        named = ", ".join(f"{name} ({count})" for name, count in list(rollouts.items())[:MAX_ROWS])
        console.print(f"Flagged as {kind}: {len(rollouts)} rollout(s): {named}", highlight=False, markup=False)


def _headline(report: Mapping[str, Any]) -> str:
    text = (
        f"{report['num_rows']} rows, {report['num_counting']} count ({report['num_simulated']} simulated), "
        f"{report['num_skips']} skips, {report['num_corrections']} corrections; "
        f"{report['num_pairs']} pairs of {report['num_contexts']} contexts"
    )
    return text + (f"; {report['num_unsigned']} votes without an annotator's name" if report["num_unsigned"] else "")


def _table(title: str, first: str, *numbers: str) -> Any:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    table = Table(title=title, title_justify="left", title_style="bold", box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    table.add_column(first, overflow="fold", min_width=9)
    for number in numbers:
        table.add_column(number, justify="right", no_wrap=True)
    return table


def _add_row(table: Any, *cells: str, style: str = "") -> None:
    """Names come from files and people: a text such as "[red]" in one of them is no markup."""
    from rich.text import Text

    table.add_row(*(Text(cell) for cell in cells), style=style)


def _print_lines(console: Any, lines: Iterable[str]) -> None:
    for line in filter(None, lines):
        console.print(f"  {line}", highlight=False, markup=False)


def _print_axes(console: Any, axes: Mapping[str, Any]) -> None:
    counts = _table("Votes", "axis", "votes", "human", "a better", "b better", "tie", "both bad", "ties %")
    trust = _table("Agreement and sides", "axis", "alpha [95 %]", "answers", "pairs", "left % [95 %] of n")
    for name, row in axes.items():
        keys = ("num_votes", "num_human", "num_a", "num_b", "num_tie", "num_both_bad")
        _add_row(counts, name, *(str(row[key]) for key in keys), _percent(row["tie_share"]))
        alpha, share = row["alpha"], _interval(row["left_share"], row["left_low"], row["left_high"], 100, 0)
        left = f"{share} of {row['num_sided']}" if row["num_sided"] else "-"
        _add_row(trust, name, _alpha(alpha), str(alpha["num_ratings"]), str(alpha["num_units"]), left)
    console.print(counts)
    console.print(trust)
    for name, row in axes.items():
        others = {"random pairs only": "alpha_random", "both bad as an answer of its own": "alpha_both_bad_apart"}
        more = [f"{name}, {what}: alpha {_alpha(row[key])}" for what, key in others.items() if key in row]
        _print_lines(console, [f"{name}: {row['alpha']['reason']}" if row["alpha"]["reason"] else "", *more])


def _print_ranking(console: Any, title: str, ranking: Mapping[str, Any]) -> None:
    table = _table(f"Ranking, {title}", "name", "log worth [95 %]", "standard error", "won / lost / tied")
    for item in ranking["items"][:MAX_ROWS]:
        counts = f"{item['num_wins']} / {item['num_losses']} / {item['num_ties']}"
        worth = _interval(item["worth"], item["low"], item["high"])
        _add_row(table, item["name"], worth, _number(item["se"]), counts)
    shown = ranking["items"] if ranking["connected"] else []  # across parts that nobody compared, even wins say nothing
    if shown:
        console.print(table)
    else:
        console.print(f"\nRanking, {title}", style="bold", highlight=False, markup=False)
    hidden = len(shown) - MAX_ROWS
    tie = f"ties: log nu {_number(ranking['log_tie'])} (standard error {_number(ranking['se_log_tie'])}); two equals tie in "
    bias, error = (_number(ranking.get(key, math.nan)) for key in ("left_bias", "se_left_bias"))
    left = f"left bias {bias} (standard error {error})"
    lines = [
        f"no ranking: {ranking['reason']}" if ranking["reason"] else "",
        "" if ranking["reason"] else f"{tie}{_percent(ranking['tie_share_of_equals'])} % of the cases; {left}",
        f"{ranking['num_votes']} comparisons"
        + (f"; {ranking['num_left_out']} votes left out{LEFT_OUT}" if ranking["num_left_out"] else ""),
        f"{hidden} more items: write them all with --json" if hidden > 0 else "",
        *ranking["notes"],
    ]
    _print_lines(console, lines)
    for number, part in enumerate(ranking.get("parts", ()), start=1):
        _print_ranking(console, f"part {number} on its own", part)


def _print_verdicts(console: Any, axis: str, verdicts: Mapping[str, Any]) -> None:
    counts = ", ".join(f"{verdicts[f'num_{verdict}']} {verdict}" for verdict in ("pass", "fail", "unsure"))
    alpha, model = verdicts["alpha"], verdicts["dawid_skene"]
    shares = ", ".join(f"{name} {_percent(share)} %" for name, share in model.get("priors", {}).items())
    lines = [
        f"{verdicts['num_verdicts']} verdicts on {verdicts['num_rollouts']} clips: {counts}",
        f"alpha {_alpha(alpha)} from {alpha['num_ratings']} verdicts on {alpha['num_units']} clips that two or more judged",
        alpha["reason"],
        f"shares of the true classes by Dawid and Skene: {shares}" if shares else model["reason"],
        *model.get("notes", ()),
    ]
    console.print(f"\nSingle clips, {axis}", style="bold", highlight=False, markup=False)
    _print_lines(console, lines)


def _print_annotators(console: Any, rows: Sequence[Mapping[str, Any]]) -> None:
    if not rows:
        return
    against = ["status", "votes", "shared", "agrees %", "typical", "random", "skill [95 %]"]
    others, habits = _table("Annotators against each other", "annotator", *against), _table("Habits", "annotator", *HABITS)
    for row in rows[:MAX_ROWS]:
        seen, style = row["overlap"], STATUS_STYLES[row["status"]]
        votes = str(row["num_votes"]) + (" sim." if row["num_simulated"] else "")
        agrees = [_percent(seen[f"agreement{suffix}"], 0) for suffix in ("", "_typical", "_by_chance")]
        skill = _interval(seen["skill"], seen["skill_low"], seen["skill_high"], digits=1)
        _add_row(others, row["annotator_id"], row["status"], votes, str(seen["num_overlaps"]), *agrees, skill, style=style)
        _add_row(habits, row["annotator_id"], *_habits(row), style=style)
    console.print(others)
    lines = [f"{row['annotator_id']}: {row['reason']}" if row["reason"] else "" for row in rows[:MAX_ROWS]]
    hidden = len(rows) - MAX_ROWS
    _print_lines(console, [*lines, f"{hidden} more annotators: write them all with --json" if hidden > 0 else ""])
    console.print(habits)


def _habits(row: Mapping[str, Any]) -> list[str]:
    sides, trials = row["sides"], row["trials"]
    left = f"{_interval(sides['share'], sides['low'], sides['high'], 100, 0)} of {sides['num_sided']}"
    failed, num = (trials[f"num_catch{part}"] + trials[f"num_gold{part}"] for part in ("_failed", ""))
    time = f"{_number(row['response_time_s'], 1)} ({_number(row['speed_ratio'])})"
    return [
        _percent(row["tie_share"], 0),
        left if sides["num_sided"] else "-",
        time if row["num_timed"] else "-",
        f"{failed} of {num}" if num else "-",
        f"{row['num_repeats_same']} of {row['num_repeats']}" if row["num_repeats"] else "-",
    ]


def _print_breaks(console: Any, breaks: Mapping[str, Any]) -> None:
    table = _table("Break-points", "tolerance s", "agreement (F1)", "alpha [95 %]", "rollouts", "answers")
    for row in breaks["agreement"]:
        alpha = row["alpha"]
        _add_row(
            table,
            f"{row['tolerance_s']:g}",
            _number(row["agreement"]),
            _alpha(alpha),
            str(alpha["num_units"]),
            str(alpha["num_ratings"]),
        )
    console.print(table)
    reasons = dict.fromkeys(row["alpha"]["reason"] for row in breaks["agreement"])
    any_break = breaks["any_break"]
    whether = f"whether a rollout breaks at all: alpha {_alpha(any_break)}"
    counts = f"{breaks['num_rows']} marks on {breaks['num_rollouts']} rollouts, {breaks['num_none']} of them 'no breaks'"
    _print_lines(console, [counts, f"{whether} {any_break['reason']}".rstrip(), *reasons])


# ----------------------------------------------------------------------------------------------------------------- numbers


def _number(value: float, digits: int = 2) -> str:
    return "-" if math.isnan(value) else f"{value:.{digits}f}"


def _percent(share: float, digits: int = 1) -> str:
    return _number(100 * share, digits)


def _interval(value: float, low: float, high: float, scale: float = 1.0, digits: int = 2) -> str:
    if math.isnan(value):
        return "-"
    ends = "no interval" if math.isnan(low) else f"{_number(scale * low, digits)}, {_number(scale * high, digits)}"
    return f"{_number(scale * value, digits)} [{ends}]"


def _alpha(alpha: Mapping[str, Any]) -> str:
    return _interval(alpha["value"], alpha["low"], alpha["high"])
