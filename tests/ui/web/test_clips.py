"""Which clips are shown: rollout folders as they are, plain videos imported once and grouped by what their names say."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import numpy as np
import pandas as pd
import pytest

from align.errors import DataError
from align.video.codec import decode, encode_mp4, probe
from align.video.folder import load_clip_folder
from align.video.importers.base import Episode, compute_file_digest
from align.video.writer import ClipFolderWriter
from ui.web.clips import imported_path, open_clips
from ui.web.videos import group_videos


def film(seed: int, num_frames: int = 4) -> Any:
    return np.random.default_rng(seed).integers(0, 255, (num_frames, 32, 48, 3), dtype=np.uint8)


def write_other(path: Path, codec: str) -> None:
    """A video that browsers don't play."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=10)
        stream.width, stream.height, stream.pix_fmt = 48, 32, "yuv420p"
        for pixels in film(9):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels)))
        container.mux(stream.encode())


def make_episode(name: str, **fields: Any) -> Episode:
    """A video of which only the name matters."""
    return Episode(name=name, file=name, frames=lambda: iter(()), fps_hz=8.0, **fields)


@pytest.fixture
def videos(tmp_path: Path) -> Callable[..., Path]:
    """``videos("a/1.mp4", ...)``: a folder with different videos of these names."""

    def make(*names: str) -> Path:
        for seed, name in enumerate(names):
            path = tmp_path / "films" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            encode_mp4(path, film(seed), 10)
        return tmp_path / "films"

    return make


@pytest.fixture
def db(tmp_path: Path) -> str:
    """The URL of a database that need not exist."""
    return f"sqlite:///{tmp_path}/labels.db"


def test_videos_become_a_clip_folder_beside_the_database(videos: Any, db: str, tmp_path: Path) -> None:
    source = videos("one.mp4", "two.mp4")
    write_other(source / "three.avi", "mpeg4")
    steps: list[tuple[int, int]] = []
    folder = open_clips(source, db, lambda done, total: steps.append((done, total)))
    assert folder.path == tmp_path / "labels_clips"
    assert steps == [(1, 3), (2, 3), (3, 3)]
    assert folder.validate() == []
    assert set(folder.table["context_id"]) == {"all"}
    assert folder.info["grouped_by"] == "all"
    assert {probe(folder.video_path(index)).codec for index in range(3)} == {"h264"}
    head = folder.video_path(0).read_bytes()
    assert head.index(b"moov") < head.index(b"mdat")  # a browser can start before it has everything
    assert folder.video(0).shape == (4, 32, 48, 3)
    first = {folder.attributes(index)["source_file"]: index for index in range(3)}["one.mp4"]
    assert np.array_equal(folder.video(first), decode(source / "one.mp4").frames)  # copied, not encoded once more


def test_a_film_that_is_too_long_to_encode_is_told(videos: Any, db: str, monkeypatch: pytest.MonkeyPatch) -> None:
    source = videos("one.mp4")
    write_other(source / "long.avi", "mpeg4")
    monkeypatch.setattr("ui.web.videos.MAX_PIXELS", 4 * 32 * 48 - 1)
    with pytest.raises(DataError, match=r"long\.avi: must be encoded anew and is too long"):
        open_clips(source, db)


def test_videos_are_imported_once(videos: Any, db: str) -> None:
    source = videos("one.mp4", "two.mp4")
    first = open_clips(source, db)
    written = {path: path.stat().st_mtime_ns for path in first.path.rglob("*")}
    steps: list[int] = []
    again = open_clips(source, db, lambda done, total: steps.append(done))
    assert steps == []
    assert list(again.table["rollout_id"]) == list(first.table["rollout_id"])
    assert {path: path.stat().st_mtime_ns for path in first.path.rglob("*")} == written


def test_changed_videos_are_not_shown_under_old_ids(videos: Any, db: str) -> None:
    source = videos("one.mp4", "two.mp4")
    open_clips(source, db)
    for change in (lambda: encode_mp4(source / "one.mp4", film(7), 10), (source / "two.mp4").unlink):
        change()
        # The digest of a file is remembered by its path while a process lives; a new start reads it anew.
        compute_file_digest.cache_clear()
        with pytest.raises(DataError, match=r"are not those that .*labels_clips was made from"):
            open_clips(source, db)


def test_a_killed_import_is_begun_again(videos: Any, db: str, tmp_path: Path) -> None:
    source = videos("one.mp4", "two.mp4")
    (tmp_path / "labels_clips.partial" / "videos").mkdir(parents=True)
    assert len(open_clips(source, db)) == 2
    assert sorted(path.name for path in tmp_path.iterdir()) == ["films", "labels_clips"]


def test_a_broken_video_is_named_and_nothing_is_left(videos: Any, db: str, tmp_path: Path) -> None:
    source = videos("one.mp4")
    (source / "bad.mp4").write_bytes(b"not a film")
    with pytest.raises(DataError, match=r"bad\.mp4: can't be opened"):
        open_clips(source, db)
    assert [path.name for path in tmp_path.iterdir()] == ["films"]


