"""``gptsim clips``: bring other people's clips into the toolkit's own folder format."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from align.errors import ConfigError
from align.io import write_json

if TYPE_CHECKING:
    from align.video.importing import ImportOptions, ImportReport

app = typer.Typer(help="Bring clips of other formats into a clip folder.", no_args_is_help=True)


@app.callback()
def _group() -> None:
    """Bring clips of other formats into a clip folder."""


@app.command("import")
def import_command(
    src: Annotated[Path, typer.Argument(metavar="SRC", help="LeRobot data set, video, .npz episode, or a folder of them.")],
    out: Annotated[Path, typer.Option(help="Clip folder to make; it must not exist yet.")],
    size: Annotated[str, typer.Option(help="Frame size, 64 or WxH, or 'source' to keep each clip's own.")] = "128",
    fit: Annotated[str, typer.Option(help="Other aspect ratios: pad with black bars, crop the centre, or stretch.")] = "pad",
    num_frames: Annotated[int, typer.Option(help="Frames of a window; 0 takes whole clips.")] = 16,
    stride: Annotated[int, typer.Option(help="Take every S-th frame of the source.")] = 1,
    window_step: Annotated[int, typer.Option(help="Source frames between window starts; 0: windows don't overlap.")] = 0,
    context_frames: Annotated[int, typer.Option(help="Leading frames that a model is shown.")] = 2,
    camera: Annotated[str, typer.Option(help="Camera (LeRobot) or array (.npz) to read; default: the first.")] = "",
    fps: Annotated[float, typer.Option(help="Rate of the source in Hz, where its files say none or a wrong one.")] = 0.0,
    stride_actions: Annotated[
        str, typer.Option(help="With --stride S, an action is the first, mean or sum of the S skipped ones.")
    ] = "first",
    stacked: Annotated[str, typer.Option(help="Frames of 3k channels: keep the 'last' or 'first' picture.")] = "",
    scene: Annotated[str, typer.Option(help="Name for the scene column; default: the name of SRC.")] = "",
    skip_broken: Annotated[bool, typer.Option("--skip-broken", help="Leave broken files out and list them.")] = False,
    json_path: Annotated[Path | None, typer.Option("--json", help="Write the report here as JSON.")] = None,
) -> None:
    """Cut other people's clips into windows and write them as a clip folder.

    Anything broken or contradictory is listed by file and reason; then nothing is written and the exit code is 5,
    unless --skip-broken leaves those files out.
    """
    from align.video.importing import ImportFailed, ImportOptions

    try:
        options = ImportOptions(
            size=parse_size(size),
            fit=fit,  # type: ignore[arg-type]  # checked by ImportOptions
            num_frames=num_frames,
            stride=stride,
            window_step=window_step,
            context_frames=context_frames,
            camera=camera,
            fps_hz=fps,
            action_rule=stride_actions,
            stacked=stacked,
        )
    except ValueError as error:
        raise ConfigError(f"{error}") from error
    try:
        report = _run(src, out, options, scene, skip_broken)
    except ImportFailed as error:
        if json_path:
            write_json(json_path, error.report)
        raise
    if json_path:
        write_json(json_path, report)
    _print_report(report)


def parse_size(text: str) -> tuple[int, int] | None:
    """``64`` or ``WxH`` to (height, width); ``source`` to None."""
    if text.strip().lower() == "source":
        return None
    parts = text.lower().replace("×", "x").split("x")
    if len(parts) not in (1, 2) or not all(part.strip().isdigit() for part in parts):
        raise ValueError(f"size must be a number such as 64, WxH such as 96x64, or 'source', got {text!r}")
    width, height = int(parts[0]), int(parts[-1])
    return height, width


def _run(src: Path, out: Path, options: ImportOptions, scene: str, skip_broken: bool) -> ImportReport:
    from rich.console import Console
    from rich.progress import Progress

    from align.video.importing import import_clips

    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("importing", total=None)

        def update(done: int, total: int) -> None:
            bar.update(task, completed=done, total=total)

        return import_clips(src, out, options, scene=scene, skip_broken=skip_broken, progress=update)


def _print_report(report: ImportReport) -> None:
    actions = f"{len(report.action_names)} action dims" if report.action_names else "no actions"
    formats = " + ".join(report.formats)
    typer.echo(f"{report.num_clips} clips from {report.num_episodes} episodes ({formats}, {actions}) written to {report.out}")
    for note in report.notes:
        typer.echo(f"note: {note}")
    for problem in report.problems:
        typer.echo(f"skipped: {problem}")
