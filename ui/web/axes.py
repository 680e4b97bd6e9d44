"""Which axes a folder of clips is asked about, and in what words."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from align.errors import DataError
from align.preferences.campaign.schema import AxisSetting
from align.scenes import SCENES
from align.types import SUCCESS_AXIS

OVERALL = "overall"
"""The axis of a folder that names none."""


@dataclass(frozen=True)
class Plan:
    """What a campaign asks.

    Attributes:
        axes: Every axis with its question.
        by_scene: The axes of each scene.
    """

    axes: tuple[AxisSetting, ...]
    by_scene: Mapping[str, tuple[str, ...]]


def plan_axes(
    scenes: Iterable[str],
    info: Mapping[str, object],
    wanted: Sequence[str] = (),
    known: Sequence[AxisSetting] = (),
    single: bool = False,
) -> Plan:
    """The axes of a folder: the wanted ones, else those its scenes or its ``info.json`` name, else one overall preference.

    Args:
        scenes: Scenes that occur.
        info: Content of ``info.json``; ``axes`` and ``questions`` (axis to question) are read.
        wanted: ``name`` or ``name=question``, asked about every clip.
        known: What the campaign asks already. Where that isn't what the folder names, somebody wanted it, and it goes for
            new clips too.
        single: Clips are judged one by one, not compared.

    Raises:
        DataError: A wanted axis has no name.
    """
    words = {name.strip(): question.strip() for name, _, question in (entry.partition("=") for entry in wanted)}
    if "" in words:
        raise DataError("an axis has no name; write --axis name or --axis 'name=Which one is better?'")
    listed = info.get("axes")
    own = tuple(dict.fromkeys(map(str, listed))) if isinstance(listed, list) and listed else (OVERALL,)
    natural = {*own, OVERALL, SUCCESS_AXIS, *(scene.axis for scene in SCENES.values())}
    fixed = tuple(words) or tuple(axis.name for axis in known if not {axis.name for axis in known} <= natural)
    by_scene = {scene: fixed or _axes_of_scene(scene, own) for scene in scenes}
    given = info.get("questions")
    questions = {**_stock_questions(single), **(given if isinstance(given, Mapping) else {})}
    questions |= {axis.name: axis.question for axis in known} | {name: text for name, text in words.items() if text}
    used = dict.fromkeys(axis for axes in by_scene.values() for axis in axes)
    stock = "Pass or fail: {}?" if single else "Which one is better: {}?"
    return Plan(
        tuple(AxisSetting(name=axis, question=str(questions.get(axis) or stock.format(axis))) for axis in used), by_scene
    )


def _axes_of_scene(scene: str, own: tuple[str, ...]) -> tuple[str, ...]:
    return (SCENES[scene].axis, SUCCESS_AXIS) if scene in SCENES else own


def _stock_questions(single: bool) -> dict[str, str]:
    """Questions that compare; about one clip the name of the axis has to do."""
    if single:
        return {}
    household = {scene.axis: scene.question for scene in SCENES.values()}
    return household | {SUCCESS_AXIS: "Which one does the task better?", OVERALL: "Which one do you prefer?"}
