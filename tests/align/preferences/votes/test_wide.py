from __future__ import annotations

from pathlib import Path

import pytest

from align.errors import DataError
from align.preferences.votes.mapped import read_mapped
from align.preferences.votes.mapping import BUILT_IN, make_mapping
from align.preferences.votes.wide import ClipFacts, wide_rows, write_wide

OTHER = {"pair_id": "p2", "context_id": "c2", "rollout_a": "x", "rollout_b": "y"}


@pytest.fixture
def votes(make_vote):
    """Two people about two pairs; a first answer is corrected, and on the second pair one axis stays unanswered."""
    return [
        make_vote("v1", "a", axis="VQ", annotator_id="ann"),
        make_vote("v2", "b", axis="VQ", annotator_id="ann", supersedes="v1"),
        make_vote("v3", "b", axis="VQ", annotator_id="bob"),
        make_vote("v4", "a", axis="MQ", annotator_id="ann"),
        make_vote("v5", "b", axis="MQ", annotator_id="bob"),
        make_vote("v6", "a", axis="VQ", **OTHER),
        make_vote("v7", "skip", axis="MQ", **OTHER),
        make_vote("v8", "tie", axis="VQ", pair_id="p3", rollout_b="r1", selection="catch"),
    ]


def test_the_majority_of_each_axis_in_one_row_a_pair(votes) -> None:
    assert wide_rows(votes) == [
        {"path_A": "r1", "path_B": "r2", "prompt": "c1", "MQ": "same", "VQ": "B"},
        {"path_A": "x", "path_B": "y", "prompt": "c2", "MQ": "", "VQ": "A"},
    ]


def test_clips_bring_paths_prompts_and_rates(votes) -> None:
    clips = {
        name: ClipFacts(f"videos/{name}.mp4", f"pour, {name}", 8.0, 16 + i) for i, name in enumerate(("r1", "r2", "x", "y"))
    }
    first, _ = wide_rows(votes, clips)
    assert list(first) == ["path_A", "path_B", "prompt", "MQ", "VQ", "fps_A", "num_frames_A", "fps_B", "num_frames_B"]
    assert (first["path_B"], first["prompt"], first["num_frames_A"], first["num_frames_B"]) == (
        "videos/r2.mp4",
        "pour, r1",
        16,
        17,
    )
    with pytest.raises(DataError, match=r"mend 2 problem.*the rollout 'x' is not in the rollout folder"):
        wide_rows(votes, {name: clips[name] for name in ("r1", "r2")})


def test_what_is_written_reads_back_as_videoalign(votes, tmp_path: Path) -> None:
    write_wide(tmp_path / "pairs.csv", wide_rows(votes))
    read = read_mapped(tmp_path / "pairs.csv", make_mapping(BUILT_IN["videoalign"]))
    assert [(vote.rollout_a, vote.rollout_b, vote.axis, vote.vote) for vote in read.rows] == [
        ("r1", "r2", "VQ", "b"),
        ("r1", "r2", "MQ", "tie"),
        ("x", "y", "VQ", "a"),
    ]


def test_what_can_not_be_a_table_is_refused(votes, make_vote, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="the axis 'prompt' is called like another column"):
        wide_rows([make_vote("v1", axis="prompt")])
    with pytest.raises(DataError, match=r"suffix '.parquet'"):
        write_wide(tmp_path / "pairs.parquet", wide_rows(votes))
    with pytest.raises(DataError, match="no vote that counts"):
        write_wide(tmp_path / "pairs.csv", [])


def test_a_prompt_is_no_formula(make_vote, tmp_path: Path) -> None:
    clips = {name: ClipFacts(f"{name}.mp4", "=1+1", 8.0, 16) for name in ("r1", "r2")}
    write_wide(tmp_path / "pairs.csv", wide_rows([make_vote("v1")], clips))
    assert ",'=1+1," in (tmp_path / "pairs.csv").read_text()
