"""``gptsim quickstart``: the recipe of that name under a short command."""

from __future__ import annotations

from pathlib import Path

import typer

from ui.cli._options import Config, Json, Name, Overrides, Resume, Runs, Seed, Wishes, run_recipe

app = typer.Typer()


@app.command()
def quickstart(
    overrides: Overrides = None,
    config: Config = None,
    name: Name = None,
    resume: Resume = False,
    seed: Seed = None,
    json: Json = None,
    runs: Runs = Path("runs"),
) -> None:
    """Run the whole loop on the household, with a report at the end."""
    run_recipe("quickstart", Wishes(config, name, resume, seed, json, runs, overrides or []), command="quickstart")
