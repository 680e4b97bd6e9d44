"""What holds for every format: windows, actions, ids, and how broken input ends."""

from __future__ import annotations

import types

import numpy as np
import pytest

from align.errors import DataError
from align.video import importing
from align.video.folder import load_clip_folder
from align.video.importers.base import Episode, ImportOptions, Source
from align.video.importing import ImportFailed, import_clips, iter_windows, pick_actions


@pytest.fixture
def source(lab, tmp_path):
    """Two npz episodes of 20 and 9 frames with actions [t, 10 + t]."""
    root = tmp_path / "source"
    root.mkdir()
    for name, length in (("long", 20), ("short", 9)):
        actions = np.stack([np.arange(length), 10 + np.arange(length)], axis=1)
        np.savez(root / f"{name}.npz", image=lab.draw_video(length), action=actions, fps=10)
    return root


def numbered(count):
    return (np.full((1, 1, 3), index, np.uint8) for index in range(count))


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"num_frames": 4}, [[0, 1, 2, 3], [4, 5, 6, 7]]),
        ({"num_frames": 4, "window_step": 3}, [[0, 1, 2, 3], [3, 4, 5, 6], [6, 7, 8, 9]]),
        ({"num_frames": 3, "stride": 2}, [[0, 2, 4]]),
        ({"num_frames": 3, "stride": 3, "window_step": 2}, [[0, 3, 6], [2, 5, 8]]),
        ({"num_frames": 0, "stride": 4}, [[0, 4, 8]]),
        ({"num_frames": 11}, []),
    ],
)
def test_windows(options, expected):
    windows = list(iter_windows(numbered(10), ImportOptions(**options)))
    assert [video[:, 0, 0, 0].tolist() for _, video in windows] == expected
    assert [start for start, _ in windows] == [numbers[0] for numbers in expected]


@pytest.mark.parametrize(("rule", "expected"), [("first", [2, 4, 6]), ("mean", [2.5, 4.5, 6.5]), ("sum", [5, 9, 13])])
def test_actions_of_a_window_with_stride_two(rule, expected):
    actions = np.arange(10, dtype=np.float32)[:, None]
    options = ImportOptions(num_frames=4, stride=2, action_rule=rule)
    assert pick_actions(actions, 2, 4, options)[:, 0].tolist() == expected


def test_an_import_from_end_to_end(lab, source, tmp_path):
    report = import_clips(source, tmp_path / "out", ImportOptions(size=(64, 64), num_frames=4, stride=2), scene="lab")
    clips = load_clip_folder(tmp_path / "out")
    assert clips.validate() == []
    assert (report.num_clips, report.num_episodes, report.problems) == (len(clips), 2, []) == (3, 2, [])
    starts = [clips.attributes(index)["window_start"] for index in range(3)]
    assert starts == [0, 8, 0]
    assert [lab.read_frame_number(frame) for frame in clips.video(1)] == [8, 10, 12, 14]
    assert clips.actions(1).tolist() == [[8, 18], [10, 20], [12, 22]]
    assert set(clips.table["fps_hz"]) == {5.0}
    assert set(clips.table["scene"]) == {"lab"}
    assert set(clips.table["model_id"]) == {"real"}
    assert clips.info["action_names"] == ["action_0", "action_1"]
    assert clips.info["action_low"] == [0, 10]
    assert clips.info["action_high"] == [19, 29]


def test_every_window_is_a_context_and_keeps_its_episode(source, tmp_path):
    import_clips(source, tmp_path / "out", ImportOptions(num_frames=4))
    clips = load_clip_folder(tmp_path / "out")
    assert clips.table["context_id"].is_unique
    episodes = [clips.attributes(index)["episode_id"] for index in range(len(clips))]
    assert len(set(episodes)) == 2
    assert len(clips) == 7


def test_equal_content_and_equal_names_dont_collide(lab, tmp_path):
    for name, seed in (("a/x.npz", 0), ("a/y.npz", 0), ("b/x.npz", 1)):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        np.savez(tmp_path / name, image=lab.draw_video(4, seed=seed), fps=8)
    ids = []
    for name in "ab":
        import_clips(tmp_path / name, tmp_path / f"out-{name}", ImportOptions(num_frames=4))
        ids += load_clip_folder(tmp_path / f"out-{name}").table["rollout_id"].tolist()
    assert len(set(ids)) == 3
    import_clips(tmp_path / "a", tmp_path / "again", ImportOptions(num_frames=4))
    assert load_clip_folder(tmp_path / "again").table["rollout_id"].tolist() == ids[:2]  # and they can be repeated


