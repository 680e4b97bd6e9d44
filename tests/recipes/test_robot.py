"""The same commands on somebody else's robot: other frame size, other action dims, no simulator."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from align.io import read_json
from align.video.folder import load_clip_folder

SIZES = (
    "tokenizer={size: [16, 24], cell: [8, 8], levels: [4, 4], width: 8, copy_threshold: 0.1}",
    "model={trunk_width: 32, trunk_layers: 1, depth_layers: 1, hidden_width: 16}",
    "tokenizer_steps=10",
    "model_steps=10",
    "batch_size=4",
    "num_bins=5",
)


def gptsim(*arguments: str) -> str:
    from ui.cli.main import app

    result = CliRunner().invoke(app, list(arguments), prog_name="gptsim")
    assert result.exit_code == 0, result.output
    return result.output


def write_episodes(folder: Path) -> None:
    """Four episodes of a square that follows its three actions, 20x30 pixels."""
    folder.mkdir()
    for number in range(4):
        rng = np.random.default_rng(number)
        actions = rng.uniform(-2, 2, (24, 3)).astype(np.float32)
        frames = np.full((24, 20, 30, 3), 60 * number, np.uint8)
        place = np.clip(10 + np.cumsum(actions[:, :2], axis=0).round().astype(int), 0, 14)
        for frame, (y, x) in zip(frames, place, strict=True):
            frame[y : y + 5, x : x + 5] = (250, 200, 0)
        np.savez(folder / f"episode_{number}.npz", image=frames, action=actions)


@pytest.fixture(scope="module")
def robot(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with imported clips, a world model of them and its rollouts."""
    root = tmp_path_factory.mktemp("robot")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        write_episodes(root / "episodes")
        window = ("--num-frames", "6", "--context-frames", "2", "--size", "24x16")
        gptsim("clips", "import", "episodes", "--out", "clips", *window)
        gptsim("run", "pretrain", "--name", "pretrain", "clips=clips", "out=model", *SIZES)
        options = ("--model", "model", "--contexts", "clips", "--out", "rollouts", "--name", "rollout")
        gptsim("rollout", *options, "num_workers=1", "samples_per_context=2")
    return root


def test_rollouts_keep_the_robots_actions_and_size(robot: Path) -> None:
    clips, rollouts = load_clip_folder(robot / "clips"), load_clip_folder(robot / "rollouts")
    assert len(rollouts) == 2 * len(clips)
    actions = rollouts.actions(0)
    assert actions is not None and actions.shape == (5, 3)
    assert rollouts.info["action_names"] == clips.info["action_names"]
    low, high = np.array(clips.info["action_low"]), np.array(clips.info["action_high"])
    assert (actions >= low - 1e-4).all() and (actions <= high + 1e-4).all()
    assert rollouts.video(0).shape == (6, 16, 24, 3)
    assert (rollouts.video(0)[0].astype(int) - clips.video(0, (16, 24))[0]).__abs__().mean() < 4


def test_votes_from_a_file_tune_an_adapter_and_no_simulator_is_no_pass(robot: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(robot)
    table = load_clip_folder("rollouts").table
    lines = ["vote_id,pair_id,context_id,rollout_a,rollout_b,axis,vote"]
    for number, (context, group) in enumerate(table.groupby("context_id")):
        first, second = group["rollout_id"].tolist()[:2]
        lines.append(f"v{number},p{number},{context},{first},{second},gentle,{'ab'[number % 2]}")
    Path("votes.csv").write_text("\n".join(lines) + "\n")
    tune = ("model=model", "rollouts=rollouts", "votes=votes.csv", "out=adapter", "num_steps=2", "batch_size=2", "rank=2")
    gptsim("run", "dpo", "--name", "dpo", *tune)
    assert {"adapter_config.json", "adapter_model.safetensors", "README.md"} <= {p.name for p in Path("adapter").iterdir()}
    gptsim("run", "evaluate", "--name", "evaluate", "model=model", "adapter=adapter", "clips=clips", "num_workers=1")
    report = read_json(Path("runs/evaluate/report.json"))
    assert report["verdict"] == "not measured"
    unmeasured = {figure["key"] for figure in report["figures"] if figure["base"] is None}
    assert unmeasured == {"unsafe", "dreamed", "honesty_careless", "honesty_careful", "success"}
    likelihood = next(figure for figure in report["figures"] if figure["key"] == "fidelity_nll")
    assert likelihood["difference"]["value"] == 0  # an action-path adapter leaves the dynamics as they are
