"""The recipe ``grpo`` as a command, on a world model and a reward model that nobody trained."""

from __future__ import annotations

import os
import shutil
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
    "num_steps=8",
    "save_every=4",
    "contexts_per_step=3",
    "samples_per_context=2",
    "held_out=2",
    "held_out_samples=2",
    "rank=2",
)


def invoke(*arguments: str) -> Any:
    from ui.cli.main import app

    return CliRunner().invoke(app, ["run", *arguments, "--runs", "runs"], prog_name="gptsim")


def tune(*wishes: str, name: str = "grpo") -> dict[str, Any]:
    """``gptsim run grpo …`` in this process; the figures of its report."""
    result = invoke("grpo", "--name", name, *TUNE, *wishes)
    assert result.exit_code == 0, result.output
    return dict(read_json(Path("runs") / name / "report.json"))


def start(*arguments: str) -> subprocess.Popen[bytes]:
    """The same as a process of its own, in the working folder of the test."""
    command = [sys.executable, "-m", "ui.cli", "run", "grpo", *arguments, "--runs", "runs"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)


def finish(process: subprocess.Popen[bytes]) -> None:
    _, error = process.communicate(timeout=600)
    assert process.returncode == 0, error.decode()[-3000:]


def kill_when(process: subprocess.Popen[bytes], file: Path) -> None:
    """Kill -9 as soon as a file is there; the run must not be finished by then."""
    deadline = time.monotonic() + 600
    while not file.exists():
        assert process.poll() is None, "the run ended before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.communicate()


def make_world_model(folder: Path, loudness: float = 1.0) -> None:
    """16x16 pixels, 4 tokens a frame, untrained; the louder its output layer, the further it can be tuned."""
    import torch

    from align.scenes import make_scene
    from align.types import ActionSpace
    from align.world_models.layout import TokenLayout
    from align.world_models.temporal_depth import TemporalDepthConfig, TemporalDepthModel
    from align.world_models.tokenizer import FrameTokenizer, TokenizerConfig
    from align.world_models.world_model import save_world_model

    torch.manual_seed(0)
    sizes = TokenizerConfig(size=(16, 16), cell=(8, 8), levels=(4, 4), width=8)
    frames = make_scene("pour").num_frames
    layout = TokenLayout(frames, 2, 4, 17, ActionSpace(("right", "down_or_tilt"), (-1.0, -1.0), (1.0, 1.0)))
    shape = {"trunk_width": 32, "trunk_layers": 1, "depth_layers": 1, "hidden_width": 16}
    model = TemporalDepthModel(TemporalDepthConfig(layout.to_dict(), grid=(2, 2), **shape))
    with torch.no_grad():
        model.lm_head.weight.mul_(loudness)
    save_world_model(folder, FrameTokenizer(sizes), model, {"clips_sha256": "none"})


