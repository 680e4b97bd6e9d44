"""Figures in TensorBoard as they come."""

from __future__ import annotations

from pathlib import Path

import pytest

from align.errors import ConfigError
from recipes import _trackers
from recipes._launch import Request, execute, open_run
from recipes._trackers import resolve_trackers


def read_scalars(folder: Path) -> dict[str, list[tuple[int, float]]]:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder))
    events.Reload()
    return {tag: [(e.step, e.value) for e in events.Scalars(tag)] for tag in events.Tags()["scalars"]}


def launch(recipe: Path, runs: Path, log_with: str) -> Path:
    request = Request(str(recipe), name="n", runs=runs, log_with=log_with)
    found, config, run = open_run(request)
    with run:
        execute(request, found, config, run)
    return runs / "n"


@pytest.mark.parametrize("log_with", ["auto", "tensorboard"])
def test_logged_figures_are_shown_by_tensorboard(log_with: str, recipe_file: Path, tmp_path: Path) -> None:
    folder = launch(recipe_file, tmp_path / "runs", log_with)
    assert read_scalars(folder) == {"value": [(0, 0.0), (1, 0.5), (2, 1.0)]}


def test_none_and_a_machine_without_tensorboard_show_nothing(
    recipe_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert not list(launch(recipe_file, tmp_path / "runs", "none").glob("events.*"))
    monkeypatch.setattr(_trackers, "find_spec", lambda name: None)
    assert resolve_trackers("auto") == []


def test_a_tracker_that_is_unknown_or_missing_is_refused_at_once(
    recipe_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ConfigError, match=r"--log-with knows auto, none, .*tensorboard.*, got 'tensorbord'"):
        launch(recipe_file, tmp_path / "runs", "tensorboard,tensorbord")
    monkeypatch.setattr("accelerate.tracking.get_available_trackers", list)
    with pytest.raises(ConfigError, match=r'pip install "gptsim-align\[track\]"'):
        launch(recipe_file, tmp_path / "runs", "tensorboard")
    assert not (tmp_path / "runs").exists()
