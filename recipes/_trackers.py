"""A run's figures as they come, in TensorBoard or whatever else accelerate knows, besides metrics.jsonl."""

from __future__ import annotations

import math
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from align.errors import ConfigError
from align.tuning.ranks import Ranks, on_cpu

AUTO, NONE = "auto", "none"
"""``auto`` is TensorBoard where it is installed."""


def resolve_trackers(log_with: str) -> list[str]:
    """The names behind ``--log-with``: auto, none, or names of accelerate's trackers with commas.

    Raises:
        ConfigError: If accelerate doesn't know a tracker, or it isn't installed.
    """
    if log_with == AUTO:
        return ["tensorboard"] if find_spec("tensorboard") else []
    if log_with == NONE:
        return []
    from accelerate.tracking import LOGGER_TYPE_TO_CLASS, get_available_trackers

    names, installed = log_with.split(","), {str(tracker) for tracker in get_available_trackers()}
    for name in names:
        if name not in LOGGER_TYPE_TO_CLASS:
            raise ConfigError(f"--log-with knows {AUTO}, {NONE}, {', '.join(sorted(LOGGER_TYPE_TO_CLASS))}, got {name!r}")
        if name not in installed:
            package = '"gptsim-align[track]"' if name == "tensorboard" else name
            raise ConfigError(f"the tracker {name} is not installed; install it with: pip install {package}")
    return names


class Trackers:
    """Sends figures to trackers, which are started by the first of them. Every rank makes one, and the first one logs.

    Args:
        log_with: See :func:`resolve_trackers`.
        folder: The run folder; its name is the run's. TensorBoard's files go right into it, so that ``--logdir runs`` shows
            every run under its name.
    """

    def __init__(self, log_with: str, folder: Path) -> None:
        self.names, self.folder = resolve_trackers(log_with), folder
        self._started: list[Any] | None = None
        if self.names and Ranks.here().count > 1:
            _join_ranks()

    def log(self, step: int, figures: Mapping[str, Any]) -> None:
        """Hand on the finite numbers among ``figures``."""
        numbers = {name: value for name, value in figures.items() if isinstance(value, int | float) and math.isfinite(value)}
        if not self.names or not numbers:
            return
        if self._started is None:
            _join_ranks()
            self._started = [_start(name, self.folder) for name in self.names]
        for tracker in self._started:
            tracker.log(numbers, step=step)

    def finish(self) -> None:
        """Close them."""
        for tracker in self._started or []:
            tracker.finish()
        self._started = None


def _join_ranks() -> None:
    """Accelerate's trackers want to know of its ranks; every rank must say so, or the others would be waited for."""
    from accelerate import PartialState

    PartialState(cpu=on_cpu())


def _start(name: str, folder: Path) -> Any:
    from accelerate.tracking import LOGGER_TYPE_TO_CLASS

    kind = LOGGER_TYPE_TO_CLASS[name]
    place = {"logging_dir": str(folder.parent)} if kind.requires_logging_directory else {}
    tracker = kind(folder.name, **place)
    tracker.start()
    return tracker
