"""``gptsim ledger``: what was made from what, and whether it still is as it was recorded."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from align.audit.ledger import Artefact, Ledger, Lineage, Record, Verification

app = typer.Typer(name="ledger", help="Check and show the record of what was made from what.", no_args_is_help=True)

LedgerArgument = Annotated[Path, typer.Argument(metavar="[LEDGER]", help="The ledger's file.")]
JsonOption = Annotated[Path | None, typer.Option("--json", help="Write the figures to this JSON file.")]
DEFAULT = Path("runs/ledger.jsonl")
_SHOWN = 20


@app.command("verify")
def verify(
    ledger: LedgerArgument = DEFAULT,
    head: Annotated[
        str | None, typer.Option("--head", help="Hash of the last record that you kept elsewhere; finds a cut-off end.")
    ] = None,
    allow_missing: Annotated[
        bool, typer.Option("--allow-missing", help="Files that are not here are counted instead of failing.")
    ] = False,
    json_path: JsonOption = None,
) -> None:
    """Follow the chain of records and hash every file that they name again.

    Exit code 0: all is as it was recorded. 1: something was edited, removed, moved or cut off; every finding is one sentence.
    3 or more: the check could not be made.
    """
    from align.audit.ledger import verify_ledger
    from align.io import write_json

    found = verify_ledger(ledger, head, allow_missing=allow_missing)
    if json_path:
        write_json(json_path, {**_plain(found), "intact": found.intact})
    _print_verification(found, head)
    if not found.intact:
        raise typer.Exit(1)


def _plain(found: Verification) -> dict[str, Any]:
    from dataclasses import asdict

    return asdict(found)


def _print_verification(found: Verification, head: str | None) -> None:
    for label, sentences in (("violated", found.violations), ("rewritten", found.rewritten), ("missing", found.missing)):
        for sentence in sentences[:_SHOWN]:
            typer.echo(f"{label}: {sentence}")
        if len(sentences) > _SHOWN:
            typer.echo(f"{label}: {len(sentences) - _SHOWN} more; --json FILE has all of them")
    typer.echo(f"{found.num_records} records, {found.num_files} files and folders as recorded; head {found.head}")
    if not found.intact:
        typer.echo(f"NOT INTACT: {len(found.violations)} finding(s)")
        return
    if head is None:
        typer.echo("intact, as far as can be told without --head: records cut off at the end would not be noticed")
    else:
        typer.echo(f"intact; {found.since_head} records were appended after the head that you gave")


@app.command("show")
def show(
    ledger: LedgerArgument = DEFAULT,
    of: Annotated[Path | None, typer.Option("--of", help="Only what this file or folder was made from.")] = None,
    html: Annotated[Path | None, typer.Option("--html", help="Write a page with all records to this file as well.")] = None,
    json_path: JsonOption = None,
) -> None:
    """Draw the lineage, from what was made last down to the sources."""
    from align.audit.ledger import Ledger, Lineage
    from align.audit.ledger.page import render_ledger
    from align.errors import DataError
    from align.io import atomic_write, write_json

    book = Ledger(ledger)
    if not book.path.is_file():
        raise DataError(f"there is no ledger {ledger}; give the path of a ledger.jsonl")
    chain = book.read()
    lineage = Lineage(chain.records)
    roots = lineage.ends() if of is None else _makers(lineage, book, of)
    for root in roots:
        typer.echo(lineage.text(root) + "\n")
    if html:
        atomic_write(html, render_ledger(lineage, chain, roots))
    if json_path:
        write_json(json_path, {"head": chain.head, "fault": chain.fault, "records": chain.records})
    typer.echo(f"{len(chain.records)} records, head {chain.head}")
    if chain.fault:
        typer.echo(f"NOT INTACT: {chain.fault}; nothing after it is shown")


def _makers(lineage: Lineage, book: Ledger, of: Path) -> list[Record]:
    from align.errors import DataError

    digest = book.artefact(of).sha256
    makers = lineage.makers(digest)
    if not makers:
        raise DataError(f"no record says that it wrote {of} with its present content ({digest[:12]}); see gptsim ledger verify")
    return makers[-1:]


@app.command("add")
def add(
    kind: Annotated[str, typer.Argument(help="What was done, as in votes, import or policy.")],
    inputs: Annotated[
        list[str] | None, typer.Option("--input", metavar="NAME=PATH", help="A file or folder that was read; repeatable.")
    ] = None,
    outputs: Annotated[
        list[str] | None, typer.Option("--output", metavar="NAME=PATH", help="A file or folder that was written; repeatable.")
    ] = None,
    note: Annotated[str, typer.Option("--note", help="A sentence that is kept with the record.")] = "",
    ledger: Annotated[Path, typer.Option("--ledger", help="The ledger's file.")] = DEFAULT,
) -> None:
    """Append a record of a step that no recipe made: votes from people, imported clips, a policy before an audit."""
    from align.audit.ledger import Ledger

    if not inputs and not outputs:
        raise ValueError("a record without --input and --output says nothing; name at least one file or folder")
    if not kind.strip():
        raise ValueError("KIND is empty; say what was done, for example votes")
    book = Ledger(ledger)
    record = book.append(
        kind,
        inputs=_artefacts(book, "--input", inputs),
        outputs=_artefacts(book, "--output", outputs),
        config={"note": note} if note else {},
    )
    typer.echo(f"{record.describe()} appended to {ledger}; head {record.hash}")


def _artefacts(book: Ledger, option: str, texts: list[str] | None) -> dict[str, Artefact]:
    pairs = [text.partition("=") for text in texts or []]
    for name, equals, path in pairs:
        if not (name and equals and path):
            raise ValueError(f"{option} {name}{equals}{path} must have the form NAME=PATH, for example votes=votes.csv")
    if len({name for name, _, _ in pairs}) < len(pairs):
        raise ValueError(f"{option} names something twice; give every file or folder a name of its own")
    return {name: book.artefact(path) for name, _, path in pairs}
