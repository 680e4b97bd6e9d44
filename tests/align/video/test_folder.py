from __future__ import annotations

import json

import datasets
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from align.errors import DataError
from align.video.folder import ClipFolderWriter, load_clip_folder, merge_folders, write_clip_folder
from align.video.schema import COLUMNS

INFO = {"action_names": ["x", "y"], "action_low": [-1.0, -1.0], "action_high": [1.0, 1.0], "axes": ["spill"]}


@pytest.fixture
def folder(lab, tmp_path):
    return write_clip_folder(tmp_path / "clips", INFO, [lab.make_clip(n) for n in range(4)], context_frames=2)


def rewrite(folder, **columns):
    """Change columns of a finished folder's table."""
    table = pq.read_table(folder / "metadata.parquet").to_pandas().assign(**columns)
    table.to_parquet(folder / "metadata.parquet")


def test_what_is_written_comes_back(lab, folder):
    clips = load_clip_folder(folder)
    assert len(clips) == 4
    assert list(clips.table)[: len(COLUMNS)] == list(COLUMNS)
    assert clips.info == INFO | {"num_clips": 4}
    assert clips.validate() == []
    wanted, clip = lab.make_clip(3), clips.clip(3)
    assert np.abs(clip.video.astype(int) - wanted.video).mean() < 3
    np.testing.assert_array_equal(clip.actions, wanted.actions)
    assert clip.outcome == wanted.outcome
    for name in ("clip_id", "fps_hz", "context_id", "scene", "task", "seed", "attributes"):
        assert getattr(clip, name) == getattr(wanted, name)
    assert clips.table["context_frames"].tolist() == [2] * 4
    assert clips.video(0, size=(32, 32)).shape == (6, 32, 32, 3)


def test_columns_have_the_types_of_the_schema(folder):
    schema = pq.read_schema(folder / "metadata.parquet")
    for name, dtype in COLUMNS.items():
        assert schema.field(name).type == dtype
    assert schema.field("outcome_spill").type == pa.float64()


def test_rows_of_a_token_model(lab, tmp_path):
    row = {"rollout_id": "r0", "context_id": "c", "fps_hz": 8, "tokens": np.arange(9), "tokenizer_id": "t", "note": "kept"}
    with ClipFolderWriter(tmp_path / "a", {}, model_id="base") as writer:
        writer.add(row, lab.draw_video(4))
        writer.add({**row, "rollout_id": "r1", "tokens": None}, lab.draw_video(4))
    clips = load_clip_folder(tmp_path / "a")
    np.testing.assert_array_equal(clips.tokens(0), np.arange(9))
    assert clips.tokens(1) is None
    assert clips.actions(0) is None
    assert clips.outcome(0) is None
    assert clips.table["model_id"].tolist() == ["base", "base"]
    assert clips.table["note"].tolist() == ["kept", "kept"]


def test_datasets_can_load_it(folder, tmp_path):
    loaded = datasets.load_dataset("videofolder", data_dir=str(folder), cache_dir=str(tmp_path / "cache"), split="train")
    loaded = loaded.cast_column("video", datasets.Video(decode=False))
    table = load_clip_folder(folder).table.set_index("rollout_id")
    assert loaded.num_rows == 4
    for row in loaded:
        assert row["video"]["path"].endswith(table.loc[row["rollout_id"], "file_name"])
        assert np.asarray(row["actions"]).shape == (5, 2)


def test_batches_are_canonical(lab, folder):
    clips = load_clip_folder(folder)
    batches = list(clips.iter_batches(3, size=(64, 64)))
    assert [batch.indices for batch in batches] == [[0, 1, 2], [3]]
    assert batches[0].video.shape == (3, 6, 3, 64, 64)
    assert batches[0].video.dtype == np.float32
    assert 0 <= batches[0].video.min() < batches[0].video.max() <= 1
    np.testing.assert_array_equal(batches[1].actions[0], lab.make_clip(3).actions)
    assert [batch.indices for batch in clips.iter_batches(2, indices=[3, 1])] == [[3, 1]]


