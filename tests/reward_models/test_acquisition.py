"""Information gain against arithmetic by hand, and questions taken apart and put together."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from align.errors import DataError
from align.preferences.votes.schema import Pair
from reward_models.acquisition import (
    as_questions,
    compute_information_gain,
    compute_predictive_gain,
    join_questions,
    member_probabilities,
    score_questions,
)
from reward_models.backbones import Difference
from reward_models.model import HeadConfig, RewardModel, Scores

AXES = ("breakage", "spill")


def make_model(lapse: float = 0.0, nu: float = 0.5) -> RewardModel:
    config = HeadConfig(AXES, num_members=2, num_moments=1, num_cells=1, feature_dim=11, lapse=lapse)
    model = RewardModel(Difference(grid=1, num_moments=1), config)
    model.tie_logit[:] = math.log(nu)
    return model


def make_scores(members: list[list[list[float]]]) -> Scores:
    """Scores from [M, B, K] numbers."""
    table = torch.tensor(members, dtype=torch.float32)
    return Scores(AXES, table.mean(0), table.std(0, unbiased=False), table)


def pair(number: int = 0, axes: tuple[str, ...] = AXES, selection: str | None = None) -> Pair:
    return Pair(pair_id=f"pair-{number}", context_id="c", rollout_a="x", rollout_b=f"y{number}", axes=axes, selection=selection)


def test_gain_is_the_entropy_of_the_mean_less_the_mean_entropy() -> None:
    members = torch.tensor([[0.8, 0.1, 0.1], [0.2, 0.7, 0.1]])
    # The mean is 0.5, 0.4, 0.1.
    of_mean = -(0.5 * math.log(0.5) + 0.4 * math.log(0.4) + 0.1 * math.log(0.1))
    first = -(0.8 * math.log(0.8) + 0.2 * math.log(0.1))
    second = -(0.2 * math.log(0.2) + 0.7 * math.log(0.7) + 0.1 * math.log(0.1))
    assert float(compute_information_gain(members)) == pytest.approx(of_mean - (first + second) / 2, abs=1e-6)
    assert float(compute_information_gain(members)) == pytest.approx(0.2229, abs=1e-4)


def test_two_sure_members_that_contradict_each_other_are_worth_one_bit() -> None:
    assert float(compute_information_gain(torch.tensor([[1.0, 0, 0], [0, 1.0, 0]]))) == pytest.approx(math.log(2))


@pytest.mark.parametrize("agreed", [[1.0, 0.0, 0.0], [1 / 3, 1 / 3, 1 / 3], [0.2, 0.3, 0.5]])
def test_members_that_agree_teach_nothing_however_unsure_they_are(agreed: list[float]) -> None:
    assert float(compute_information_gain(torch.tensor([agreed] * 5))) == pytest.approx(0, abs=1e-6)


@given(st.lists(st.lists(st.floats(0.01, 1), min_size=3, max_size=3), min_size=2, max_size=6))
def test_gain_is_bounded_and_doesnt_care_which_answer_is_which(rows: list[list[float]]) -> None:
    members = torch.tensor(rows, dtype=torch.float64)
    members = members / members.sum(1, keepdim=True)
    gain = float(compute_information_gain(members))
    assert 0 <= gain <= math.log(min(len(rows), 3)) + 1e-9
    assert float(compute_information_gain(members[:, [1, 0, 2]])) == pytest.approx(gain, abs=1e-9)


def test_what_isnt_a_probability_is_refused() -> None:
    with pytest.raises(ValueError, match="sum to 1"):
        compute_information_gain(torch.tensor([[0.5, 0.1, 0.1], [0.2, 0.7, 0.1]]))
    with pytest.raises(ValueError, match="at least 0"):
        compute_information_gain(torch.tensor([[1.2, -0.2, 0.0], [0.2, 0.7, 0.1]]))


def test_members_answer_by_davidson_with_careless_votes() -> None:
    model = make_model(lapse=0.3, nu=0.5)
    scores = make_scores([[[2.0, 0], [0, 0]], [[0, 0], [0, 0]]])
    probs = member_probabilities(model, scores, torch.tensor([0]), torch.tensor([1]))
    assert probs.shape == (2, 1, 2, 3)
    # Margin 2 on axis 0 for member 0: e^1 : e^-1 : 0.5.
    total = math.e + 1 / math.e + 0.5
    expected = [0.7 * value / total + 0.1 for value in (math.e, 1 / math.e, 0.5)]
    assert probs[0, 0, 0].tolist() == pytest.approx(expected, abs=1e-6)
    assert probs[1, 0, 0].tolist() == pytest.approx([0.7 * value / 2.5 + 0.1 for value in (1, 1, 0.5)], abs=1e-6)


def sure(num_members: int, num_questions: int) -> torch.Tensor:
    """Probabilities 1/2, 1/2, 0 everywhere: an answer's Fisher information is 1/4, its noise 4."""
    return torch.tensor([0.5, 0.5, 0.0]).expand(num_members, num_questions, 3)


def test_predictive_gain_of_two_questions_by_hand() -> None:
    # Deviations (1, -1) and (2, -2) over sqrt(2): variances 1 and 4, perfectly correlated.
    margins = torch.tensor([[1.0, 2.0], [-1.0, -2.0]])
    gains = compute_predictive_gain(margins, sure(2, 2), torch.tensor([0, 0]), num_picks=1)
    # Question 1: rho squared is 4 / (4 + 4) for both targets. It comes first.
    assert float(gains[1]) == pytest.approx(-0.5 * math.log(1 - 4 / 8), abs=1e-6)
    # Its answer leaves variances 1 * (1 - 1/2) and 4 * (1 - 1/2); question 0 then has rho squared 0.5 / (0.5 + 4).
    assert float(gains[0]) == pytest.approx(-0.5 * math.log(1 - 0.5 / 4.5), abs=1e-6)


