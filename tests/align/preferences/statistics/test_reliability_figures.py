"""Simulated campaigns with planted random clickers, left clickers and colluders: does the report find them, and nobody else?

Honest annotators differ in skill (log-normal), patience with ties, bias to one side and lapses; how far two clips are apart
differs from pair to pair. The figures are over all campaigns, none left out. A few small ones are drawn by default, the full
table by the slow test, or with its figures printed by

    python tests/align/preferences/statistics/test_reliability_figures.py 20      # campaigns a row
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
import pytest
from numpy.typing import NDArray

from align.preferences.statistics.agreement import vote_agreement
from align.preferences.statistics.reliability import annotator_report
from align.preferences.votes.schema import Vote

CHOICES = ("a", "b", "tie")
KINDS = ("honest", "random", "left", "colluder")


@dataclass(frozen=True)
class Campaign:
    """How a campaign is drawn; ``planted`` are numbers of random clickers, left clickers and colluders (one group)."""

    num_annotators: int = 40
    votes_each: int = 30
    overlap: int = 5
    spread: float = 3.0
    shape: str = "normal"
    skill_sd: float = 0.35
    planted: tuple[int, int, int] = (4, 3, 3)

    def draw(self, seed: int) -> tuple[list[Vote], dict[str, str]]:
        """Votes, and annotator to kind."""
        rng = np.random.default_rng(seed)
        people, units = self._assign(rng)
        num, num_units = self.num_annotators, units.max() + 1
        kinds = rng.permutation(np.repeat(np.arange(4), [num - sum(self.planted), *self.planted]))
        margin = self._margins(num_units, rng)
        side = rng.choice([1, -1], len(people))
        skill, left = rng.lognormal(0, self.skill_sd, num), rng.normal(0, 0.2, num)
        nu, lapse = 0.7 * rng.lognormal(0, 0.4, num), rng.uniform(0.01, 0.08, num)
        d = skill[people] * margin[units] + left[people] * side
        chances = np.stack([np.exp(d / 2), np.exp(-d / 2), nu[people]], axis=1)
        chances /= chances.sum(axis=1, keepdims=True)
        chances += lapse[people, None] * (np.array([0.25, 0.25, 0.5]) - chances)
        habits = np.array([[0.25, 0.25, 0.5], [1 / 3, 1 / 3, 1 / 3], [0.45, 0.45, 0.1]])[rng.integers(3, size=num)]
        shared = rng.choice(3, num_units, p=[0.4, 0.4, 0.2])
        copied, on_left = np.eye(3)[shared[units]], np.eye(3)[np.where(side > 0, 0, 1)]
        kind = kinds[people]
        careless = 0.95 * np.where((kind == 2)[:, None], on_left, copied) + 0.05 / 3
        chances = np.where((kind == 1)[:, None], habits[people], np.where((kind > 1)[:, None], careless, chances))
        choice = (rng.random(len(people))[:, None] > np.cumsum(chances, axis=1)[:, :2]).sum(axis=1)
        votes = [_vote(n, *row) for n, row in enumerate(zip(people, units, choice, side, rng.random(len(people)), strict=True))]
        return votes, _names(kinds)

    def _assign(self, rng: np.random.Generator) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """(annotator, pair) of every vote: everybody gets the pairs that have the fewest votes so far."""
        num_units = max(self.votes_each, round(self.num_annotators * self.votes_each / self.overlap))
        counts = np.zeros(num_units)
        picked = []
        for _ in range(self.num_annotators):
            picked.append(np.lexsort((rng.random(num_units), counts))[: self.votes_each])
            counts[picked[-1]] += 1
        return np.repeat(np.arange(self.num_annotators), self.votes_each), np.concatenate(picked)

    def _margins(self, num: int, rng: np.random.Generator) -> NDArray[np.float64]:
        if self.shape == "laplace":
            return rng.laplace(0, self.spread / np.sqrt(2), num)
        if self.shape == "bimodal":
            return rng.choice([-1.4, 0, 0, 1.4], num) * self.spread + rng.normal(0, 0.4 * self.spread, num)
        return rng.normal(0, self.spread, num)


def _vote(number: int, person: int, unit: int, choice: int, side: int, turned: float) -> Vote:
    """The pair is stored as (x, y) or (y, x) by chance. Leaving out pydantic's checks saves most of the time."""
    a, b = (f"x{unit}", f"y{unit}") if turned < 0.5 else (f"y{unit}", f"x{unit}")
    answer, first_left = CHOICES[choice], side > 0
    if turned >= 0.5:
        answer, first_left = {"a": "b", "b": "a", "tie": "tie"}[answer], not first_left
    shown_left = "a" if first_left else "b"
    ids = {"vote_id": f"v{number}", "pair_id": f"p{a}", "context_id": f"c{unit}", "rollout_a": a, "rollout_b": b}
    return Vote.model_construct(**ids, axis="spill", vote=answer, annotator_id=f"ann{person}", shown_left=shown_left)


