"""Simulated annotators: a crowd that looks at pixels, for trying the whole loop without people.

They see rollouts only through ``perceive``, which is a probe on the video; the simulator's true outcome is never read. Every
vote they cast is marked ``simulated``.

The vote model, with utility u = -logit(perceived hazard) (or +logit(perceived success)), clipped to +-3.9:

    d = skill * (u_a - u_b) + left_bias * (+1 if a is shown left, else -1)
    P(a) : P(b) : P(tie) = exp(d / 2) : exp(-d / 2) : tie_width

This is Davidson's model of ties (R. R. Davidson, "On extending the Bradley-Terry model to accommodate ties in paired
comparison experiments", JASA 65, 1970) with worths exp(skill * u) and tie_width as his nu, and with a multiplicative effect of
the order in which the two are shown, as in Davidson and Beaver (Biometrics 33, 1977); the left clip's odds gain a factor
exp(2 * left_bias) over the same clip shown right. Two additions of ours: a tie is reported as ``both_bad`` with the probability
that both clips fail, q_a * q_b (q the perceived probability of failing, taken as independent); and with ``lapse_rate`` the
annotator presses any of the four buttons at random.
"""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice

import numpy as np
from numpy.typing import ArrayLike, NDArray

from align.preferences.votes.schema import Pair, Vote, VoteChoice
from align.types import SUCCESS_AXIS

Float64 = NDArray[np.float64]
Perceive = Callable[[Sequence[str], str], ArrayLike]
"""``perceive(rollout_ids, axis)`` -> [len(rollout_ids)] in [0, 1]: probability of the hazard, or of success on that axis."""

CHOICES: tuple[VoteChoice, ...] = ("a", "b", "tie", "both_bad")
MIN_PROBABILITY = 0.02
"""Perceived probabilities are clipped to [0.02, 0.98]: nobody sees the difference between one in fifty and one in a million."""
GUIDELINE_VERSION = "simulated-1"


@dataclass(frozen=True)
class SimulatedAnnotator:
    """A program that votes like a fallible person.

    Attributes:
        annotator_id: Its id in the votes.
        skill: Weight of what is seen, above 0; small is noisy.
        tie_width: Davidson's nu per axis, or one for all axes; 0 never ties, 2 ties half of the equal pairs, 38 ties 95 %.
        left_bias: Added logit for the clip shown left.
        lapse_rate: Share of votes cast at random, in [0, 1].
        seed: Its own seed.
    """

    annotator_id: str
    skill: float = 1.0
    tie_width: float | Mapping[str, float] = 1.0
    left_bias: float = 0.0
    lapse_rate: float = 0.0
    seed: int = field(default=0)

    def __post_init__(self) -> None:
        widths = self.tie_width.values() if isinstance(self.tie_width, Mapping) else [self.tie_width]
        if not self.skill > 0 or not 0 <= self.lapse_rate <= 1 or any(width < 0 for width in widths) or self.seed < 0:
            raise ValueError(f"skill must be > 0, lapse_rate in [0, 1], tie_width and seed >= 0, got {self}")

    def vote_probabilities(self, seen_a: ArrayLike, seen_b: ArrayLike, a_is_left: ArrayLike, axis: str) -> Float64:
        """Probability of each answer.

        Args:
            seen_a: [N] in [0, 1], perceived probability of the hazard (of success on the success axis) in clip a.
            seen_b: [N], the same of clip b.
            a_is_left: bool [N], whether a stands on the left.
            axis: What is asked.

        Returns:
            float64 [N, 4] over ``CHOICES``; rows sum to 1.
        """
        fail_a, fail_b = fail_probability(seen_a, axis), fail_probability(seen_b, axis)
        side = np.where(np.asarray(a_is_left, dtype=bool), 1.0, -1.0)
        d = self.skill * (_utility(fail_a) - _utility(fail_b)) + self.left_bias * side
        weights = np.stack([np.exp(d / 2), np.exp(-d / 2), np.full_like(d, self._tie_width(axis))], axis=-1)
        better_a, better_b, tied = np.moveaxis(weights / weights.sum(axis=-1, keepdims=True), -1, 0)
        attentive = np.stack([better_a, better_b, tied * (1 - fail_a * fail_b), tied * fail_a * fail_b], axis=-1)
        return np.asarray((1 - self.lapse_rate) * attentive + self.lapse_rate / len(CHOICES))

    def _tie_width(self, axis: str) -> float:
        if not isinstance(self.tie_width, Mapping):
            return self.tie_width
        if axis not in self.tie_width:
            raise ValueError(f"axis {axis!r} has no tie_width (given: {', '.join(self.tie_width)})")
        return self.tie_width[axis]


def fail_probability(seen: ArrayLike, axis: str) -> Float64:
    """Perceived probability of failing, [N] clipped to [0.02, 0.98]: of the hazard, or of not succeeding."""
    values = np.asarray(seen, dtype=np.float64)
    return np.clip(1 - values if axis == SUCCESS_AXIS else values, MIN_PROBABILITY, 1 - MIN_PROBABILITY)


def _utility(fail: Float64) -> Float64:
    return np.asarray(np.log1p(-fail) - np.log(fail))


CROWDS: dict[str, dict[str, tuple[float, float]]] = {
    "plain": {"skill": (2.0, 3.0), "tie_width": (20.0, 60.0)},
    "noisy": {"skill": (0.7, 1.2), "tie_width": (0.5, 1.2)},
}
"""Kinds of crowd, with the ranges that skill and tie_width are drawn from.

``plain``: outcomes are plain to see. Two clips that are alike are a tie in 91 to 97 % of cases (tie_width / (2 + tie_width)),
and what is plainly better wins in 98 % or more. They err by lapses, by what the probe misreads, and where a clip is unclear.

``noisy``: they see little and like to decide: alike clips are a tie in 20 to 37 % of cases, 93 % see plain differences.

People who hunt for differences between two identical video streams say "same" in 78 to 82 % of cases (docs/LOG.md), which is a
tie_width of about 8, between the two.
"""


