"""The household: simulated scenes with ground truth."""

from __future__ import annotations

from align.scenes.base import HouseholdScene
from align.scenes.corridor import CorridorScene
from align.scenes.pour import PourScene
from align.scenes.shelf import ShelfScene

SCENES: dict[str, type[HouseholdScene]] = {scene.name: scene for scene in (PourScene, ShelfScene, CorridorScene)}
"""Every household scene by name."""


def make_scene(name: str) -> HouseholdScene:
    """A fresh scene; call ``reset(seed)`` on it.

    Raises:
        ValueError: No scene has this name.
    """
    if name not in SCENES:
        raise ValueError(f"scene must be one of {sorted(SCENES)}, got {name!r}")
    return SCENES[name]()


__all__ = ["SCENES", "HouseholdScene", "make_scene"]