def test_clips_of_other_lengths_cant_share_a_batch(lab, tmp_path):
    clips = [lab.make_clip(0), lab.make_clip(1, num_frames=7)]
    folder = load_clip_folder(write_clip_folder(tmp_path / "a", INFO, clips))
    with pytest.raises(DataError, match="clip-0, clip-1 differ"):
        list(folder.iter_batches(2))


def test_select_by_mask_and_by_number(folder):
    clips = load_clip_folder(folder)
    assert clips.select(clips.table["outcome_spill"] == 1).table["rollout_id"].tolist() == ["clip-1", "clip-3"]
    assert clips.select([2, 0]).table["rollout_id"].tolist() == ["clip-2", "clip-0"]
    assert len(clips.select([])) == 0


def test_two_processes_write_what_one_writes(lab, folder, tmp_path):
    other = write_clip_folder(tmp_path / "two", INFO, [lab.make_clip(n) for n in range(4)], num_workers=2, context_frames=2)
    pd.testing.assert_frame_equal(load_clip_folder(other).table, load_clip_folder(folder).table)
    assert load_clip_folder(other).validate() == []


def test_a_resumed_run_is_an_uninterrupted_one(lab, folder, tmp_path):
    made = []

    def make(number, broken_at):
        if number == broken_at:
            raise RuntimeError("the power failed")
        made.append(number)
        return lab.make_clip(number)

    def write(broken_at, **options):
        out, columns = tmp_path / "new", {"context_frames": 2, "keep_partial": True}
        return write_clip_folder(out, INFO, range(4), make=lambda n: make(n, broken_at), **columns, **options)

    with pytest.raises(RuntimeError, match="power"):
        write(broken_at=2)
    assert not (tmp_path / "new").exists()
    with pytest.raises(DataError, match="never finished"):
        load_clip_folder(tmp_path / "new")
    with pytest.raises(DataError, match="interrupted run"):
        write(broken_at=None)
    with (tmp_path / "new.partial/journal.jsonl").open("a") as journal:
        journal.write('{"rows": [{"rollo')  # killed while it wrote
    write(broken_at=None, resume=True)
    assert made == [0, 1, 2, 3]
    pd.testing.assert_frame_equal(load_clip_folder(tmp_path / "new").table, load_clip_folder(folder).table)
    assert not (tmp_path / "new.partial").exists()


def test_a_run_with_other_settings_is_not_resumed(lab, tmp_path):
    writer = ClipFolderWriter(tmp_path / "a", INFO, keep_partial=True)
    writer.add(lab.make_clip())
    writer.abort()
    with pytest.raises(DataError, match="other settings"):
        ClipFolderWriter(tmp_path / "a", INFO | {"axes": []}, resume=True)


def test_an_error_leaves_nothing_behind(lab, tmp_path):
    with pytest.raises(DataError, match="clip-0 comes twice"):
        write_clip_folder(tmp_path / "a", INFO, [lab.make_clip(), lab.make_clip()])
    with pytest.raises(DataError, match="no clip"), ClipFolderWriter(tmp_path / "a", INFO):
        pass
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_overwritten(lab, folder, tmp_path):
    before = (folder / "metadata.parquet").read_bytes()
    with pytest.raises(DataError, match="already exists"):
        ClipFolderWriter(folder, INFO)
    assert (folder / "metadata.parquet").read_bytes() == before
    (tmp_path / "empty").mkdir()
    write_clip_folder(tmp_path / "empty", INFO, [lab.make_clip()])
    assert len(load_clip_folder(tmp_path / "empty")) == 1


def test_a_discarded_clip_is_gone_also_after_resuming(lab, tmp_path):
    writer = ClipFolderWriter(tmp_path / "a", INFO, keep_partial=True)
    writer.add(lab.make_clip(0))
    writer.add(lab.make_clip(1))
    writer.discard(["clip-0"])
    writer.abort()
    with ClipFolderWriter(tmp_path / "a", INFO, resume=True) as again:
        assert list(again.rows) == ["clip-1"]
    assert [path.name for path in (tmp_path / "a/videos").iterdir()] == ["clip-1.mp4"]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"rollout_id": "../up"}, "rollout_id must be"),
        ({"context_id": ""}, "context_id"),
        ({"context_frames": 5}, "context_frames"),
        ({"actions": np.zeros((4, 2))}, r"T-1 = 3"),
        ({"actions": np.full((3, 2), np.nan)}, "finite"),
    ],
)
def test_a_wrong_row_is_refused(lab, tmp_path, changes, reason):
    row = {"rollout_id": "r", "context_id": "c", "fps_hz": 8}
    with pytest.raises(ValueError, match=reason), ClipFolderWriter(tmp_path / "a", {}) as writer:
        writer.add(row | changes, lab.draw_video(4))


