"""Options that several commands share, and the one way in which a command runs a recipe."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from recipes._launch import Request

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
class Processes:
    """How many processes, how they share the work, and where their figures are shown."""

    num_processes: int | None = None
    accelerate_config: str | None = None
    machine_rank: int | None = None
    log_with: str = "auto"


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
    processes: Processes = Processes()


def run_recipe(
    recipe: str, wishes: Wishes, command: str = "", show: Callable[[dict[str, Any]], None] | None = None
) -> dict[str, Any]:
    """Runs a recipe, shows its figures and writes them to ``--json``; interrupted, it says how to go on.

    Args:
        recipe: Its name.
        wishes: What the shared options say.
        command: The command to repeat, where it isn't ``run``.
        show: Prints the figures; None prints one a line.

    Returns:
        The figures of its report.
    """
    from align.io import write_json
    from recipes._launch import execute, open_run

    request = _request(recipe, wishes)
    found, config, run = open_run(request)
    with run:
        try:
            figures = execute(request, found, config, run)
        except KeyboardInterrupt as error:
            error.add_note(
                f"interrupted; go on with: gptsim {command or f'run {recipe}'}{_repeat(wishes)} --name {run.name} --resume"
            )
            raise
        (show or _print_figures)(figures)
        typer.echo(f"run folder: {run.path}")
    if wishes.json is not None:
        write_json(wishes.json, figures)
    return figures


def preview_recipe(recipe: str, wishes: Wishes) -> None:
    """Prints the configuration, what would be trained and an estimate of the cost; writes ``--json`` and nothing else."""
    from align.io import write_json
    from recipes._launch import preview

    config, figures = preview(_request(recipe, wishes))
    typer.echo(config.rstrip())
    if figures is None:
        typer.echo(f"The recipe {recipe} has no workload(config), so nothing can be said about its cost.")
    else:
        _print_estimate(figures)
    if wishes.json is not None:
        write_json(wishes.json, figures or {})


def _print_estimate(figures: dict[str, Any]) -> None:
    typer.echo(f"\ntrained: {figures['trained_parameters']:,} of {figures['parameters']:,} parameters")
    for name, count in figures["trained"].items():
        typer.echo(f"  {count:>12,}  {name}")
    typer.echo(f"estimate for each process, measured here on one step of {figures['clips_measured']} clips:")
    parts = ", ".join(f"{name} {value:.3g}" for name, value in figures["memory_mb"].items())
    typer.echo(f"  memory in MB: {parts}")
    dreams = f", dreaming {figures['dreaming_s']:.3g}" if figures["dreaming_s"] else ""
    typer.echo(
        f"  time in s: {figures['num_steps']} steps of {figures['step_s']:.3g}{dreams}, together {figures['total_s']:.3g}"
    )
    typer.echo("Reading data, scoring and measuring come on top. Nothing was written.")


def _request(recipe: str, wishes: Wishes) -> Request:
    from align.errors import ConfigError
    from recipes._launch import Request

    if wishes.json is not None and (wishes.json.is_dir() or not wishes.json.absolute().parent.is_dir()):
        raise ConfigError(f"--json {wishes.json} can't be written: give the name of a file in a folder that exists")
    overrides = [*wishes.overrides, *([f"seed={wishes.seed}"] if wishes.seed is not None else [])]
    processes = asdict(wishes.processes)
    return Request(recipe, wishes.config, overrides, wishes.name, wishes.resume, runs=wishes.runs, **processes)


def _repeat(wishes: Wishes) -> str:
    """The options that a resumed run needs again; its configuration is in the run folder."""
    options = {name.replace("_", "-"): value for name, value in asdict(wishes.processes).items()}
    options["log-with"] = None if options["log-with"] == "auto" else options["log-with"]
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