def make_reward_model(folder: Path, seed: int, blind: str = "") -> None:
    """Heads of chance on pixels that differ from frame 0; an axis may lack its calibration."""
    import torch

    from reward_models.backbones import Difference
    from reward_models.model import HeadConfig, RewardModel

    backbone = Difference(grid=2, num_moments=2)
    axes = ("breakage", "politeness", "spill", "success")
    shape = HeadConfig(axes, 2, 2, 4, backbone.feature_dim, width=4)
    model = RewardModel(backbone, shape, torch.Generator().manual_seed(seed))
    model.fail_slope[:], model.fail_bias[:] = 2.0, 1.5
    if blind:
        model.fail_slope[axes.index(blind)] = torch.nan
    model.save_pretrained(folder)


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Clips, a world model and two reward models; read them, write elsewhere."""
    folder = tmp_path_factory.mktemp("grpo")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        result = invoke("simulate", "out=clips", "num_contexts=6", "num_workers=1")
        assert result.exit_code == 0, result.output
    make_world_model(folder / "wm")
    make_world_model(folder / "loud", loudness=20.0)
    make_reward_model(folder / "reward", 0)
    make_reward_model(folder / "gold", 1)
    make_reward_model(folder / "blind", 2, blind="spill")
    return folder


@pytest.fixture
def folder(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder of the test's own."""
    for name in ("clips", "wm", "loud", "reward", "gold", "blind"):
        (tmp_path / name).symlink_to(made / name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def weights(folder: Path) -> dict[str, Any]:
    from safetensors.torch import load_file

    return dict(load_file(folder / "adapter_model.safetensors"))


def test_a_run_reports_rates_against_budgets(folder: Path) -> None:
    figures = tune("gold=gold", "out=adapter", "budgets={spill: 0.03}")
    assert figures["stopped"] == "" and figures["kept_step"] == 8 and figures["measured_steps"] == 2
    assert figures["budget_spill"] == 0.03
    assert figures["budget_breakage"] == pytest.approx(0.2 * figures["base_breakage"])
    assert 0 < figures["rate_spill"] < figures["upper_spill"] and 0 < figures["kept_gold"] < 1
    rows = read_metrics("runs/grpo")
    assert [row["step"] for row in rows] == list(range(1, 9))
    rollouts = [row for row in rows if "rewards_spill_mean" in row]
    assert [row["step"] for row in rollouts] == [1, 3, 5, 7], "two updates on each batch of rollouts"
    first, second = (row["multiplier_spill"] for row in rollouts[:2])
    assert first == 1.0 and second == pytest.approx(1 + 0.5 * (1 - rollouts[0]["rewards_spill_mean"] - 0.03))
    checks = read_json("runs/grpo/held_out.json")
    assert [row["step"] for row in checks] == [0, 4, 8] and "action_nll/pour" in checks[0]
    assert read_json("runs/grpo/budgets.json")["spill"] == 0.03
    assert (folder / "runs/grpo/constraints.png").stat().st_size > 10_000
    assert "| budget_spill | 0.03 |" in (folder / "adapter/README.md").read_text()
    assert {"contexts", "reward_model", "gold"} <= read_json("adapter/provenance.json")["inputs"].keys()
    result = invoke("rollout", "--name", "use", "model=wm", "adapter=adapter", "contexts=clips", "out=dreams", "num_workers=1")
    assert result.exit_code == 0, result.output


def test_a_stop_keeps_the_last_good_adapter(folder: Path) -> None:
    figures = tune("limits.motion_floor=9", "limits.evidence=0.1", "path=shared")
    assert figures["stopped"].startswith("lost motion: motion/") and figures["measured_steps"] == 1
    assert figures["kept_step"] == 0 and figures["num_steps"] == 4
    assert all((tensor == 0).all() for name, tensor in weights(Path("runs/grpo/adapter")).items() if "lora_B" in name)
    # A divergence; where nothing has been learned yet it is 0 up to float32 rounding.
    assert all(row["anchor"] > -1e-6 for row in read_metrics("runs/grpo"))
    assert "frame_nll/pour" in read_json("runs/grpo/held_out.json")[0]


def test_a_planted_reward_hack_is_stopped_near_the_peak(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A world in which what one dim does shows as light. The reward likes it ever brighter; in truth there is a best light."""
    import numpy as np

    from align.world_models.world_model import WorldModel
    from recipes import grpo

    def paint(self: WorldModel, ids: Any, first: Any) -> Any:
        level = self.layout.split(ids)[1][..., 0].numpy() / (self.layout.num_bins - 1)
        light = np.concatenate([level[:, :1], level], axis=1)
        return np.broadcast_to((light * 255).astype(np.uint8)[..., None, None, None], (*light.shape, 16, 16, 3))

    def likes(worth: Any) -> Any:
        def score(video: Any, scenes: Any) -> dict[str, list[float | None]]:
            hazards = {"spill": "pour", "breakage": "shelf", "politeness": "corridor"}
            light = video[:, 2:].mean((1, 2, 3, 4)) / 255
            safe = {axis: [0.9 if scene == there else None for scene in scenes] for axis, there in hazards.items()}
            return {"success": worth(light).tolist(), **safe}

        return lambda *_: score

    monkeypatch.setattr(WorldModel, "decode", paint)
    monkeypatch.setattr(grpo, "reward_score", likes(lambda light: light))
    monkeypatch.setattr(grpo, "gold_score", likes(lambda light: 1 - 3 * abs(light - 0.52)))
    sizes = ("num_steps=32", "samples_per_context=8", "held_out=4", "held_out_samples=4", "learning_rate=0.02")
    wishes = ("model=loud", "gold=gold", *sizes)
    figures = tune(*wishes)
    checks = read_json("runs/grpo/held_out.json")
    gold = [check["gold/good"] for check in checks]
    assert "over-optimisation: gold reward" in figures["stopped"] and "while the proxy rose" in figures["stopped"]
    assert figures["num_steps"] < 32 and checks[-1]["proxy/good"] > checks[0]["proxy/good"] + 0.1
    assert 0 < figures["kept_step"] < checks[-1]["step"] and figures["kept_gold"] > gold[0]
    assert figures["kept_gold"] > max(gold) - 0.05, "what is kept has lost less than 5 points"


def test_mistakes_are_one_sentence(folder: Path) -> None:
    mistakes = {
        "reward_model is empty": ("reward_model=''",),
        "multiples of updates_per_rollout": ("save_every=3",),
        "path must be one of": ("path=frames",),
        "at least 2": ("held_out=1",),
        "what counts in the scene corridor": ("axes={pour: [spill, success]}",),
        "has no axis mess": ("axes={pour: [mess, success], shelf: [success], corridor: [success]}",),
        "can't say what is bad in itself on spill": ("reward_model=blind",),
        "budgets names success": ("budgets={success: 0.1}",),
        "has 6 contexts and 6 are held out": ("held_out=6",),
        "there is no outcome judge nowhere": ("gold=nowhere",),
    }
    for number, (sentence, wishes) in enumerate(mistakes.items()):
        result = invoke("grpo", "--name", f"mistake-{number}", *TUNE, *wishes)
        assert result.exit_code >= 3 and sentence in result.output, result.output


def assert_same_run(victim: str, whole: str) -> None:
    import torch

    got, wanted = (read_json(f"runs/{name}/report.json") for name in (victim, whole))
    assert {k: v for k, v in got.items() if k != "out"} == {k: v for k, v in wanted.items() if k != "out"}
    assert read_json(f"runs/{victim}/held_out.json") == read_json(f"runs/{whole}/held_out.json")
    rows = [
        [{key: value for key, value in row.items() if key != "step_time"} for row in read_metrics(f"runs/{name}")]
        for name in (victim, whole)
    ]
    assert rows[0] == rows[1]
    first, second = (weights(Path(f"runs/{name}/adapter")) for name in (victim, whole))
    assert first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def test_a_run_that_breaks_off_goes_on_to_the_same_adapter(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the slow tests do with kill -9, in one process."""
    from align.tuning.oversight import Oversight

    tune("gold=gold", name="whole")
    save = Oversight.on_save

    def save_and_break_off(self: Oversight, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        save(self, args, state, control, **kwargs)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Oversight, "on_save", save_and_break_off)
        assert invoke("grpo", "--name", "victim", *TUNE, "gold=gold").exit_code != 0
    assert Path("runs/victim/checkpoints/checkpoint-4/oversight.json").exists()
    assert not Path("runs/victim/report.json").exists()
    result = invoke("grpo", "--name", "victim", "--resume")
    assert result.exit_code == 0, result.output
    assert_same_run("victim", "whole")


@pytest.mark.slow
def test_a_killed_run_goes_on_to_the_same_adapter(folder: Path) -> None:
    tune("gold=gold", name="whole")
    victim = start("--name", "victim", *TUNE, "gold=gold")
    kill_when(victim, Path("runs/victim/checkpoints/checkpoint-4/oversight.json"))
    assert not Path("runs/victim/report.json").exists()
    finish(start("--name", "victim", "--resume"))
    assert_same_run("victim", "whole")


@pytest.mark.slow
def test_a_run_killed_anywhere_goes_on_to_the_same_adapter(folder: Path) -> None:
    longer = ("num_steps=24", "gold=gold", "path=shared")
    tune(*longer, name="whole")
    moments = ("budgets.json", "checkpoints/checkpoint-4/trainer_state.json", "checkpoints/checkpoint-12/oversight.json")
    victim = start("--name", "victim", *TUNE, *longer)
    for moment in moments:
        kill_when(victim, Path("runs/victim") / moment)
        victim = start("--name", "victim", "--resume")
    # Once more when all is trained and only the result isn't written yet.
    kill_when(victim, Path("runs/victim/checkpoints/checkpoint-24/oversight.json"))
    finish(start("--name", "victim", "--resume"))
    assert_same_run("victim", "whole")


@pytest.mark.slow
def test_a_run_killed_after_its_alarm_stays_stopped(folder: Path) -> None:
    stopping = ("limits.motion_floor=9", "limits.evidence=0.1")
    tune(*stopping, name="whole")
    shutil.copytree("runs/whole", "runs/victim")
    for name in ("report.json", "held_out.json"):
        Path("runs/victim", name).unlink()
    shutil.rmtree("runs/victim/adapter")
    finish(start("--name", "victim", "--resume"))
    assert_same_run("victim", "whole")


@pytest.mark.slow
def test_two_ranks_train_the_adapter_of_one_with_twice_the_batch(folder: Path) -> None:
    import torch

    few = ("num_steps=4", "updates_per_rollout=1", "learning_rate=0.01")
    tune(*few, "contexts_per_step=6", name="one")
    finish(start("--name", "two", "--num-processes", "2", *TUNE, *few))
    tune(*few, name="half")

    def learned(name: str) -> Any:
        state = weights(Path(f"runs/{name}/adapter"))
        return torch.cat([tensor.flatten() for key, tensor in sorted(state.items()) if "lora_B" in key])

    # Adam makes much of rounding where a gradient is nearly 0, so single weights may differ; the whole must not.
    one, two, half = (learned(name) for name in ("one", "two", "half"))
    assert (two - one).norm() < 0.03 * one.norm()
    assert (half - one).norm() > 0.15 * one.norm(), "ranks that don't share gradients would be noticed"
    first, second = (read_json(f"runs/{name}/held_out.json") for name in ("one", "two"))
    assert first[0] == {key: pytest.approx(value, abs=1e-5) for key, value in second[0].items()}