def test_validate_names_every_fault(lab, folder):
    actions = [[[0.0, 0.0]] * 5, [[0.0, 0.0]] * 4, [[0.0, 0.0, 0.0]] * 5, [[0.0, 0.0]] * 5]
    rewrite(folder, actions=actions, outcome_spill=[0.0, 1.0, np.nan, 0.5], num_frames=[6, 6, 6, 5], surplus=1)
    (folder / "videos/clip-0.mp4").unlink()
    content = bytearray((folder / "videos/clip-1.mp4").read_bytes())
    content[-40] ^= 255
    (folder / "videos/clip-1.mp4").write_bytes(content)
    problems = [str(problem) for problem in load_clip_folder(folder).validate()]
    expected = [
        ("clip-0", "videos/clip-0.mp4 is missing"),
        ("clip-1", "4 actions, but 6 frames need 5"),
        ("clip-1", "sha256 differs"),
        ("clip-2", "3 dims, but info.json names 2"),
        ("clip-3", "5 actions, but 5 frames need 4"),
        ("clip-3", "outcome_spill is 0.5"),
        ("clip-3", "has 6 frames, but metadata.parquet says 5"),
    ]
    assert len(problems) == len(expected)
    for problem, (name, reason) in zip(problems, expected, strict=True):
        assert problem.startswith(f"{name}: ")
        assert reason in problem


def test_a_folder_with_fewer_columns_gets_defaults(folder):
    table = pq.read_table(folder / "metadata.parquet")
    keep = ["rollout_id", "file_name", "context_id", "fps_hz", "num_frames", "pixel_scale"]
    pq.write_table(table.select(keep), folder / "metadata.parquet")
    (folder / "info.json").unlink()
    clips = load_clip_folder(folder)
    assert clips.actions(0) is None
    assert clips.attributes(0) == {}
    assert clips.validate() == []
    pq.write_table(table.drop_columns(["context_id", "fps_hz"]), folder / "metadata.parquet")
    with pytest.raises(DataError, match="lacks the columns context_id, fps_hz"):
        load_clip_folder(folder)


def test_broken_folders_are_refused(folder, tmp_path):
    with pytest.raises(DataError, match="not a clip folder"):
        load_clip_folder(tmp_path / "nothing")
    (folder / "info.json").write_text("{")
    with pytest.raises(DataError, match="not valid JSON"):
        load_clip_folder(folder)
    (folder / "info.json").write_text("{}")
    rewrite(folder, file_name="../secret.mp4")
    with pytest.raises(DataError, match="outside of the folder"):
        load_clip_folder(folder)
    (folder / "metadata.parquet").write_bytes(b"PAR1")
    with pytest.raises(DataError, match=r"metadata\.parquet can't be read"):
        load_clip_folder(folder)


def test_merging_shards(lab, tmp_path):
    shards = [
        write_clip_folder(tmp_path / f"s{n}", INFO | {"axes": [f"axis{n}"]}, [lab.make_clip(n)], extra=n) for n in range(2)
    ]
    merged = load_clip_folder(merge_folders(shards, tmp_path / "all"))
    assert merged.table["rollout_id"].tolist() == ["clip-0", "clip-1"]
    assert merged.info["axes"] == ["axis0", "axis1"]
    assert merged.validate() == []
    assert json.loads((tmp_path / "all/info.json").read_text())["num_clips"] == 2
    with pytest.raises(DataError, match="clip-0 comes twice"):
        merge_folders([shards[0], shards[0]], tmp_path / "again")
    other = write_clip_folder(tmp_path / "other", {"action_names": ["z"]}, [lab.make_clip(5, actions=None)])
    with pytest.raises(DataError, match="action_names"):
        merge_folders([shards[0], other], tmp_path / "again")
    assert not (tmp_path / "again").exists()
