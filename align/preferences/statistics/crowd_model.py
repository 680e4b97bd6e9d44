"""A joint model of pairs and annotators: what each pair looks like to everybody, and how each annotator answers.

Every unit u (a pair on an axis) has a latent margin m_u ~ N(0, scale_axis^2). Annotator k answers by Davidson's model of ties,
with a skill, a bias to the left clip and a patience with ties of their own:

    d = skill_k m_u + left_k side
    P(first better) : P(second better) : P(tie) = exp(d / 2) : exp(-d / 2) : exp(tie_axis + tie_k)

With skill 0 the answers have nothing to do with the clips, whatever buttons somebody likes: that is a random clicker. Skill 1
is the typical annotator. The margins are integrated out on a grid; annotators are fitted by expectation-maximisation with weak
normal priors (maximum a posteriori). The closest relatives are Dawid and Skene (1979), GLAD (Whitehill et al., NIPS 2009) and
MACE (Hovy et al., NAACL 2013); ties, sides and graded margins are what pairs of clips need besides.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import logsumexp, softmax

Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]
GRID = np.linspace(-3.2, 3.2, 21)
"""Margins in units of the axis's scale."""
LOG_PRIOR = -(GRID**2) / 2 - logsumexp(-(GRID**2) / 2)
PRIOR_MEAN = np.array([1.0, 0.0, 0.0])
PRIOR_SD = np.array([0.8, 1.0, 0.7])
"""Of skill, left bias and log tie width."""
MAX_ITERATIONS = 60
TIE = 2


@dataclass(frozen=True)
class Answers:
    """Votes as arrays: V votes, K annotators, U units, X axes.

    Attributes:
        unit: [V] index of the unit.
        annotator: [V] index of the annotator.
        choice: [V] 0 the first clip is better, 1 the second, 2 a tie.
        side: [V] +1 where the first clip was shown left, -1 where right, 0 where nobody knows.
        axis: [U] index of the unit's axis.
        num_annotators: K.
    """

    unit: Int64
    annotator: Int64
    choice: Int64
    side: Float64
    axis: Int64
    num_annotators: int


@dataclass(frozen=True)
class Crowd:
    """A fitted model.

    Attributes:
        skill: [K].
        left: [K] added log-odds of the left clip.
        tie: [K] log tie width against the axis's.
        axis_tie: [X] log tie width.
        scale: [X] standard deviation of the margins.
        trusted: [K] 1.0 where the annotator's votes count for the margins, else 0.0.
        vote_log: [V, G] log-probability of each vote at each margin, 0 where the annotator isn't trusted.
        unit_log: [U, G] log prior plus the votes' logs: the unnormalised posterior of the margins.
    """

    skill: Float64
    left: Float64
    tie: Float64
    axis_tie: Float64
    scale: Float64
    trusted: Float64
    vote_log: Float64
    unit_log: Float64

    def others(self, answers: Answers) -> Float64:
        """[V, G] posterior of the vote's margin given all votes but its annotator's own."""
        return np.asarray(softmax(self.unit_log[answers.unit] - self.vote_log, axis=1))


def sum_by(index: Int64, size: int, values: Float64) -> Float64:
    """Sums the rows of ``values`` [N, C] that share an index into [size, C]."""
    return np.stack([np.bincount(index, column, minlength=size) for column in values.T], axis=1).astype(np.float64)


def choice_chances(margin: Float64, bias: Float64, log_tie: Float64) -> tuple[Float64, Float64, Float64]:
    """Probabilities of (first, second, tie); all arguments broadcast, ``margin`` already times the skill."""
    d = margin + bias
    small = np.exp(-np.abs(d) / 2)
    likely = 1 / (1 + small**2 + np.exp(log_tie) * small)
    unlikely = small**2 * likely
    ahead = d > 0
    return np.where(ahead, likely, unlikely), np.where(ahead, unlikely, likely), np.exp(log_tie) * small * likely


def chances_at(
    crowd: Crowd, answers: Answers, votes: Int64, skill: Float64, left: Float64, tie: Float64
) -> tuple[Float64, Float64, Float64]:
    """Chances of (first, second, tie) at every margin, [N, G] each, for votes cast with other parameters.

    Args:
        crowd: The fitted model.
        answers: What it was fitted to.
        votes: [N] which votes are meant: their units, axes and sides count.
        skill: [N].
        left: [N].
        tie: [N].
    """
    axis = answers.axis[answers.unit[votes]]
    margin = (skill * crowd.scale[axis])[:, None] * GRID
    return choice_chances(margin, (left * answers.side[votes])[:, None], (crowd.axis_tie[axis] + tie)[:, None])


