"""What a labelling campaign is made of: settings, tasks, leases, and what a labeler sends back."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Self, TypeVar

from pydantic import BaseModel, Field, StringConstraints, ValidationError, model_validator

from align.errors import DataError
from align.preferences.pairing import MIN_RANDOM_SHARE
from align.preferences.votes.fields import FrameIndex, Id, Row, Seconds, Severity, Text
from align.preferences.votes.schema import FlagKind, Selection

Policy = Literal["random", "active", "hybrid"]
Mode = Literal["pairs", "single"]
Choice = Literal["left", "right", "tie", "both_bad", "skip", "pass", "fail", "unsure"]
Share = Annotated[float, Field(ge=0, le=1)]
ShortId = Annotated[Id, StringConstraints(max_length=200)]
Comment = Annotated[Text, StringConstraints(max_length=4000)]
Label = Annotated[Text, StringConstraints(max_length=200)]
Position = Annotated[int, Field(ge=0, le=3)]
"""Place of a clip on the page, counted from the left."""

PAIR_ANSWERS = ("a", "b", "tie", "both_bad")
SINGLE_ANSWERS = ("pass", "fail", "unsure")
_Model = TypeVar("_Model", bound=BaseModel)


def parse(model: type[_Model], raw: Mapping[str, Any]) -> _Model:
    """Read a mapping that came from outside.

    Raises:
        DataError: Says in one sentence everything that is wrong with it.
    """
    try:
        return model.model_validate(raw)
    except ValidationError as error:
        problems = [f"{'.'.join(map(str, detail['loc'])) or model.__name__}: {detail['msg']}" for detail in error.errors()]
        raise DataError(f"this {model.__name__} can't be taken: {'; '.join(problems)}") from None


class AxisSetting(Row):
    """An axis that the campaign asks about.

    Attributes:
        question: What the page asks; empty shows the name.
        paused: Nobody is asked about it for now.
    """

    name: Id
    question: Text = ""
    paused: bool = False


class Settings(Row):
    """How a campaign runs.

    Attributes:
        overlap: Annotators that judge each task. Gold and catch tasks are for everybody; a skip doesn't count.
        policy: ``random`` order, ``active``: highest priority first, or ``hybrid``: for each task a coin with ``random_share``
            decides between the two.
        random_share: Share of random tasks under ``hybrid``, at least 0.2 so that evaluation stays unbiased. This share of
            all tasks is set aside for them by chance, so the random ones stay a fair sample of everything.
        lease_s: Seconds until work that was handed out and not answered goes to somebody else.
        catch_share, gold_share: Share of leases that are catch trials (twice the same clip) and gold tasks.
        blur: Blur every clip until the labeler asks to see it.
        mode: Whether tasks with two and more clips are handed out, or those with one.
        clips_per_task: Clips of a new task in mode ``pairs``.
    """

    axes: tuple[AxisSetting, ...] = ()
    overlap: Annotated[int, Field(ge=1, le=100)] = 1
    policy: Policy = "random"
    random_share: Share = MIN_RANDOM_SHARE
    lease_s: Annotated[float, Field(ge=1, le=7 * 86400)] = 600
    catch_share: Share = 0.05
    gold_share: Share = 0.05
    blur: bool = False
    mode: Mode = "pairs"
    clips_per_task: Annotated[int, Field(ge=2, le=4)] = 2

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        names = [axis.name for axis in self.axes]
        if len(set(names)) != len(names):
            raise ValueError("the axes must have different names")
        if self.policy != "random" and self.random_share < MIN_RANDOM_SHARE:
            raise ValueError(f"random_share must be at least {MIN_RANDOM_SHARE} to keep evaluation unbiased")
        if self.catch_share + self.gold_share > 1:
            raise ValueError("catch_share and gold_share must not exceed 1 together")
        return self

    def asked(self, axes: tuple[str, ...]) -> tuple[str, ...]:
        """What to ask about a task with these axes: without paused ones; no axes of its own means all of the campaign's."""
        paused = {axis.name for axis in self.axes if axis.paused}
        return tuple(name for name in axes or [axis.name for axis in self.axes] if name not in paused)


