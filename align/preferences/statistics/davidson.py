"""The likelihood of Davidson's model of ties, and its maximum; on arrays, without names.

    P(i beats j) : P(j beats i) : P(tie) = exp(d / 2) : exp(-d / 2) : nu,    d = w_i - w_j + left_bias * side

The log-likelihood is concave in (w, log nu, left_bias) and doesn't change when all worths move together. A penalty on their sum
pins them: it is zero at the maximum, so it moves nothing else.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import linalg, optimize

Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]
MAX_SE = 50.0
"""A compared pair whose log-odds are less certain than this is on its way to infinity; real data stay below 5."""


@dataclass(frozen=True)
class Counts:
    """Comparisons, counted.

    Attributes:
        first: [N] index of one item.
        second: [N] index of the other.
        side: [N] +1 where the first was shown left, -1 where right, 0 where nobody knows.
        outcomes: [N, 3] how often the first won, the second won, and neither.
        num_items: K.
    """

    first: Int64
    second: Int64
    side: Float64
    outcomes: Float64
    num_items: int


@dataclass(frozen=True)
class Maximum:
    """Where the likelihood is highest.

    Attributes:
        worth: [K], summing to 0.
        covariance: [K, K] inverse of the observed information, for worths that sum to 0.
        log_tie: Logarithm of nu with its standard error; NaN where it isn't a parameter.
        left_bias: The same.
        log_likelihood: Its height.
    """

    worth: Float64
    covariance: Float64
    log_tie: tuple[float, float]
    left_bias: tuple[float, float]
    log_likelihood: float


class Likelihood:
    """Minus the log-likelihood as a function of x = [K worths, log nu if ``ties``, left bias if ``left``]."""

    def __init__(self, counts: Counts, ties: bool, left: bool) -> None:
        self.counts, self.ties, self.left = counts, ties, left
        self.size = counts.num_items + ties + left
        self._totals = counts.outcomes.sum(axis=1)

    def start(self) -> Float64:
        """All items equal, and as many ties as were seen."""
        x = np.zeros(self.size)
        if self.ties:
            share = float(self.counts.outcomes[:, 2].sum() / self._totals.sum())
            x[self.counts.num_items] = math.log(2 * share / (1 - share))
        return x

    def log_chances(self, x: Float64) -> Float64:
        """[N, 3] log-probabilities of the three outcomes."""
        c = self.counts
        d = x[c.first] - x[c.second] + (x[-1] * c.side if self.left else 0)
        log_tie = np.full_like(d, x[c.num_items] if self.ties else -math.inf)
        logits = np.stack([d / 2, -d / 2, log_tie], axis=1)
        top = logits.max(axis=1, keepdims=True)
        return np.asarray(logits - top - np.log(np.exp(logits - top).sum(axis=1, keepdims=True)))

    def loss(self, x: Float64) -> float:
        seen = self.counts.outcomes > 0
        pinned = x[: self.counts.num_items].sum() ** 2 / 2
        return float(pinned - self.counts.outcomes[seen] @ self.log_chances(x)[seen])

    def slopes(self, x: Float64) -> Float64:
        c, p = self.counts, np.exp(self.log_chances(x))
        pull = (c.outcomes[:, 0] - c.outcomes[:, 1] - self._totals * (p[:, 0] - p[:, 1])) / 2
        parts = [np.bincount(c.first, pull, c.num_items) - np.bincount(c.second, pull, c.num_items)]
        parts[0] -= x[: c.num_items].sum()
        parts += [np.array([(c.outcomes[:, 2] - self._totals * p[:, 2]).sum()])] if self.ties else []
        parts += [np.array([pull @ c.side])] if self.left else []
        return -np.concatenate(parts)

    def curvature(self, x: Float64) -> Float64:
        c, p = self.counts, np.exp(self.log_chances(x))
        lead = p[:, 0] - p[:, 1]
        stiff = self._totals * (p[:, 0] + p[:, 1] - lead**2) / 4
        hessian = np.zeros((self.size, self.size))
        hessian[: c.num_items, : c.num_items] = 1
        one = np.ones(len(c.first))
        rows = [(c.first, one), (c.second, -one)]
        rows += [(np.full_like(c.first, self.size - 1), c.side)] if self.left else []
        for i, sign_i in rows:
            for j, sign_j in rows:
                np.add.at(hessian, (i, j), stiff * sign_i * sign_j)
        if self.ties:
            mixed = -self._totals * lead * p[:, 2] / 2
            column = np.zeros(self.size)
            for i, sign in rows:
                np.add.at(column, i, mixed * sign)
            column[c.num_items] = (self._totals * p[:, 2] * (1 - p[:, 2])).sum()
            hessian[c.num_items], hessian[:, c.num_items] = column, column
        return hessian


def maximise(counts: Counts, ties: bool, left: bool) -> Maximum | None:
    """Find the maximum; None where there is none, because the likelihood only rises towards infinity.

    Args:
        counts: Comparisons that connect all items.
        ties: Whether nu is a parameter; without, it is 0 and no tie may have been seen.
        left: Whether the left bias is one; the sides must vary.
    """
    model = Likelihood(counts, ties, left)
    scale = counts.outcomes.sum()
    found = optimize.minimize(
        model.loss, model.start(), jac=model.slopes, hess=model.curvature, method="trust-exact", options={"gtol": 1e-7 * scale}
    )
    x = found.x
    try:
        for _ in range(3):  # near the maximum, plain Newton steps give the last digits
            x = x - linalg.cho_solve(linalg.cho_factor(model.curvature(x)), model.slopes(x))
        inverse = linalg.cho_solve(linalg.cho_factor(model.curvature(x)), np.eye(model.size))
    except (linalg.LinAlgError, ValueError):  # flat as far as numbers reach
        return None
    spread = inverse[counts.first, counts.first] + inverse[counts.second, counts.second]
    spread = np.append(spread - 2 * inverse[counts.first, counts.second], np.diag(inverse)[counts.num_items :])
    flat = np.abs(model.slopes(x)).max() <= 1e-8 * scale
    if not np.isfinite(x).all() or not flat or spread.max() > MAX_SE**2:
        return None
    k = counts.num_items
    errors = np.sqrt(np.diag(inverse))
    return Maximum(
        worth=x[:k] - x[:k].mean(),
        covariance=inverse[:k, :k] - 1 / k**2,  # what the pin adds along "all together"
        log_tie=(float(x[k]), float(errors[k])) if ties else (math.nan, math.nan),
        left_bias=(float(x[-1]), float(errors[-1])) if left else (math.nan, math.nan),
        log_likelihood=-model.loss(x),
    )
