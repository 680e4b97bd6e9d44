"""``gptsim run``: any recipe, in one process or several."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ui.cli._options import Config, Json, Name, Overrides, Resume, Runs, Seed, Wishes, run_recipe

app = typer.Typer()


@app.command()
def run(
    recipe: Annotated[str, typer.Argument(help="Name from 'gptsim recipes list', or the path of your own copy (a .py file).")],
    overrides: Overrides = None,
    config: Config = None,
    name: Name = None,
    resume: Resume = False,
    num_processes: Annotated[
        int | None, typer.Option("--num-processes", min=1, help="How many processes train together.")
    ] = None,
    accelerate_config: Annotated[
        str | None, typer.Option("--accelerate-config", help="Name in recipes/accelerate, or path, of an accelerate YAML.")
    ] = None,
    seed: Seed = None,
    json: Json = None,
    runs: Runs = Path("runs"),
) -> None:
    """Run a recipe in a run folder of its own.

    A run is never overwritten. An interrupted one goes on with --name NAME --resume.
    """
    wishes = Wishes(config, name, resume, seed, json, runs, overrides or [], num_processes, accelerate_config)
    run_recipe(recipe, wishes)
