"""The command ``gptsim``: what it is made of, and how it ends.

Exit codes: 0 success; 1 and 2 belong to the audit's verdicts alone; 3 a wrong argument; 4 to 8 the errors of
``align.errors``; 70 a fault of ours; 130 interrupted.
"""

from __future__ import annotations

import errno
import os
import traceback
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from align.errors import GptsimError

USAGE, FAULT, INTERRUPTED = 3, 70, 130


def list_command_names() -> list[str]:
    """Every public module of this package but this one is a command: its ``app`` under the module's name."""
    return sorted(path.stem for path in Path(__file__).parent.glob("*.py") if path.stem != "main" and path.stem[0] != "_")


class LazyGroup(TyperGroup):
    """Imports a command when it is needed, and turns every error into one sentence and an exit code."""

    def list_commands(self, ctx: typer.Context) -> list[str]:  # type: ignore[override]
        return list_command_names()

    def get_command(self, ctx: typer.Context, cmd_name: str) -> Any:  # type: ignore[override]
        if cmd_name not in self.commands and cmd_name in list_command_names():
            command = typer.main.get_command(import_module(f"ui.cli.{cmd_name}").app)
            command.name = cmd_name
            self.commands[cmd_name] = command
        return self.commands.get(cmd_name)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        # An unknown name is answered with the nearest known one, which Typer looks for among the imported commands.
        if args and args[0] not in list_command_names():
            for name in list_command_names():
                self.get_command(ctx, name)
        return super().resolve_command(ctx, args)

    def make_context(self, *args: Any, **kwargs: Any) -> Any:
        try:
            return super().make_context(*args, **kwargs)
        except Exception as error:
            _mark_usage_error(error)
            raise

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except (Exception, KeyboardInterrupt) as error:
            _mark_usage_error(error)
            code = _report(error)
            if code is None:
                raise
            raise typer.Exit(code) from error


def _mark_usage_error(error: BaseException) -> None:
    """Typer ends with 2 on a wrong option, which would read as a verdict of the audit."""
    if hasattr(error, "format_message") and getattr(error, "exit_code", None) in (1, 2):
        vars(error)["exit_code"] = USAGE


def _report(error: BaseException) -> int | None:
    """Says what went wrong on stderr and returns the exit code; None leaves the error to Typer."""
    if isinstance(error, typer.Exit) or hasattr(error, "format_message") or getattr(error, "errno", None) == errno.EPIPE:
        return None
    if isinstance(error, KeyboardInterrupt | typer.Abort):
        notes = getattr(error, "__notes__", [])
        typer.echo("\n".join(notes) or "interrupted", err=True)
        return INTERRUPTED
    if os.environ.get("GPTSIM_DEBUG") == "1":
        typer.echo("".join(traceback.format_exception(error)), err=True)
    code, sentence = _describe(error)
    typer.echo(f"error: {sentence}", err=True)
    return code


def _describe(error: BaseException) -> tuple[int, str]:
    if isinstance(error, GptsimError):
        return error.exit_code, str(error)
    if isinstance(error, ValueError):
        return USAGE, str(error)
    if isinstance(error, OSError) and error.strerror:
        return USAGE, f"{error.strerror}: {error.filename}" if error.filename else error.strerror
    return FAULT, f"unexpected {type(error).__name__}: {error}; set GPTSIM_DEBUG=1 to see where, and report it"


app = typer.Typer(
    cls=LazyGroup,
    name="gptsim",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _show_version(wanted: bool) -> None:
    if wanted:
        from align import __version__

        typer.echo(f"gptsim-align {__version__}")
        raise typer.Exit


@app.callback()
def gptsim(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Align video world models with what people prefer, and prove that they stay honest."""
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")


def main() -> None:
    """The entry point of the console script."""
    app(prog_name="gptsim")
