"""Where recipes are found: every public module of this package, and any ``.py`` file somebody copied and edited.

A recipe is a module with a frozen dataclass ``Config`` and ``main(config, run)`` that returns the figures of its report;
its docstring's first line says what it does. Nothing is listed by hand.
"""

from __future__ import annotations

import ast
import importlib
import importlib.util
import sys
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from align.errors import ConfigError, DataError
from align.io import atomic_write
from recipes._config import closest

FOLDER = Path(__file__).parent


@dataclass(frozen=True)
class Recipe:
    """A recipe that was found, not yet imported.

    Attributes:
        name: Its name in run folders, the file's stem.
        path: Its source file.
        in_package: Whether it is one of ours rather than somebody's copy.
    """

    name: str
    path: Path
    in_package: bool

    @property
    def source(self) -> str:
        """What ``find_recipe`` finds this recipe by, from any folder."""
        return self.name if self.in_package else str(self.path.resolve())

    @property
    def summary(self) -> str:
        """The first line of the docstring, read without importing the module."""
        try:
            docstring = ast.get_docstring(ast.parse(self.path.read_text(encoding="utf-8")))
        except SyntaxError:
            return "(can't be read: syntax error)"
        return (docstring or "").partition("\n")[0]

    def load(self) -> ModuleType:
        """Imports the recipe; raises ConfigError if it isn't one."""
        module = importlib.import_module(f"recipes.{self.name}") if self.in_package else _import_file(self.path)
        if not isinstance(getattr(module, "Config", None), type) or not callable(getattr(module, "main", None)):
            raise ConfigError(
                f"{self.path} is not a recipe: it must define a dataclass Config and a function main(config, run)"
            )
        return module


def list_recipes() -> list[Recipe]:
    """The recipes of this package by name."""
    return [Recipe(path.stem, path, True) for path in sorted(FOLDER.glob("*.py")) if not path.stem.startswith("_")]


def find_recipe(text: str) -> Recipe:
    """Finds a recipe by its name or by the path of a ``.py`` file; raises ConfigError if there is none."""
    if text.endswith(".py") or "/" in text:
        path = Path(text)
        if not (path.is_file() and path.suffix == ".py"):
            raise ConfigError(
                f"there is no recipe file {text}; give the path of a .py file or a name from: gptsim recipes list"
            )
        return Recipe(path.stem, path, False)
    recipes = {recipe.name: recipe for recipe in list_recipes()}
    if text not in recipes:
        raise ConfigError(f"there is no recipe {text} ({closest(text, list(recipes))})")
    return recipes[text]


def copy_recipe(name: str, folder: Path) -> list[Path]:
    """Copies a recipe and its YAML, or a launch configuration (``accelerate/ddp``), for editing; nothing is overwritten.

    Returns:
        The files written, the ``.py`` first.

    Raises:
        ConfigError: If there is no such recipe or configuration.
        DataError: If a file of that name is already there.
    """
    if name.startswith("accelerate/"):
        sources = [find_accelerate_config(name.removeprefix("accelerate/"))]
    else:
        recipe = find_recipe(name)
        sources = [path for path in (recipe.path, recipe.path.with_suffix(".yaml")) if path.exists()]
    targets = [folder / path.name for path in sources]
    for target in targets:
        if target.exists():
            raise DataError(f"{target} is already there and is not overwritten; choose another folder")
    for source, target in zip(sources, targets, strict=True):
        atomic_write(target, source.read_bytes())
    return targets


def find_accelerate_config(text: str) -> Path:
    """A launch configuration by its name in recipes/accelerate or by its path; raises ConfigError if there is none."""
    if text.endswith((".yaml", ".yml")):
        if not Path(text).is_file():
            raise ConfigError(f"there is no accelerate configuration {text}")
        return Path(text).resolve()
    shipped = {path.stem: path for path in sorted((FOLDER / "accelerate").glob("*.yaml"))}
    if text not in shipped:
        raise ConfigError(f"there is no accelerate configuration {text} ({closest(text, list(shipped))})")
    return shipped[text]


def _import_file(path: Path) -> ModuleType:
    """Imports a file under a name of its own; dataclasses look their module up in ``sys.modules``."""
    name = f"gptsim_recipe_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path.resolve())
    assert spec is not None, "a .py file always has a spec"
    assert spec.loader is not None, "and a loader"
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module
