"""A tiny recipe on disk, for tests of what is around a recipe."""

from __future__ import annotations

from pathlib import Path

import pytest

RECIPE = '''"""Count to a number, slowly enough to be killed."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import Annotated

from pydantic import Field

from align.errors import DataError


@dataclass(frozen=True)
class Optimizer:
    """How steps are taken."""

    lr: Annotated[float, Field(gt=0)] = 0.1
    """Step size."""


@dataclass(frozen=True)
class Config:
    """What to count."""

    seed: int = 0
    """Seed of everything random."""
    num_steps: Annotated[int, Field(ge=1)] = 3
    """How far."""
    fail: str = ""
    """Ends with this error."""
    optimizer: Optimizer = field(default_factory=Optimizer)


def main(config, run):
    if config.fail == "interrupt":
        raise KeyboardInterrupt
    if config.fail == "bug":
        raise TypeError("a fault")
    if config.fail:
        raise DataError(config.fail)
    for step in range(config.num_steps):
        run.log(step, value=step * config.optimizer.lr)
    return {"total": config.num_steps, "ranks": int(os.environ.get("WORLD_SIZE", "1")), "part": {"nan": float("nan")}}
'''
YAML = "seed: 0\nnum_steps: 3\nfail: ''\noptimizer:\n  lr: 0.5\n"


@pytest.fixture
def recipe_file(tmp_path: Path) -> Path:
    """A folder's count.py with its count.yaml."""
    (tmp_path / "count.yaml").write_text(YAML)
    path = tmp_path / "count.py"
    path.write_text(RECIPE)
    return path
