from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from align.preferences.campaign import Campaign, Task
from align.preferences.storage.store import DEFAULT_URL, LabelStore
from align.preferences.votes.schema import Judgement, Vote, write_votes
from ui.cli import _votes_report
from ui.cli.main import app


def run(*args: object, code: int = 0) -> str:
    result = CliRunner().invoke(app, ["votes", "report", *map(str, args)])
    assert result.exit_code == code, result.output
    return " ".join(result.output.split())


@pytest.fixture
def votes() -> list[Vote]:
    """Four honest people and one who always presses left, on twenty pairs of two models."""
    rng = np.random.default_rng(0)
    rows = []
    for who in ("ann", "bob", "cas", "dan", "lefty"):
        for pair in range(20):
            left = str(rng.choice(["a", "b"]))
            honest = "tie" if pair % 5 == 0 else "a" if rng.random() < 0.8 else "b"
            ids = {"pair_id": f"p{pair}", "context_id": f"c{pair}", "rollout_a": f"x{pair}", "rollout_b": f"y{pair}"}
            rows.append(
                Vote(
                    vote_id=f"{who}{pair}",
                    **ids,
                    axis="spill",
                    vote=left if who == "lefty" else honest,  # type: ignore[arg-type]
                    annotator_id=who,
                    shown_left=left,  # type: ignore[arg-type]
                    simulated=who == "dan",
                    response_time_s=2.0,
                )
            )
    return rows


@pytest.fixture
def file(tmp_path: Path, votes: list[Vote]) -> Path:
    write_votes(tmp_path / "votes.csv", votes)
    return tmp_path / "votes.csv"


def test_a_file_is_reported_on_for_people(file: Path) -> None:
    output = run(file)
    assert "100 rows, 100 count (20 simulated), 0 skips, 0 corrections; 20 pairs of 20 contexts" in output
    assert "spill 100 80" in output
    assert "no ranking: the comparisons fall into 20 parts that nobody compared with each other" in output
    assert "lefty: always answered 'left'; chose the left clip in 100 % of 20 decided votes" in output
    assert "lefty flagged" in output


def test_a_few_parts_are_ranked_one_by_one(tmp_path: Path) -> None:
    rows = []
    for number, (context, choice) in enumerate([("c", "a"), ("c", "b"), ("c", "a"), ("c", "tie"), ("d", "a"), ("d", "a")]):
        ids = {"pair_id": context, "context_id": context, "rollout_a": f"{context}1", "rollout_b": f"{context}2"}
        row = {"vote_id": f"v{number}", **ids, "axis": "spill", "vote": choice, "annotator_id": f"ann{number}"}
        rows.append(Vote.model_validate(row))
    write_votes(tmp_path / "votes.csv", rows)
    output = run(tmp_path / "votes.csv")
    assert "2 parts that nobody compared with each other: {c1, c2}; {d1, d2}" in output
    first, second = output.split("part 1 on its own")[1].split("part 2 on its own")
    assert "ties: log nu" in first and "4 comparisons" in first
    assert "no ranking: d1 always won" in second and "2 comparisons" in second


def test_and_for_machines(file: Path, tmp_path: Path) -> None:
    run(file, "--json", tmp_path / "report.json")
    report = json.loads((tmp_path / "report.json").read_text())
    spill = report["axes"]["spill"]
    assert spill["alpha"]["num_units"] == 20
    assert spill["alpha"]["low"] < spill["alpha"]["value"] < spill["alpha"]["high"]
    assert report["annotators"][0]["annotator_id"] == "lefty"
    assert report["annotators"][0]["flagged"] is True
    run(file, "--json", tmp_path / "again.json")
    assert (tmp_path / "again.json").read_bytes() == (tmp_path / "report.json").read_bytes()
    run(file, "--seed", 1, "--json", tmp_path / "other.json")
    assert json.loads((tmp_path / "other.json").read_text())["axes"]["spill"]["alpha"]["low"] != spill["alpha"]["low"]


def test_models_are_ranked_with_a_rollout_folder(file: Path, tmp_path: Path) -> None:
    folder = tmp_path / "rollouts"
    folder.mkdir()
    assert "no metadata.parquet" in run(file, "--rollouts", folder, code=5)
    names = [f"{side}{pair}" for pair in range(20) for side in "xy"]
    table = pd.DataFrame({"rollout_id": names, "model_id": "base", "adapter_id": ["careful", ""] * 20})
    table.to_parquet(folder / "metadata.parquet")
    output = run(file, "--rollouts", folder, "--json", tmp_path / "report.json")
    ranking = json.loads((tmp_path / "report.json").read_text())["axes"]["spill"]["ranking"]
    assert [item["name"] for item in ranking["items"]] == ["base + careful", "base"]
    assert "base + careful" in output
    assert "two equals tie in" in output
    table.assign(model_id="").to_parquet(folder / "metadata.parquet")
    assert "says of no rollout which model made it" in run(file, "--rollouts", folder, code=5)


