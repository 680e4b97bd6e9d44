"""What is special about each format."""

from __future__ import annotations

import io
import json

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from align.errors import ClipError, DataError
from align.video.folder import load_clip_folder, write_clip_folder
from align.video.importers.base import ImportOptions
from align.video.importers.lerobot_meta import make_names
from align.video.importers.npz import to_video
from align.video.importing import ImportFailed, import_clips

WINDOWS = ImportOptions(size=None, num_frames=8)


def load(src, out, options=WINDOWS, **more):
    report = import_clips(src, out, options, **more)
    clips = load_clip_folder(out)
    assert clips.validate() == []
    return clips, report


@pytest.mark.parametrize("version", ["v2.0", "v2.1", "v3.0"])
def test_lerobot(lab, tmp_path, version):
    clips, report = load(lab.make_lerobot(tmp_path / "set", version), tmp_path / "out")
    assert report.formats == [f"lerobot {version}"]
    assert [clips.attributes(i)["episode_index"] for i in range(4)] == [0, 0, 1, 1]
    for index, (episode, start) in enumerate([(0, 0), (0, 8), (1, 0), (1, 8)]):
        assert [lab.read_frame_number(frame) for frame in clips.video(index)] == list(range(start, start + 8))
        assert clips.actions(index).tolist() == [[episode, t, -t] for t in range(start, start + 7)]
    assert clips.info["action_names"] == ["pan", "lift", "grip"]
    assert clips.info["action_low"] == [0, 0, -50]  # as declared, though less was seen
    assert clips.info["action_high"] == [1, 50, 0]
    assert set(clips.table["task"]) == {"Pour the tea."}
    assert set(clips.table["fps_hz"]) == {10}


def test_lerobot_is_found_below_the_given_folder_and_its_videos_are_not_read_twice(lab, tmp_path):
    lab.make_lerobot(tmp_path / "sets/one")
    lab.make_lerobot(tmp_path / "sets/two", "v3.0")
    clips, report = load(tmp_path / "sets", tmp_path / "out")
    assert len(clips) == 8
    assert report.formats == ["lerobot v2.1, v3.0"]
    assert clips.table["actions"].notna().all()


def test_lerobot_pictures_inside_the_parquet(lab, tmp_path):
    root = lab.make_lerobot(tmp_path / "set", lengths=(9,))
    path = root / "data/chunk-000/episode_000000.parquet"
    table, cells = pd.read_parquet(path), []
    for frame in lab.draw_video(9, (32, 40)):
        buffer = io.BytesIO()
        Image.fromarray(frame).save(buffer, format="PNG")
        cells.append({"bytes": buffer.getvalue(), "path": None})
    table["observation.images.wrist"] = cells
    table.to_parquet(path)
    info = json.loads((root / "meta/info.json").read_text())
    info["features"]["observation.images.wrist"] = {"dtype": "image", "shape": [32, 40, 3]}
    (root / "meta/info.json").write_text(json.dumps(info))
    options = ImportOptions(size=None, num_frames=8, camera="wrist")
    clips, _ = load(root, tmp_path / "out", options)
    assert clips.video(0).shape == (8, 32, 40, 3)
    assert [lab.read_frame_number(frame) for frame in clips.video(0)] == list(range(8))
    _, report = load(root, tmp_path / "first")
    assert any(lab.camera in note and "wrist" in note for note in report.notes)


def test_lerobot_refuses_unknown_cameras_and_versions(lab, tmp_path):
    root = lab.make_lerobot(tmp_path / "set")
    with pytest.raises(DataError, match=r"no camera 'side'.*observation\.images\.top"):
        import_clips(root, tmp_path / "out", ImportOptions(camera="side"), skip_broken=True)
    with pytest.raises(DataError, match=r"codebase_version v1\.6"):
        import_clips(lab.make_lerobot(tmp_path / "old", codebase_version="v1.6"), tmp_path / "out")


def test_lerobot_metadata_that_promises_what_isnt_there(lab, tmp_path):
    root = lab.make_lerobot(tmp_path / "set", lengths=(20, 20, 20, 20), total_frames=81)
    videos = root / f"videos/chunk-000/{lab.camera}"
    (videos / "episode_000000.mp4").unlink()
    lab.truncate(videos / "episode_000001.mp4", 0.5)
    lab.write_video(videos / "episode_000002.mp4", lab.draw_video(18, (48, 64)))
    table = pd.read_parquet(root / "data/chunk-000/episode_000003.parquet")
    table[:15].to_parquet(root / "data/chunk-000/episode_000003.parquet")
    with pytest.raises(ImportFailed) as caught:
        import_clips(root, tmp_path / "out", WINDOWS)
    problems = [str(problem) for problem in caught.value.report.problems]
    expected = [
        ("info.json", "promises total_frames 81, but the episode list adds up to 80"),
        ("episode_000000.mp4", "does not exist"),
        ("episode_000001.mp4", "can't be opened as a video"),
        ("episode_000002.mp4", "has 18 frames, but its metadata promises 20"),
        ("episode_000003.parquet", "has 15 rows"),
    ]
    assert len(problems) == len(expected)
    for problem, (file, reason) in zip(problems, expected, strict=True):
        assert f"{file}: " in problem
        assert reason in problem
    assert not (tmp_path / "out").exists()


