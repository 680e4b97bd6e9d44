"""Options that several commands share, and the one way in which a command runs a recipe."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

Config = Annotated[Path | None, typer.Option("--config", help="YAML file to use instead of the recipe's own.")]
Name = Annotated[str | None, typer.Option("--name", help="Name of the run folder.", show_default="recipe-seed-time")]
Resume = Annotated[bool, typer.Option("--resume", help="Go on with the run called --name.")]
Seed = Annotated[
    int | None, typer.Option("--seed", help="Seed of everything random; short for seed=N.", show_default="the YAML's")
]
Json = Annotated[Path | None, typer.Option("--json", help="Write the report's figures to this file as well.")]
Runs = Annotated[Path, typer.Option("--runs", help="Folder of all run folders.")]
Overrides = Annotated[
    list[str] | None,
    typer.Argument(metavar="KEY=VALUE", help="Fields of the configuration to change; nested ones as a.b=1."),
]


@dataclass(frozen=True)
class Wishes:
    """What the shared options say; see ``recipes._launch.Request`` for the meaning of each."""

    config: Path | None
    name: str | None
    resume: bool
    seed: int | None
    json: Path | None
    runs: Path
    overrides: Sequence[str]
    num_processes: int | None = None
    accelerate_config: str | None = None


def run_recipe(recipe: str, wishes: Wishes, command: str = "") -> None:
    """Runs a recipe, prints its figures and writes them to ``--json``; interrupted, it says how to go on."""
    from align.errors import ConfigError
    from align.io import write_json
    from recipes._launch import Request, execute, open_run

    if wishes.json is not None and (wishes.json.is_dir() or not wishes.json.absolute().parent.is_dir()):
        raise ConfigError(f"--json {wishes.json} can't be written: give the name of a file in a folder that exists")
    overrides = [*wishes.overrides, *([f"seed={wishes.seed}"] if wishes.seed is not None else [])]
    request = Request(
        recipe,
        wishes.config,
        overrides,
        wishes.name,
        wishes.resume,
        wishes.num_processes,
        wishes.accelerate_config,
        wishes.runs,
    )
    found, config, run = open_run(request)
    with run:
        try:
            figures = execute(request, found, config, run)
        except KeyboardInterrupt as error:
            error.add_note(
                f"interrupted; go on with: gptsim {command or f'run {recipe}'}{_repeat(wishes)} --name {run.name} --resume"
            )
            raise
        _print_figures(figures)
        typer.echo(f"run folder: {run.path}")
    if wishes.json is not None:
        write_json(wishes.json, figures)


def _repeat(wishes: Wishes) -> str:
    """The options that a resumed run needs again; its configuration is in the run folder."""
    options = {"num-processes": wishes.num_processes, "accelerate-config": wishes.accelerate_config}
    options["runs"] = str(wishes.runs) if wishes.runs != Path("runs") else None
    return "".join(f" --{name} {value}" for name, value in options.items() if value is not None)


def _print_figures(figures: dict[str, object]) -> None:
    """One figure a line; nested ones under a dotted name. Tables, and what a report says of its making, stand in its file."""
    for name, value in figures.items():
        if name == "provenance" or (isinstance(value, list) and any(isinstance(item, dict) for item in value)):
            continue
        if isinstance(value, dict):
            _print_figures({f"{name}.{key}": item for key, item in value.items()})
        else:
            shown = f"{value:.4g}" if isinstance(value, float) else "undefined" if value is None else value
            typer.echo(f"{name}: {shown}")
