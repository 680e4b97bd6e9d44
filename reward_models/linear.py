"""Ensembles of linear rewards in milliseconds, for curves that train hundreds of times; not what the toolkit ships.

Each member's reward is a linear function of the frozen features with a normal prior, r(x) = r0(x) + Σ_v α_v k(x, v), where k is
the kernel between a clip and the pair of vote v, and r0 is the member's own draw from the prior. With r0 and random weights of
the votes, the maximum of the posterior becomes a sample of it (Osband, Aslanides and Cassirer 2018, "Randomized prior functions
for deep reinforcement learning", arXiv:1806.03335; Rubin 1981, "The Bayesian bootstrap").
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from reward_models.ties import TIE, davidson_log_probs

NUM_STEPS = 10
"""Newton steps; the loss is convex but for careless votes, and ten end where thirty do."""


def draw_priors(features: Tensor, num_members: int, spread: float, generator: torch.Generator) -> Tensor:
    """Prior rewards of every member for every clip, in pairs of opposite sign, so that they don't move the ensemble's mean.

    Args:
        features: [N, D] of N clips.
        num_members: M, even.
        spread: Standard deviation of a weight.
        generator: Source of chance.

    Returns:
        float32 [M, N].
    """
    if num_members % 2:
        raise ValueError(f"num_members must be even, got {num_members}")
    weights = spread * torch.randn(num_members // 2, features.shape[1], generator=generator)
    half = weights @ features.T
    return torch.cat([half, -half])


def fit_votes(
    kernel: Tensor, prior_margin: Tensor, classes: Tensor, weight: Tensor, lapse: float = 0.05
) -> tuple[Tensor, Tensor]:
    """Fit all members to votes under Davidson's model of ties, by Newton's method in the kernel's space.

    A careless vote loses its weight by how unlikely it is, which makes the result a stationary point of the likelihood with
    lapses. The tie parameter is fitted alongside, with one tie seen before any vote.

    Args:
        kernel: [V, V] between the votes' pairs, times the prior's variance.
        prior_margin: [M, V] what each member expected before any vote.
        classes: int64 [V] 0 = a, 1 = b, 2 = tie.
        weight: [M, V] of each vote for each member, >= 0.
        lapse: Share of careless votes, in [0, 1).

    Returns:
        Coefficients [M, V], so that a member's margin is ``prior + coefficients @ kernel``, and the log tie parameter [M, 1].
    """
    answers = F.one_hot(classes, 3).to(kernel.dtype)
    score = (answers[:, 0] - answers[:, 1]) / 2
    coefficients = torch.zeros_like(prior_margin)
    log_nu = torch.zeros(len(prior_margin), 1)
    for _ in range(NUM_STEPS):
        margin = prior_margin + coefficients @ kernel
        probs = davidson_log_probs(margin, log_nu).exp()
        likely = (probs * answers).sum(-1)
        trusted = weight * (1 - lapse) * likely / ((1 - lapse) * likely + lapse / 3)
        expected = (probs[..., 0] - probs[..., 1]) / 2
        # Clamped, a step is shorter than Newton's, and ends in the same place.
        curvature = ((probs[..., 0] + probs[..., 1]) / 4 - expected**2).clamp_min(0.02)
        target = margin - prior_margin + (score - expected) / curvature
        noise = 1 / (trusted * curvature).clamp_min(1e-6)
        coefficients = torch.linalg.solve(kernel + torch.diag_embed(noise), target.unsqueeze(-1)).squeeze(-1)
        seen, foreseen = (trusted * answers[:, TIE]).sum(-1), (trusted * probs[..., TIE]).sum(-1)
        log_nu = log_nu + ((seen + 1) / (foreseen + 1)).log().unsqueeze(-1)
    return coefficients, log_nu