def test_a_database_brings_gold_verdicts_and_marks(tmp_path: Path, votes: list[Vote]) -> None:
    url = f"sqlite:///{tmp_path / 'labels.db'}"
    with LabelStore(url) as store:
        gold = [vote.model_copy(update={"selection": "gold"}) if vote.pair_id == "p1" else vote for vote in votes]
        store.add_votes(gold)
        store.add_judgements(
            [
                Judgement(judgement_id=f"j{who}{clip}", rollout_id=clip, axis="spill", verdict=verdict, annotator_id=who)
                for who, clip, verdict in (
                    ("ann", "x1", "pass"),
                    ("bob", "x1", "pass"),
                    ("ann", "y1", "fail"),
                    ("bob", "y1", "fail"),
                )
            ]
        )
        task = Task(task_id="g", context_id="c1", rollouts=("x1", "y1"), selection="gold", gold={"spill": "a"})
        Campaign(store).add_tasks([task])
    output = run(url, "--json", tmp_path / "report.json")
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["trials"]["num_gold"] == 5
    assert "Single clips, spill" in output
    assert "4 verdicts on 2 clips: 2 pass, 2 fail, 0 unsure" in output
    assert "shares of the true classes by Dawid and Skene" in output
    run(url, "--axis", "success", "--json", tmp_path / "report.json")
    assert json.loads((tmp_path / "report.json").read_text())["axes"] == {}


def test_files_of_verdicts_and_marks_are_reported_on(tmp_path: Path) -> None:
    verdicts = [("ann", "x", "pass"), ("bob", "x", "pass"), ("ann", "y", "fail"), ("bob", "y", "unsure")]
    rows = [f"j{i},{clip},spill,{verdict},{who}\n" for i, (who, clip, verdict) in enumerate(verdicts)]
    (tmp_path / "j.csv").write_text("judgement_id,rollout_id,axis,verdict,annotator_id\n" + "".join(rows))
    output = run(tmp_path / "j.csv", "--kind", "judgements")
    assert "4 verdicts on 2 clips: 2 pass, 1 fail, 1 unsure" in output
    assert "shares of the true classes by Dawid and Skene" in output
    marks = [f"b{i},x,{who},{time_s},2\n" for i, (who, time_s) in enumerate((("ann", 0.5), ("bob", 0.52)))]
    (tmp_path / "b.csv").write_text("breakpoint_id,rollout_id,annotator_id,time_s,severity\n" + "".join(marks))
    assert "2 marks on 1 rollouts, 0 of them 'no breaks'" in run(tmp_path / "b.csv", "--kind", "breakpoints")
    assert "unknown column 'judgement_id'" in run(tmp_path / "j.csv", code=5)
    assert "leave out --kind" in run("sqlite:///labels.db", "--kind", "flags", code=3)


def test_markup_in_names_is_only_text(tmp_path: Path, votes: list[Vote]) -> None:
    rude = [vote.model_copy(update={"annotator_id": f"[red]{vote.annotator_id}[/]", "axis": "[b]spill"}) for vote in votes]
    write_votes(tmp_path / "rude.csv", rude)
    output = run(tmp_path / "rude.csv")
    assert "[b]spill" in output
    assert "[red]ann[/]" in output


def test_a_wrong_source_is_one_sentence(tmp_path: Path) -> None:
    assert "does not exist" in run(tmp_path / "none.csv", code=5)
    assert f"give its URL, sqlite:///{tmp_path}/labels.db" in run(tmp_path / "labels.db", code=5)
    assert "allowed are" in run(tmp_path / "votes.txt", code=5)
    assert "labels can't be kept in 'mysql'" in run("mysql://host/name", code=5)
    assert list(tmp_path.iterdir()) == []


def test_no_votes_at_all(tmp_path: Path) -> None:
    (tmp_path / "empty.csv").write_text("vote_id,pair_id,context_id,rollout_a,rollout_b,axis,vote\n")
    assert "0 rows, 0 count" in run(tmp_path / "empty.csv")


def test_the_default_source_is_the_stores() -> None:
    assert _votes_report.DEFAULT_DB == DEFAULT_URL
