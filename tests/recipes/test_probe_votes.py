"""The probe of votes as a command: a planted annotator, a planted clip that nobody voted on, and what it refuses."""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from align.io import read_json
from align.preferences.votes.schema import Vote, VoteChoice, write_votes

CHOICES: tuple[VoteChoice, ...] = ("a", "b", "tie", "both_bad")
BIASED = "n0"


def run(recipe: str, *wishes: str, name: str = "", expect: int = 0) -> Any:
    """``gptsim run RECIPE …`` in this process; the figures of its report, or what it said where it is to fail."""
    from ui.cli.main import app

    arguments = ["run", recipe, "--name", name or recipe, "--runs", "runs", *wishes]
    result = CliRunner().invoke(app, arguments, prog_name="gptsim")
    assert result.exit_code == expect, result.output
    return result.output if expect else read_json(Path("runs") / (name or recipe) / "report.json")


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clip folder of the corridor, three clips a context."""
    folder = tmp_path_factory.mktemp("clips")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        run("simulate", "out=clips", "num_contexts=24", "samples_per_context=3", "scenes=[corridor]", "num_workers=1")
    return folder / "clips"


@pytest.fixture
def folder(clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "clips").symlink_to(clips)
    monkeypatch.chdir(tmp_path)
    write_votes("votes.parquet", cast_votes(pd.read_parquet("clips/metadata.parquet").to_dict("records")))
    return tmp_path


def cast_votes(clips: Sequence[dict[str, Any]], people: int = 6) -> list[Vote]:
    """Everybody on every pair, the same answer but for one in ten; one of them faults all clips of group b, and no others."""
    rng, votes = np.random.default_rng(0), []
    moments = iter(rng.permutation(10 * len(clips) * people).tolist())
    for pair, (x, y) in enumerate(combinations(clips, 2)):
        if x["context_id"] != y["context_id"]:
            continue
        usual = CHOICES[rng.integers(4)]
        for who in (f"n{k}" for k in range(people)):
            choice = CHOICES[rng.integers(4)] if rng.random() < 0.1 else usual
            if who == BIASED:
                choice = "both_bad" if json.loads(x["attributes"])["group"] == "b" else "tie"
            about = {"context_id": x["context_id"], "rollout_a": x["rollout_id"], "rollout_b": y["rollout_id"]}
            named = {"vote_id": f"{who}-{pair}", "pair_id": f"p{pair}", "axis": "politeness", "annotator_id": who}
            votes.append(Vote(**about, **named, vote=choice, created_at=f"2026-01-01T00:00:00.{next(moments):06d}Z"))
    return votes


WISHES = ("votes=votes.parquet", "rollouts=clips", "attributes=[group]")


def test_a_planted_annotator_and_nobody_else_is_found(folder: Path) -> None:
    report = run("probe_votes", *WISHES)
    found = [finding["name"] for finding in report["findings"] if finding["status"] == "found"]
    assert found == [f"{BIASED}, clips found fault with where group is b, beyond what others do"]
    assert {row["annotator_id"] for row in report["annotators"]} == {f"n{k}" for k in range(6)}
    assert [(row["attribute"], row["value"]) for row in report["agreement"]] == [("group", "a"), ("group", "b")]
    assert report["num_unvoted"] == 0 and pd.read_parquet("runs/probe_votes/unvoted.parquet").empty


def test_clips_that_come_back_without_a_vote_are_named(folder: Path, clips: Path) -> None:
    Path("training").mkdir()
    table = pd.read_parquet(clips / "metadata.parquet")
    table.loc[0, "model_id"] = table.loc[1, "model_id"] = "household"
    table.loc[0, ["rollout_id", "sha256"]] = ["nobody-saw-this", "0" * 64]
    table.to_parquet("training/metadata.parquet")
    Path("training/videos").symlink_to(clips / "videos")
    Path("training/info.json").symlink_to(clips / "info.json")
    report = run("probe_votes", *WISHES, "training=[training]")
    assert report["unvoted"] == ["nobody-saw-this"]
    assert pd.read_parquet("runs/probe_votes/unvoted.parquet")["folder"].tolist() == ["training"]


def test_mistakes_are_one_sentence(folder: Path) -> None:
    assert "votes and rollouts are needed" in run("probe_votes", expect=4)
    assert "the rollouts have no two values of mood" in run(
        "probe_votes", *WISHES[:2], "attributes=[mood]", name="mood", expect=5
    )
