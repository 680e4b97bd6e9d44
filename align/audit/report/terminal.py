"""The report as a table for the terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from align.audit.report.schema import check_report, compute_headline, gate_state
from align.audit.report.words import common_label, group_figures, table_row
from align.io import to_jsonable

if TYPE_CHECKING:
    from rich.console import Console


def print_table(report: Mapping[str, Any], console: Console | None = None) -> None:
    """Print figures, gates and the headline to the terminal."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    plain = to_jsonable(report)
    check_report(plain)
    out = console or Console()
    table = Table(title=Text(plain["title"]), title_justify="left")
    for name in ("Figure", "Scene", "Base", "Aligned", "Change"):
        table.add_column(name)
    for group in group_figures(plain.get("figures", [])):
        for i, figure in enumerate(group):
            row = table_row(figure)
            cells = [_terminal_cell(row, side) for side in ("base", "aligned", "difference")]
            name = "\n".join(text for text in (row["name"], row["counts"]) if text)
            label = f"{common_label(group)}\n{figure['better']} is better" if i == 0 else ""
            table.add_row(*(Text(text) for text in (label, name, *cells)), end_section=i == len(group) - 1)
    out.print(table)
    for gate in plain.get("gates", []):
        state = gate_state(plain, gate)
        style = {"pass": "green", "fail": "bold red"}.get(state, "yellow")
        out.print(Text.assemble((f"{state:>12}", style), "  ", gate["name"], ": ", gate["text"]))
    head, sentence = compute_headline(plain)
    out.print(Text(f"{head}. {sentence}", style="bold"))


def _terminal_cell(row: Mapping[str, Any], side: str) -> str:
    cell = row[side]
    if cell is None:
        return "not measured"
    extra = row["direction"] if side == "difference" else ("" if row["counts"] else cell["counts"])
    missing = "" if side == "difference" else cell["missing"]
    return "\n".join(text for text in (cell["value"], cell["interval"], extra, missing) if text)
