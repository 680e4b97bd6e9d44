"""``gptsim label``: serve the labelling pages over a folder of rollouts or videos."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from align.errors import MissingExtra

if TYPE_CHECKING:
    from ui.web.state import State

app = typer.Typer()

ANY_HOST = ("0.0.0.0", "::")
RUNS = Path("runs")


@app.command()
def label(
    rollouts: Annotated[Path, typer.Argument(metavar="ROLLOUTS", help="Rollout or clip folder, or any folder of videos.")],
    db: Annotated[str, typer.Option("--db", help="SQLAlchemy URL of the label database.")] = "sqlite:///labels.db",
    host: Annotated[str, typer.Option(help="Address to listen on; 0.0.0.0 lets other machines in.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on; 0 takes any free one.")] = 7860,
    public_url: Annotated[
        str | None, typer.Option(help="How browsers reach the app, for example https://label.example.org.")
    ] = None,
    axis: Annotated[
        list[str] | None,
        typer.Option(
            "--axis", help="Axis to ask about, as name or 'name=Question?'; may be repeated.", show_default="the folder's"
        ),
    ] = None,
    overlap: Annotated[
        int | None, typer.Option(min=1, max=100, help="How many people answer each task.", show_default="1")
    ] = None,
    clips_per_task: Annotated[
        int | None, typer.Option(min=1, max=4, help="1: pass or fail, 2: compare, 3 or 4: rank.", show_default="2")
    ] = None,
    per_context: Annotated[int, typer.Option(min=0, help="Most tasks of one context; 0: three for each of its clips.")] = 0,
    seed: Annotated[int, typer.Option(help="Seed of the draw of tasks.")] = 0,
    runs: Annotated[
        Path | None,
        typer.Option(
            "--runs",
            exists=True,
            file_okay=False,
            help="Folder of your runs; searched, when somebody withdraws, for models that learned from their answers.",
            show_default="runs",
        ),
    ] = None,
) -> None:
    """Let people rate the clips of a folder in the browser.

    The first start makes the tasks and prints a link that makes you the admin. A later start goes on where the last one
    stopped, and asks about contexts that were added to the folder.
    """
    try:
        from ui.web.app import build_app
        from ui.web.opening import Setup, open_state
        from ui.web.server import bound_socket, serve
    except ModuleNotFoundError as error:
        raise MissingExtra(str(error.name), "ui") from error

    setup = Setup(tuple(axis or ()), overlap, clips_per_task, per_context, seed)
    with bound_socket(host, port) as listener:
        shown = "127.0.0.1" if host in ANY_HOST else f"[{host}]" if ":" in host else host
        url = (public_url or f"http://{shown}:{listener.getsockname()[1]}").rstrip("/")
        state = open_state(rollouts, db, public_url=public_url, setup=setup, progress=_show_import, runs_dir=runs or RUNS)
        _greet(state, url)
        serve(build_app(state), listener)
    typer.echo("stopped; every answer that was acknowledged is stored")


def _show_import(done: int, total: int) -> None:
    typer.echo(f"\rimporting videos: {done} of {total}", nl=done == total, err=True)


def _greet(state: State, url: str) -> None:
    tasks = state.campaign.tasks()
    typer.echo(f"{len(tasks)} tasks about {len(state.media.clips)} clips of {state.media.folder.path}")
    if not any(account.role == "admin" for account in state.accounts.accounts()):
        typer.echo(f"become the admin (works once, within 7 days): {url}/join?token={state.accounts.invite('admin', '')}")
    typer.echo(f"labelers: {url}/ (stop with Ctrl-C)")
