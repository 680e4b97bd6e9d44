"""The recipes ``probe_sources`` and ``curate`` as commands, and the way on from a cleaned folder to a model."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from typer.testing import CliRunner

from align.io import read_json, sha256_file
from align.video.folder import load_clip_folder

AXES = ("spill", "breakage", "politeness", "success")


def run(recipe: str, *wishes: str, name: str = "", expect: int = 0) -> Any:
    """``gptsim run RECIPE …`` in this process; the figures of its report, or what it said where it is to fail."""
    from ui.cli.main import app

    arguments = ["run", recipe, "--name", name or recipe, "--runs", "runs", *wishes]
    result = CliRunner().invoke(app, arguments, prog_name="gptsim")
    assert result.exit_code == expect, result.output
    return " ".join(result.output.split()) if expect else read_json(Path("runs") / (name or recipe) / "report.json")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two clip folders and a reward model that nobody trained."""
    import torch

    from reward_models.backbones import Difference
    from reward_models.model import HeadConfig, RewardModel

    folder = tmp_path_factory.mktemp("sources")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        few = ("scenes=[corridor]", "samples_per_context=2", "num_workers=1")
        run("simulate", "out=clips", "num_contexts=6", *few)
        run("simulate", "out=others", "num_contexts=3", "seed=1", *few, name="others-filmed")
    model = RewardModel(Difference(grid=2, num_moments=3), HeadConfig(AXES, 2, 3, 4, 11), torch.Generator().manual_seed(0))
    model.fail_slope[:], model.fail_bias[:] = 1.0, 0.0
    model.save_pretrained(folder / "reward")
    model.fail_slope[AXES.index("politeness")] = torch.nan
    model.save_pretrained(folder / "blind")
    return folder


