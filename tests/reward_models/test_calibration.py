"""Calibration recovers what generated the votes, and leaves undefined what nobody said."""

from __future__ import annotations

import math

import pytest
import torch
from reward_models.calibration import (
    absolute_log_likelihood,
    fit_fail_calibration,
    fit_pair_calibration,
    verdict_log_likelihood,
)
from reward_models.ties import TIE_MODELS
from torch import Tensor

NONE = torch.zeros(0)


def draw(log_probs: Tensor, generator: torch.Generator) -> Tensor:
    return torch.multinomial(log_probs.exp(), 1, generator=generator).squeeze(1)


@pytest.mark.parametrize("name", sorted(TIE_MODELS))
def test_temperature_and_tie_parameter_are_recovered(name: str) -> None:
    generator = torch.Generator().manual_seed(0)
    margin = 3 * torch.randn(4000, generator=generator)
    votes = draw(TIE_MODELS[name](0.5 * margin, torch.tensor(0.8)), generator)
    fit = fit_pair_calibration(margin, votes, torch.ones(4000), 0.0, name, lapse=0.0)
    assert fit.scale == pytest.approx(0.5, rel=0.1)
    assert fit.tie_logit == pytest.approx(0.8, abs=0.15)


def test_without_votes_the_prior_stays() -> None:
    fit = fit_pair_calibration(NONE, NONE.long(), NONE, 0.3, "davidson", lapse=0.05)
    assert (fit.scale, fit.tie_logit) == pytest.approx((1.0, 0.3))


def test_absolute_likelihood_written_out() -> None:
    # P(a fails) = 0.8, P(b fails) = 0.5: both bad 0.4, anything else 0.6
    logit_a, logit_b = torch.tensor([math.log(4)]), torch.zeros(1)
    both, other = torch.tensor([True]), torch.tensor([False])
    assert absolute_log_likelihood(logit_a, logit_b, both).exp().item() == pytest.approx(0.4)
    assert absolute_log_likelihood(logit_a, logit_b, other).exp().item() == pytest.approx(0.6)
    # a lapse of 0.2 is uniform over four answers: 0.8 * 0.4 + 0.2 / 4, and the rest
    assert absolute_log_likelihood(logit_a, logit_b, both, 0.2).exp().item() == pytest.approx(0.37)
    assert absolute_log_likelihood(logit_a, logit_b, other, 0.2).exp().item() == pytest.approx(0.63)
    assert verdict_log_likelihood(logit_a, torch.ones(1), 0.2).exp().item() == pytest.approx(0.8 * 0.8 + 0.1)
    assert verdict_log_likelihood(logit_a, torch.zeros(1)).exp().item() == pytest.approx(0.2)


def test_absolute_likelihood_stays_finite_at_the_ends() -> None:
    logit = torch.tensor([90.0], requires_grad=True)
    loss = absolute_log_likelihood(logit, torch.tensor([90.0]), torch.tensor([False]))
    loss.sum().backward()
    assert torch.isfinite(loss).all() and logit.grad is not None and torch.isfinite(logit.grad).all()


def test_fail_probability_is_recovered_from_both_bad() -> None:
    generator = torch.Generator().manual_seed(1)
    rewards = 2 * torch.randn(2, 6000, generator=generator)
    fails = torch.rand(2, 6000, generator=generator) < torch.sigmoid(-(1.5 * rewards - 1.0))
    fit = fit_fail_calibration(*rewards, fails.all(0), torch.ones(6000), NONE, NONE, NONE)
    assert fit.slope == pytest.approx(1.5, rel=0.15)
    assert fit.bias == pytest.approx(-1.0, abs=0.25)


def test_fail_probability_is_recovered_from_single_clips() -> None:
    generator = torch.Generator().manual_seed(2)
    reward = 2 * torch.randn(3000, generator=generator)
    failed = (torch.rand(3000, generator=generator) < torch.sigmoid(-(0.7 * reward + 0.5))).float()
    fit = fit_fail_calibration(NONE, NONE, NONE.bool(), NONE, reward, failed, torch.ones(3000))
    assert fit.slope == pytest.approx(0.7, rel=0.15)
    assert fit.bias == pytest.approx(0.5, abs=0.2)


@pytest.mark.parametrize("both_bad", [torch.zeros(5, dtype=torch.bool), torch.ones(5, dtype=torch.bool)])
def test_one_sided_absolute_labels_are_undefined(both_bad: Tensor) -> None:
    fit = fit_fail_calibration(torch.randn(5), torch.randn(5), both_bad, torch.ones(5), NONE, NONE, NONE)
    assert math.isnan(fit.slope) and math.isnan(fit.bias)
