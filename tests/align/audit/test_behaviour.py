"""What a policy does: rows of episodes, dreams, forced dreams and filmed clips, from a tiny untrained model."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from align.audit.behaviour import (
    EpisodeJob,
    dream_task,
    fidelity_task,
    honesty_task,
    sampling_seed,
    simulator_task,
)
from align.audit.judge import JudgeConfig, OutcomeJudge
from align.scenes import make_scene
from align.scenes.base import CARELESS
from align.scenes.behaviour import context_id, record_clip, split_seed

SEEDS = tuple(split_seed("evaluate", 0, index) for index in range(4))


@pytest.fixture(scope="module")
def jobs(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """``jobs(scene, adapter="")``: jobs of a world model at 16x16 pixels, with an action-path adapter beside it."""
    from align.world_models.adapters import add_lora, save_adapter
    from align.world_models.layout import TokenLayout
    from align.world_models.temporal_depth import TemporalDepthConfig, TemporalDepthModel
    from align.world_models.tokenizer import FrameTokenizer, TokenizerConfig
    from align.world_models.world_model import save_world_model

    folder = tmp_path_factory.mktemp("behaviour")
    torch.manual_seed(0)
    tokenizer = FrameTokenizer(TokenizerConfig((16, 16), (8, 8), (4, 4), width=8))
    layout = TokenLayout(16, 2, 4, 17, make_scene("pour").action_space)
    sizes = {"grid": (2, 2), "trunk_width": 32, "trunk_layers": 1, "depth_layers": 1, "hidden_width": 16}
    model = TemporalDepthModel(TemporalDepthConfig(layout.to_dict(), **sizes))
    save_world_model(folder / "wm", tokenizer, model, {})
    policy = add_lora(model.requires_grad_(False), 2, 4, 0)
    with torch.no_grad():
        for name, tensor in policy.named_parameters():
            if "lora_B" in name:
                tensor.normal_(std=1.0)
    save_adapter(policy, folder / "adapter", "action", "")
    axes = ("spill", "breakage", "politeness", "success")
    OutcomeJudge(JudgeConfig(axes, width=8, readable_threshold=0.0)).save(folder / "sure")
    OutcomeJudge(JudgeConfig(axes, width=8, readable_threshold=1.1)).save(folder / "unsure")

    def make(scene: str = "pour", *, adapter: bool = False, judge: str = "sure", **wishes: Any) -> EpisodeJob:
        path = str(folder / "adapter") if adapter else ""
        return EpisodeJob(str(folder / "wm"), path, scene, SEEDS, judge=str(folder / judge), **wishes)

    return make


def same_rows(first: list[dict[str, Any]], second: list[dict[str, Any]]) -> bool:
    return all(
        a.keys() == b.keys() and all(np.array_equal(a[key], b[key]) for key in a) for a, b in zip(first, second, strict=True)
    )


def test_every_sample_of_every_context_has_a_seed_of_its_own() -> None:
    seeds = [sampling_seed(scene_seed, sample) for scene_seed in range(50) for sample in range(4)]
    assert len(set(seeds)) == 200 and sampling_seed(3, 1) == seeds[13]


@pytest.mark.parametrize("scene", ["pour", "shelf", "corridor"])
def test_episodes_are_repeatable_and_tell_the_truth(jobs: Any, scene: str) -> None:
    rows = simulator_task(jobs(scene, keep_video=True))
    assert [row["context_id"] for row in rows] == [context_id(scene, seed) for seed in SEEDS]
    assert all(row["hazard"] in (0, 1) and row["success"] in (0, 1) and row["severity"] >= 0 for row in rows)
    assert all(row["video"].shape == (16, 16, 16, 3) and row["video"].dtype == np.uint8 for row in rows)
    assert same_rows(rows, simulator_task(jobs(scene, keep_video=True)))


def test_an_episode_starts_with_its_context_and_then_goes_its_own_way(jobs: Any) -> None:
    from align.world_models.world_model import shrink

    first = simulator_task(jobs(keep_video=True))
    second = simulator_task(jobs(keep_video=True, sample=1))
    for row, other, seed in zip(first, second, SEEDS, strict=True):
        filmed = shrink(record_clip("pour", seed).video[:2], (16, 16))
        np.testing.assert_array_equal(row["video"][:2], filmed)
        np.testing.assert_array_equal(other["video"][:2], filmed)
        assert not np.array_equal(row["video"], other["video"])


def test_an_adapter_changes_what_is_done(jobs: Any) -> None:
    base, tuned = (simulator_task(jobs(adapter=adapter, keep_video=True)) for adapter in (False, True))
    assert not same_rows(base, tuned)


def test_dreams_are_read_by_the_judge(jobs: Any) -> None:
    rows = dream_task(jobs(keep_video=True))
    assert all(row["hazard"] in (0, 1) and row["success"] in (0, 1) for row in rows)
    assert rows[0]["video"].shape == (16, 16, 16, 3) and len(rows[0]["ids"]) == 16 * 4 + 15 * 2
    assert same_rows(rows, dream_task(jobs(keep_video=True)))


def test_an_unreadable_dream_is_undefined_not_safe(jobs: Any) -> None:
    rows = dream_task(jobs(judge="unsure"))
    assert all(np.isnan(row["hazard"]) and np.isnan(row["success"]) for row in rows)
    assert all(np.isnan(row["shown"]) for row in honesty_task(jobs(judge="unsure")))


def test_honesty_forces_careless_and_careful_actions_in_turn(jobs: Any) -> None:
    rows = honesty_task(jobs("corridor", keep_video=True))
    styles = make_scene("corridor").styles
    for row, seed in zip(rows, SEEDS, strict=True):
        kind = CARELESS if seed % 2 == 0 else "careful"
        truths = {
            float(clip.outcome.hazards["politeness"])
            for name, (style_kind, _) in styles.items()
            if style_kind == kind and (clip := record_clip("corridor", seed, style=name)).outcome is not None
        }
        assert row["truth"] in truths and row["context_id"] == context_id("corridor", seed)
        error = ((row["video"][2:] / 255.0 - row["true_video"][2:] / 255.0) ** 2).mean()
        assert row["psnr_db"] == pytest.approx(-10 * np.log10(error), abs=0.05)


def test_forced_dreams_ignore_an_adapter_of_the_action_path(jobs: Any) -> None:
    """The actions are given and the dynamics are the base's, so nothing may change at all."""
    base, tuned = (honesty_task(jobs(adapter=adapter, keep_video=True)) for adapter in (False, True))
    assert same_rows(base, tuned)


def test_fidelity_keeps_behaviour_and_dynamics_apart(jobs: Any) -> None:
    base, tuned = (fidelity_task(jobs(adapter=adapter)) for adapter in (False, True))
    for before, after in zip(base, tuned, strict=True):
        assert before["nll_frame_token"] == after["nll_frame_token"] > 0
        assert before["nll_action_token"] != after["nll_action_token"]
    assert np.mean([row["nll_frame_token"] for row in base]) == pytest.approx(np.log(17), abs=0.3)
