"""The recipe ``reward_gradient`` as a command, on a world model and a reward model that nobody trained."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from align.io import read_json
from recipes._run import read_metrics

pytestmark = pytest.mark.timeout(900)  # seconds on an idle machine, but a busy one is not a failure

ROOT = Path(__file__).parents[2]
TUNE = (
    "model=wm",
    "contexts=clips",
    "reward_model=reward",
    "num_steps=4",
    "save_every=2",
    "contexts_per_step=3",
    "held_out=2",
    "held_out_samples=2",
    "rank=2",
)


def invoke(*arguments: str) -> Any:
    from ui.cli.main import app

    return CliRunner().invoke(app, ["run", *arguments, "--runs", "runs"], prog_name="gptsim")


def tune(*wishes: str, name: str) -> dict[str, Any]:
    """``gptsim run reward_gradient …`` in this process; the figures of its report."""
    result = invoke("reward_gradient", "--name", name, *TUNE, *wishes)
    assert result.exit_code == 0, result.output
    return dict(read_json(Path("runs") / name / "report.json"))


def start(*arguments: str) -> subprocess.Popen[bytes]:
    """The same as a process of its own."""
    command = [sys.executable, "-m", "ui.cli", "run", "reward_gradient", *arguments, "--runs", "runs"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)


@pytest.fixture(scope="session")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("reward_gradient")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        result = invoke("simulate", "out=clips", "num_contexts=4", "num_workers=1")
        assert result.exit_code == 0, result.output
    return folder / "clips"


@pytest.fixture
def folder(clips: Path, models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder of the test's own."""
    (tmp_path / "clips").symlink_to(clips)
    for name in ("wm", "reward"):
        (tmp_path / name).symlink_to(models / name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def weights(folder: Path) -> dict[str, Any]:
    from safetensors.torch import load_file

    return dict(load_file(folder / "adapter_model.safetensors"))


def test_a_run_reports_every_axis_and_its_adapter_dreams(folder: Path) -> None:
    figures = tune("gold=reward", "out=adapter", "last_steps=3", "uncertainty_weight=0", name="tuned")
    assert figures["stopped"] == "" and figures["kept_step"] == 4 and figures["measured_steps"] == 2
    for axis, scene in (("spill", "pour"), ("breakage", "shelf"), ("politeness", "corridor"), ("success", "shelf")):
        assert 0 < figures[f"base_proxy_{axis}_{scene}"] < 1 and 0 < figures[f"kept_gold_{axis}_{scene}"] < 1
    rows = read_metrics("runs/tuned")
    assert [row["step"] for row in rows] == [1, 2, 3, 4]
    assert {"reward", "kl", "entropy", "passes_spill", "passes_success", "grad_norm"} <= rows[0].keys()
    assert rows[0]["grad_norm"] > 0 and rows[0]["loss"] == pytest.approx(-rows[0]["reward"], abs=1e-3)
    assert any((tensor != 0).any() for name, tensor in weights(Path("adapter")).items() if "lora_B" in name)
    assert {"contexts", "reward_model", "gold"} <= read_json("adapter/provenance.json")["inputs"].keys()
    result = invoke("rollout", "--name", "use", "model=wm", "adapter=adapter", "contexts=clips", "out=dreams", "num_workers=1")
    assert result.exit_code == 0, result.output


def test_a_stop_keeps_the_last_good_adapter(folder: Path) -> None:
    figures = tune("limits.motion_floor=9", "limits.evidence=0.1", "path=shared", name="stopped")
    assert figures["stopped"].startswith("lost motion: motion/") and figures["kept_step"] == 0 and figures["num_steps"] == 2
    assert all((tensor == 0).all() for name, tensor in weights(Path("runs/stopped/adapter")).items() if "lora_B" in name)
    assert all("anchor" in row for row in read_metrics("runs/stopped"))


def test_mistakes_are_one_sentence(folder: Path) -> None:
    mistakes = {
        "reward_model is empty": ("reward_model=''",),
        "path must be one of": ("path=frames",),
        "temperature must be above 0": ("temperature=0",),
        "last_steps must be at least 0": ("last_steps=-1",),
        "held_out and held_out_samples must be at least 2": ("held_out_samples=1",),
        "has no axis mess": ("axes={pour: [mess, success], shelf: [success], corridor: [success]}",),
        "works in one process": ("--num-processes", "2"),
    }
    for number, (sentence, wishes) in enumerate(mistakes.items()):
        result = invoke("reward_gradient", "--name", f"mistake-{number}", *TUNE, *wishes)
        assert result.exit_code >= 3 and sentence in result.output, result.output


def test_a_backbone_without_gradients_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    from reward_models.backbones import Difference

    monkeypatch.setattr(Difference, "features", torch.no_grad()(Difference.features))
    result = invoke("reward_gradient", "--name", "blocked", *TUNE)
    assert result.exit_code >= 3 and "the backbone difference of reward passes no gradient on" in result.output


def test_a_dry_run_estimates_without_writing(folder: Path) -> None:
    result = invoke("reward_gradient", "--dry-run", *TUNE)
    assert result.exit_code == 0, result.output
    assert "trained: " in result.output and "dreaming" in result.output and not Path("runs").exists()


@pytest.mark.slow
def test_a_killed_run_goes_on_to_the_same_adapter(folder: Path) -> None:
    import torch

    whole = tune(name="whole")
    victim = start("--name", "victim", *TUNE)
    deadline, mark = time.monotonic() + 600, Path("runs/victim/checkpoints/checkpoint-2/oversight.json")
    while not mark.exists():
        assert victim.poll() is None, "the run ended before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.005)
    victim.send_signal(signal.SIGKILL)
    victim.communicate()
    assert not Path("runs/victim/report.json").exists()
    resumed = start("--name", "victim", "--resume")
    _, error = resumed.communicate(timeout=600)
    assert resumed.returncode == 0, error.decode()[-3000:]
    got = read_json("runs/victim/report.json")
    assert {k: v for k, v in got.items() if k != "out"} == {k: v for k, v in whole.items() if k != "out"}
    assert read_metrics("runs/victim") == read_metrics("runs/whole")
    first, second = (weights(Path(f"runs/{name}/adapter")) for name in ("victim", "whole"))
    assert first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)