def _names(kinds: NDArray[np.int64]) -> dict[str, str]:
    return {f"ann{person}": KINDS[kind] for person, kind in enumerate(kinds)}


@dataclass
class Figures:
    """Sums over campaigns."""

    scores: dict[str, list[list[float]]] = field(default_factory=lambda: {kind: [] for kind in KINDS})
    status: dict[str, list[str]] = field(default_factory=lambda: {kind: [] for kind in KINDS})
    num_campaigns: int = 0
    num_with_false_flags: int = 0
    alphas: list[float] = field(default_factory=list)

    def add(self, votes: list[Vote], kinds: dict[str, str]) -> None:
        """Report on a campaign, and count."""
        rows = annotator_report(votes)
        for kind in KINDS:
            self.scores[kind].append([row.suspicion for row in rows if kinds[row.annotator_id] == kind])
            self.status[kind] += [row.status for row in rows if kinds[row.annotator_id] == kind]
        self.num_campaigns += 1
        self.num_with_false_flags += any(row.flagged and kinds[row.annotator_id] == "honest" for row in rows)
        self.alphas.append(vote_agreement(votes, num_resamples=1).value)

    def auc(self, *kinds: str) -> float:
        """Mean over campaigns of the chance that a planted annotator is more suspicious than an honest one."""
        areas = []
        for number in range(self.num_campaigns):
            bad = np.array([score for kind in kinds for score in self.scores[kind][number]])
            good = np.array(self.scores["honest"][number])
            if len(bad):
                areas.append(float(((bad[:, None] > good) + 0.5 * (bad[:, None] == good)).mean()))
        return float(np.mean(areas)) if areas else np.nan

    def share(self, kind: str, *statuses: str) -> float:
        """Share of annotators of a kind that have one of these statuses."""
        return float(np.mean([status in statuses for status in self.status[kind]])) if self.status[kind] else np.nan

    def __str__(self) -> str:
        areas = " ".join(f"{kind} {self.auc(kind):.3f}" for kind in KINDS[1:])
        flags = " ".join(f"{kind} {self.share(kind, 'flagged'):.3f}" for kind in KINDS)
        watched = " ".join(f"{kind} {self.share(kind, 'flagged', 'watch'):.3f}" for kind in KINDS)
        return (
            f"alpha {np.mean(self.alphas):.2f} | AUC {self.auc(*KINDS[1:]):.3f} ({areas}) | flagged {flags} | "
            f"or watched {watched} | campaigns with a false flag {self.num_with_false_flags}/{self.num_campaigns}"
        )


def measure(campaign: Campaign, seeds: Iterable[int]) -> Figures:
    """Draw campaigns, report on them, and count."""
    figures = Figures()
    for seed in seeds:
        figures.add(*campaign.draw(seed))
    return figures


