"""Davidson and Rao-Kupper against arithmetic written out by hand, and the invariants of paired comparison."""

from __future__ import annotations

import math

import pytest
import torch

from reward_models.ties import TIE, TIE_MODELS, A, B, davidson_log_probs, rao_kupper_log_probs, vote_log_likelihood

MARGINS = torch.tensor([-30.0, -2.0, -0.3, 0.0, 0.3, 2.0, 30.0])


def test_davidson_written_out() -> None:
    # d = 2 ln 2: exp(d/2) = 2, exp(-d/2) = 1/2; with nu = 1.5 the sum is 4
    probs = davidson_log_probs(torch.tensor([2 * math.log(2)]), torch.tensor(math.log(1.5))).exp()
    assert probs[0].tolist() == pytest.approx([2 / 4, 0.5 / 4, 1.5 / 4], abs=1e-6)


def test_rao_kupper_written_out() -> None:
    # worths 3 and 1, theta = 2: P(a) = 3/(3+2), P(b) = 1/(1+6), P(tie) = (4-1)*3/((3+2)(6+1)) = 9/35
    probs = rao_kupper_log_probs(torch.tensor([math.log(3)]), torch.tensor(math.log(2))).exp()
    assert probs[0].tolist() == pytest.approx([3 / 5, 1 / 7, 9 / 35], abs=1e-6)


def test_equal_rewards_give_the_documented_tie_share() -> None:
    assert davidson_log_probs(torch.zeros(1), torch.tensor(math.log(2))).exp()[0, TIE].item() == pytest.approx(2 / 4)
    assert rao_kupper_log_probs(torch.zeros(1), torch.tensor(1.0)).exp()[0, TIE].item() == pytest.approx(math.tanh(0.5))


@pytest.mark.parametrize("name", sorted(TIE_MODELS))
@pytest.mark.parametrize("tie_logit", [-3.0, 0.0, 4.0])
def test_probabilities_sum_to_one_and_swap(name: str, tie_logit: float) -> None:
    log_probs = TIE_MODELS[name](MARGINS, torch.tensor(tie_logit))
    swapped = TIE_MODELS[name](-MARGINS, torch.tensor(tie_logit))
    assert torch.isfinite(log_probs).all()
    assert torch.allclose(log_probs.exp().sum(-1), torch.ones(len(MARGINS)), atol=1e-5)
    assert torch.allclose(log_probs[:, [B, A, TIE]], swapped, atol=1e-6)


@pytest.mark.parametrize("name", sorted(TIE_MODELS))
def test_swapping_the_pair_flips_the_gradient(name: str) -> None:
    def gradient(margin: float, answer: int) -> float:
        d = torch.tensor([margin], requires_grad=True)
        vote_log_likelihood(d, torch.tensor([answer]), torch.tensor(0.5), name).sum().backward()
        assert d.grad is not None
        return float(d.grad)

    assert gradient(0.7, A) == pytest.approx(-gradient(-0.7, B))
    assert gradient(0.7, A) > 0 > gradient(0.7, TIE)
    assert gradient(0.0, TIE) == pytest.approx(0, abs=1e-7)


@pytest.mark.parametrize("name", sorted(TIE_MODELS))
def test_gradients_agree_with_finite_differences(name: str) -> None:
    margin = torch.tensor([-1.3, 0.2, 2.0], dtype=torch.float64, requires_grad=True)
    tie_logit = torch.tensor(0.4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda d, t: TIE_MODELS[name](d, t), (margin, tie_logit))


@pytest.mark.parametrize("name", sorted(TIE_MODELS))
def test_more_ties_with_a_larger_parameter(name: str) -> None:
    shares = [TIE_MODELS[name](torch.tensor([0.5]), torch.tensor(t)).exp()[0, TIE].item() for t in (-2.0, 0.0, 2.0)]
    assert shares == sorted(shares) and shares[0] < shares[-1]


def test_lapse_written_out_and_bounded() -> None:
    # at margin 0 and nu = 1 every answer has 1/3, with or without lapses
    even = vote_log_likelihood(torch.zeros(1), torch.tensor([A]), torch.tensor(0.0), "davidson", lapse=0.3)
    assert even.exp().item() == pytest.approx(1 / 3)
    # an impossible vote costs no more than a lapse: P = 0.06 / 3
    wrong = vote_log_likelihood(torch.tensor([80.0]), torch.tensor([B]), torch.tensor(0.0), "davidson", lapse=0.06)
    assert wrong.exp().item() == pytest.approx(0.02)


@pytest.mark.parametrize(("name", "lapse", "message"), [("elo", 0.0, "tie_model"), ("davidson", 1.0, "lapse")])
def test_bad_arguments_are_named(name: str, lapse: float, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        vote_log_likelihood(torch.zeros(1), torch.tensor([A]), torch.tensor(0.0), name, lapse)
