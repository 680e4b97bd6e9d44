"""The house itself: errors as drawn, imports that go down, a wheel that works alone, a build that asks for nothing odd."""

from __future__ import annotations

import configparser
import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

from align import errors

ROOT = Path(__file__).parents[1]
PACKAGES = ("align", "reward_models", "recipes", "ui")


def all_errors(base: type[errors.GptsimError] = errors.GptsimError) -> list[type[errors.GptsimError]]:
    return [
        base,
        *(inner for child in base.__subclasses__() for inner in all_errors(child) if child.__module__ == errors.__name__),
    ]


def drawn_tree(docstring: str) -> dict[str, str | None]:
    """Class name to its parent's, read from the drawing: every level is four columns wide."""
    parents: dict[str, str | None] = {}
    stack: list[str] = []
    for line in docstring.splitlines():
        found = re.match(r"    ([│ ├└─]*)([A-Z]\w+)\b", line)
        if found:
            depth = len(found[1]) // 4
            del stack[depth:]
            parents[found[2]] = stack[-1] if stack else None
            stack.append(found[2])
    return parents


def test_the_tree_of_errors_is_drawn_as_it_is() -> None:
    actual = {cls.__name__: cls.__base__.__name__ for cls in all_errors() if cls.__base__ is not None}
    actual["GptsimError"] = None  # type: ignore[assignment]
    assert drawn_tree(errors.__doc__ or "") == actual


def test_exit_codes_are_distinct_and_leave_verdicts_alone() -> None:
    own = {cls.__name__: vars(cls)["exit_code"] for cls in all_errors() if "exit_code" in vars(cls)}
    assert len(set(own.values())) == len(own)
    assert min(own.values()) >= 3
    assert not {70, 130} & set(own.values())


def test_every_package_is_documented_and_typed() -> None:
    for package in PACKAGES:
        assert (ROOT / package / "py.typed").exists()


def test_imports_go_down_only() -> None:
    command = [sys.executable, "-c", "from importlinter.cli import lint_imports_command as c; c()", "--no-cache"]
    finished = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    assert finished.returncode == 0, finished.stdout


def test_constraints_pin_every_requirement() -> None:
    pins = dict(re.findall(r"^([\w.-]+)==(\S+)$", (ROOT / "constraints.txt").read_text(), re.M))
    pinned = {name.lower().replace("_", "-") for name in pins}
    source = (ROOT / "setup.py").read_text()
    wanted = re.findall(r'^\s+"([a-zA-Z][\w-]*)(?:[><=!~][^"]*)?",', source.partition("setup(")[0], re.M)
    assert len(wanted) > 20
    assert {name.lower() for name in wanted} - pinned == set()
    assert not any("+" in version for version in pins.values())


def test_make_offers_what_the_documents_say() -> None:
    finished = subprocess.run(["make", "-s", "help"], capture_output=True, text=True, check=True, cwd=ROOT)
    offered = {line.split()[0] for line in finished.stdout.splitlines()}
    assert {"quickstart", "test", "test-all", "check", "clean"} <= offered
    script = (ROOT / ".ci" / "run").read_text()
    assert "set -euo pipefail" in script
    assert os.access(ROOT / ".ci" / "run", os.X_OK)


def test_no_module_is_pickled_or_imports_a_neighbour_by_accident() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert "S301" in settings["tool"]["ruff"]["lint"]["select"]
    assert settings["tool"]["importlinter"]["root_packages"] == list(PACKAGES)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from a copy so that the checkout stays clean."""
    source = tmp_path_factory.mktemp("source")
    for package in PACKAGES:
        shutil.copytree(ROOT / package, source / package, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("setup.py", "pyproject.toml", "LICENSE", "README.md"):
        if (ROOT / name).exists():
            shutil.copy(ROOT / name, source / name)
    (source / "tests").mkdir()
    (source / "tests" / "__init__.py").write_text("")
    command = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", str(source / "out"), "."]
    subprocess.run(command, check=True, cwd=source, capture_output=True)
    return next((source / "out").glob("gptsim_align-*.whl"))


def test_the_wheel_holds_the_packages_and_no_tests(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        info = next(name for name in names if name.endswith("entry_points.txt"))
        scripts = configparser.ConfigParser()
        scripts.read_string(archive.read(info).decode())
    assert {name.split("/")[0] for name in names if ".dist-info" not in name} == set(PACKAGES)
    assert scripts["console_scripts"]["gptsim"] == "ui.cli.main:main"
    assert any(name.endswith("licenses/LICENSE") for name in names)


def test_the_wheel_holds_every_file_that_the_code_reads(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    suffixes = {".py", ".typed", ".yaml", ".mako", ".jinja", ".html", ".safetensors", ".json", ".ini", ".js", ".css", ".svg"}
    files = {
        file.relative_to(ROOT).as_posix()
        for package in PACKAGES
        for file in (ROOT / package).rglob("*")
        if file.suffix in suffixes and "__pycache__" not in file.parts
    }
    assert files - names == set()


def test_the_wheel_works_outside_the_checkout(wheel: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "site")
    program = (
        "import align, recipes, ui.cli.main, sys; print(align.__file__, recipes.__file__);"
        "sys.argv = ['gptsim', 'recipes', 'list']; ui.cli.main.main()"
    )
    environment = {**os.environ, "PYTHONPATH": str(tmp_path / "site")}
    finished = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=tmp_path, env=environment
    )
    first, *recipes = finished.stdout.splitlines()
    assert first == f"{tmp_path}/site/align/__init__.py {tmp_path}/site/recipes/__init__.py"
    shipped = sorted(path.stem for path in (ROOT / "recipes").glob("*.py") if not path.stem.startswith("_"))
    assert [line.split()[0] for line in recipes] == shipped
