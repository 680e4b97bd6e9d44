"""Choosing questions as real commands: select, annotate its questions, the curve, at tiny sizes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from align.errors import DataError
from align.io import read_json

pytestmark = pytest.mark.timeout(900)  # seconds on an idle machine, but a busy one is not a failure

LEARN = ("num_epochs=5", "num_members=2")


def gptsim(*arguments: str, fails: bool = False) -> str:
    from ui.cli.main import app

    result = CliRunner().invoke(app, ["run", *arguments, "--runs", "runs"], prog_name="gptsim")
    assert (result.exit_code >= 3) if fails else (result.exit_code == 0), result.output
    return result.output


def run(recipe: str, *wishes: str, name: str = "") -> dict[str, Any]:
    """``gptsim run RECIPE …`` in this process; the figures of its report."""
    gptsim(recipe, "--name", name or recipe, *wishes)
    return dict(read_json(Path("runs") / (name or recipe) / "report.json"))


@pytest.fixture(scope="module")
def labelled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with 48 dreams of the shipped world model, random votes about them and a reward model."""
    folder = tmp_path_factory.mktemp("active")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        run("simulate", "out=clips", "split=tune", "num_contexts=4", "num_workers=1")
        run("rollout", "contexts=clips", "out=dreams", "samples_per_context=4", "num_workers=1")
        run("annotate", "rollouts=dreams", "out=votes.parquet", "budget=40")
        run("reward", "rollouts=dreams", "votes=votes.parquet", "out=reward", *LEARN)
    return folder