class Task(Row):
    """One to four rollouts of one context that somebody is asked about.

    Attributes:
        rollouts: Rollout ids; two of them are a pair's a and b. A catch trial has the same one twice.
        axes: What to ask; empty means every axis of the campaign.
        selection: How the task came about.
        priority: How much an answer is worth, for example an ensemble's information gain; None where nobody said.
        gold: Axis to the known answer: ``a``, ``b``, ``tie`` or ``both_bad`` for two clips, a verdict for one.
    """

    task_id: ShortId
    context_id: Id
    rollouts: Annotated[tuple[Id, ...], Field(min_length=1, max_length=4)]
    axes: tuple[Id, ...] = ()
    selection: Selection = "random"
    priority: float | None = None
    gold: dict[Id, str] | None = None

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.selection == "catch":
            if len(self.rollouts) != 2 or len(set(self.rollouts)) != 1:
                raise ValueError("a catch trial needs the same rollout twice")
        elif len(set(self.rollouts)) != len(self.rollouts):
            raise ValueError("the rollouts must be different ones; only a catch trial may show one twice")
        if len(set(self.axes)) != len(self.axes):
            raise ValueError("the axes must be different ones")
        if (self.selection == "gold") != bool(self.gold):
            raise ValueError("a gold task needs known answers, and only a gold task has them")
        allowed = {1: SINGLE_ANSWERS, 2: PAIR_ANSWERS}.get(len(self.rollouts), ())
        for axis, answer in (self.gold or {}).items():
            if answer not in allowed or (self.axes and axis not in self.axes):
                raise ValueError(f"the gold answer {axis}={answer!r} doesn't fit; allowed are {', '.join(allowed) or 'none'}")
        return self


@dataclass(frozen=True)
class Lease:
    """A task lent to one annotator.

    Attributes:
        task: Without its gold answers, which never leave the server.
        shown: Indices into ``task.rollouts``, from left to right.
        axes: What to ask now, at least one.
        expires_at: When somebody else may get the work; answers are taken even later.
        warn: Whether somebody raised a harm flag on one of the clips.
    """

    lease_id: str
    task: Task
    shown: tuple[int, ...]
    axes: tuple[str, ...]
    expires_at: str
    warn: bool = False


class Answer(Row):
    """An answer about one axis.

    Attributes:
        choice: ``left``, ``right``, ``tie`` or ``both_bad`` about two clips; ``pass``, ``fail`` or ``unsure`` about one;
            ``skip`` about any.
        order: About three or four clips, instead of a choice: positions, best first, ties together, as in ``((1,), (0, 2))``.
    """

    axis: Id
    choice: Choice | None = None
    order: tuple[tuple[Position, ...], ...] | None = None
    response_time_s: Seconds | None = None

    @model_validator(mode="after")
    def _says_one_thing(self) -> Self:
        if (self.choice is None) == (self.order is None):
            raise ValueError("an answer has either a choice or an order")
        return self


class Break(Row):
    """A break-point in the clip at a position, or with ``none`` the explicit answer that the clip has no break."""

    position: Position
    time_s: Seconds | None = None
    frame_idx: FrameIndex | None = None
    category: Label = ""
    severity: Severity | None = None
    none: bool = False


class Submission(Row):
    """What the page sends for one lease; ``submission_id`` is made by the client and the same when it sends it again."""

    submission_id: ShortId
    lease_id: ShortId
    answers: Annotated[tuple[Answer, ...], Field(min_length=1, max_length=100)]
    comment: Comment = ""
    breaks: Annotated[tuple[Break, ...], Field(max_length=400)] = ()
    guideline_version: Label = ""

    def digest(self) -> str:
        """SHA-256 of the content, by which sending the same again is told from sending something else."""
        body = json.dumps(self.model_dump(mode="json"), sort_keys=True, ensure_ascii=False)
        return hashlib.sha256(body.encode()).hexdigest()

    @property
    def is_skip(self) -> bool:
        """Whether nothing but skips was answered."""
        return all(answer.choice == "skip" for answer in self.answers)


class FlagRequest(Row):
    """A flag raised (or taken back) on the clip at a position."""

    flag_id: ShortId
    lease_id: ShortId
    position: Position
    kind: FlagKind
    raised: bool
    comment: Comment = ""


@dataclass(frozen=True)
class Receipt:
    """The acknowledgement of a submission: what it holds is durable.

    Attributes:
        num_today: Tasks the annotator has done since midnight UTC.
        num_total: Tasks the annotator has done.
    """

    submission_id: str
    num_today: int
    num_total: int


@dataclass(frozen=True)
class Guideline:
    """The text that tells labelers what to look for, in Markdown; its version goes into every vote."""

    version: str
    body: str
