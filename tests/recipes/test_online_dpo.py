"""Iterated DPO as a command: rounds that go on from the last adapter, from whoever labels, through kills and waits."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from align.errors import DataError
from align.io import read_json
from align.preferences.votes.schema import Pair, Vote, write_votes
from align.preferences.votes.tables import parse_rows, read_rows

pytestmark = pytest.mark.timeout(900)  # seconds on an idle machine, but a busy one is not a failure

SMALL = (
    "model=wm",
    "axes={pour: [spill, success]}",
    "arms=[random]",
    "rounds=2",
    "num_contexts=4",
    "samples_per_context=3",
    "votes=8",
    "num_epochs=3",
    "dpo_steps=2",
    "batch_size=2",
    "min_margin=0",
    "rank=2",
    "held_out_contexts=0",
    "simulator_contexts=2",
    "kl_contexts=3",
    "num_workers=1",
)


def gptsim(*arguments: str, code: int = 0) -> str:
    from ui.cli.main import app

    result = CliRunner().invoke(app, ["run", "online_dpo", *arguments, "--runs", "runs"], prog_name="gptsim")
    assert result.exit_code == code, result.output
    return " ".join(result.output.split())


def report(name: str) -> dict[str, Any]:
    return dict(read_json(Path("runs") / name / "report.json"))


def without_paths(name: str) -> Any:
    return json.loads(json.dumps(report(name)).replace(f"runs/{name}/", ""))


@pytest.fixture
def folder(models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for source in models.iterdir():
        (tmp_path / source.name).symlink_to(source)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.slow
def test_each_round_goes_on_from_the_last_adapter_and_a_kill_changes_no_figure(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from align.video.folder import load_clip_folder
    from recipes import dpo

    wishes = (*SMALL, "num_contexts=10", "votes=20")
    gptsim("--name", "whole", *wishes)
    figures = report("whole")
    base, first, second = figures["arms"]["random"]
    assert [row["votes"] for row in (base, first, second)] == [0, 20, 40]
    assert base["kl"] is None and base["unsafe"]["n"] == first["unsafe"]["n"] == 2
    assert first["kl"]["value"] > 0 and first["kl"]["n"] == 3 and second["kl"]["value"] > 0
    dreams = load_clip_folder("runs/whole/data/random-2/dreams").table
    assert set(dreams["adapter_id"]) == {first["adapter"]}
    inputs = read_json(Path(second["adapter"]) / "provenance.json")["inputs"]
    assert inputs["start"]["path"] == first["adapter"] and inputs["rollouts"]["path"].endswith("random-2/dreams")
    assert figures["out"] == second["adapter"]
    rows = Path(figures["table"]).read_text().splitlines()
    assert len(rows) == 5 and rows[-1].startswith("| random | 2 | 40 |") and "n = 2" in rows[-1]
    assert Path(figures["plot"]).read_bytes().startswith(b"\x89PNG")

    real, calls = dpo.main, []

    def dies(*arguments: Any) -> Any:
        calls.append(arguments)
        if len(calls) == 2:
            raise DataError("the power went off")
        return real(*arguments)

    monkeypatch.setattr(dpo, "main", dies)
    assert "the power went off" in gptsim("--name", "victim", *wishes, code=5)
    monkeypatch.setattr(dpo, "main", real)
    gptsim("--name", "victim", "--resume")
    assert without_paths("victim") == without_paths("whole")


def answer(pairs: str, axes: Sequence[str]) -> list[Vote]:
    """One vote a question: the first of the two, every third time a tie."""
    asked = [(pair, axis) for pair in parse_rows(read_rows(pairs), Pair, pairs) for axis in pair.axes if axis in axes]
    return [
        Vote(
            vote_id=f"{pair.pair_id}-{axis}",
            pair_id=pair.pair_id,
            context_id=pair.context_id,
            rollout_a=pair.rollout_a,
            rollout_b=pair.rollout_b,
            axis=axis,
            vote="tie" if number % 3 == 2 else "a",
        )
        for number, (pair, axis) in enumerate(asked)
    ]


def test_people_answer_between_rounds_in_files(folder: Path) -> None:
    wishes = (*SMALL, "answers=filled", "labels=votes", "simulator_contexts=0")
    said = gptsim("--name", "people", *wishes, code=7)
    assert "round all-1 waits for votes: 8 of 8 questions" in said and "put them into filled/all-1.csv" in said
    Path("filled").mkdir()
    write_votes(Path("filled/all-1.csv"), answer("runs/people/data/all-1/pairs.jsonl", ("spill", "success")))
    said = gptsim("--name", "people", "--resume", code=7)
    assert "round random-2 waits for votes" in said and "--name people --resume" in said
    write_votes(Path("filled/random-2.jsonl"), answer("runs/people/data/random-2/pairs.jsonl", ("spill", "success")))
    gptsim("--name", "people", "--resume")
    figures = report("people")
    assert figures["simulated"] is False
    assert [row["votes"] for row in figures["arms"]["random"]] == [0, 8, 16]
    last = figures["arms"]["random"][-1]
    assert last["reward_model"] == "" and last["unsafe"] is None and last["num_pairs"] >= 2
    used = read_json(Path(last["adapter"]) / "votes_used.json")
    assert sorted(used) == sorted(
        vote.vote_id for vote in answer("runs/people/data/random-2/pairs.jsonl", ("spill", "success"))
    )
    assert "not measured" in Path(figures["table"]).read_text()


def test_people_answer_between_rounds_in_a_database(folder: Path) -> None:
    from align.preferences.campaign import Campaign
    from align.preferences.storage.store import LabelStore
    from align.video.folder import load_clip_folder
    from ui.web.media import Media
    from ui.web.opening import Setup, prepare_campaign

    wishes = (*SMALL, "answers=sqlite:///labels.db", "labels=votes", "rounds=1", "simulator_contexts=0")
    said = gptsim("--name", "db", *wishes, code=7)
    assert "gptsim label runs/db/data/all-1/asked --db sqlite:///labels.db" in said
    with LabelStore("sqlite:///labels.db") as store:
        campaign = Campaign(store)
        before = campaign.tasks()
        assert [axis.name for axis in campaign.settings().axes] == ["spill", "success"]
        clips = Media(load_clip_folder("runs/db/data/all-1/asked"), b"x" * 32)
        prepare_campaign(campaign, clips, Setup())
        assert campaign.tasks() == before, "the pages ask what the round asks, and nothing else"
    pairs = "runs/db/data/all-1/pairs.jsonl"
    spill, success = answer(pairs, ("spill",)), answer(pairs, ("success",))
    with LabelStore("sqlite:///labels.db") as store:
        store.add_votes(spill)
    assert f"{len(success)} of 8 questions" in gptsim("--name", "db", "--resume", code=7)
    with LabelStore("sqlite:///labels.db") as store:
        store.add_votes(success)
    gptsim("--name", "db", "--resume")
    assert report("db")["arms"]["random"][-1]["votes"] == 8


def test_a_reward_model_labels_every_round_and_too_few_pairs_change_nothing(folder: Path) -> None:
    wishes = (*SMALL, "reward_model=reward", "rounds=1", "simulator_contexts=0")
    gptsim("--name", "reward", *wishes)
    row = report("reward")["arms"]["random"][-1]
    assert row["reward_model"] == "reward" and row["votes"] == 0 and row["num_pairs"] >= 2 and row["kl"]["value"] > 0
    assert not Path("runs/reward/data/all-1/pairs.jsonl").exists()
    said = gptsim("--name", "sure", *wishes, "min_margin=1000")
    assert "[all-1] the adapter stays as it was: only 0 pairs differ clearly" in said
    row = report("sure")["arms"]["random"][-1]
    assert (row["adapter"], row["num_pairs"], row["kl"]) == ("", 0, None)


def test_mistakes_are_one_sentence(folder: Path) -> None:
    said = gptsim("--name", "a", *SMALL, "arms=[best]", "rounds=0", "labels=guesses", code=4)
    assert "arms must be" in said and "rounds must be at least 1" in said and "labels must be" in said
    assert "set arms=[random]" in gptsim("--name", "b", *SMALL, "labels=votes", "arms=[active]", code=4)
    assert "leave answers empty" in gptsim("--name", "c", *SMALL, "reward_model=reward", "answers=filled", code=4)
    assert "no simulator for kitchen" in gptsim("--name", "d", *SMALL, "axes={kitchen: [burn]}", code=4)
