"""The probes' recipes as commands, on a tiny untrained world model and reward model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from align.io import read_json

AXES = ("spill", "breakage", "politeness", "success")


def run(recipe: str, *wishes: str, name: str = "", expect: int = 0) -> Any:
    """``gptsim run RECIPE …`` in this process; the figures of its report, or what it said where it is to fail."""
    from ui.cli.main import app

    arguments = ["run", recipe, "--name", name or recipe, "--runs", "runs", *wishes]
    result = CliRunner().invoke(app, arguments, prog_name="gptsim")
    assert result.exit_code == expect, result.output
    return result.output if expect else read_json(Path("runs") / (name or recipe) / "report.json")


@pytest.fixture
def folder(models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with links to the models."""
    for source in models.iterdir():
        (tmp_path / source.name).symlink_to(source)
    monkeypatch.chdir(tmp_path)
    return tmp_path


TWINS = (
    "model=wm",
    "judge=judge",
    "contexts=4",
    "dream_contexts=2",
    "num_workers=1",
    "scenes=[corridor]",
    "attributes=[group]",
)


def test_twins_of_a_base_and_its_adapter(folder: Path) -> None:
    report = run("probe_twins", "adapter=adapter", *TWINS, "samples=2")
    table = pd.read_parquet("runs/probe_twins/twins.parquet")
    assert len(table) == report["num_rollouts"] == 2 * 2 * 2 * (4 + 2)
    assert table.groupby(["policy", "setting", "pair_id"]).size().eq(2).all(), "every twin has its sibling"
    simulator = table[table["setting"] == "simulator"]
    assert (simulator["group"] == simulator["value"]).all()
    others = simulator.groupby(["policy", "pair_id"])[["wall", "light", "robot"]].nunique()
    assert others.eq(1).all(axis=None), "nothing but the person differs"
    assert {(gap["setting"], gap["outcome"]) for gap in report["gaps"]} == {
        ("simulator", "hazard"),
        ("simulator", "success"),
        ("dream", "hazard"),
        ("dream", "success"),
        ("dream", "unreadable"),
    }
    assert all(gap["gap"]["num_clusters"] == (4 if gap["setting"] == "simulator" else 2) for gap in report["gaps"])
    assert len(report["changes"]) == 5 and {change["verdict"] for change in report["changes"]} <= {
        "shrank",
        "grew",
        "turned over",
        "cannot tell",
    }
    assert all(finding["status"] == "cannot tell" for finding in report["findings"]), "four contexts prove nothing"
    assert all((Path("runs/probe_twins") / name).is_file() for name in report["files"])
    for clip in report["clips"]:
        assert (Path("runs/probe_twins") / clip["clip"]).is_file() and (Path("runs/probe_twins") / clip["strip"]).is_file()


def test_every_attribute_of_a_scene_is_varied(folder: Path) -> None:
    from align.scenes import SCENES

    wishes = ("model=wm", "contexts=2", "dream_contexts=0", "num_workers=1", "scenes=[pour]", "clips_shown=0")
    report = run("probe_twins", *wishes)
    table = pd.read_parquet("runs/probe_twins/twins.parquet")
    choices = SCENES["pour"].choices
    assert table.groupby("attribute")["value"].nunique().to_dict() == {name: len(values) for name, values in choices.items()}
    assert report["changes"] == [] and report["clips"] == []


def test_a_probe_that_was_interrupted_goes_on(folder: Path) -> None:
    whole = run("probe_twins", *TWINS, name="whole")
    from recipes._run import Run
    from recipes.probe_twins import Config, _acted_twins

    config = Config(
        model="wm", judge="judge", contexts=4, dream_contexts=2, num_workers=1, scenes=("corridor",), attributes=("group",)
    )
    with Run.create("runs", "begun", config, recipe="probe_twins") as begun:
        _acted_twins(config, begun)
    again = Path("runs/begun/stages/base-simulator-corridor.json")
    before = again.stat().st_mtime_ns
    resumed = run("probe_twins", "--resume", name="begun")
    assert again.stat().st_mtime_ns == before and resumed["gaps"] == whole["gaps"]


