"""Paired comparison with ties: the log-probability of (a, b, tie) given a reward margin and a tie parameter.

Notation: ``margin`` d = reward(a) - reward(b), in log-odds. Both models are symmetric: swapping a and b turns d into -d
and exchanges the first two columns.

- Davidson (1970): P(a) : P(b) : P(tie) = exp(d/2) : exp(-d/2) : nu, with ``log_nu`` any real number.
- Rao and Kupper (1967): P(a) = sigmoid(d - eta), P(b) = sigmoid(-d - eta), the rest ties, with threshold ``eta`` > 0.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final

import torch
from torch import Tensor
from torch.nn import functional as F

A, B, TIE = 0, 1, 2
"""Column order of every probability table here."""

VOTE_CLASSES: Final = {"a": A, "b": B, "tie": TIE, "both_bad": TIE}
"""Vote to column; ``both_bad`` is a tie and, besides, an absolute fail for both (see calibration). ``skip`` has no column."""


def davidson_log_probs(margin: Tensor, log_nu: Tensor) -> Tensor:
    """Davidson's model of ties.

    Args:
        margin: [...] reward of a minus reward of b, float32, any real number.
        log_nu: Logarithm of the tie parameter, broadcastable to ``margin``. At margin 0, P(tie) = nu / (2 + nu).

    Returns:
        [..., 3] log-probabilities of (a, b, tie).
    """
    margin, log_nu = torch.broadcast_tensors(margin, log_nu)
    return torch.stack([margin / 2, -margin / 2, log_nu], dim=-1).log_softmax(dim=-1)


def rao_kupper_log_probs(margin: Tensor, eta: Tensor) -> Tensor:
    """Rao and Kupper's model of ties: a margin within the threshold ``eta`` tends to be a tie.

    Uses P(tie) = (exp(2 eta) - 1) P(a) P(b), which is exact and never subtracts near-equal numbers.

    Args:
        margin: [...] reward of a minus reward of b, float32, any real number.
        eta: Threshold > 0, broadcastable to ``margin``. At margin 0, P(tie) = tanh(eta / 2).

    Returns:
        [..., 3] log-probabilities of (a, b, tie).
    """
    margin, eta = torch.broadcast_tensors(margin, eta)
    log_a, log_b = F.logsigmoid(margin - eta), F.logsigmoid(-margin - eta)
    # log(exp(2 eta) - 1) = 2 eta + log(1 - exp(-2 eta)), finite for small and large eta alike
    log_tie = log_a + log_b + 2 * eta + torch.log(-torch.expm1(-2 * eta))
    return torch.stack([log_a, log_b, log_tie], dim=-1)


def _rao_kupper_unconstrained(margin: Tensor, tie_logit: Tensor) -> Tensor:
    # the small constant keeps log P(tie) finite when an axis has no tie at all and the threshold runs to 0
    return rao_kupper_log_probs(margin, F.softplus(tie_logit) + 1e-4)


TIE_MODELS: Final[dict[str, Callable[[Tensor, Tensor], Tensor]]] = {
    "davidson": davidson_log_probs,
    "rao_kupper": _rao_kupper_unconstrained,
}
"""Name to a function of (margin, tie_logit), where ``tie_logit`` may be any real number, so that an optimiser can move it."""


def vote_log_likelihood(margin: Tensor, classes: Tensor, tie_logit: Tensor, tie_model: str, lapse: float = 0.0) -> Tensor:
    """Log-probability of the votes that were cast.

    A careless annotator is modelled, not fitted: with probability ``lapse`` a vote is uniform over the three answers.
    Without it one flipped vote on an obvious pair pulls the rewards as hard as ten honest ones.

    Args:
        margin: [..., N] reward of a minus reward of b.
        classes: [N] int64, one of ``A``, ``B``, ``TIE``.
        tie_logit: [...] or [..., 1] unconstrained tie parameter of the model named by ``tie_model``.
        tie_model: A name of ``TIE_MODELS``.
        lapse: Share of careless votes, in [0, 1).

    Returns:
        [..., N] log-likelihood per vote.

    Raises:
        ValueError: An unknown tie model, or a lapse outside [0, 1).
    """
    if tie_model not in TIE_MODELS:
        raise ValueError(f"tie_model must be one of {sorted(TIE_MODELS)}, got {tie_model!r}")
    if not 0 <= lapse < 1:
        raise ValueError(f"lapse must be in [0, 1), got {lapse}")
    log_probs = TIE_MODELS[tie_model](margin, tie_logit)
    picked = log_probs.gather(-1, classes.expand(margin.shape).unsqueeze(-1)).squeeze(-1)
    if lapse == 0:
        return picked
    return torch.logaddexp(picked + math.log1p(-lapse), picked.new_tensor(math.log(lapse / 3)))
