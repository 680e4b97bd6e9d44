"""``gptsim votes``: move votes between files and the label database, and count them."""

from __future__ import annotations

import math
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from align.errors import DataError
from align.io import write_json

app = typer.Typer(name="votes", help="Move votes between files and the label database, and count them.", no_args_is_help=True)

DbOption = Annotated[str, typer.Option("--db", help="SQLAlchemy URL of the label database.")]
JsonOption = Annotated[Path | None, typer.Option("--json", help="Write the figures to this JSON file.")]
AxisOption = Annotated[list[str] | None, typer.Option("--axis", help="Only this axis; may be repeated.")]
DEFAULT_DB = "sqlite:///labels.db"


class Kind(StrEnum):
    """What a file holds."""

    votes = "votes"
    judgements = "judgements"


class Choice(StrEnum):
    """How several votes about one pair become rows."""

    majority = "majority"
    all = "all"


@app.command("import")
def import_votes(
    source: Annotated[Path, typer.Argument(help="CSV, JSONL or parquet file.")],
    db: DbOption = DEFAULT_DB,
    kind: Annotated[Kind, typer.Option(help="What the file holds.")] = Kind.votes,
    json_path: JsonOption = None,
) -> None:
    """Read a file into the label database: all of its rows, or none if one is bad. Doing it twice changes nothing.

    Only the first seven columns of votes need values. Rows without a value in the column "simulated" are taken as human.
    """
    from align.preferences.schema import read_judgements, read_votes
    from align.preferences.store import LabelStore

    rows: list[Any] = list(read_votes(source) if kind == Kind.votes else read_judgements(source))
    with LabelStore(db) as store:
        added = store.add_votes(rows) if kind == Kind.votes else store.add_judgements(rows)
    num_simulated = sum(row.simulated for row in rows)
    figures = {"num_rows": len(rows), "num_added": added, "num_known": len(rows) - added, "num_simulated": num_simulated}
    if json_path:
        write_json(json_path, figures)
    typer.echo(f"{added} {kind} added, {len(rows) - added} were there already ({num_simulated} of {len(rows)} simulated)")


@app.command("export")
def export_votes(
    dest: Annotated[Path, typer.Argument(help="A .csv, .jsonl or .parquet file; with --rollouts or --choice, a new folder.")],
    db: DbOption = DEFAULT_DB,
    kind: Annotated[Kind, typer.Option(help="What to write to a file.")] = Kind.votes,
    axis: AxisOption = None,
    effective: Annotated[bool, typer.Option("--effective", help="Leave out superseded votes and skips.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an existing file.")] = False,
    choice: Annotated[Choice | None, typer.Option(help="Write chosen/rejected rows for TRL: majority or all votes.")] = None,
    rollouts: Annotated[Path | None, typer.Option(help="Rollout folder whose tokens go with the chosen/rejected rows.")] = None,
    prompt_tokens: Annotated[int, typer.Option(min=0, help="Leading tokens that are context.")] = 0,
) -> None:
    """Write raw votes or judgements to a file, or a preference set (chosen/rejected, ties apart) to a folder for TRL."""
    from align.preferences.schema import effective_votes, write_judgements, write_votes
    from align.preferences.store import LabelStore

    if dest.exists() and not overwrite:
        raise DataError(f"{dest} exists already; choose another name or add --overwrite")
    with LabelStore(_existing(db)) as store:
        rows: list[Any] = list(store.votes() if kind == Kind.votes else store.judgements())
    rows = [row for row in rows if not axis or row.axis in axis]
    if choice is not None or rollouts is not None:
        _export_preferences(rows, dest, kind, choice or Choice.majority, rollouts, prompt_tokens)
        return
    if kind == Kind.votes:
        rows = effective_votes(rows) if effective else rows
        write_votes(dest, rows)
    else:
        write_judgements(dest, rows)
    typer.echo(f"{len(rows)} {kind} written to {dest}")


def _export_preferences(
    votes: list[Any], dest: Path, kind: Kind, choice: Choice, rollouts: Path | None, prompt_tokens: int
) -> None:
    from align.preferences.export import add_tokens, preference_rows, save_preferences

    if kind != Kind.votes:
        raise DataError("chosen/rejected rows come from votes; leave out --kind judgements")
    rows = preference_rows(votes, choice.value)
    if rollouts is not None:
        rows = add_tokens(rows, _read_metadata(rollouts), prompt_tokens)
    save_preferences(rows, dest)
    typer.echo(f"{len(rows.preferences)} preferences and {len(rows.ties)} ties written to {dest}")


def _read_metadata(folder: Path) -> Any:
    import pandas as pd

    path = folder / "metadata.parquet"
    if not path.is_file():
        raise DataError(f"{folder} is not a rollout folder: it has no metadata.parquet")
    try:
        return pd.read_parquet(path)
    except (OSError, ValueError) as error:
        raise DataError(f"{path} can't be read: {error}") from error


@app.command("report")
def report_votes(db: DbOption = DEFAULT_DB, axis: AxisOption = None, json_path: JsonOption = None) -> None:
    """Count votes, ties, annotators and left-hand choices, per axis and per annotator."""
    from rich.console import Console

    from align.preferences.store import LabelStore
    from align.preferences.summary import summarise_votes

    with LabelStore(_existing(db)) as store:
        votes = [vote for vote in store.votes() if not axis or vote.axis in axis]
    summary = summarise_votes(votes)
    if json_path:
        write_json(json_path, summary)
    console = Console()
    console.print(
        f"{summary['num_rows']} rows, {summary['num_counting']} count ({summary['num_simulated']} simulated), "
        f"{summary['num_skips']} skips, {summary['num_corrections']} corrections; "
        f"{summary['num_pairs']} pairs of {summary['num_contexts']} contexts",
        highlight=False,
    )
    for title in ("axes", "annotators"):
        console.print(_table(title, summary[title]))


def _table(title: str, described: dict[str, dict[str, Any]]) -> Any:
    from rich.table import Table

    table = Table("axis" if title == "axes" else "annotator", "votes", "by", "a", "b", "tie", "both bad", "ties %", "left %")
    for name, row in described.items():
        kinds = [f"{row[f'num_{kind}']} {kind}" for kind in ("human", "simulated") if row[f"num_{kind}"]]
        counts = [str(row[f"num_{key}"]) for key in ("a", "b", "tie", "both_bad")]
        left = f"{_percent(row['left_share'])} of {row['num_sided']}"
        cells = [name or "(unknown)", str(row["num_votes"]), ", ".join(kinds), *counts, _percent(row["tie_share"]), left]
        table.add_row(*cells)
    return table


def _percent(share: float) -> str:
    return "-" if math.isnan(share) else f"{100 * share:.1f}"


def _existing(db: str) -> str:
    """Refuse to read from a SQLite file that isn't there: opening it would create an empty one."""
    path = Path(db.removeprefix("sqlite:///"))
    if db.startswith("sqlite:///") and not path.is_file():
        raise DataError(f"there is no label database {path}; give the right one with --db or import votes first")
    return db