def test_given_twins_need_no_simulator(folder: Path) -> None:
    rng = np.random.default_rng(0)
    rows = [
        {"context_id": f"{side}{i}", "hazard": float(rng.random() < p)}
        for i in range(60)
        for side, p in (("x", 0.1), ("y", 0.7))
    ]
    pd.DataFrame(rows).to_csv("scored.csv", index=False)
    pd.DataFrame({"left": [f"x{i}" for i in range(60)], "right": [f"y{i}" for i in range(60)]}).to_csv("pairs.csv", index=False)
    report = run("probe_twins", "table=scored.csv", "twins=pairs.csv", "outcomes=[hazard]")
    assert report["findings"][0]["status"] == "found" and report["findings"][0]["effect"]["n"] == 60
    assert "a table of context pairs" in run("probe_twins", "table=scored.csv", name="alone", expect=4)
    assert "must end in" in run("probe_twins", "table=scored.csv", "twins=judge.json", name="odd", expect=5)


def test_unknown_scenes_and_attributes_are_one_sentence(folder: Path) -> None:
    assert "attributes must be among" in run("probe_twins", *TWINS[:-1], "attributes=[mood]", expect=4)
    assert "scenes must be among" in run("probe_twins", "scenes=[kitchen]", name="scene", expect=4)


REWARD = ("reward_model=reward", "world_model=wm", "contexts=3", "num_workers=1")


def test_tastes_of_a_reward_model(folder: Path) -> None:
    wishes = ("scenes=[corridor]", "interventions=[brighter,shorter,frozen]", "attributes=[group]")
    report = run("probe_reward", *REWARD, *wishes)
    table = pd.read_parquet("runs/probe_reward/scores.parquet")
    assert set(table["intervention"]) == {"none", "brighter", "shorter", "frozen", "group=a", "group=b"}
    sizes = table.groupby(["context_id", "side"]).size()
    assert sizes.eq(6).all() and set(table["side"]) >= {"good", "bad"}
    assert table[[f"score_{axis}" for axis in AXES]].notna().all(axis=None)
    assert {(shift["axis"], shift["intervention"]) for shift in report["shifts"]} == {
        (axis, name) for axis in ("politeness", "success") for name in ("brighter", "shorter", "frozen", "group: b - a")
    }
    assert set(report["order_of_sides"]) == set(AXES)
    assert all(abs(rate["value"]) < 1e-6 for rate in report["order_of_sides"].values()), "it scores clips one by one"
    drawn = table[table["intervention"] == "none"].set_index("pair_id")["score_politeness"]
    twin = table[table["intervention"].isin(["group=a", "group=b"])]
    same = twin[np.isclose(twin["score_politeness"], twin["pair_id"].map(drawn))]
    assert set(same["pair_id"]) == set(drawn.index), "one of two twins is the clip as it was"


def test_tastes_on_own_clips(folder: Path) -> None:
    run("simulate", "out=clips", "num_contexts=4", "samples_per_context=6", "scenes=[corridor]", "num_workers=1")
    report = run("probe_reward", *REWARD, "clips=clips", "interventions=[darker]")
    assert {shift["intervention"] for shift in report["shifts"]} == {"darker"}
    table = pd.read_parquet("runs/probe_reward/scores.parquet")
    assert table.groupby("context_id")["side"].nunique().eq(2).all()
    run("simulate", "out=few", "num_contexts=2", "scenes=[corridor]", "num_workers=1", name="few-clips")
    assert "at least 3 are needed" in run("probe_reward", *REWARD, "clips=few", name="few", expect=5)


def test_a_reward_model_is_needed(folder: Path) -> None:
    assert "reward_model is empty" in run("probe_reward", expect=4)
