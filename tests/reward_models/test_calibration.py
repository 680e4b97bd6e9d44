"""Calibration recovers what generated the votes, and leaves undefined what nobody said."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from reward_models.calibration import (
    PairCalibration,
    absolute_log_likelihood,
    fit_fail_calibration,
    fit_pair_calibration,
    pool_calibrations,
    verdict_log_likelihood,
)
from reward_models.ties import TIE_MODELS

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


def test_axes_lend_each_other_what_few_votes_cannot_tell() -> None:
    pooled = pool_calibrations([PairCalibration(1.0, 3.0), PairCalibration(4.0, 1.0)], [300, 100])
    assert pooled is not None
    assert (pooled.scale, pooled.tie_logit) == pytest.approx((4**0.25, 2.5))
    assert pool_calibrations([PairCalibration(1.0, 3.0)], [300]) is None, "one axis has nobody to lean on"

    nothing = fit_pair_calibration(NONE, NONE.long(), NONE, 0.3, "davidson", 0.05, pooled)
    assert (nothing.scale, nothing.tie_logit) == pytest.approx((pooled.scale, pooled.tie_logit))
    generator = torch.Generator().manual_seed(1)
    margin = 3 * torch.randn(4000, generator=generator)
    votes = draw(TIE_MODELS["davidson"](0.5 * margin, torch.tensor(0.8)), generator)

    def fit(num: int, pooled: PairCalibration | None) -> float:
        return fit_pair_calibration(margin[:num], votes[:num], torch.ones(num), 0.0, "davidson", 0.0, pooled).tie_logit

    assert fit(20, None) < fit(20, pooled) < 2.5
    assert fit(4000, pooled) == pytest.approx(0.8, abs=0.15), "many votes speak for themselves"


def test_absolute_likelihood_written_out() -> None:
    # P(a fails) = 0.8, P(b fails) = 0.6: both 0.48, neither 0.08; given that both are alike, 6 to 1
    logit_a, logit_b = torch.tensor([math.log(4)]), torch.tensor([math.log(1.5)])
    both, tie = torch.tensor([True]), torch.tensor([False])
    assert absolute_log_likelihood(logit_a, logit_b, both).exp().item() == pytest.approx(6 / 7)
    assert absolute_log_likelihood(logit_a, logit_b, tie).exp().item() == pytest.approx(1 / 7)
    # a lapse of 0.2 answers either way
    assert absolute_log_likelihood(logit_a, logit_b, both, 0.2).exp().item() == pytest.approx(0.8 * 6 / 7 + 0.1)
    assert verdict_log_likelihood(logit_a, torch.ones(1), 0.2).exp().item() == pytest.approx(0.8 * 0.8 + 0.1)
    assert verdict_log_likelihood(logit_a, torch.zeros(1)).exp().item() == pytest.approx(0.2)


def test_fail_probability_is_recovered_from_ties_and_both_bad() -> None:
    generator = torch.Generator().manual_seed(1)
    rewards = 2 * torch.randn(2, 9000, generator=generator)
    fails = torch.rand(2, 9000, generator=generator) < torch.sigmoid(-(1.5 * rewards - 1.0))
    equal = fails[0] == fails[1]
    num_equal = int(equal.sum())
    fit = fit_fail_calibration(*rewards[:, equal], fails[0, equal], torch.ones(num_equal), NONE, NONE, NONE)
    assert fit.slope == pytest.approx(1.5, rel=0.1)
    assert fit.bias == pytest.approx(-1.0, abs=0.15)


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
