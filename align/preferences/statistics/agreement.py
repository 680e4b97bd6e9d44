"""How far annotators agree beyond chance: about pairs of rollouts, and about where a rollout stops making sense.

Both are Krippendorff's alpha (``align.preferences.statistics.alpha``). A break-point answer is a set of times, compared by

    delta(A, B) = 1 - F1 = 1 - 2 m / (|A| + |B|),    m = most one-to-one matches with |t - t'| <= tolerance

so that alpha needs a tolerance. It is reported over a sweep of them, never for one chosen window. "No breaks" is the empty set,
which agrees with itself; whoever said nothing about a clip is left out. (Alpha with a distance between sets: R. Passonneau,
"Measuring agreement on set-valued items", LREC 2006; the F1 distance is ours.)
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from align.preferences.statistics.alpha import NO_OVERLAP, NO_RATINGS, Alpha, alpha_of, unit_bootstrap, why_undefined
from align.preferences.statistics.alpha import krippendorff_alpha as krippendorff_alpha
from align.preferences.votes.schema import Breakpoint, Vote, effective_breakpoints, effective_votes

Float64 = NDArray[np.float64]
TOLERANCES_S = (0.04, 0.1, 0.2, 0.5, 1.0, 2.0)
"""From one frame at 25 frames a second to two seconds."""
MAX_ANSWERS = 600
"""Answers that the expected disagreement is computed from; of more, so many are drawn by seed."""


@dataclass(frozen=True)
class Rated:
    """One answer about one pair of rollouts on one axis, told so that (x, y) and (y, x) are the same unit.

    Attributes:
        unit: (context, smaller rollout id, larger rollout id, axis).
        value: ``first``, ``second``, ``tie`` or ``both_bad``; first is the smaller rollout id.
        vote: The vote itself.
    """

    unit: tuple[str, str, str, str]
    value: str
    vote: Vote

    @property
    def left_id(self) -> str | None:
        """The rollout shown left; None where nobody knows."""
        return {"a": self.vote.rollout_a, "b": self.vote.rollout_b, None: None}[self.vote.shown_left]


def canonical(vote: Vote) -> Rated:
    """A vote with the pair's rollouts in the order of their ids."""
    first, second = sorted((vote.rollout_a, vote.rollout_b))
    value: str = vote.vote
    if value in ("a", "b"):
        value = "first" if (vote.rollout_a if value == "a" else vote.rollout_b) == first else "second"
    return Rated((vote.context_id, first, second, vote.axis), value, vote)


def is_trial(vote: Vote) -> bool:
    """Whether the right answer is known beforehand: gold pairs, and catch trials that show one clip twice."""
    return vote.selection in ("gold", "catch") or vote.rollout_a == vote.rollout_b


def comparable_votes(votes: Iterable[Vote], trials: bool = False) -> Iterator[Rated]:
    """Votes of different annotators about the same units: what counts, each annotator once a unit (the first answer).

    Args:
        votes: Raw votes. Those without an annotator's name are taken as different people.
        trials: Keep gold and catch trials, which were chosen to be easy and would flatter agreement.
    """
    seen: set[tuple[Hashable, str]] = set()
    for vote in effective_votes(votes):
        rated = canonical(vote)
        key = (rated.unit, vote.annotator_id)
        if (trials or not is_trial(vote)) and (not vote.annotator_id or key not in seen):
            seen.add(key)
            yield rated


def vote_agreement(votes: Iterable[Vote], both_bad: bool = False, *, num_resamples: int = 1000, seed: int = 0) -> Alpha:
    """Nominal alpha of preference votes over pairs (and axes, if there are several).

    Args:
        votes: Raw votes; superseded ones, skips, gold and catch trials don't count.
        both_bad: Take ``both_bad`` as a category of its own instead of a tie.
        num_resamples: Bootstrap draws of pairs.
        seed: Seed of the draws.
    """
    rated = list(comparable_votes(votes))
    values = ["tie" if row.value == "both_bad" and not both_bad else row.value for row in rated]
    return alpha_of([row.unit for row in rated], values, num_resamples=num_resamples, seed=seed)


# ------------------------------------------------------------------------------------------------------------ break-points


@dataclass(frozen=True)
class BreakAgreement:
    """Agreement about break-points at one tolerance.

    Attributes:
        tolerance_s: Breaks at most so far apart, in seconds, are the same.
        agreement: Mean F1 of two annotators of one rollout, in [0, 1]; NaN where no rollout has two.
        alpha: The same beyond chance; its units are rollouts and its ratings annotators' answers.
    """

    tolerance_s: float
    agreement: float
    alpha: Alpha


