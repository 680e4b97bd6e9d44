"""Recipes as steps of a longer one."""

from __future__ import annotations

from typing import Any

from recipes._run import Run


def run_step(run: Run, name: str, recipe: Any, config: Any) -> dict[str, Any]:
    """Run a recipe in a folder of its own inside ``run``, unless it is finished; one that was cut off goes on.

    Args:
        run: The outer run.
        name: The step's name, which ends in ``-`` and the recipe's.
        recipe: The recipe's module.
        config: Its configuration.

    Returns:
        The figures of its report.
    """
    from align.io import read_json

    root = run.path / "steps"
    if (root / name / "report.json").exists():
        return dict(read_json(root / name / "report.json"))
    run.say(f"[{name}] {recipe.__doc__.splitlines()[0]}")
    resume = (root / name / "config.yaml").exists()
    with Run.create(root, name, config, resume=resume, recipe=name.split("-")[-1]) as inner:
        figures: dict[str, Any] = recipe.main(config, inner)
        inner.finish(figures)
    return figures