def predict(
    crowd: Crowd, answers: Answers, margins: Float64, votes: Int64, skill: Float64, left: Float64, tie: Float64
) -> Float64:
    """As ``chances_at``, with the margin integrated out over ``margins`` [N, G]; returns [N, 3]."""
    chances = chances_at(crowd, answers, votes, skill, left, tie)
    return np.stack([(margins * chance).sum(axis=1) for chance in chances], axis=1)


def fit_crowd(answers: Answers, trusted: NDArray[np.bool_] | None = None) -> Crowd:
    """Fit annotators and margins.

    Args:
        answers: Votes, each annotator at most once a unit.
        trusted: [K] whose votes say something about the margins; the others are fitted, but not listened to.
    """
    size = answers.num_annotators
    weight = np.ones(size) if trusted is None else trusted.astype(np.float64)
    state = _State(np.tile(PRIOR_MEAN, (size, 1)), np.zeros(answers.axis.max() + 1), np.full(answers.axis.max() + 1, 2.0))
    for _ in range(MAX_ITERATIONS):
        fresh = _step(answers, weight, state)
        moved = np.abs(fresh.people - state.people).max()
        state = fresh
        if moved < 1e-3:
            break
    # So that skill 1 is the typical annotator: what scale the margins have is a matter of words.
    typical = max(float(np.median(state.people[weight > 0, 0])), 0.2) if weight.any() else 1.0
    state = _State(state.people / np.array([typical, 1, 1]), state.axis_tie, state.scale * typical)
    vote_log, unit_log, _ = _look(answers, weight, state)
    skill, left, tie = state.people.T
    return Crowd(skill, left, tie, state.axis_tie, state.scale, weight, vote_log, unit_log)


@dataclass(frozen=True)
class _State:
    people: Float64  # [K, 3] skill, left, tie
    axis_tie: Float64
    scale: Float64


def _look(answers: Answers, weight: Float64, state: _State) -> tuple[Float64, Float64, tuple[Float64, Float64, Float64]]:
    """Log-probability of the votes [V, G] and units [U, G] at every margin, and the chances of the three answers."""
    skill, left, tie = state.people[answers.annotator].T
    axis = answers.axis[answers.unit]
    margin = (skill * state.scale[axis])[:, None] * GRID
    chances = choice_chances(margin, (left * answers.side)[:, None], (state.axis_tie[axis] + tie)[:, None])
    vote_log = np.log(np.choose(answers.choice[:, None], chances)) * weight[answers.annotator][:, None]
    return vote_log, LOG_PRIOR + sum_by(answers.unit, len(answers.axis), vote_log), chances


def _step(answers: Answers, weight: Float64, state: _State) -> _State:
    """One step of expectation (margins) and maximisation (a Newton step for annotators, ties and scales)."""
    _, unit_log, (first, second, tied) = _look(answers, weight, state)
    posterior = softmax(unit_log, axis=1)
    of_vote = posterior[answers.unit]
    axis, size = answers.axis[answers.unit], answers.num_annotators
    lead = first - second
    pull = of_vote * (np.array([0.5, -0.5, 0.0])[answers.choice][:, None] - lead / 2)
    pull_tie = of_vote * ((answers.choice == TIE)[:, None] - tied)
    stiff, mixed = of_vote * (first + second - lead**2) / 4, of_vote * lead * tied / -2
    # Expected slopes and curvatures of each vote's log-probability in (skill, left, tie).
    scale, side = state.scale[axis], answers.side
    terms = [pull @ GRID * scale, pull.sum(axis=1) * side, pull_tie.sum(axis=1)]
    terms += [stiff @ GRID**2 * scale**2, stiff @ GRID * scale * side, mixed @ GRID * scale]
    terms += [stiff.sum(axis=1) * side**2, mixed.sum(axis=1) * side, (of_vote * tied * (1 - tied)).sum(axis=1)]
    sums = np.stack(terms, axis=1)
    per_person = sum_by(answers.annotator, size, sums)
    slope = per_person[:, :3] - (state.people - PRIOR_MEAN) / PRIOR_SD**2
    upper = np.array([[3, 4, 5], [4, 6, 7], [5, 7, 8]])
    curvature = per_person[:, upper] + np.diag(1 / PRIOR_SD**2)
    people = state.people + np.clip(np.linalg.solve(curvature, slope[..., None])[..., 0], -1, 1)
    heard = weight[answers.annotator]
    num_axes = len(state.scale)
    slope_tie, stiff_all = (np.bincount(axis, sums[:, column] * heard, minlength=num_axes) for column in (2, 8))
    axis_tie = state.axis_tie + np.clip(slope_tie / (stiff_all + 1), -1, 1)
    # One imaginary unit of the present scale keeps an axis with few units from collapsing at once.
    spread = np.bincount(answers.axis, posterior @ GRID**2, minlength=num_axes) + 1
    grown = np.sqrt(spread / (np.bincount(answers.axis, minlength=num_axes) + 1))
    return _State(people, axis_tie, state.scale * grown)
