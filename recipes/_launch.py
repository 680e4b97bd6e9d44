"""From a recipe's name and a user's wishes to a finished run, in this process or in several."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from align.errors import ConfigError, GptsimError, RunError
from align.io import read_json
from recipes._config import load_config
from recipes._registry import Recipe, find_accelerate_config, find_recipe
from recipes._run import Run, make_run_name

FAILURE = "failure.json"
"""What a rank leaves in the run folder when it ends with an error that the user can mend."""

_GRACE_S = 30.0


@dataclass(frozen=True)
class Request:
    """What a user asked for.

    Attributes:
        recipe: Name, or path of a ``.py`` file.
        config: YAML file instead of the recipe's own.
        overrides: ``key=value`` texts.
        name: Run name; None makes one up, which a resumed run can't do.
        resume: Go on with the run of that name.
        num_processes: How many ranks; None takes the accelerate configuration's, or one.
        accelerate_config: Name in recipes/accelerate, or path.
        runs: The folder of all runs.
    """

    recipe: str
    config: Path | None = None
    overrides: Sequence[str] = ()
    name: str | None = None
    resume: bool = False
    num_processes: int | None = None
    accelerate_config: str | None = None
    runs: Path = Path("runs")


def open_run(request: Request) -> tuple[Recipe, Any, Run]:
    """Resolves the configuration and opens the run folder; raises before anything is written if something is wrong."""
    recipe = find_recipe(request.recipe)
    if request.resume and request.name is None:
        raise ConfigError("--resume needs --name, the name of the run to continue")
    config = load_config(recipe.load().Config, _config_path(request), request.overrides)
    name = request.name or make_run_name(recipe.name, getattr(config, "seed", 0))
    run = Run.create(request.runs, name, config, request.resume, recipe=recipe.name, num_processes=_count_processes(request))
    return recipe, config, run


def execute(request: Request, recipe: Recipe, config: Any, run: Run) -> dict[str, Any]:
    """Runs the recipe in an open run folder and returns the figures of its report; a finished run is not repeated."""
    report = run.path / "report.json"
    if report.exists():
        run.say(f"the run {run.path} is finished already")
    elif request.accelerate_config is None and _count_processes(request) == 1:
        run.finish(recipe.load().main(config, run) or {})
    else:
        _launch(_command(request, recipe, run), run)
    figures: dict[str, Any] = read_json(report)
    return figures


def _config_path(request: Request) -> Path | None:
    """A resumed run without other wishes takes the configuration that it was started with."""
    assert not request.resume or request.name is not None, "open_run checks this"
    if request.resume and request.config is None and not request.overrides:
        saved = request.runs / str(request.name) / "config.yaml"
        return saved if saved.exists() else None
    return request.config


def _count_processes(request: Request) -> int:
    if request.num_processes is not None:
        return request.num_processes
    if request.accelerate_config is None:
        return 1
    path = find_accelerate_config(request.accelerate_config)
    try:
        return int(yaml.safe_load(path.read_text(encoding="utf-8")).get("num_processes", 1))
    except (AttributeError, TypeError, ValueError, yaml.YAMLError) as error:
        raise ConfigError(f"{path} is not an accelerate configuration: {error}") from error


def _command(request: Request, recipe: Recipe, run: Run) -> list[str]:
    """The launcher's command line. torchrun, because ``accelerate launch --cpu`` starts one process whatever it is told."""
    worker = ["-m", "recipes._worker", recipe.source, str(run.path.resolve())]
    count = str(_count_processes(request))
    if request.accelerate_config is None:
        return [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", count, *worker]
    path = find_accelerate_config(request.accelerate_config)
    launch = ["-m", "accelerate.commands.launch", "--config_file", str(path), "--num_processes", count]
    return [sys.executable, *launch, *worker]


def _launch(command: list[str], run: Run) -> None:
    """Waits for the ranks; what one of them had to say about its failure is raised here in the same words."""
    failure = run.path / FAILURE
    failure.unlink(missing_ok=True)
    code = _wait(command)
    if failure.exists():
        told = read_json(failure)
        error = GptsimError(told["message"])
        error.exit_code = told["exit_code"]
        raise error
    if code != 0 or not (run.path / "report.json").exists():
        raise RunError(
            f"the processes of {run.path} ended with code {code}; what they printed above says why, "
            f"and --name {run.name} --resume goes on from the last checkpoint"
        )


def _wait(command: list[str]) -> int:
    """Runs the launcher to its end. Interrupted, it is asked to end its ranks rather than killed, which would orphan them."""
    with subprocess.Popen(command) as launcher:
        try:
            return launcher.wait()
        except BaseException:
            launcher.terminate()
            try:
                launcher.wait(timeout=_GRACE_S)
            except subprocess.TimeoutExpired:
                launcher.kill()
            raise