def test_folders_of_models_are_compared_by_file_name(videos: Any, db: str) -> None:
    folder = open_clips(videos("base/tea.mp4", "base/vase.mp4", "tuned/tea.mp4", "tuned/vase.mp4"), db)
    assert folder.info["grouped_by"] == "name"
    rows = folder.table
    assert rows.groupby("context_id")["model_id"].agg(set).tolist() == [{"base", "tuned"}] * 2
    assert {context.rpartition("-")[0] for context in rows["context_id"]} == {"tea", "vase"}


def test_folders_of_contexts_are_compared_inside(videos: Any, db: str) -> None:
    folder = open_clips(videos("tea/a.mp4", "tea/b.mp4", "vase/c.mp4", "vase/d.mp4"), db)
    assert folder.info["grouped_by"] == "folder"
    assert sorted(folder.table["context_id"].value_counts()) == [2, 2]


def test_a_table_beside_the_videos_groups_them(videos: Any, db: str) -> None:
    source = videos("a.mp4", "b.mp4", "c.mp4", "d.mp4")
    prompts = ["pour <tea>", "pour <tea>", "move the vase", "move the vase"]
    pd.DataFrame({"file_name": ["a.mp4", "b.mp4", "c.mp4", "d.mp4"], "prompt": prompts}).to_csv(
        source / "metadata.csv", index=False
    )
    folder = open_clips(source, db)
    assert folder.info["grouped_by"] == "task"
    assert folder.table.groupby("context_id")["task"].agg(list).tolist() == [["move the vase"] * 2, ["pour <tea>"] * 2]


@pytest.mark.parametrize(
    ("names", "grouping", "num_contexts"),
    [
        (["a.mp4", "b.mp4"], "all", 1),
        (["m/a.mp4", "n/a.mp4"], "all", 1),
        (["m/a.mp4", "n/a.mp4", "m/b.mp4", "n/b.mp4"], "name", 2),
        (["m/a.mp4", "m/b.mp4", "n/a.mp4", "n/c.mp4"], "folder", 2),
        (["x/m/a.mp4", "y/m/a.mp4", "x/m/b.mp4", "y/m/b.mp4"], "name", 2),
        (["a.mp4", "n/a.mp4", "n/b.mp4"], "all", 1),
    ],
)
def test_grouping(names: list[str], grouping: str, num_contexts: int) -> None:
    found, contexts = group_videos([make_episode(name) for name in names])
    assert (found, len(set(contexts))) == (grouping, num_contexts)


def test_a_context_id_in_the_table_counts_most() -> None:
    names = ["m/1.mp4", "m/2.mp4", "n/1.mp4", "n/2.mp4"]
    episodes = [make_episode(name, attributes={"context_id": key}, task="x") for name, key in zip(names, "abba", strict=True)]
    grouping, contexts = group_videos(episodes)
    assert grouping == "context_id"
    assert contexts[0] == contexts[3] != contexts[1] == contexts[2]


def test_a_rollout_folder_is_taken_as_it_is(tmp_path: Path, db: str) -> None:
    with ClipFolderWriter(tmp_path / "rollouts", {}) as writer:
        for seed in range(2):
            writer.add({"rollout_id": f"r{seed}", "context_id": "c", "fps_hz": 8.0}, film(seed))
    folder = open_clips(tmp_path / "rollouts", db)
    assert folder.path == tmp_path / "rollouts"
    assert [path.name for path in tmp_path.iterdir()] == ["rollouts"]
    write_other(tmp_path / "r0.mp4", "mpeg4")
    (tmp_path / "r0.mp4").replace(folder.video_path(0))
    with pytest.raises(DataError, match=r"1 videos of .* are not H.264, .*r0.mp4 \(mpeg4\).*gptsim clips import"):
        open_clips(tmp_path / "rollouts", db)


def test_what_is_no_folder_of_clips_is_told(tmp_path: Path, db: str) -> None:
    with pytest.raises(DataError, match="is not a folder"):
        open_clips(tmp_path / "nothing", db)
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"neither a rollout folder .* nor does it hold videos"):
        open_clips(tmp_path / "empty", db)
    assert [path.name for path in tmp_path.iterdir()] == ["empty"]


def test_where_imported_clips_go() -> None:
    assert imported_path("sqlite:///some/where/study.db") == Path("some/where/study_clips")
    assert imported_path("postgresql+psycopg://ann:secret@host/study") == Path("study_clips")


def test_imported_clips_say_nothing_about_given_frames(videos: Any, db: str) -> None:
    from ui.web.media import Media

    media = Media(open_clips(videos("one.mp4", "two.mp4"), db), b"x" * 32)
    assert {clip.context_frames for clip in media.clips.values()} == {0}
    assert len(load_clip_folder(media.folder.path)) == 2