@pytest.fixture
def folder(labelled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder of the test's own, with links to what was made."""
    for source in labelled.iterdir():
        if source.name != "runs":
            (tmp_path / source.name).symlink_to(source)
    monkeypatch.chdir(tmp_path)
    return tmp_path


SELECT = ("rollouts=dreams", "reward_model=reward", "votes=votes.parquet", "budget=20")


def test_a_reward_model_and_an_adapter_say_what_they_learned_from(folder: Path) -> None:
    from align.io import sha256_folder
    from align.preferences.votes.schema import effective_votes, read_votes

    used = read_json("reward/votes_used.json")
    assert used == sorted(vote.vote_id for vote in effective_votes(read_votes("votes.parquet"))) and len(used) > 20
    tune = ("rollouts=dreams", "votes=votes.parquet", "num_steps=1", "batch_size=2", "save_every=1", "min_margin=0", "rank=2")
    run("dpo", *tune, "reward_model=reward", "out=by_reward")
    provenance = read_json("by_reward/provenance.json")
    assert provenance["inputs"]["reward_model"] == {"path": "reward", "sha256": sha256_folder("reward")}
    assert not Path("by_reward/votes_used.json").exists(), "it learned from votes through the reward model alone"
    run("dpo", *tune, "out=by_votes", name="dpo-votes")
    assert read_json("by_votes/votes_used.json") == used
    assert "reward_model" not in read_json("by_votes/provenance.json")["inputs"]


def test_selected_questions_can_be_annotated_and_dont_repeat(folder: Path) -> None:
    from align.preferences.votes.schema import read_votes

    report = run("select", *SELECT, "out=pairs.jsonl")
    assert report["num_questions"] == 20 and report["selection"] == {"random": 4, "active": 16}
    assert report["mean_gain_active"] > report["mean_gain_all"] >= 0
    asked = {(frozenset((vote.rollout_a, vote.rollout_b)), vote.axis) for vote in read_votes("votes.parquet")}
    rows = [json.loads(line) for line in Path("pairs.jsonl").read_text().splitlines()]
    fresh = {(frozenset((row["rollout_a"], row["rollout_b"])), axis) for row in rows for axis in row["axes"]}
    assert len(fresh) == 20 and not fresh & asked
    done = run("annotate", "rollouts=dreams", "pairs=pairs.jsonl", "out=more.parquet", "budget=20", name="more")
    votes = read_votes("more.parquet")
    assert done["num_votes"] == 20 and {(frozenset((v.rollout_a, v.rollout_b)), v.axis) for v in votes} == fresh
    assert sorted(vote.selection or "" for vote in votes).count("active") == 16
    assert "exists already" in gptsim("select", "--name", "again", *SELECT, "out=pairs.jsonl", fails=True)


def test_a_database_gets_tasks_with_priorities_and_is_asked_what_it_has(folder: Path) -> None:
    from align.preferences.campaign import Campaign
    from align.preferences.storage.store import LabelStore

    first = run("select", *SELECT, "db=sqlite:///labels.db")
    with LabelStore("sqlite:///labels.db") as store:
        tasks = Campaign(store).tasks()
    assert first["num_tasks_added"] == len(tasks)
    assert sum(len(task.axes) for task in tasks) == 20
    assert all((task.priority is not None) == (task.selection == "active") for task in tasks)
    assert all(task.priority is None or task.priority >= 0 for task in tasks)
    second = run("select", *SELECT, "db=sqlite:///labels.db", name="second")
    with LabelStore("sqlite:///labels.db") as store:
        both = Campaign(store).tasks()
    assert second["num_tasks_added"] == len(both) - len(tasks)
    questions = [(frozenset(task.rollouts), axis) for task in both for axis in task.axes]
    assert len(questions) == len(set(questions)) == 40


def test_a_selection_that_was_cut_off_goes_on_with_the_same_questions(folder: Path) -> None:
    from align.preferences.campaign import Campaign
    from align.preferences.storage.store import LabelStore

    wishes = (*SELECT, "db=sqlite:///labels.db", "out=pairs.jsonl")
    run("select", *wishes)
    before = Path("pairs.jsonl").read_text()
    Path("runs/select/report.json").unlink()  # as if it had been killed after the tasks were stored
    gptsim("select", "--name", "select", "--resume")
    assert read_json("runs/select/report.json")["num_tasks_added"] == 0
    assert Path("pairs.jsonl").read_text() == before
    with LabelStore("sqlite:///labels.db") as store:
        assert sum(len(task.axes) for task in Campaign(store).tasks()) == 20


def test_without_a_reward_model_all_questions_are_random(folder: Path) -> None:
    report = run("select", "rollouts=dreams", "budget=12", "out=pairs.jsonl")
    assert report["selection"] == {"random": 12} and report["mean_gain_active"] is None


def test_mistakes_are_one_sentence(folder: Path) -> None:
    assert "both empty" in gptsim("select", "--name", "a", *SELECT, fails=True)
    assert "must end in .jsonl" in gptsim("select", "--name", "b", *SELECT, "out=pairs.csv", fails=True)
    axes = "axes={pour: [novelty], shelf: [breakage], corridor: [politeness]}"
    assert "not novelty" in gptsim("select", "--name", "c", *SELECT, "out=pairs.jsonl", axes, fails=True)
    assert "random_share" in gptsim("select", "--name", "d", *SELECT, "out=pairs.jsonl", "random_share=0.1", fails=True)
    Path("foreign.jsonl").write_text('{"pair_id": "p", "context_id": "c", "rollout_a": "x", "rollout_b": "y"}\n')
    wishes = ("rollouts=dreams", "pairs=foreign.jsonl", "out=other.parquet")
    assert "names 2 rollouts" in gptsim("annotate", "--name", "e", *wishes, fails=True)
    assert "must hold random" in gptsim("active_curve", "--name", "f", "arms=[active]", fails=True)
    assert "rising" in gptsim("active_curve", "--name", "g", "budgets=[20, 10]", fails=True)


def test_the_curve_is_measured_and_goes_on_where_it_was(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import recipes._questions as module

    wishes = ("rollouts=dreams", "held_out_contexts=4", "budgets=[8, 12, 16]", "num_members=4", "num_workers=1")
    wishes += ("backbone={name: difference, grid: 2, num_moments: 1}",)
    whole = run("active_curve", *wishes, "num_seeds=2")
    assert whole["votes"] == [8, 12, 16] and whole["num_seeds"] == 2
    assert set(whole["ratio"]) == {"active", "bald"} and len(whole["ratio"]["active"]["ratios"]) == 2
    assert whole["num_questions"] == 12 * 6 * 2
    assert Path(whole["plot"]).read_bytes().startswith(b"\x89PNG")

    real = module.play

    def dies(problem: Any, classes: Any, arm: str, options: Any, seed: int) -> Any:
        if seed == 1:
            raise DataError("the power went off")
        return real(problem, classes, arm, options, seed)

    monkeypatch.setattr(module, "play", dies)
    gptsim("active_curve", "--name", "victim", *wishes, "num_seeds=2", fails=True)
    assert [path.name for path in Path("runs/victim/seeds").iterdir()] == ["0.json"]
    monkeypatch.setattr(module, "play", real)
    gptsim("active_curve", "--name", "victim", "--resume")
    resumed = read_json("runs/victim/report.json")
    assert {**resumed, "plot": ""} == {**whole, "plot": ""}
