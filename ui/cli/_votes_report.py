"""``gptsim votes report``: what the votes say, and how far to trust them, as tables a person wants to read."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from align.errors import DataError
from align.io import write_json
from ui.cli._votes_shared import DEFAULT_DB, Kind, existing_database


def report_votes(
    source: Annotated[
        str, typer.Argument(metavar="[FILE|URL]", help="File (CSV, JSONL, parquet) or URL of a label database.")
    ] = DEFAULT_DB,
    kind: Annotated[
        Kind | None, typer.Option(help="What the file holds; a database has all of them.", show_default="votes")
    ] = None,
    rollouts: Annotated[
        Path | None, typer.Option(help="Rollout folder; ranks the models and adapters in it instead of single rollouts.")
    ] = None,
    axis: Annotated[list[str] | None, typer.Option("--axis", help="Only this axis; may be repeated.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the bootstrap intervals.")] = 0,
    json_path: Annotated[Path | None, typer.Option("--json", help="Write the figures to this JSON file.")] = None,
) -> None:
    """Report on votes: counts, agreement, rankings with ties, and which annotators can be relied on.

    A database holds votes, verdicts (judgements), gold answers, break-points and flags together. Intervals are 95 %.
    """
    from rich.console import Console

    from align.preferences.statistics.report import votes_report
    from ui.cli._votes_tables import print_report

    if kind is not None and "://" in source:
        raise ValueError("a database is reported on whole; leave out --kind, or export what you want and give the file")
    rows = _read_database(source) if "://" in source else _read_file(Path(source), kind or Kind.votes)
    makers = read_makers(rollouts) if rollouts is not None else None
    for asked in ("votes", "judgements"):
        rows[asked] = [row for row in rows.get(asked, ()) if not axis or row.axis in axis]
    report = votes_report(**rows, makers=makers, seed=seed)
    if json_path:
        write_json(json_path, report)
    print_report(report, Console())


def _read_file(path: Path, kind: Kind) -> dict[str, Any]:
    from align.preferences.exchange import read_labels

    if path.suffix in (".db", ".sqlite", ".sqlite3"):
        raise DataError(f"{path} looks like a database; give its URL, sqlite:///{path}")
    return {kind.value: read_labels(path, kind)}


def _read_database(url: str) -> dict[str, Any]:
    from align.preferences.campaign import Campaign
    from align.preferences.campaign.gold import known_answers
    from align.preferences.storage.store import LabelStore

    with LabelStore(existing_database(url)) as store:
        campaign = Campaign(store)
        gold = known_answers(store.engine)
        labels = {"votes": store.votes(), "judgements": store.judgements()}
        return {**labels, "breakpoints": campaign.breakpoints(), "flags": campaign.flags(), "gold": gold}


def read_makers(folder: Path) -> dict[str, str]:
    """Rollout id to the model, and the adapter on it, that made it.

    Raises:
        DataError: The folder has no metadata, or it names no model.
    """
    import pandas as pd

    path = folder / "metadata.parquet"
    if not path.is_file():
        raise DataError(f"{folder} is not a rollout folder: it has no metadata.parquet")
    try:
        table = pd.read_parquet(path)
    except (OSError, ValueError) as error:
        raise DataError(f"{path} can't be read: {error}") from error
    columns = [table[name].fillna("") if name in table else [""] * len(table) for name in ("model_id", "adapter_id")]
    rows = zip(table["rollout_id"].astype(str), *columns, strict=True)
    makers = {name: " + ".join(str(part) for part in parts if part) for name, *parts in rows if parts[0]}
    if not makers:
        raise DataError(f"{path} says of no rollout which model made it (model_id); leave out --rollouts to rank rollouts")
    return makers
