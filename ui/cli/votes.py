"""``gptsim votes``: move votes between files and the label database, and report on them."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from align.errors import DataError
from align.io import write_json
from ui.cli._votes_report import report_votes
from ui.cli._votes_shared import DEFAULT_DB, Kind, existing_database

app = typer.Typer(name="votes", help="Move votes between files and the label database; report on them.", no_args_is_help=True)
app.command("report")(report_votes)

DbOption = Annotated[str, typer.Option("--db", help="SQLAlchemy URL of the label database.")]
JsonOption = Annotated[Path | None, typer.Option("--json", help="Write the figures to this JSON file.")]
AxisOption = Annotated[list[str] | None, typer.Option("--axis", help="Only this axis; may be repeated.")]


class Format(StrEnum):
    """Formats of others that need no mapping file; the keys of ``align.preferences.votes.mapping.BUILT_IN``."""

    videoalign = "videoalign"


class Choice(StrEnum):
    """How several votes about one pair become rows."""

    majority = "majority"
    all = "all"


@app.command("import")
def import_votes(
    source: Annotated[Path, typer.Argument(help="CSV, TSV, JSONL, JSON or parquet file.")],
    db: DbOption = DEFAULT_DB,
    kind: Annotated[
        Kind | None, typer.Option(help="What the file holds; a mapping says it itself.", show_default="votes")
    ] = None,
    mapping: Annotated[Path | None, typer.Option(help="YAML or JSON file that says what the columns of SOURCE mean.")] = None,
    format_: Annotated[Format | None, typer.Option("--format", help="A mapping that comes with the program.")] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="FIELD=TEXT", help="Set a field of the mapping, as in annotator_id=ann; may be repeated."
        ),
    ] = None,
    json_path: JsonOption = None,
) -> None:
    """Read a file into the label database: all of its rows, or none if one is bad. Doing it twice changes nothing.

    Without --mapping or --format, the columns are the project's own; only the first seven columns of votes need values. Rows
    without a value in the column "simulated" are taken as human.
    """
    from align.preferences.exchange import KINDS
    from align.preferences.storage.store import LabelStore

    if mapping is not None and format_ is not None:
        raise ValueError("give --mapping or --format, not both")
    chosen = mapping if format_ is None else format_.value
    if chosen is None and set_:
        raise ValueError("--set changes a mapping; give --mapping or --format as well")
    kind, rows, places, counts = _read_own(source, kind) if chosen is None else _read_foreign(source, kind, chosen, set_ or [])
    with LabelStore(db) as store:
        added = KINDS[kind].add(store, rows, places)
    figures = {"num_rows": len(rows), "num_added": added, "num_known": len(rows) - added}
    told = f"{added} {kind} added, {len(rows) - added} were there already"
    if "simulated" in KINDS[kind].model.model_fields:
        figures["num_simulated"] = sum(row.simulated for row in rows)
        told += f" ({figures['num_simulated']} of {len(rows)} simulated)"
    if json_path:
        write_json(json_path, figures | counts)
    typer.echo(told)
    if counts:
        typer.echo(f"read from {counts['num_table_rows']} rows; {counts['num_unanswered']} cells held no answer")


_Read = tuple[Kind, list[Any], list[str] | None, dict[str, int]]
"""What a file holds: kind, rows, where each of them stood (None: a row each), and further figures."""


def _read_own(source: Path, kind: Kind | None) -> _Read:
    from align.preferences.exchange import read_labels

    kind = kind or Kind.votes
    return kind, read_labels(source, kind), None, {}


def _read_foreign(source: Path, kind: Kind | None, mapping: str | Path, settings: list[str]) -> _Read:
    from align.preferences.votes.mapped import read_mapped
    from align.preferences.votes.mapping import read_mapping

    bad = [text for text in settings if not text.partition("=")[0].strip() or "=" not in text]
    if bad:
        raise ValueError(f"--set {bad[0]!r} must have the form FIELD=TEXT, for example annotator_id=ann")
    read = read_mapping(mapping, {name.strip(): value for name, _, value in (text.partition("=") for text in settings)})
    if kind is not None and kind.value != read.kind:
        raise ValueError(f"the mapping says that the file holds {read.kind}; leave out --kind {kind}")
    found = read_mapped(source, read)
    counts = {"num_table_rows": found.num_table_rows, "num_unanswered": found.num_unanswered}
    return Kind(read.kind), found.rows, found.places, counts


@app.command("export")
def export_votes(
    dest: Annotated[Path, typer.Argument(help="A .csv, .jsonl or .parquet file; with --rollouts or --choice, a new folder.")],
    db: DbOption = DEFAULT_DB,
    kind: Annotated[Kind, typer.Option(help="What to write to a file.")] = Kind.votes,
    axis: AxisOption = None,
    effective: Annotated[
        bool, typer.Option("--effective", help="Only votes or break-points that count: nothing superseded, no skips.")
    ] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an existing file.")] = False,
    choice: Annotated[Choice | None, typer.Option(help="Write chosen/rejected rows for TRL: majority or all votes.")] = None,
    rollouts: Annotated[
        Path | None, typer.Option(help="Rollout folder; its tokens (with --format its clips) go with the pairs.")
    ] = None,
    prompt_tokens: Annotated[int, typer.Option(min=0, help="Leading tokens that are context.")] = 0,
    format_: Annotated[
        Format | None, typer.Option("--format", help="Write the majority's answers as a wide table, a row a pair.")
    ] = None,
) -> None:
    """Write raw rows to a file, a preference set (chosen/rejected, ties apart) to a folder for TRL, or another program's table.

    A text in a CSV that a spreadsheet would run as a formula gets an apostrophe before it; importing takes it away again.
    """
    from align.preferences.exchange import KINDS
    from align.preferences.storage.store import LabelStore
    from align.preferences.votes.tables import write_rows

    preferences = (choice is not None or rollouts is not None) and format_ is None
    chosen = KINDS[kind]
    if format_ is not None and (kind != Kind.votes or choice is not None):
        raise ValueError("--format makes a table of the majority's votes; leave out --kind and --choice")
    _check_export(dest, kind, overwrite and not preferences, preferences)
    if effective and chosen.effective is None:
        raise ValueError(f"--effective chooses among votes or breakpoints; leave it out with --kind {kind}")
    if axis and "axis" not in chosen.model.model_fields:
        raise ValueError(f"{kind} have no axis; leave out --axis")
    with LabelStore(existing_database(db)) as store:
        rows = chosen.load(store)
    rows = chosen.effective(rows) if effective and chosen.effective else rows
    rows = [row for row in rows if not axis or row.axis in axis]
    if format_ is not None:
        _export_wide(rows, dest, rollouts)
        return
    if preferences:
        _export_preferences(rows, dest, choice or Choice.majority, rollouts, prompt_tokens)
        return
    write_rows(dest, rows, chosen.model)
    typer.echo(f"{len(rows)} {kind} written to {dest}")


def _check_export(dest: Path, kind: Kind, overwrite: bool, preferences: bool) -> None:
    if dest.exists() and not overwrite:
        raise DataError(f"{dest} exists already; choose another name{'' if preferences else ' or add --overwrite'}")
    if preferences and kind != Kind.votes:
        raise DataError(f"chosen/rejected rows come from votes; leave out --kind {kind}")


def _export_preferences(votes: list[Any], dest: Path, choice: Choice, rollouts: Path | None, prompt_tokens: int) -> None:
    from align.preferences.votes.export import add_tokens, preference_rows, save_preferences

    rows = preference_rows(votes, choice.value)
    if rollouts is not None:
        rows = add_tokens(rows, _read_metadata(rollouts), prompt_tokens)
    save_preferences(rows, dest)
    typer.echo(f"{len(rows.preferences)} preferences and {len(rows.ties)} ties written to {dest}")


def _export_wide(votes: list[Any], dest: Path, rollouts: Path | None) -> None:
    from align.preferences.votes.wide import ClipFacts, wide_rows, write_wide

    clips = None
    if rollouts is not None:
        from align.video.folder import load_clip_folder

        columns = load_clip_folder(rollouts).table[["rollout_id", "file_name", "task", "fps_hz", "num_frames"]]
        clips = {
            str(name): ClipFacts((rollouts / str(file)).as_posix(), str(task), float(fps_hz), int(num_frames))
            for name, file, task, fps_hz, num_frames in columns.itertuples(index=False)
        }
    rows = wide_rows(votes, clips)
    write_wide(dest, rows)
    typer.echo(f"{len(rows)} pairs written to {dest}")


def _read_metadata(folder: Path) -> Any:
    import pandas as pd

    path = folder / "metadata.parquet"
    if not path.is_file():
        raise DataError(f"{folder} is not a rollout folder: it has no metadata.parquet")
    try:
        return pd.read_parquet(path)
    except (OSError, ValueError) as error:
        raise DataError(f"{path} can't be read: {error}") from error