def test_lerobot_v3_file_that_ends_too_early(lab, tmp_path):
    root = lab.make_lerobot(tmp_path / "set", "v3.0")
    lab.write_video(root / f"videos/{lab.camera}/chunk-000/file-000.mp4", lab.draw_video(30, (48, 64)))
    _, report = load(root, tmp_path / "out", skip_broken=True)
    assert [problem.reason for problem in report.problems] == ["ends after 10 of the 17 frames that are promised from 2 s on"]


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (["a", "b"], ("a", "b")),
        ([["a", "b"]], ("a", "b")),
        ({"motors": ["a", "b"]}, ("a", "b")),
        ({"a": 0, "b": 1}, ("a", "b")),
        (None, ("action_0", "action_1")),
        (["a"], ("action_0", "action_1")),
        (["a", "a"], ("action_0", "action_1")),
    ],
)
def test_action_names_in_all_their_forms(given, expected):
    assert make_names(given, 2) == expected


def test_a_folder_of_videos_with_metadata(lab, tmp_path):
    root = tmp_path / "videos"
    for name, codec in (("a, with a comma.mp4", "libx264"), ("deep/b.webm", "libvpx-vp9"), ("c.gif", "gif")):
        lab.write_video(root / name, lab.draw_video(9, (96, 128)), codec=codec)
    rows = {
        "file_name": ["a, with a comma.mp4", "deep/b.webm"],
        "caption": ["Tea is poured.", None],
        "actions": [json.dumps([[t] for t in range(9)]), None],
        "success": [1, 0],
        "light": ["dim", "bright"],
    }
    pd.DataFrame(rows).to_csv(root / "metadata.csv", index=False)
    clips, report = load(root, tmp_path / "out")
    assert [clips.attributes(i)["source_file"] for i in range(3)] == ["a, with a comma.mp4", "c.gif", "deep/b.webm"]
    assert clips.table["task"].tolist() == ["Tea is poured.", "", ""]
    assert clips.actions(0).tolist() == [[t] for t in range(7)]
    assert clips.actions(1) is None
    assert clips.attributes(0)["light"] == "dim"
    assert clips.attributes(0)["clip_success"] == 1  # the window is a part of the clip, so its own success is unknown
    assert "success" not in clips.table
    assert report.notes == ["1 of 3 videos have no row in the metadata"]


def test_a_window_of_the_whole_clip_keeps_its_outcome(lab, tmp_path):
    source = write_clip_folder(tmp_path / "ours", {}, [lab.make_clip(n, num_frames=8) for n in range(2)])
    clips, _ = load(source, tmp_path / "out", ImportOptions(size=(64, 64), num_frames=0))
    assert clips.table["outcome_spill"].tolist() == [0, 1]
    assert clips.table["success"].tolist() == [1, 1]
    assert clips.attributes(1)["colour"] == "red"
    assert clips.actions(1).tolist() == lab.make_clip(1, num_frames=8).actions.tolist()


def test_metadata_and_videos_that_dont_fit(lab, tmp_path):
    root = tmp_path / "videos"
    lab.write_video(root / "a.mp4", lab.draw_video(9, (96, 128)))
    lab.write_video(root / "b.mp4", lab.draw_video(9, (96, 128)))
    rows = {"file_name": ["a.mp4", "a.mp4", "gone.mp4", "b.mp4"], "actions": ["", "", "", "[[1], [1, 2]]"]}
    pd.DataFrame(rows).to_csv(root / "metadata.csv", index=False)
    with pytest.raises(ImportFailed) as caught:
        import_clips(root, tmp_path / "out", WINDOWS)
    reasons = {problem.file.rsplit("/", 1)[-1]: problem.reason for problem in caught.value.report.problems}
    assert "second time by row 2" in reasons["a.mp4"]
    assert "row 3 of metadata.csv names it" in reasons["gone.mp4"]
    assert "equally long lists" in reasons["b.mp4"]
    (root / "metadata.csv").write_text("name\na.mp4\n")
    with pytest.raises(DataError, match="no column file_name"):
        import_clips(root, tmp_path / "out", WINDOWS)


