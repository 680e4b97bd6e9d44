"""``gptsim recipes``: what can be run, and a copy of it to edit."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(no_args_is_help=True)


@app.callback()
def recipes() -> None:
    """List the recipes, or copy one to edit."""


@app.command("list")
def list_() -> None:
    """List the recipes with a line about each."""
    from recipes._registry import list_recipes

    found = list_recipes()
    width = max((len(recipe.name) for recipe in found), default=0)
    for recipe in found:
        typer.echo(f"{recipe.name:<{width}}  {recipe.summary}".rstrip())


@app.command()
def copy(
    name: Annotated[str, typer.Argument(help="Name from 'gptsim recipes list', or accelerate/NAME, a launch configuration.")],
    dest: Annotated[Path, typer.Argument(help="Folder for the copy; made if it is missing. Nothing in it is overwritten.")],
) -> None:
    """Copy a recipe and its YAML to a folder of yours."""
    from recipes._registry import copy_recipe

    written = copy_recipe(name, dest)
    for path in written:
        typer.echo(f"wrote {path}")
    place = written[0] if written[0].is_absolute() else f"./{written[0]}"
    typer.echo(
        f"run it with: gptsim run {place}" if written[0].suffix == ".py" else f"use it with: --accelerate-config {place}"
    )
