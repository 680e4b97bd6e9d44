"""Linear heads against a general optimiser and against truth."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.optimize import minimize

from reward_models.linear import draw_priors, fit_votes


def make_votes(num: int, seed: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Differences [V, 3] of features, classes [V] after a known weight vector, and that vector."""
    generator = torch.Generator().manual_seed(seed)
    differences, truth = torch.randn(num, 3, generator=generator), torch.tensor([2.0, -1.0, 0.0])
    margin = differences @ truth
    classes = torch.where(margin.abs() < 0.4, 2, torch.where(margin > 0, 0, 1))
    return differences, classes, truth


def test_the_fit_is_the_maximum_of_the_posterior() -> None:
    differences, classes, _ = make_votes(40, 0)
    generator = torch.Generator().manual_seed(1)
    weight, start = torch.empty(1, 40).exponential_(generator=generator), torch.randn(3, generator=generator)
    kernel = differences @ differences.T
    coefficients, log_nu = fit_votes(kernel, (differences @ start).unsqueeze(0), classes, weight, lapse=0.0)
    ours = start + coefficients[0] @ differences

    x, c, w, origin, nu = (np.asarray(item, float) for item in (differences, classes, weight[0], start, log_nu[0, 0]))

    def loss(parameters: np.ndarray) -> float:
        margin = x @ parameters
        logits = np.stack([margin / 2, -margin / 2, np.full_like(margin, nu)], axis=1)
        likelihood = logits[np.arange(40), c.astype(int)] - np.logaddexp.reduce(logits, axis=1)
        return float(0.5 * ((parameters - origin) ** 2).sum() - (w * likelihood).sum())

    best = minimize(loss, origin, method="BFGS", options={"gtol": 1e-8}).x
    assert ours.numpy() == pytest.approx(best, abs=2e-3)


def test_the_ensemble_finds_the_direction_and_how_common_ties_are() -> None:
    differences, classes, truth = make_votes(300, 2)
    prior = torch.zeros(4, 300)
    few, many = (fit_votes(differences @ differences.T, prior, kept, torch.ones(4, 300)) for kept in (classes, classes * 0 + 2))
    weights = few[0] @ differences
    assert torch.nn.functional.cosine_similarity(weights, truth.expand(4, 3)).min() > 0.98
    assert (many[1] > few[1] + 2).all(), "votes that are all ties make ties likely"


def test_a_careless_vote_pulls_less_where_lapses_are_allowed_for() -> None:
    differences, classes, truth = make_votes(60, 3)
    wrong = torch.where(torch.arange(60) == int((differences @ truth).argmax()), 1, classes)

    def shift(lapse: float) -> float:
        kernel, prior, weight = differences @ differences.T, torch.zeros(1, 60), torch.ones(1, 60)
        right, pulled = (fit_votes(kernel, prior, kept, weight, lapse)[0] for kept in (classes, wrong))
        return float(((right - pulled) @ differences).norm())

    assert shift(0.1) < 0.5 * shift(0.0)


def test_a_vote_without_weight_changes_nothing() -> None:
    differences, classes, _ = make_votes(30, 4)
    weight = torch.ones(2, 30)
    weight[:, 20:] = 0
    whole = fit_votes(differences @ differences.T, torch.zeros(2, 30), classes, weight)[0] @ differences
    part = differences[:20]
    fewer = fit_votes(part @ part.T, torch.zeros(2, 20), classes[:20], weight[:, :20])[0] @ part
    assert torch.allclose(whole, fewer, atol=1e-3)


def test_priors_have_the_spread_asked_for_and_no_mean() -> None:
    features = torch.eye(50)
    drawn = draw_priors(features, 200, 3.0, torch.Generator().manual_seed(0))
    assert drawn.shape == (200, 50)
    assert torch.allclose(drawn.mean(0), torch.zeros(50), atol=1e-6)
    assert float(drawn.std()) == pytest.approx(3.0, rel=0.05)
    with pytest.raises(ValueError, match="even"):
        draw_priors(features, 3, 1.0, torch.Generator())