def test_broken_videos_are_skipped_if_wished(lab, tmp_path):
    root = tmp_path / "videos"
    lab.write_video(root / "a.mp4", lab.draw_video(9, (96, 128)))
    lab.truncate(lab.write_video(root / "b.mp4", lab.draw_video(30, (96, 128)), movflags="+faststart"), 0.9)
    (root / "c.mp4").touch()
    clips, report = load(root, tmp_path / "out", skip_broken=True)
    assert len(clips) == 1
    assert len(list((tmp_path / "out/videos").iterdir())) == 1  # the whole windows before the cut are gone too
    assert [problem.file.rsplit("/", 1)[-1] for problem in report.problems] == ["b.mp4", "c.mp4"]
    with pytest.raises(ImportFailed, match=r"b\.mp4: is (truncated|corrupt)"):
        import_clips(root, tmp_path / "other", WINDOWS)


VIDEO = np.arange(2 * 16 * 20 * 3, dtype=np.int64).reshape(2, 16, 20, 3) % 256


@pytest.mark.parametrize(
    ("array", "stacked", "expected"),
    [
        (VIDEO, "", VIDEO),
        (VIDEO.astype(np.uint8), "", VIDEO),
        (VIDEO / 255, "", VIDEO),
        (VIDEO.transpose(0, 3, 1, 2), "", VIDEO),
        (VIDEO[..., 0], "", VIDEO[..., [0, 0, 0]]),
        (VIDEO[..., :1], "", VIDEO[..., [0, 0, 0]]),
        (np.concatenate([255 - VIDEO, VIDEO], -1), "last", VIDEO),
        (np.concatenate([VIDEO, 255 - VIDEO], -1).transpose(0, 3, 1, 2), "first", VIDEO),
    ],
)
def test_frames_of_every_layout(array, stacked, expected):
    video = to_video(array, stacked=stacked)
    assert video.dtype == np.uint8
    np.testing.assert_array_equal(video, expected)


@pytest.mark.parametrize(
    ("array", "reason"),
    [
        (VIDEO + 1, "int64 pixels from 1 to 256"),
        (VIDEO - 1, "int64 pixels from -1 to 254"),
        (VIDEO.astype(float), "float64 pixels"),
        (VIDEO / np.nan, "float64 pixels from nan"),
        (VIDEO > 3, "bool pixels"),
        (VIDEO[..., :2], "2 channels"),
        (np.zeros((2, 9, 16, 16), np.uint8), "9 channels, which looks like 3 stacked frames; .*--stacked"),
        (VIDEO[None], "isn't a video"),
        (VIDEO[:0], "isn't a video"),
    ],
)
def test_frames_that_are_refused(array, reason):
    with pytest.raises(ClipError, match=reason):
        to_video(array, "obs")


def test_npz_says_what_it_chose(lab, tmp_path):
    frames = lab.draw_video(9)
    np.savez(tmp_path / "a.npz", image=frames, wrist=frames[:, ::-1], action=np.arange(18).reshape(9, 2))
    clips, report = load(tmp_path / "a.npz", tmp_path / "out")
    assert [lab.read_frame_number(frame) for frame in clips.video(0)] == list(range(8))
    assert any("'image'" in note and "wrist" in note for note in report.notes)
    assert any("8 Hz is assumed" in note for note in report.notes)
    options = ImportOptions(size=None, num_frames=8, camera="wrist", fps_hz=5)
    clips, report = load(tmp_path / "a.npz", tmp_path / "wrist", options)
    assert lab.read_frame_number(clips.video(0)[3, ::-1]) == 3
    assert clips.table["fps_hz"].tolist() == [5]
    assert report.notes == []


def test_npz_replay_buffers_hold_the_action_that_led_to_a_frame(lab, tmp_path):
    actions = np.arange(9, dtype=np.float32)[:, None]
    np.savez(tmp_path / "a.npz", observation=lab.draw_video(9), action=actions, discount=np.ones(9), fps=8)
    clips, report = load(tmp_path / "a.npz", tmp_path / "out")
    assert clips.actions(0)[:, 0].tolist() == [1, 2, 3, 4, 5, 6, 7]
    assert "moved by one frame" in report.notes[0]


def test_npz_that_cant_be_read(lab, tmp_path):
    root = tmp_path / "episodes"
    root.mkdir()
    np.savez(root / "guess.npz", left=lab.draw_video(9), right=lab.draw_video(9))
    np.savez(root / "object.npz", image=np.array([{"a": 1}], dtype=object))
    np.savez(root / "text.npz", image=lab.draw_video(9), action=np.array(["up"] * 9))
    with pytest.raises(ImportFailed) as caught:
        import_clips(root, tmp_path / "out", WINDOWS)
    reasons = [problem.reason for problem in caught.value.report.problems]
    assert "name one with --camera" in reasons[0]
    assert "'image' isn't made of plain numbers" in reasons[1]
    assert "must hold numbers" in reasons[2]
