"""The contest of ways to choose questions, on synthetic features with a known truth."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from align.preferences.votes.schema import Pair, Vote
from recipes._questions import ARMS, Options, Problem, play

OPTIONS = Options((8, 12, 18, 27, 40), num_members=8)


@pytest.fixture(scope="module")
def contest() -> tuple[Problem, torch.Tensor]:
    """120 contexts of three clips; axis x is a direction of the features, axis y is noise that nobody can learn."""
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(360, 6, generator=generator) / 6**0.5
    held = torch.randn(400, 6, generator=generator) / 6**0.5
    names = [f"r{number}" for number in range(360)]
    pairs = [(3 * context + i, 3 * context + j) for context in range(120) for i, j in ((0, 1), (0, 2), (1, 2))]
    questions = [
        Pair(pair_id=f"p{a}-{b}", context_id=f"c{a // 3}", rollout_a=names[a], rollout_b=names[b], axes=(axis,))
        for a, b in pairs
        for axis in ("x", "y")
    ]
    order = torch.arange(400).view(200, 2)
    left = held[order[:, 0], 0] > held[order[:, 1], 0]
    better, worse = torch.where(left, order[:, 0], order[:, 1]), torch.where(left, order[:, 1], order[:, 0])
    problem = Problem(
        questions, {name: i for i, name in enumerate(names)}, features, held, dict.fromkeys("xy", (better, worse))
    )
    reward, chance = 6 * features[:, 0], np.random.default_rng(0)
    margin = reward[problem.first] - reward[problem.second]
    classes = torch.where(problem.axis == 0, (margin < 0).long(), torch.from_numpy(chance.integers(0, 3, len(questions))))
    return problem, classes


@pytest.mark.parametrize("arm", ARMS)
def test_an_arm_spends_its_budgets_and_learns_what_can_be_learned(contest: Any, arm: str) -> None:
    rows = play(*contest, arm, OPTIONS, seed=1)
    assert [row["votes"] for row in rows] == list(OPTIONS.budgets)
    assert all(sum(row["asked"].values()) == row["votes"] for row in rows)
    assert rows[-1]["accuracy"]["x"] > 0.8
    assert play(*contest, arm, OPTIONS, seed=1) == rows, "the same seed gives the same contest"


def test_the_first_batch_is_the_same_for_all_arms_and_fair_to_all_axes(contest: Any) -> None:
    first = [play(*contest, arm, Options((8, 9), num_members=8), seed=2)[0] for arm in ARMS]
    assert first[0] == first[1] == first[2]
    assert first[0]["asked"] == {"x": 4, "y": 4}


def test_no_question_is_asked_twice(contest: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    import recipes._questions as module

    asked: list[int] = []
    monkeypatch.setattr(module._Learner, "train", lambda self, numbers: asked.__setitem__(slice(None), numbers))
    play(*contest, "active", OPTIONS, seed=3)
    assert len(asked) == len(set(asked)) == 40


def test_active_beats_chance_where_most_is_noise(contest: Any) -> None:
    """Over ten seeds, by the accuracy on the axis that can be learned, with few votes."""

    def middle(arm: str) -> float:
        return float(np.mean([play(*contest, arm, OPTIONS, seed)[2]["accuracy"]["x"] for seed in range(10)]))

    assert middle("active") > middle("random") + 0.01


def test_votes_must_answer_everything(contest: Any) -> None:
    problem, _ = contest
    question = problem.questions[0]
    fields = question.model_dump(include={"pair_id", "context_id", "rollout_a", "rollout_b"})
    votes = [Vote(vote_id="v", axis=question.axes[0], vote="both_bad", **fields)]
    with pytest.raises(ValueError, match="719 are missing"):
        problem.classes(votes)
