"""``gptsim rollout``: the recipe of that name, with its inputs and its output as options."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ui.cli._options import Config, Json, Name, Overrides, Resume, Runs, Seed, Wishes, run_recipe

app = typer.Typer()


@app.command()
def rollout(
    overrides: Overrides = None,
    model: Annotated[
        str | None, typer.Option("--model", help="World model: a folder, or 'household' for the one that ships.")
    ] = None,
    adapter: Annotated[Path | None, typer.Option("--adapter", help="Folder of a LoRA adapter for the model.")] = None,
    contexts: Annotated[
        Path | None, typer.Option("--contexts", help="Folder of clips whose first frames are continued.")
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", help="Folder for the rollouts; it must not exist yet.")] = None,
    config: Config = None,
    name: Name = None,
    resume: Resume = False,
    seed: Seed = None,
    json: Json = None,
    runs: Runs = Path("runs"),
) -> None:
    """Let a world model continue the contexts, and write the rollouts to a folder."""
    named = {"model": model, "adapter": adapter, "contexts": contexts, "out": out}
    fields = [f"{key}={value}" for key, value in named.items() if value is not None]
    wishes = Wishes(config, name, resume, seed, json, runs, [*(overrides or []), *fields])
    run_recipe("rollout", wishes, command="rollout")
