"""From vote rows and clips to the arrays that training and calibration work on."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from numpy.typing import NDArray
from torch import Tensor

from align.errors import DataError
from reward_models.backbones import Backbone
from reward_models.ties import TIE, VOTE_CLASSES

Video: TypeAlias = "Tensor | NDArray[Any]"
VOTES = (*VOTE_CLASSES, "skip")
VERDICTS = ("pass", "fail", "unsure")


@dataclass(frozen=True)
class VoteRecord:
    """One vote on one axis; ``a`` means that rollout a is the better one on that axis."""

    rollout_a: str
    rollout_b: str
    axis: str
    vote: str
    context_id: str
    weight: float = 1.0


@dataclass(frozen=True)
class Judgement:
    """One single-clip verdict on one axis: ``pass``, ``fail`` or ``unsure``.

    Without a ``context_id`` the context is that of the votes about the clip, or else the clip is its own.
    """

    rollout_id: str
    axis: str
    verdict: str
    context_id: str = ""
    weight: float = 1.0


@dataclass(frozen=True)
class AxisData:
    """Everything that was said about one axis, as tensors. Clips are rows of a feature table.

    Attributes:
        first: int64 [V] row of rollout a.
        second: int64 [V] row of rollout b.
        classes: int64 [V] 0 = a, 1 = b, 2 = tie.
        both_bad: bool [V] the tie was cast as "both bad".
        weight: float32 [V].
        context: int64 [V] index of the context, the unit that is split and resampled.
        judged: int64 [J] row of a clip judged alone.
        failed: float32 [J] 1 = fail, 0 = pass.
        judged_weight: float32 [J].
        judged_context: int64 [J].
        num_contexts: How many different contexts there are.
    """

    first: Tensor
    second: Tensor
    classes: Tensor
    both_bad: Tensor
    weight: Tensor
    context: Tensor
    judged: Tensor
    failed: Tensor
    judged_weight: Tensor
    judged_context: Tensor
    num_contexts: int

    @property
    def has_absolute(self) -> bool:
        """Whether something was called bad in itself and something wasn't; without both, "bad" has no zero."""
        fails = bool(self.both_bad.any()) or bool((self.failed > 0.5).any())
        passes = bool((self.equal & ~self.both_bad).any()) or bool((self.failed < 0.5).any())
        return fails and passes

    @property
    def equal(self) -> Tensor:
        """bool [V]: pairs that say something absolute, ties and "both bad"; none where "both bad" never occurs.

        Then nobody may have known that answer, and a tie doesn't mean that both are fine.
        """
        return (self.classes == TIE) & self.both_bad.any()

    @property
    def rows(self) -> Tensor:
        """Distinct clips of this axis, int64, ascending."""
        return torch.cat([self.first, self.second, self.judged]).unique()


def as_votes(rows: Iterable[Any]) -> list[VoteRecord]:
    """Vote records from objects or mappings with the columns of the votes table; ``skip`` is dropped.

    Raises:
        DataError: A vote that isn't one of a, b, tie, both_bad, skip, or a row without one of the columns.
    """
    votes = []
    for number, row in enumerate(rows):
        record = VoteRecord(
            rollout_a=str(_field(row, "rollout_a", number)),
            rollout_b=str(_field(row, "rollout_b", number)),
            axis=str(_field(row, "axis", number)),
            vote=str(_field(row, "vote", number)),
            context_id=str(_field(row, "context_id", number)),
            weight=float(_field(row, "weight", number, 1.0)),
        )
        if record.vote not in VOTES:
            raise DataError(f"vote row {number}: vote must be one of {', '.join(VOTES)}, got {record.vote!r}")
        if record.vote != "skip":
            votes.append(record)
    return votes


