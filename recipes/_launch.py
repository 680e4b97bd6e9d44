"""From a recipe's name and a user's wishes to a finished run, in this process or in several."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from align.errors import ConfigError, GptsimError, RunError
from align.io import read_json
from recipes._config import dump_config, load_config
from recipes._estimate import estimate
from recipes._processes import Launch, plan_launch
from recipes._registry import Recipe, find_recipe
from recipes._run import Run, make_run_name
from recipes._trackers import AUTO, Trackers, resolve_trackers

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
        machine_rank: Which of several machines this is; None takes the accelerate configuration's.
        log_with: Trackers; see ``recipes._trackers``.
    """

    recipe: str
    config: Path | None = None
    overrides: Sequence[str] = ()
    name: str | None = None
    resume: bool = False
    num_processes: int | None = None
    accelerate_config: str | None = None
    runs: Path = Path("runs")
    machine_rank: int | None = None
    log_with: str = AUTO


def open_run(request: Request) -> tuple[Recipe, Any, Run]:
    """Resolves the configuration and opens the run folder; raises before anything is written if something is wrong."""
    recipe, config, plan = resolve(request)
    name = request.name or make_run_name(recipe.name, getattr(config, "seed", 0))
    if plan.machine_rank > 0:
        # The first machine makes the folder, and its ranks meet ours only when it has.
        return recipe, config, Run(request.runs / name, is_main=False)
    run = Run.create(request.runs, name, config, request.resume, recipe=recipe.name, num_processes=plan.num_processes)
    return recipe, config, run


def resolve(request: Request) -> tuple[Recipe, Any, Launch]:
    """The recipe, its configuration and how many processes work on it; all of the request is checked."""
    recipe = find_recipe(request.recipe)
    if request.resume and request.name is None:
        raise ConfigError("--resume needs --name, the name of the run to continue")
    module, plan = recipe.load(), _plan(request)
    resolve_trackers(request.log_with)  # says so if one is unknown
    if plan.num_machines > 1 and request.name is None:
        raise ConfigError("a run on several machines needs --name, the same on all of them")
    if plan.num_processes > 1 and not getattr(module, "MANY_PROCESSES", False):
        raise ConfigError(
            f"the recipe {recipe.name} works in one process; drop --num-processes and --accelerate-config, or, in your own "
            "copy, split its work over ranks and write MANY_PROCESSES = True"
        )
    return recipe, load_config(module.Config, _config_path(request), request.overrides), plan


def preview(request: Request) -> tuple[str, dict[str, Any] | None]:
    """The resolved configuration as YAML and what the run would cost, None where the recipe doesn't say; nothing is written."""
    recipe, config, _ = resolve(request)
    workload = getattr(recipe.load(), "workload", None)
    return dump_config(config), None if workload is None else estimate(workload(config))


def execute(request: Request, recipe: Recipe, config: Any, run: Run) -> dict[str, Any]:
    """Runs the recipe in an open run folder and returns the figures of its report; a finished run is not repeated."""
    report, plan = run.path / "report.json", _plan(request)
    if report.exists():
        run.say(f"the run {run.path} is finished already")
    elif plan.path is None and plan.num_processes == 1:
        run.trackers = Trackers(request.log_with, run.path)
        run.finish(recipe.load().main(config, run) or {})
    else:
        worker = ["recipes._worker", recipe.source, str(run.path.resolve()), request.log_with]
        _launch(plan.command(worker), plan.environment(), run)
    figures: dict[str, Any] = read_json(report)
    return figures


def _plan(request: Request) -> Launch:
    plan = plan_launch(request.accelerate_config, request.num_processes)
    if request.machine_rank is not None:
        plan = plan.on_machine(request.machine_rank)
    plan.environment()  # says so if there is no GPU for it
    return plan


def _config_path(request: Request) -> Path | None:
    """A resumed run without other wishes takes the configuration that it was started with."""
    assert not request.resume or request.name is not None, "open_run checks this"
    if request.resume and request.config is None and not request.overrides:
        saved = request.runs / str(request.name) / "config.yaml"
        return saved if saved.exists() else None
    return request.config


def _launch(command: list[str], environment: dict[str, str], run: Run) -> None:
    """Waits for the ranks; what one of them had to say about its failure is raised here in the same words."""
    failure = run.path / FAILURE
    if run.is_main:
        failure.unlink(missing_ok=True)
    code = _wait(command, environment)
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


def _wait(command: list[str], environment: dict[str, str]) -> int:
    """Runs the launcher to its end. Interrupted, it is asked to end its ranks rather than killed, which would orphan them."""
    with subprocess.Popen(command, env=os.environ | environment) as launcher:
        try:
            return launcher.wait()
        except BaseException:
            launcher.terminate()
            try:
                launcher.wait(timeout=_GRACE_S)
            except subprocess.TimeoutExpired:
                launcher.kill()
            raise
