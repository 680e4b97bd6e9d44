"""What every rank of a run with several processes executes: ``python -m recipes._worker RECIPE RUN_FOLDER [TRACKERS]``."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from align.errors import GptsimError, RunError
from align.io import read_json, write_json
from recipes._config import load_config
from recipes._launch import FAILURE
from recipes._registry import find_recipe
from recipes._run import Run
from recipes._trackers import NONE, Trackers


def main(source: str, folder: str, log_with: str = NONE) -> int:
    """Runs the recipe with the configuration in the run folder; returns the exit code."""
    module = find_recipe(source).load()
    run = Run.join(folder)
    try:
        run.trackers = Trackers(log_with, run.path)
        _check_world_size(Path(folder))
        run.finish(module.main(load_config(module.Config, Path(folder) / "config.yaml"), run) or {})
    except (GptsimError, ValueError) as error:
        if os.environ.get("GPTSIM_DEBUG") == "1":
            raise
        code = getattr(error, "exit_code", GptsimError.exit_code)
        write_json(Path(folder) / FAILURE, {"message": str(error), "exit_code": code})
        return code
    finally:
        run.close()
    return 0


def _check_world_size(folder: Path) -> None:
    """Some launch configurations silently start one process; then gradients would never be shared."""
    wanted, got = read_json(folder / "run.json")["num_processes"], int(os.environ.get("WORLD_SIZE", "1"))
    if got != wanted:
        raise RunError(f"{wanted} processes were asked for but {got} started; choose another --accelerate-config")


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