def as_judgements(rows: Iterable[Any]) -> list[Judgement]:
    """Judgement records from objects or mappings; ``unsure`` is dropped. Raises ``DataError`` on any other verdict."""
    judgements = []
    for number, row in enumerate(rows):
        record = Judgement(
            rollout_id=str(_field(row, "rollout_id", number)),
            axis=str(_field(row, "axis", number)),
            verdict=str(_field(row, "verdict", number)),
            context_id=str(_field(row, "context_id", number, "")),
            weight=float(_field(row, "weight", number, 1.0)),
        )
        if record.verdict not in VERDICTS:
            raise DataError(f"judgement row {number}: verdict must be one of {', '.join(VERDICTS)}, got {record.verdict!r}")
        if record.verdict != "unsure":
            judgements.append(record)
    return judgements


def _field(row: Any, name: str, number: int, default: Any = None) -> Any:
    value = row.get(name) if isinstance(row, Mapping) else getattr(row, name, None)
    if value is None:
        value = default
    if value is None:
        raise DataError(f"row {number} has no {name!r}; votes and judgements need it")
    return value


def index_axis(axis: str, votes: Sequence[VoteRecord], judgements: Sequence[Judgement], rows: Mapping[str, int]) -> AxisData:
    """Gather what was said about ``axis``.

    Args:
        axis: Axis name.
        votes: Votes of any axes.
        judgements: Single-clip verdicts of any axes.
        rows: Rollout id to the row of the feature table.

    Raises:
        DataError: A vote about a rollout that isn't in ``rows``.
    """
    mine = [vote for vote in votes if vote.axis == axis]
    verdicts = [judgement for judgement in judgements if judgement.axis == axis]
    named = [name for vote in mine for name in (vote.rollout_a, vote.rollout_b)] + [verdict.rollout_id for verdict in verdicts]
    missing = sorted({name for name in named if name not in rows})
    if missing:
        raise DataError(f"axis {axis!r}: votes name {len(missing)} rollouts that have no clip, first {missing[0]!r}")
    # a verdict belongs to the fold of the votes about the same clip, or calibration would see what training saw
    known = {name: vote.context_id for vote in votes for name in (vote.rollout_a, vote.rollout_b)}
    contexts = [vote.context_id for vote in mine]
    contexts += [verdict.context_id or known.get(verdict.rollout_id, verdict.rollout_id) for verdict in verdicts]
    numbers = {name: number for number, name in enumerate(sorted(set(contexts)))}
    context = torch.tensor([numbers[name] for name in contexts], dtype=torch.int64)

    def floats(values: Iterable[float]) -> Tensor:
        return torch.tensor(list(values), dtype=torch.float32)

    def ints(values: Iterable[int]) -> Tensor:
        return torch.tensor(list(values), dtype=torch.int64)

    return AxisData(
        first=ints(rows[vote.rollout_a] for vote in mine),
        second=ints(rows[vote.rollout_b] for vote in mine),
        classes=ints(VOTE_CLASSES[vote.vote] for vote in mine),
        both_bad=torch.tensor([vote.vote == "both_bad" for vote in mine], dtype=torch.bool),
        weight=floats(vote.weight for vote in mine),
        context=context[: len(mine)],
        judged=ints(rows[verdict.rollout_id] for verdict in verdicts),
        failed=floats(float(verdict.verdict == "fail") for verdict in verdicts),
        judged_weight=floats(verdict.weight for verdict in verdicts),
        judged_context=context[len(mine) :],
        num_contexts=len(numbers),
    )


def as_batch(videos: Sequence[Video]) -> Tensor:
    """Stack clips to [B, T, C, H, W] float32 in [0, 1].

    Args:
        videos: Each uint8 [T, H, W, 3], or float [T, 3, H, W] in [0, 1]; all of one shape.
    """
    stacked = torch.stack([torch.as_tensor(video) for video in videos])
    if stacked.dtype == torch.uint8:
        return stacked.movedim(-1, 2).to(torch.float32) / 255
    return stacked.to(torch.float32)


@torch.no_grad()
def compute_features(backbone: Backbone, videos: Sequence[Video], batch_size: int = 64) -> Tensor:
    """Features of many clips, batch by batch: float32 [N, T', S, D]."""
    batches = [videos[start : start + batch_size] for start in range(0, len(videos), batch_size)]
    return torch.cat([backbone.features(as_batch(batch)) for batch in batches])
