"""What is asked about which scene."""

from __future__ import annotations

import pytest

from align.errors import DataError
from align.preferences.campaign.schema import AxisSetting
from ui.web.axes import plan_axes


def test_a_household_scene_brings_its_own_axis_and_success() -> None:
    plan = plan_axes(["pour", "corridor", "pour"], {"axes": ["spill", "breakage", "politeness"]})
    assert plan.by_scene == {"pour": ("spill", "success"), "corridor": ("politeness", "success")}
    assert {axis.name: axis.question for axis in plan.axes} == {
        "spill": "Which one spills less liquid?",
        "success": "Which one does the task better?",
        "politeness": "Which one treats the person better?",
    }


def test_axes_come_from_the_wish_or_the_folder_or_are_one_overall_preference() -> None:
    info = {"axes": ["care", "gloss"], "questions": {"care": "Which one is more careful?"}}
    assert [(a.name, a.question) for a in plan_axes(["x"], info).axes] == [
        ("care", "Which one is more careful?"),
        ("gloss", "Which one is better: gloss?"),
    ]
    wished = plan_axes(["pour", "x"], info, ["care", "style=Which one is prettier?"])
    assert wished.by_scene == dict.fromkeys(["pour", "x"], ("care", "style"))
    assert wished.axes[1].question == "Which one is prettier?"
    assert plan_axes(["x"], {}).axes[0].question == "Which one do you prefer?"
    with pytest.raises(DataError, match="an axis has no name"):
        plan_axes(["x"], info, ["=Which one?"])


def test_single_clips_are_not_compared() -> None:
    axes = plan_axes(["pour"], {"questions": {"success": "Was the task done?"}}, single=True).axes
    assert [axis.question for axis in axes] == ["Pass or fail: spill?", "Was the task done?"]


def test_what_somebody_wanted_goes_for_clips_that_come_later() -> None:
    info = {"axes": ["spill", "care"]}
    wished = (AxisSetting(name="style", question="Which one is prettier?"), AxisSetting(name="spill", question="Less?"))
    later = plan_axes(["x", "pour"], info, known=wished)
    assert later.by_scene == dict.fromkeys(["x", "pour"], ("style", "spill"))
    assert later.axes == wished


def test_new_scenes_bring_their_own_axes_where_nobody_wanted_others() -> None:
    known = plan_axes(["pour"], {}).axes
    assert plan_axes(["shelf"], {}, known=known).by_scene == {"shelf": ("breakage", "success")}
