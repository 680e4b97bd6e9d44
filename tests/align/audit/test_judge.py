"""Outcome judges: what they learn on, when they say nothing, and that files keep them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from align.audit.judge import JudgeConfig, OutcomeJudge, label_matrix, make_artefacts, train_judge
from align.errors import DataError

AXES = ("spill", "success")


def coloured(num: int, seed: int = 0) -> tuple[Any, Any]:
    """uint8 [n, 8, 16, 16, 3] of grey clips in which a red (spill) or a green (success) patch may appear halfway."""
    rng = np.random.default_rng(seed)
    videos = np.full((num, 8, 16, 16, 3), 110, np.uint8) + rng.integers(0, 12, (num, 1, 16, 16, 3)).astype(np.uint8)
    labels = rng.integers(0, 2, (num, 2)).astype(np.float32)
    for i in range(num):
        if labels[i, 0]:
            videos[i, 4:, 8:14, 2:8] = (230, 20, 20)
        if labels[i, 1]:
            videos[i, 4:, 2:6, 9:15] = (20, 230, 20)
    return videos, labels


@pytest.fixture(scope="module")
def judge() -> OutcomeJudge:
    videos, labels = coloured(120)
    return train_judge(JudgeConfig(AXES, width=12), videos, labels, videos, num_steps=160, seed=0, batch_size=16)


def test_artefacts_have_targets_and_weights() -> None:
    videos, labels = coloured(400)
    before, marked = videos.copy(), np.full_like(videos, 7)
    out, targets, weights = make_artefacts(videos, marked, labels, np.random.default_rng(0))
    assert out.shape == videos.shape and out.dtype == np.uint8
    assert targets.shape == weights.shape == (400, 3) and targets.dtype == np.float32
    np.testing.assert_array_equal(videos, before)
    destroyed = targets[:, -1] == 0
    assert 0.05 < destroyed.mean() < 0.16
    assert (weights[destroyed, :-1] == 0).all() and (weights[destroyed, -1] == 1).all(), "only 'readable' is scored there"
    assert (weights[~destroyed] == 1).all()
    changed = (targets[:, :-1] != labels).any(1) & ~destroyed
    assert (targets[changed, :-1] == 0).all(), "a frozen clip shows nothing"
    still = (out[changed] == out[changed][:, -1:]).all((2, 3, 4))
    assert changed.any() and still[:, 3:].all()
    through = (out[:, 0] < 9).all((1, 2, 3))
    assert 0.25 < through.mean() < 0.45 and (targets[through, :-1] == labels[through]).all()


def test_a_judge_learns_what_it_sees(judge: OutcomeJudge) -> None:
    videos, labels = coloured(60, seed=1)
    read = judge.judge(videos, chunk=25)
    assert set(read) == {*AXES, "readable"} and read["spill"].shape == (60,)
    for i, axis in enumerate(AXES):
        assert ((read[axis] > 0.5) == (labels[:, i] > 0.5)).mean() > 0.85, axis
    assert (read["readable"] > 0.5).mean() > 0.9


def test_noise_is_less_readable_than_a_clip(judge: OutcomeJudge) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (20, 8, 16, 16, 3), dtype=np.uint8)
    assert judge.judge(noise)["readable"].mean() < judge.judge(coloured(20)[0])["readable"].mean()


def test_what_is_unreadable_has_no_answer(judge: OutcomeJudge) -> None:
    videos, _ = coloured(10)
    strict = OutcomeJudge(JudgeConfig(AXES, width=12, readable_threshold=1.1))
    strict.load_state_dict(judge.state_dict())
    read = strict.judge(videos)
    assert np.isnan(read["spill"]).all() and np.isnan(read["success"]).all() and np.isfinite(read["readable"]).all()
    np.testing.assert_allclose(read["readable"], judge.judge(videos)["readable"])


def test_no_clips_no_answers(judge: OutcomeJudge) -> None:
    assert {axis: len(values) for axis, values in judge.judge(coloured(1)[0][:0]).items()} == dict.fromkeys(
        (*AXES, "readable"), 0
    )


def test_it_looks_at_every_second_frame_back_from_the_last(judge: OutcomeJudge) -> None:
    videos, _ = coloured(4)
    unseen, seen = videos.copy(), videos.copy()
    unseen[:, [2, 4, 6]], seen[:, 7] = 0, 0
    np.testing.assert_array_equal(judge.judge(unseen)["readable"], judge.judge(videos)["readable"])
    assert (judge.judge(seen)["readable"] != judge.judge(videos)["readable"]).all()


def test_the_seed_fixes_the_training() -> None:
    videos, labels = coloured(20)
    first, same, other = (
        train_judge(JudgeConfig(AXES, width=8), videos, labels, videos, num_steps=3, seed=seed, batch_size=4).state_dict()
        for seed in (0, 0, 1)
    )
    assert all(torch.equal(first[name], same[name]) for name in first)
    assert any(not torch.equal(first[name], other[name]) for name in first)


def test_ten_steps_are_no_special_case() -> None:
    videos, labels = coloured(8)
    losses: list[float] = []
    train_judge(
        JudgeConfig(AXES, width=8),
        videos,
        labels,
        videos,
        num_steps=10,
        seed=0,
        batch_size=4,
        progress=lambda done, loss: losses.append(loss),
    )
    assert len(losses) == 10 and np.isfinite(losses).all()


def test_saved_is_loaded(judge: OutcomeJudge, tmp_path: Path) -> None:
    judge.save(tmp_path / "judge")
    loaded, videos = OutcomeJudge.load(tmp_path / "judge"), coloured(6)[0]
    assert loaded.config == judge.config
    for axis, values in judge.judge(videos).items():
        np.testing.assert_allclose(loaded.judge(videos)[axis], values, atol=5e-3)


@pytest.mark.parametrize("suffix", [".json", ".safetensors"])
def test_a_missing_file_is_named(judge: OutcomeJudge, tmp_path: Path, suffix: str) -> None:
    judge.save(tmp_path / "judge")
    (tmp_path / "judge").with_suffix(suffix).unlink()
    with pytest.raises(DataError, match=rf"judge\{suffix} is missing"):
        OutcomeJudge.load(tmp_path / "judge")


def test_labels_of_a_hazard_that_a_scene_does_not_have() -> None:
    rows = [{"spill": 1.0, "success": 0.0}, {"breakage": 1.0, "success": 1.0}]
    matrix = label_matrix(rows, ("spill", "breakage", "success"))
    assert matrix.dtype == np.float32 and matrix.tolist() == [[1, 0, 0], [0, 1, 1]]