def test_nothing_is_gained_where_members_agree_or_the_answer_is_known() -> None:
    agreed = torch.tensor([[1.0, -2.0], [1.0, -2.0]])
    assert compute_predictive_gain(agreed, sure(2, 2), torch.tensor([0, 0]), 2).tolist() == pytest.approx([0, 0], abs=1e-9)
    known = torch.tensor([1.0, 0.0, 0.0]).expand(2, 2, 3)
    margins = torch.tensor([[1.0, 2.0], [-1.0, -2.0]])
    assert compute_predictive_gain(margins, known, torch.tensor([0, 0]), 2).tolist() == pytest.approx([0, 0], abs=1e-9)


def test_a_batch_asks_no_question_twice() -> None:
    """Two copies of a question and two of one that is worth less: one of each comes before any copy."""
    base, other = torch.tensor([3.0, -3.0, 0.0, 0.0]), torch.tensor([0.0, 0.0, 2.8, -2.8])
    margins = torch.stack([base, base, other, other], dim=1)
    axes = torch.zeros(4, dtype=torch.int64)
    alone = compute_predictive_gain(margins, sure(4, 4), axes, 0)
    assert alone[0] == alone[1] > alone[2] == alone[3]
    batch = compute_predictive_gain(margins, sure(4, 4), axes, 4)
    assert {int(number) // 2 for number in batch.argsort(descending=True)[:2]} == {0, 1}


def test_an_odd_clip_that_tells_about_nothing_else_is_left_for_later() -> None:
    """BALD would take the odd question, about which the members differ most."""
    common = torch.tensor([1.5, -1.5, 0.0, 0.0])
    odd = torch.tensor([0.0, 0.0, 9.0, -9.0])
    margins = torch.stack([common] * 20 + [odd], dim=1)
    probs = torch.tensor([0.5, 0.5, 0.0]).expand(4, 21, 3)
    gains = compute_predictive_gain(margins, probs, torch.zeros(21, dtype=torch.int64), 1)
    assert int(gains.argmax()) < 20
    decided = torch.stack([margins.sigmoid(), (-margins).sigmoid(), torch.zeros_like(margins)], dim=-1)
    assert int(compute_information_gain(decided).argmax()) == 20


def test_axes_are_learned_apart() -> None:
    """The better question of each axis comes before the worse one of either: an answer narrows its own axis alone."""
    margins = torch.tensor([[3.0, 2.9, 3.0, 2.9], [-3.0, -2.9, -3.0, -2.9]])
    gains = compute_predictive_gain(margins, sure(2, 4), torch.tensor([0, 0, 1, 1]), 4)
    assert gains.argsort(descending=True)[:2].sort().values.tolist() == [0, 2]
    assert gains[0] == pytest.approx(float(gains[2]))


@given(st.integers(0, 1000), st.integers(0, 30))
def test_gains_fall_along_the_batch_and_stay_finite(seed: int, num_picks: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    margins = 3 * torch.randn(5, 30, generator=generator)
    probs = torch.rand(5, 30, 3, generator=generator).softmax(-1)
    axes = torch.randint(3, (30,), generator=generator)
    gains = compute_predictive_gain(margins, probs, axes, num_picks)
    assert gains.isfinite().all() and (gains >= 0).all()
    turned = compute_predictive_gain(-margins, probs[..., [1, 0, 2]], axes, num_picks)
    assert torch.allclose(turned, gains, atol=1e-6), "which rollout is a must not matter"


def test_questions_are_scored_on_their_own_axis() -> None:
    # About y0 members disagree on both axes, about y1 on spill alone.
    scores = make_scores([[[0, 0], [3, 3], [0, 3]], [[0, 0], [-3, -3], [0, -3]]])
    rows = {"x": 0, "y0": 1, "y1": 2}
    questions = [pair(0, ("breakage",)), pair(1, ("breakage",)), pair(1, ("spill",))]
    known, nothing, spill = score_questions(make_model(), scores, rows, questions, num_picks=3).tolist()
    assert known > 0.1 and spill > 0.1 and nothing == pytest.approx(0, abs=1e-6)


def test_an_axis_without_a_head_is_named() -> None:
    questions = [pair(0, ("politeness",))]
    with pytest.raises(DataError, match="knows the axes breakage, spill, not politeness"):
        score_questions(make_model(), make_scores([[[0, 0]]] * 2), {"x": 0, "y0": 0}, questions, num_picks=1)


def test_questions_are_taken_apart_and_put_together_again() -> None:
    pairs = [pair(0), pair(1, ("spill",))]
    questions = as_questions(pairs)
    assert [(item.pair_id, item.axes) for item in questions] == [
        ("pair-0", ("breakage",)),
        ("pair-0", ("spill",)),
        ("pair-1", ("spill",)),
    ]
    assert join_questions(questions) == pairs


def test_a_question_that_was_asked_doesnt_come_again_whichever_is_a() -> None:
    asked = {(frozenset(("y0", "x")), "spill")}
    assert [item.axes for item in as_questions([pair(0)], asked)] == [("breakage",)]


def test_random_and_active_questions_about_one_pair_stay_apart() -> None:
    questions = [pair(0, ("spill",), "random"), pair(0, ("breakage",), "active")]
    assert join_questions(questions) == questions
