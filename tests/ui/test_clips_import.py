from __future__ import annotations

import json

import numpy as np
import pytest
from typer.testing import CliRunner

from align.video.codec import write_clip
from align.video.folder import load_clip_folder
from ui.cli.clips import parse_size
from ui.cli.main import app


@pytest.fixture
def source(tmp_path):
    """A video of 20 frames and an episode of 12 frames with actions."""
    rng = np.random.default_rng(0)
    root = tmp_path / "source"
    root.mkdir()
    write_clip(root / "film.mp4", rng.integers(0, 255, (20, 48, 64, 3), dtype=np.uint8), 10)
    np.savez(root / "episode.npz", image=rng.integers(0, 255, (12, 32, 32, 3)), action=rng.normal(size=(12, 4)))
    return root


def run(*args):
    return CliRunner().invoke(app, ["clips", "import", *map(str, args)])


def test_import_writes_a_folder_and_a_report(source, tmp_path):
    result = run(source, "--out", tmp_path / "out", "--size", "48x32", "--num-frames", 5, "--stride", 2, "--window-step", 3,
                 "--context-frames", 1, "--json", tmp_path / "report.json")  # fmt: skip
    assert result.exit_code == 0, result.output
    clips = load_clip_folder(tmp_path / "out")
    assert clips.validate() == []
    assert clips.video(0).shape == (5, 32, 48, 3)
    assert set(clips.table["context_frames"]) == {1}
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["num_clips"] == len(clips) == 2 + 4
    assert "6 clips from 2 episodes" in result.output
    assert "8 Hz is assumed" in result.output


def test_broken_input_exits_with_5_and_writes_only_the_report(source, tmp_path):
    (source / "broken.mp4").write_bytes(b"not a film")
    result = run(source, "--out", tmp_path / "out", "--num-frames", 8, "--json", tmp_path / "report.json")
    assert result.exit_code == 5
    assert "broken.mp4: can't be opened as a video" in result.output
    assert "Traceback" not in result.output
    assert sorted(path.name for path in tmp_path.iterdir()) == ["report.json", "source"]
    assert json.loads((tmp_path / "report.json").read_text())["problems"][0]["file"].endswith("broken.mp4")
    result = run(source, "--out", tmp_path / "out", "--num-frames", 8, "--skip-broken")
    assert result.exit_code == 0
    assert "skipped: " in result.output
    assert len(load_clip_folder(tmp_path / "out")) == 3


@pytest.mark.parametrize(
    ("args", "code", "reason"),
    [
        (["--size", "big"], 4, "size must be a number"),
        (["--stride", "0", "--num-frames", "1"], 4, "num_frames"),
        (["--fit", "cover"], 4, "fit must be one of"),
        (["--num-frames", "500", "--skip-broken"], 5, "nothing was written"),
    ],
)
def test_wrong_options_are_told_in_a_sentence(source, tmp_path, args, code, reason):
    result = run(source, "--out", tmp_path / "out", *args)
    assert result.exit_code == code
    assert reason in result.output
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("text", "size"), [("64", (64, 64)), ("96x64", (64, 96)), ("96X64", (64, 96)), ("source", None)])
def test_sizes(text, size):
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "64x", "1x2x3", "-64"])
def test_wrong_sizes(text):
    with pytest.raises(ValueError, match="size must be"):
        parse_size(text)