def measure_accuracies(num_annotators: int, overlap: int, planted: tuple[int, int, int], seeds: Iterable[int]) -> Figures:
    """As ``measure``, with annotators that the report's own model knows nothing of.

    Each pair has a right answer (a tie for one in four). An honest annotator gives it with a probability of their own, less on
    hard pairs, and any answer otherwise.
    """
    figures = Figures()
    for seed in seeds:
        rng = np.random.default_rng(seed)
        people, units = Campaign(num_annotators=num_annotators, overlap=overlap)._assign(rng)
        num_units = units.max() + 1
        kinds = rng.permutation(np.repeat(np.arange(4), [num_annotators - sum(planted), *planted]))
        truth, hard = rng.choice(3, num_units, p=[0.375, 0.375, 0.25]), rng.beta(2, 4, num_units)
        accuracy, side = rng.uniform(0.6, 0.95, num_annotators), rng.choice([1, -1], len(people))
        right = rng.random(len(people)) < accuracy[people] * (1 - hard[units] / 2)
        answers = np.where(right, truth[units], rng.choice(3, len(people)))
        careless = [rng.choice(3, len(people)), np.where(side > 0, 0, 1), rng.choice(3, num_units)[units]]
        for number, planned in enumerate(careless, start=1):
            answers = np.where(kinds[people] == number, planned, answers)
        rows = zip(people, units, answers, side, rng.random(len(people)), strict=True)
        figures.add([_vote(number, *row) for number, row in enumerate(rows)], _names(kinds))
    return figures


FULL = {
    "40 annotators, 30 votes each, 5 a pair": Campaign(),
    "3 a pair": Campaign(overlap=3),
    "all judge the same 30": Campaign(overlap=40),
    "clips hard to tell apart": Campaign(spread=2.0),
    "clips easy to tell apart": Campaign(spread=5.0),
    "mostly near-ties": Campaign(shape="laplace"),
    "equal or very different": Campaign(shape="bimodal"),
    "16 of 40 planted": Campaign(planted=(8, 4, 4)),
    "12 annotators": Campaign(num_annotators=12, planted=(1, 1, 2)),
    "20 votes each": Campaign(votes_each=20),
    "200 votes each": Campaign(num_annotators=20, votes_each=200, planted=(2, 1, 2)),
    "all honest": Campaign(planted=(0, 0, 0)),
    "all honest, very unequal, 3 a pair": Campaign(planted=(0, 0, 0), overlap=3, skill_sd=0.6),
}


def test_planted_annotators_are_found_and_honest_ones_left_alone() -> None:
    figures = measure(Campaign(num_annotators=24, overlap=4, planted=(3, 2, 3)), range(5))
    assert figures.auc("random", "left", "colluder") >= 0.95, figures
    assert figures.auc("left") >= 0.99, figures
    assert figures.share("honest", "flagged") <= 0.05, figures
    assert figures.share("left", "flagged", "watch") >= 0.9, figures


def test_annotators_of_another_kind_are_judged_as_well() -> None:
    figures = measure_accuracies(20, 5, (2, 2, 2), range(4))
    assert figures.auc("random", "left", "colluder") >= 0.95, figures
    assert figures.share("honest", "flagged") <= 0.05, figures


def test_a_crowd_of_honest_annotators_raises_no_alarm() -> None:
    figures = measure(Campaign(num_annotators=20, overlap=3, planted=(0, 0, 0), skill_sd=0.6), range(100, 105))
    assert figures.share("honest", "flagged") <= 0.05, figures


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_the_full_table() -> None:
    table = {name: measure(campaign, range(10)) for name, campaign in FULL.items()}
    for name, figures in table.items():
        if figures.status["random"]:
            # Where two random annotators hardly agree, 30 votes can't tell a random clicker from a poor judge for certain.
            assert figures.auc("random", "left", "colluder") >= (0.93 if "hard" in name else 0.95), (name, figures)
        assert figures.share("honest", "flagged") <= 0.02, (name, figures)
    campaigns = sum(figures.num_campaigns for figures in table.values())
    assert sum(figures.num_with_false_flags for figures in table.values()) <= 0.05 * campaigns + 5


def main(num_campaigns: int) -> None:
    """Print the full table."""
    for name, campaign in FULL.items():
        sys.stdout.write(f"{name}: {measure(campaign, range(num_campaigns))}\n")
    for num, overlap, planted in ((30, 5, (3, 2, 3)), (30, 3, (3, 2, 3)), (10, 10, (1, 1, 2))):
        figures = measure_accuracies(num, overlap, planted, range(num_campaigns))
        sys.stdout.write(f"other annotators, {num}, {overlap} a pair: {figures}\n")


if __name__ == "__main__":
    main(int(sys.argv[1]))
