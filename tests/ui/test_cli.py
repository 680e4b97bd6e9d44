"""The command line: instant help, one sentence for an error, an exit code for each kind."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner, Result

from align import __version__
from align.errors import AdapterError, ConfigError, DataError
from recipes._registry import list_recipes
from ui.cli.main import FAULT, INTERRUPTED, USAGE, app, list_command_names

ROOT = Path(__file__).parents[2]
HEAVY = ("torch", "gradio", "transformers", "datasets", "pandas", "numpy", "matplotlib", "sqlalchemy")

COUNT = '''"""Count."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Config:
    """What to count."""

    seed: int = 0
    fail: str = ""


def main(config, run):
    errors = {"interrupt": KeyboardInterrupt(), "bug": TypeError("a fault"), "value": ValueError("seed is odd")}
    if config.fail:
        raise errors[config.fail]
    return {"seed": config.seed, "share": 0.123456, "part": {"undefined": float("nan")}}
'''


@pytest.fixture
def count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A recipe file in an empty working folder."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "count.py").write_text(COUNT)
    return "./count.py"


def call(*arguments: str) -> Result:
    return CliRunner().invoke(app, list(arguments), prog_name="gptsim")


def commands(command: Any, names: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every command under ``command`` with its names."""
    yield names, command
    if hasattr(command, "list_commands"):
        context = typer.Context(command)
        for name in command.list_commands(context):
            yield from commands(command.get_command(context, name), (*names, name))


EVERY = [
    pytest.param(names, command, id=" ".join(names) or "gptsim") for names, command in commands(typer.main.get_command(app))
]


def test_the_commands_of_the_design_are_there() -> None:
    assert {"quickstart", "run", "recipes", "rollout", "clips", "votes", "label"} <= set(list_command_names())


@pytest.mark.parametrize(("names", "command"), EVERY)
def test_every_command_and_option_has_help(names: tuple[str, ...], command: Any) -> None:
    assert (command.help or "").strip()
    silent = [param.name for param in command.params if not (getattr(param, "help", None) or "").strip()]
    assert silent == []
    result = call(*names, "--help")
    assert result.exit_code == 0
    assert "Usage: gptsim" in result.output


def test_the_version_is_the_librarys() -> None:
    assert call("--version").output == f"gptsim-align {__version__}\n"


PROBE = """
import sys
from ui.cli.main import main
sys.argv = ["gptsim", {argument!r}]
try:
    main()
except SystemExit as end:
    assert end.code == 0, end.code
print("\\nheavy:", *[name for name in {heavy!r} if name in sys.modules])
"""


@pytest.mark.parametrize("argument", ["--help", "--version"])
def test_help_imports_nothing_heavy(argument: str) -> None:
    program = PROBE.format(argument=argument, heavy=HEAVY)
    finished = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=ROOT)
    assert finished.stdout.splitlines()[-1].strip() == "heavy:"


def test_the_module_can_be_run(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "ui.cli", "recipes", "list"]
    finished = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
    assert [line.split()[0] for line in finished.stdout.splitlines()] == [recipe.name for recipe in list_recipes()]


def test_a_run_prints_its_figures_and_writes_them(count: str) -> None:
    result = call("run", count, "--name", "one", "--seed", "5", "--json", "figures.json")
    assert result.exit_code == 0, result.output
    assert result.stdout.splitlines() == ["part.undefined: undefined", "seed: 5", "share: 0.1235", "run folder: runs/one"]
    expected = {"seed": 5, "share": 0.123456, "part": {"undefined": None}}
    assert json.loads(Path("figures.json").read_text()) == expected
    assert json.loads(Path("runs/one/report.json").read_text()) == expected


def test_a_run_can_go_elsewhere_and_takes_fields_after_options(count: str) -> None:
    result = call("run", count, "--runs", "other", "--name", "one", "seed=4")
    assert result.exit_code == 0, result.output
    assert Path("other/one/config.yaml").read_text() == "seed: 4\nfail: ''\n"


@pytest.mark.parametrize(
    ("arguments", "code", "sentence"),
    [
        (["nosuch=1"], ConfigError.exit_code, "nosuch is unknown (allowed: seed, fail)"),
        (["fail=value"], USAGE, "seed is odd"),
        (["fail=bug"], FAULT, "unexpected TypeError: a fault; set GPTSIM_DEBUG=1"),
        (["--json", "none/figures.json"], ConfigError.exit_code, "--json none/figures.json can't be written"),
        (["--name", "../up"], ConfigError.exit_code, "may hold only letters"),
        (["--resume"], ConfigError.exit_code, "--resume needs --name"),
        (["--accelerate-config", "none.yaml"], ConfigError.exit_code, "there is no accelerate configuration none.yaml"),
    ],
)
def test_an_error_is_one_sentence_and_a_code(arguments: list[str], code: int, sentence: str, count: str) -> None:
    result = call("run", count, *arguments)
    assert result.exit_code == code
    assert result.stdout == ""
    lines = [line for line in result.stderr.splitlines() if line]
    assert len(lines) == 1
    assert lines[0].startswith("error: ")
    assert sentence in lines[0]


@pytest.mark.parametrize(
    "arguments", [["--nosuch"], ["nosuch"], ["run"], ["run", "x", "--num-processes", "0"], ["recipes", "nosuch"]]
)
def test_a_wrong_call_does_not_look_like_a_verdict(arguments: list[str]) -> None:
    assert call(*arguments).exit_code == USAGE


def test_a_mistyped_command_is_answered_with_the_right_one() -> None:
    assert "Did you mean 'rollout'" in call("rolout").stderr


def test_a_traceback_is_shown_on_demand(count: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GPTSIM_DEBUG", "1")
    result = call("run", count, "fail=bug")
    assert result.exit_code == FAULT
    assert "Traceback" in result.stderr
    assert "raise errors[config.fail]" in result.stderr


def test_an_interrupted_run_says_how_to_go_on(count: str) -> None:
    result = call("run", count, "--name", "one", "--runs", "other", "fail=interrupt")
    assert result.exit_code == INTERRUPTED
    assert result.stderr == "interrupted; go on with: gptsim run ./count.py --runs other --name one --resume\n"
    again = result.stderr.split("gptsim ")[1].split()
    assert call(*again).stderr == result.stderr


def test_a_failed_run_leaves_no_figures_and_no_lock(count: str) -> None:
    assert call("run", count, "--name", "one", "--json", "f.json", "fail=bug").exit_code == FAULT
    assert not Path("f.json").exists()
    result = call("run", count, "--name", "one", "--resume")
    assert "unexpected TypeError" in result.stderr


def test_exit_codes_tell_the_kinds_of_failure_apart() -> None:
    codes = [USAGE, ConfigError.exit_code, DataError.exit_code, AdapterError.exit_code, FAULT, INTERRUPTED]
    assert len(set(codes)) == len(codes)
    assert min(codes) >= 3


def test_telemetry_is_off_unless_asked_for(count: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HF_HUB_DISABLE_TELEMETRY")
    call("recipes", "list")
    assert os.environ["HF_HUB_DISABLE_TELEMETRY"] == "1"
    monkeypatch.setenv("HF_HUB_DISABLE_TELEMETRY", "0")
    call("recipes", "list")
    assert os.environ["HF_HUB_DISABLE_TELEMETRY"] == "0"


@pytest.mark.skipif(not list_recipes(), reason="no recipe ships yet")
def test_a_recipe_is_copied_once(tmp_path: Path) -> None:
    name = list_recipes()[0].name
    result = call("recipes", "copy", name, str(tmp_path / "mine"))
    assert result.exit_code == 0, result.output
    assert result.stdout.splitlines()[-1] == f"run it with: gptsim run {tmp_path / 'mine' / name}.py"
    assert (tmp_path / "mine" / f"{name}.py").exists()
    again = call("recipes", "copy", name, str(tmp_path / "mine"))
    assert again.exit_code == DataError.exit_code
    assert "is already there and is not overwritten" in again.stderr


def test_an_unknown_recipe_is_answered_with_the_known() -> None:
    result = call("recipes", "copy", "nosuch", "x")
    assert result.exit_code == ConfigError.exit_code
    assert all(recipe.name in result.stderr for recipe in list_recipes())
