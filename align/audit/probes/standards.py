"""Does somebody's standard depend on what it should not? Exact tests of one against everybody else, given what others said.

For each person and stratum (what the others said about the same clips) there is a table of flag x answer. If the flag does
not matter to this person more than to the others, the flagged answers have Fisher's noncentral hypergeometric distribution,
whose odds ratio is the others' (Mantel and Haenszel's, within the stratum): what a flag tells about clips, which others see
as well, is taken out, and so is each person's own habit in each stratum. The sum over strata is tested exactly (J. J. Gart,
Biometrika 57, 1970; the odds ratio is estimated, which matters little as long as the others are many).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import signal, special

from align.audit.probes.base import LEVEL, POWER
from align.audit.statistics import Float64, Rate

PRIOR = 0.5
"""Pseudo-counts on either side of the others' odds ratio; it pulls strata with few answers towards 1."""


@dataclass(frozen=True)
class Excess:
    """How much more a flag changes one person's answers than everybody else's.

    Attributes:
        name: The person.
        effect: Difference of the answer's share with and without the flag, given what others said, minus the others'
            difference; approximate 95 % interval.
        num_flagged: Answers with the flag that have something to be compared with.
        num_others: Answers without it.
        p_value: Exact conditional test, two-sided; NaN where no stratum has both kinds.
        error: Standard error of ``effect``; NaN where undefined.
    """

    name: str
    effect: Rate
    num_flagged: int
    num_others: int
    p_value: float
    error: float

    def detectable(self, num_tests: int, level: float = LEVEL, power: float = POWER) -> float:
        """Smallest effect that would be found among ``num_tests`` tests, by the normal approximation."""
        return float((special.ndtri(power) - special.ndtri(level / num_tests / 2)) * self.error)


def compute_excesses(answers: pd.DataFrame, odds_ratio: float | None = None) -> list[Excess]:
    """Test every person.

    Args:
        answers: One row an answer: ``name``, ``stratum``, ``flag`` (0 or 1) and ``answer`` (0 or 1).
        odds_ratio: What it is under the null, where it is known (1 for twins); None takes the others'.

    Returns:
        A row a person, in the order of first appearance.
    """
    counts = _count(answers)
    total = counts.sum(axis=0)
    excesses = []
    for index, name in enumerate(answers["name"].unique()):
        own, rest = counts[index], total - counts[index]
        ratios = _odds_ratios(np.delete(counts, index, axis=0)) if odds_ratio is None else np.full(len(own), odds_ratio)
        excesses.append(_excess(str(name), own, rest if odds_ratio is None else np.zeros_like(rest), ratios))
    return excesses


def _count(answers: pd.DataFrame) -> Float64:
    """float [people, strata, flag, answer] of counts."""
    names, _ = pd.factorize(answers["name"])
    strata, labels = pd.factorize(answers["stratum"])
    counts = np.zeros((int(names.max(initial=-1)) + 1, len(labels), 2, 2))
    np.add.at(counts, (names, strata, answers["flag"].to_numpy(dtype=int), answers["answer"].to_numpy(dtype=int)), 1)
    return counts


def _odds_ratios(counts: Float64) -> Float64:
    """Mantel and Haenszel's odds ratio of each stratum over people, float [strata]; 1 where nobody says anything."""
    size = np.maximum(counts.sum((2, 3)), 1)
    along = (counts[..., 1, 1] * counts[..., 0, 0] / size).sum(0)
    across = (counts[..., 1, 0] * counts[..., 0, 1] / size).sum(0)
    return (along + PRIOR) / (across + PRIOR)


def _excess(name: str, own: Float64, rest: Float64, ratios: Float64) -> Excess:
    flagged, others = own[:, 1].sum(1), own[:, 0].sum(1)
    both = (flagged > 0) & (others > 0)
    value, error = _difference(own[both], rest[both])
    half = 1.96 * error
    num = (int(flagged[both].sum()), int(others[both].sum()))
    low, high = max(-2.0, value - half), min(2.0, value + half)
    effect = Rate(value, low, high, sum(num), sum(num))
    return Excess(name, effect, *num, _exact_p_value(own[both], ratios[both]), error)


def _difference(own: Float64, rest: Float64) -> tuple[float, float]:
    """Mantel and Haenszel's risk difference minus that of the others with the same weights, and its standard error."""
    if not len(own):
        return math.nan, math.nan
    sizes = own.sum(2)
    weights = sizes.prod(1) / sizes.sum(1)
    shares = own[:, :, 1] / sizes
    # Half an answer on each side keeps a share of 0 or 1 from looking certain.
    smooth = (own[:, :, 1] + 0.5) / (sizes + 1)
    variance = float((weights**2 * (smooth * (1 - smooth) / sizes).sum(1)).sum() / weights.sum() ** 2)
    others = np.divide(rest[:, :, 1], rest.sum(2), out=np.zeros(rest.shape[:2]), where=rest.sum(2) > 0)
    known = (rest.sum(2) > 0).all(1)
    expected = np.where(known, others[:, 1] - others[:, 0], 0.0)
    return float((weights * (shares[:, 1] - shares[:, 0] - expected)).sum() / weights.sum()), math.sqrt(variance)


def _exact_p_value(tables: Float64, ratios: Float64) -> float:
    """Two-sided (twice the smaller tail) of the number of flagged positive answers over strata."""
    density, low = np.ones(1), 0
    informative = False
    for table, ratio in zip(tables, ratios, strict=True):
        start, stratum = noncentral_hypergeometric(table, float(ratio))
        informative |= len(stratum) > 1
        density, low = signal.convolve(density, stratum, method="direct"), low + start
    if not informative:
        return math.nan
    place = round(float(tables[:, 1, 1].sum())) - low
    return float(min(1.0, 2 * min(density[: place + 1].sum(), density[place:].sum())))


def noncentral_hypergeometric(table: Float64, odds_ratio: float) -> tuple[int, Float64]:
    """Distribution of the flagged positive answers of a table [flag, answer] with its margins fixed.

    P(x) is proportional to C(n1, x) C(n0, m - x) r^x, with n1 flagged and n0 other answers, m positive ones and odds ratio r.

    Returns:
        The smallest x that is possible, and the probabilities from there on.
    """
    n0, n1 = (int(n) for n in table.sum(1))
    positive = int(table[:, 1].sum())
    low, high = max(0, positive - n0), min(n1, positive)
    x = np.arange(low, high + 1)
    logs = (
        -special.betaln(x + 1, n1 - x + 1) - special.betaln(positive - x + 1, n0 - positive + x + 1) + x * math.log(odds_ratio)
    )
    weights = np.exp(logs - logs.max())
    return low, weights / weights.sum()