def break_agreement(
    breakpoints: Iterable[Breakpoint],
    tolerances_s: Sequence[float] = TOLERANCES_S,
    *,
    num_resamples: int = 1000,
    seed: int = 0,
) -> list[BreakAgreement]:
    """Agreement about where rollouts break, one entry a tolerance.

    Args:
        breakpoints: Rows, those without an annotator left out. Whoever marked a break and also said "no breaks" marked one.
        tolerances_s: Seconds, none negative.
        num_resamples: Bootstrap draws of rollouts.
        seed: Seed of the draws.
    """
    if any(not tolerance >= 0 for tolerance in tolerances_s):
        raise ValueError(f"tolerances_s must not be negative, got {list(tolerances_s)}")
    answers = _break_answers(breakpoints)
    overlap = Counter(rollout for rollout, _ in answers)
    shared = {key: times for key, times in answers.items() if overlap[key[0]] > 1}
    if not shared:
        nothing = Alpha(math.nan, math.nan, math.nan, 0, 0, NO_OVERLAP if answers else NO_RATINGS)
        return [BreakAgreement(tolerance, math.nan, nothing) for tolerance in tolerances_s]
    rollouts = {name: index for index, name in enumerate(dict.fromkeys(rollout for rollout, _ in shared))}
    units = np.array([rollouts[rollout] for rollout, _ in shared])
    times = _pad(list(shared.values()))
    return [_break_alpha(units, times, tolerance, num_resamples, seed) for tolerance in tolerances_s]


def any_break_agreement(breakpoints: Iterable[Breakpoint], *, num_resamples: int = 1000, seed: int = 0) -> Alpha:
    """Nominal alpha of whether a rollout breaks at all."""
    answers = _break_answers(breakpoints)
    values = [len(times) > 0 for times in answers.values()]
    return alpha_of([rollout for rollout, _ in answers], values, num_resamples=num_resamples, seed=seed)


def _break_answers(breakpoints: Iterable[Breakpoint]) -> dict[tuple[str, str], list[float]]:
    """(rollout, annotator) to their break times in order; no times where they said "no breaks"."""
    answers: dict[tuple[str, str], list[float]] = {}
    for row in effective_breakpoints(breakpoints):
        if row.annotator_id:
            times = answers.setdefault((row.rollout_id, row.annotator_id), [])
            times += [row.time_s] if row.time_s is not None else []
    return {key: sorted(times) for key, times in answers.items()}


def _pad(answers: Sequence[Sequence[float]]) -> Float64:
    """[answers, most breaks], missing ones infinite."""
    width = max(1, *(len(times) for times in answers))
    return np.array([[*times, *[math.inf] * (width - len(times))] for times in answers])


def _distances(a: Float64, b: Float64, tolerance_s: float) -> Float64:
    """1 - F1 of rows of sorted times, [N, P] each and padded with infinity."""
    num_a, num_b = np.isfinite(a).sum(axis=1), np.isfinite(b).sum(axis=1)
    a, b = (np.pad(times, ((0, 0), (0, 1)), constant_values=math.inf) for times in (a, b))
    rows, i, j = np.arange(len(a)), np.zeros(len(a), dtype=np.int64), np.zeros(len(a), dtype=np.int64)
    matches = np.zeros(len(a))
    # On a line, matching the earliest pair that fits is best; the steps of a merge, for all rows at once.
    for _ in range(int((num_a + num_b).max(initial=0))):
        left, right = a[rows, i], b[rows, j]
        both = (i < num_a) & (j < num_b)
        gap = np.abs(np.where(both, left, 0) - np.where(both, right, 0))
        match = both & (gap <= tolerance_s + 1e-9)  # one frame at 25 frames a second is 0.04 s only up to rounding
        matches += match
        i, j = i + (match | (both & (left < right))), j + (match | (both & (left > right)))
    total = num_a + num_b
    return np.asarray(1 - np.divide(2 * matches, total, out=np.ones(len(a)), where=total > 0))


def _break_alpha(units: NDArray[np.int64], times: Float64, tolerance_s: float, num_resamples: int, seed: int) -> BreakAgreement:
    first, second = np.triu_indices(len(units), 1)
    same = units[first] == units[second]
    first, second = first[same], second[same]
    within = _distances(times[first], times[second], tolerance_s)
    num_units = int(units.max()) + 1
    sizes = np.bincount(units)
    observed = np.bincount(units[first], 2 * within, minlength=num_units) / (sizes - 1)  # [U], over ordered pairs
    chosen = np.arange(len(units))
    if len(units) > MAX_ANSWERS:
        chosen = np.sort(np.random.default_rng(seed).choice(len(units), MAX_ANSWERS, replace=False))
    i, j = (index.ravel() for index in np.meshgrid(chosen, chosen, indexing="ij"))
    across = _distances(times[i], times[j], tolerance_s).reshape(len(chosen), len(chosen))

    def alphas(weights: Float64) -> Float64:
        w = weights[:, units[chosen]]
        n = w.sum(axis=1)
        expected = np.einsum("ra,ra->r", w @ across, w) / np.maximum(n * (n - 1), 1)
        seen = weights @ observed / (weights @ sizes)
        return np.asarray(1 - np.divide(seen, expected, out=np.full(len(n), np.nan), where=expected > 0))

    value = float(alphas(np.ones((1, num_units)))[0])
    alpha = Alpha(value, math.nan, math.nan, num_units, len(units), why_undefined(value, num_units))
    if not alpha.reason:
        low, high = unit_bootstrap(alphas, num_units, num_units + len(chosen), num_resamples, 0.95, seed)
        alpha = replace(alpha, low=low, high=high)
    return BreakAgreement(tolerance_s, float(1 - within.mean()), alpha)
