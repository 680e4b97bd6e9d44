"""``gptsim run``: any recipe, in one process or several."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ui.cli._options import Config, Json, Name, Overrides, Processes, Resume, Runs, Seed, Wishes, preview_recipe, run_recipe

app = typer.Typer()


@app.command()
def run(
    recipe: Annotated[str, typer.Argument(help="Name from 'gptsim recipes list', or the path of your own copy (a .py file).")],
    overrides: Overrides = None,
    config: Config = None,
    name: Name = None,
    resume: Resume = False,
    num_processes: Annotated[
        int | None,
        typer.Option("--num-processes", min=1, help="How many processes train together, on all machines.", show_default="one"),
    ] = None,
    accelerate_config: Annotated[
        str | None,
        typer.Option(
            "--accelerate-config",
            metavar="NAME",
            help="How they share the work: one_gpu, ddp, fsdp2, zero2, zero3, machines, or the path of an accelerate YAML.",
        ),
    ] = None,
    machine_rank: Annotated[
        int | None,
        typer.Option("--machine-rank", min=0, help="Which of several machines this is.", show_default="the YAML's"),
    ] = None,
    log_with: Annotated[
        str,
        typer.Option(
            "--log-with",
            help="Where figures are shown as they come: auto (TensorBoard where it is installed), none, or trackers that "
            "accelerate knows, with commas, such as tensorboard,wandb.",
        ),
    ] = "auto",
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run", help="Only show the configuration, what would be trained, and an estimate of memory and time."
        ),
    ] = False,
    seed: Seed = None,
    json: Json = None,
    runs: Runs = Path("runs"),
) -> None:
    """Run a recipe in a run folder of its own.

    A run is never overwritten. An interrupted one goes on with --name NAME --resume.

    Several processes: --num-processes 2 alone is enough on CPUs and for GPUs that each hold the whole model; the accelerate
    configurations add mixed precision, weights shared out over GPUs, and several machines, on each of which the same command
    is started with its own --machine-rank.
    """
    processes = Processes(num_processes, accelerate_config, machine_rank, log_with)
    (preview_recipe if dry_run else run_recipe)(
        recipe, Wishes(config, name, resume, seed, json, runs, overrides or [], processes)
    )
