"""What is measured on held-out contexts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from align.tuning.checks import HeldOutCheck, costs_of, merge_figures, pass_everything
from align.world_models.adapters import add_lora, policy_of
from align.world_models.engine import Policy

Make = Callable[..., Any]


@pytest.fixture(params=["temporal_depth", "flat"])
def world_model(request: pytest.FixtureRequest, make_world_model: Make) -> Any:
    return make_world_model(request.param)


@pytest.fixture
def make_check(world_model: Any, make_contexts: Make, brightness: Any) -> Make:
    def make(**wishes: Any) -> HeldOutCheck:
        options = {"samples": 3, "seed": 0, "frames": True, **wishes}
        return HeldOutCheck(world_model, make_contexts(6), brightness, brightness, **options)

    return make


def test_figures_of_the_base(world_model: Any, make_check: Make) -> None:
    figures = make_check()(Policy(world_model.model, world_model.model))
    counts = {name: len(values) for name, values in figures.items() if not name.startswith("action_nll")}
    by_scene = {f"{kind}/{scene}": 3 for kind in ("entropy", "spread", "motion", "frame_nll") for scene in ("pour", "shelf")}
    scored = {f"{kind}/{axis}": n for kind in ("proxy", "gold") for axis, n in AXES.items()}
    assert counts == by_scene | scored
    assert all(value > 0 for name in by_scene for value in figures[name])
    assert costs_of(figures, "spill") == pytest.approx([1 - value for value in figures["proxy/spill/pour"]])
    assert len(costs_of(figures, "success")) == 6


AXES = {"good": 6, "success/pour": 3, "success/shelf": 3, "spill/pour": 3}


def test_the_same_policy_is_measured_alike_and_another_is_not(world_model: Any, make_check: Make, tune_a_little: Make) -> None:
    check, lora = make_check(), add_lora(world_model.model, 2, 4, 0)
    first, again = check(policy_of(lora, world_model.model, "action")), check(Policy(world_model.model, world_model.model))
    for name in first:
        np.testing.assert_allclose(first[name], again[name], atol=1e-5)
    other = check(policy_of(tune_a_little(lora, 0.5), world_model.model, "action"))
    np.testing.assert_allclose(other["frame_nll/pour"], first["frame_nll/pour"], atol=1e-5)
    assert not np.allclose(other["entropy/pour"], first["entropy/pour"], atol=1e-3)
    assert make_check(seed=1)(Policy(world_model.model, world_model.model))["proxy/good"] != first["proxy/good"]


@pytest.mark.parametrize("ranks", [2, 4, 7])
def test_ranks_together_see_what_one_sees(ranks: int, world_model: Any, make_check: Make) -> None:
    check, policy = make_check(), Policy(world_model.model, world_model.model)
    whole, shared = check(policy), merge_figures([check(policy, rank, ranks) for rank in range(ranks)])
    assert whole.keys() == shared.keys()
    for name in whole:
        np.testing.assert_allclose(shared[name], whole[name], atol=1e-5)


def test_only_good_real_clips_should_stay_likely(world_model: Any, make_contexts: Make) -> None:
    def picky(video: Any, scenes: Any) -> dict[str, list[float | None]]:
        return {"success": [float(row % 3 == 0) for row in range(len(video))]}

    check = HeldOutCheck(world_model, make_contexts(6), picky, None, samples=2, seed=0, frames=False)
    figures = check(Policy(world_model.model, world_model.model))
    assert check.good == [True, False, False, True, False, False]
    assert len(figures["action_nll/pour"]) == len(figures["action_nll/shelf"]) == 1
    assert not any(name.startswith(("frame_nll", "gold")) for name in figures)


def test_passing_everything_leaves_out_what_does_not_apply() -> None:
    assert pass_everything({"success": [0.5, 0.5], "spill": [0.4, None]}) == pytest.approx([0.2, 0.5])