def test_all_that_is_broken_is_listed_and_nothing_is_written(lab, source, tmp_path):
    np.savez(source / "bad.npz", image=lab.draw_video(12), action=np.zeros((7, 2)), fps=8)
    (source / "worse.npz").write_bytes(b"PK")
    with pytest.raises(ImportFailed) as caught:
        import_clips(source, tmp_path / "out", ImportOptions(num_frames=4))
    assert [problem.file.rsplit("/", 1)[-1] for problem in caught.value.report.problems] == ["bad.npz", "worse.npz"]
    assert "bad.npz: has 12 frames, but 7 actions" in str(caught.value)
    assert "worse.npz: isn't an .npz archive" in str(caught.value)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["source"]


def test_broken_episodes_are_skipped_whole(lab, source, tmp_path):
    np.savez(source / "bad.npz", image=lab.draw_video(12), action=np.zeros((7, 2)), fps=8)
    report = import_clips(source, tmp_path / "out", ImportOptions(num_frames=4), skip_broken=True)
    clips = load_clip_folder(tmp_path / "out")
    assert len(report.problems) == 1
    assert len(clips) == 7
    assert not any("bad" in name for name in clips.table["rollout_id"])


def test_an_import_of_nothing_fails(lab, source, tmp_path):
    with pytest.raises(ImportFailed, match=r"(?s)no clip of .*needs 50"):
        import_clips(source, tmp_path / "out", ImportOptions(num_frames=50), skip_broken=True)
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="holds no clips"):
        import_clips(tmp_path / "empty", tmp_path / "out")
    with pytest.raises(DataError, match="does not exist"):
        import_clips(tmp_path / "nowhere", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_an_existing_folder_stays_as_it_is(source, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out/mine.txt").write_text("mine")
    with pytest.raises(DataError, match="already exists"):
        import_clips(source, tmp_path / "out")
    assert (tmp_path / "out/mine.txt").read_text() == "mine"


@pytest.mark.parametrize(
    ("action", "reason"),
    [(np.full((20, 2), np.inf), "not finite"), (np.zeros((20, 3)), "3 action dims"), (np.zeros((20, 2, 2)), r"\[T, A\]")],
)
def test_wrong_actions(lab, source, tmp_path, action, reason):
    np.savez(source / "z.npz", image=lab.draw_video(20), action=action, fps=8)
    with pytest.raises(ImportFailed, match=rf"z\.npz: .*{reason}"):
        import_clips(source, tmp_path / "out", ImportOptions(num_frames=4))


def test_a_still_action_dim_gets_a_range(lab, tmp_path):
    np.savez(tmp_path / "a.npz", image=lab.draw_video(4), action=np.full((3, 1), 2.0), fps=8)
    import_clips(tmp_path / "a.npz", tmp_path / "out", ImportOptions(num_frames=4))
    info = load_clip_folder(tmp_path / "out").info
    assert (info["action_low"], info["action_high"]) == ([1.5], [2.5])


def test_options_tell_all_that_is_wrong_at_once():
    with pytest.raises(ValueError, match=r"size.*num_frames.*stride.*window_step.*action_rule.*stacked"):
        ImportOptions(size=(4, 64), num_frames=1, stride=0, window_step=-1, action_rule="last", stacked="all")
    with pytest.raises(ValueError, match="context_frames must be at least 1 and below 4"):
        ImportOptions(num_frames=4, context_frames=4)


def test_a_format_of_your_own(lab, tmp_path, monkeypatch):
    episode = Episode("mine", "mine.xyz", lambda: iter(lab.draw_video(4)), fps_hz=8)
    (tmp_path / "mine.xyz").touch()
    mine = types.SimpleNamespace(
        matches=lambda src: src.suffix == ".xyz", read=lambda src, options: Source("xyz", iter([episode]), 1)
    )
    monkeypatch.setattr(importing, "_PLAIN", list(importing._PLAIN))
    importing.register(mine)
    assert import_clips(tmp_path / "mine.xyz", tmp_path / "out", ImportOptions(num_frames=4)).formats == ["xyz"]