@pytest.fixture
def folder(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder of the test's own."""
    for name in ("clips", "others", "reward", "blind"):
        (tmp_path / name).symlink_to(made / name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


LOOK = ("reward_model=reward", "num_workers=1", "attributes=[group]")


def middle() -> float:
    """A probability of being unsafe that half of the clips exceed."""
    run("probe_sources", "clips=[clips]", *LOOK, "clips_shown=0", name="looked")
    return float(pd.read_parquet("runs/looked/sources.parquet")["unsafe_politeness"].median())


def test_sources_are_compared(folder: Path) -> None:
    report = run("probe_sources", "clips=[clips, others]", *LOOK, "clips_shown=1")
    table = pd.read_parquet("runs/probe_sources/sources.parquet")
    assert len(table) == report["num_clips"] == 18 and report["num_unscored"] == 0
    assert report["compared_by"] == ["source", "group"] and set(table["source"]) == {"clips", "others"}
    assert table["unsafe_politeness"].between(0, 1).all() and "unsafe_spill" not in table, "no axis of another scene"
    assert table["truth_politeness"].tolist() == [
        *load_clip_folder("clips").table["outcome_politeness"],
        *load_clip_folder("others").table["outcome_politeness"],
    ]
    overall = report["rates"][0]
    assert overall["unsafe"]["value"] == pytest.approx(table["unsafe_politeness"].mean())
    assert {row["column"] for row in report["gaps"]} == {"source", "group"} == {row["column"] for row in report["shares"]}
    assert report["findings"] and (Path("runs/probe_sources") / "unsafe.png").is_file()
    assert table["unsafe_politeness"].max() == report["clips"][0]["unsafe"]
    assert (Path("runs/probe_sources") / report["clips"][0]["clip"]).is_file()


def test_a_source_may_be_an_attribute(folder: Path) -> None:
    report = run("probe_sources", "clips=[clips]", *LOOK, "source=light", "clips_shown=0")
    light = [load_clip_folder("clips").attributes(row)["light"] for row in range(12)]
    assert pd.read_parquet("runs/probe_sources/sources.parquet")["source"].tolist() == list(map(str, light))
    assert report["compared_by"] == ["source", "group"]
    assert "no attribute or column mood" in run("probe_sources", "clips=[clips]", *LOOK, "source=mood", name="odd", expect=5)


def test_a_cleaned_folder_says_what_was_left_out_and_why(folder: Path) -> None:
    limit = middle()
    report = run("curate", "clips=clips", "out=clean", *LOOK, f"max_unsafe={limit}")
    before, after = load_clip_folder("clips"), load_clip_folder("clean")
    told = pd.read_parquet("runs/curate/curation.parquet")
    assert len(told) == len(before) == 12 and len(after) == report["num_kept"] == 6
    assert told[told["reason"] == ""]["rollout_id"].tolist() == after.table["rollout_id"].tolist()
    assert (told["unsafe_politeness"] > limit).tolist() == (told["reason"] == "unsafe: politeness").tolist()
    assert after.validate() == [] and len(load_clip_folder("clips").validate()) == 0
    same = before.table[before.table["rollout_id"].isin(after.table["rollout_id"])]
    assert same["sha256"].tolist() == after.table["sha256"].tolist()
    about = after.info["curation"]
    assert about["rule"]["max_unsafe"] == limit and about["run"] == "curate"
    assert about["curation_sha256"] == sha256_file("runs/curate/curation.parquet")
    assert {row["reason"]: row["num_clips"] for row in about["counts"]} == {"kept": 6, "unsafe: politeness": 6}
    assert sum(row["num_clips"] for row in report["counts"] if row["column"] == "group") == 12
    assert report["after"][0]["unsafe"]["value"] < report["before"][0]["unsafe"]["value"]
    assert "clips kept with group b against a" in report["findings"][0]["name"]
    assert report["findings"][0]["status"] == "cannot tell", "six contexts prove nothing"


def test_groups_are_balanced(folder: Path) -> None:
    run("curate", "clips=clips", "out=even", *LOOK, "max_unsafe=1", "balance=group")
    told = pd.read_parquet("runs/curate/curation.parquet")
    left = told[told["reason"] == ""].groupby("group").size()
    assert left.nunique() == 1 and left.iloc[0] == told.groupby("group").size().min()


def test_nothing_is_overwritten_and_an_interrupted_run_goes_on(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from align.video.writer import ClipFolderWriter

    wishes = ("clips=clips", *LOOK, f"max_unsafe={middle()}")
    whole = run("curate", *wishes, "out=whole", name="whole")
    assert "exists already" in run("curate", *wishes, "out=whole", name="again", expect=5)
    add, added = ClipFolderWriter.add_file, []

    def stop(self: ClipFolderWriter, row: Any, source: Path) -> None:
        if len(added) == 3:
            raise KeyboardInterrupt
        added.append(row["rollout_id"])
        add(self, row, source)

    monkeypatch.setattr(ClipFolderWriter, "add_file", stop)
    run("curate", *wishes, "out=begun", name="begun", expect=130)
    assert not Path("begun").exists() and Path("begun.partial").exists()
    monkeypatch.setattr(ClipFolderWriter, "add_file", add)
    resumed = run("curate", "--resume", name="begun")
    assert resumed["counts"] == whole["counts"]
    assert load_clip_folder("begun").table.equals(load_clip_folder("whole").table)


def test_mistakes_are_one_sentence(folder: Path) -> None:
    look, clean = ("probe_sources", "clips=[clips]"), ("curate", "clips=clips", "out=o")
    assert "reward_model is empty" in run(*clean, name="a", expect=4)
    assert "has no axis kindness" in run(*look, *LOOK, "axes={corridor: [kindness]}", name="b", expect=4)
    assert "can't say what is bad" in run(*look, "reward_model=blind", name="c", expect=5)
    assert "not one clip would be left" in run(*clean, *LOOK, "max_unsafe=0.0000001", name="d", expect=5)
    assert "have no attribute mood" in run(*clean, *LOOK[:-1], "attributes=[mood]", name="e", expect=5)
    assert "after is empty" in run("compare_models", name="f", expect=4)
    assert not Path("o").exists()


@pytest.mark.slow
def test_a_model_of_the_cleaned_folder_is_measured_beside_the_old_one(folder: Path) -> None:
    """Clean, pretrain on both, compare on the same held-out contexts: the commands of the docs at a size of seconds."""
    run("curate", "clips=clips", "out=clean", *LOOK, f"max_unsafe={middle()}")
    tiny = (
        "tokenizer={size: [16, 16], cell: [8, 8], levels: [4, 4], width: 8}",
        "model={trunk_width: 32, trunk_layers: 1, depth_layers: 1, hidden_width: 16}",
        "tokenizer_steps=8",
        "model_steps=10",
        "batch_size=4",
        "held_out=1",
    )
    for name in ("clips", "clean"):
        run("pretrain", f"clips={name}", f"out=wm-{name}", *tiny, name=f"pretrain-{name}")
    few = ("scenes=[corridor]", "contexts=4", "num_workers=1")
    report = run("compare_models", "before=wm-clips", "after=wm-clean", *few)
    assert {row["outcome"] for row in report["changes"]} == {"hazard", "success"}
    shutil.rmtree("wm-clean")
