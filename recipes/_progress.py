"""Progress on stderr: a bar on a terminal, a line at every tenth where there is none (a log file, CI)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)


class Advance(Protocol):
    """Counts work as done and shows figures beside the bar."""

    def __call__(self, amount: int = 1, **figures: object) -> None: ...


def say(text: str) -> None:
    """Prints one plain line on stderr."""
    _console().print(text, markup=False, highlight=False, soft_wrap=True)


@contextmanager
def show_progress(what: str, total: int | None, why: str = "", *, visible: bool = True) -> Iterator[Advance]:
    """Shows ``what`` is being done and ``why``, with how much of ``total`` is done.

    Args:
        what: The work, as a participle: "training the base model".
        total: Number of units, None if unknown.
        why: What it is for; shown once.
        visible: False shows nothing.
    """
    console = _console()
    if not visible:
        yield _nothing
    elif console.is_terminal:
        with _bar(console, what, total, why) as advance:
            yield advance
    else:
        with _lines(what, total, why) as advance:
            yield advance


def _console() -> Console:
    """Made anew each time, because stderr may have been redirected since."""
    return Console(stderr=True)


def _nothing(amount: int = 1, **figures: object) -> None:
    """Shows nothing, on ranks that don't speak."""


@contextmanager
def _bar(console: Console, what: str, total: int | None, why: str) -> Iterator[Advance]:
    if why:
        console.print(f"{what}: {why}", markup=False, highlight=False)
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[figures]}"),
    )
    with Progress(*columns, console=console) as progress:
        task = progress.add_task(escape(what), total=total, figures="")

        def advance(amount: int = 1, **figures: object) -> None:
            progress.advance(task, amount)
            if figures:
                progress.update(task, figures=escape(_figures(figures)))

        yield advance


@contextmanager
def _lines(what: str, total: int | None, why: str) -> Iterator[Advance]:
    say(f"{what}: {why}" if why else what)
    done = 0

    def advance(amount: int = 1, **figures: object) -> None:
        nonlocal done
        tenths_before = 10 * done // total if total else 0
        done += amount
        if total and 10 * done // total > tenths_before:
            say(f"{what}: {done}/{total} {_figures(figures)}".rstrip())

    yield advance


def _figures(figures: dict[str, object]) -> str:
    return " ".join(f"{key}={value:.4g}" if isinstance(value, float) else f"{key}={value}" for key, value in figures.items())