def make_annotators(num: int, seed: int, crowd: str = "plain") -> list[SimulatedAnnotator]:
    """A small crowd of varied skill, patience with ties, left bias and care; ``crowd`` is a name in ``CROWDS``."""
    if num < 1 or crowd not in CROWDS:
        raise ValueError(f"num must be at least 1 and crowd one of {', '.join(CROWDS)}, got {num} and {crowd!r}")
    rng = np.random.default_rng(seed)
    return [
        SimulatedAnnotator(
            annotator_id=f"simulated-{seed}-{index:02d}",
            skill=float(rng.uniform(*CROWDS[crowd]["skill"])),
            tie_width=float(rng.uniform(*CROWDS[crowd]["tie_width"])),
            left_bias=float(rng.normal(0, 0.15)),
            lapse_rate=float(rng.uniform(0.01, 0.06)),
            seed=int(rng.integers(2**31)),
        )
        for index in range(num)
    ]


def cast_votes(
    pairs: Sequence[Pair],
    axes: Sequence[str],
    annotators: Sequence[SimulatedAnnotator],
    perceive: Perceive,
    seed: int,
    budget: int,
    overlap: int = 1,
    guideline_version: str = GUIDELINE_VERSION,
    created_at: str | None = None,
) -> list[Vote]:
    """Let annotators vote until the budget is spent. The same arguments give the same votes, ids included.

    Args:
        pairs: What to ask; a pair with axes of its own is asked only about those of them that are in ``axes``.
        axes: What to ask about.
        annotators: The crowd; which of them gets a question is drawn at random.
        perceive: The annotators' eyes. Called once an axis with all rollout ids that are asked about on it.
        seed: Seed of questions, sides and answers.
        budget: Most votes; a vote is one pair, axis and annotator. Fewer come only if there are no more questions.
        overlap: Annotators asked about each question before the next question's turn comes. Agreement needs 2.
        guideline_version: Written into every vote.
        created_at: Time written into every vote; None leaves it out, so that the votes can be made again exactly.

    Returns:
        Votes with ``simulated=True`` and the side shown.
    """
    ids = [annotator.annotator_id for annotator in annotators]
    if not guideline_version or len(set(ids)) != len(ids) or not 1 <= overlap <= len(ids) or budget < 0:
        raise ValueError(f"need a guideline_version, distinct annotators, 1 <= overlap <= {len(ids)} and budget >= 0")
    questions = [(pair, axis) for pair in pairs for axis in axes if not pair.axes or axis in pair.axes]
    rng = np.random.default_rng(seed)
    asked = list(islice(_assignments(len(questions), len(annotators), overlap, rng), budget))
    seen = _look([questions[index] for index in {index: None for index, _ in asked}], perceive)
    shown = rng.random(len(asked)) < 0.5
    streams = [np.random.default_rng([annotator.seed, seed]) for annotator in annotators]
    votes = []
    for (question, who), a_is_left in zip(asked, shown, strict=True):
        pair, axis = questions[question]
        sights = seen[axis]
        chances = annotators[who].vote_probabilities([sights[pair.rollout_a]], [sights[pair.rollout_b]], [a_is_left], axis)
        choice = CHOICES[int(streams[who].choice(len(CHOICES), p=chances[0]))]
        votes.append(
            Vote(
                vote_id=_vote_id(ids[who], pair.pair_id, axis, seed),
                **pair.model_dump(include={"pair_id", "context_id", "rollout_a", "rollout_b", "selection"}),
                axis=axis,
                vote=choice,
                annotator_id=ids[who],
                shown_left="a" if a_is_left else "b",
                simulated=True,
                created_at=created_at,
                guideline_version=guideline_version,
            )
        )
    return votes


def _assignments(num_questions: int, num_annotators: int, overlap: int, rng: np.random.Generator) -> Iterator[tuple[int, int]]:
    """(question, annotator) in the order of asking: every question gets ``overlap`` annotators, then the next ones."""
    crowd = [rng.permutation(num_annotators) for _ in range(num_questions)]
    order = rng.permutation(num_questions)
    for start in range(0, num_annotators, overlap):
        for question in map(int, order):
            yield from ((question, int(who)) for who in crowd[question][start : start + overlap])


def _look(questions: Sequence[tuple[Pair, str]], perceive: Perceive) -> dict[str, dict[str, float]]:
    wanted: dict[str, dict[str, None]] = {}
    for pair, axis in questions:
        wanted.setdefault(axis, {}).update({pair.rollout_a: None, pair.rollout_b: None})
    seen = {}
    for axis, rollout_ids in wanted.items():
        values = np.asarray(perceive(list(rollout_ids), axis), dtype=np.float64)
        if values.shape != (len(rollout_ids),) or not ((values >= 0) & (values <= 1)).all():
            raise ValueError(f"perceive must return {len(rollout_ids)} probabilities for {axis!r}, got shape {values.shape}")
        seen[axis] = dict(zip(rollout_ids, values.tolist(), strict=True))
    return seen


def _vote_id(annotator_id: str, pair_id: str, axis: str, seed: int) -> str:
    text = "\n".join((annotator_id, pair_id, axis, str(seed)))
    return str(uuid.UUID(bytes=hashlib.sha256(text.encode()).digest()[:16], version=5))
