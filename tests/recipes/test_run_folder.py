"""Run folders: never overwritten, never shared, and after a resume as if nothing had happened."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from align.errors import ConfigError, DataError, GptsimError, RunError
from align.io import read_json
from recipes._launch import Request, execute, open_run
from recipes._run import Run, make_run_name, read_metrics


@dataclass(frozen=True)
class Config:
    """Something to resolve."""

    seed: int = 3
    lr: float = 0.1


def create(root: Path, config: Config | None = None, resume: bool = False, name: str = "first") -> Run:
    return Run.create(root, name, config or Config(), resume, recipe="test")


def test_a_new_run_describes_itself(tmp_path: Path) -> None:
    with create(tmp_path) as run:
        assert (run.path, run.name, run.resumed, run.is_main) == (tmp_path / "first", "first", False, True)
        assert (run.path / "config.yaml").read_text() == "seed: 3\nlr: 0.1\n"
        about = read_json(run.path / "run.json")
        assert (about["recipe"], about["seed"], about["num_processes"]) == ("test", 3, 1)
        versions = read_json(run.path / "versions.json")
        assert versions["python"] == ".".join(map(str, sys.version_info[:3]))
        assert versions["packages"]["torch"].startswith("2.")
        assert versions["resumed_with"] == []


def test_a_run_is_never_overwritten(tmp_path: Path) -> None:
    create(tmp_path).close()
    before = (tmp_path / "first" / "config.yaml").stat().st_mtime_ns
    with pytest.raises(RunError, match="exists already; choose another --name, or continue it with --resume"):
        create(tmp_path, Config(seed=9))
    assert (tmp_path / "first" / "config.yaml").stat().st_mtime_ns == before


def test_a_folder_of_other_files_is_no_place_for_a_run(tmp_path: Path) -> None:
    (tmp_path / "first").mkdir()
    (tmp_path / "first" / "thesis.txt").write_text("dear")
    with pytest.raises(RunError, match="exists already"):
        create(tmp_path)


def test_a_start_that_was_killed_can_be_started_again(tmp_path: Path) -> None:
    create(tmp_path).close()
    for name in ("config.yaml", "versions.json"):
        (tmp_path / "first" / name).unlink()
    create(tmp_path).close()
    assert (tmp_path / "first" / "config.yaml").exists()


def test_only_a_run_that_is_there_can_be_resumed(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"there is no run .*first to resume"):
        create(tmp_path, resume=True)
    assert not (tmp_path / "first").exists()


def test_a_resumed_run_needs_the_same_configuration(tmp_path: Path) -> None:
    create(tmp_path).close()
    with pytest.raises(ConfigError, match=r"seed was 3, is 4; lr was 0\.1, is 0\.2; drop the changes"):
        create(tmp_path, Config(4, 0.2), resume=True)
    with pytest.raises(ConfigError, match="num_processes was 1, is 2"):
        Run.create(tmp_path, "first", Config(), True, recipe="test", num_processes=2)
    with create(tmp_path, resume=True) as run:
        assert run.resumed


@pytest.mark.parametrize("name", ["", "..", "a/b", "/tmp/x", ".hidden", "a b"])
def test_a_name_can_not_lead_elsewhere(name: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="may hold only letters"):
        create(tmp_path, name=name)


def test_made_up_names_are_allowed_names(tmp_path: Path) -> None:
    name = make_run_name("best_of_n", 7)
    assert name.startswith("best_of_n-7-")
    create(tmp_path, name=name).close()


def test_two_processes_can_not_work_in_one_folder(tmp_path: Path) -> None:
    with create(tmp_path), pytest.raises(RunError, match="another process is working on the run"):
        create(tmp_path, resume=True)
    create(tmp_path, resume=True).close()


HOLDER = """
import sys, time
from recipes._run import Run
from tests_config import Config
run = Run.create(sys.argv[1], "first", Config(), recipe="test")
run.log(0, loss=1.0)
print("ready", flush=True)
time.sleep(60)
"""


def test_the_lock_of_a_killed_process_is_taken_over(tmp_path: Path) -> None:
    (tmp_path / "tests_config.py").write_text(
        "from dataclasses import dataclass\n@dataclass(frozen=True)\nclass Config:\n    seed: int = 3\n    lr: float = 0.1\n"
    )
    path = os.pathsep.join([str(tmp_path), str(Path(__file__).parents[2])])
    command = [sys.executable, "-c", HOLDER, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": path}) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        with pytest.raises(RunError, match="another process"):
            create(tmp_path, resume=True)
        process.send_signal(signal.SIGKILL)
        process.wait()
    with create(tmp_path, resume=True) as run:
        assert read_metrics(run.path) == [{"stage": "", "step": 0, "loss": 1.0}]


def train(run: Run, start: int, stop: int) -> None:
    for step in range(start, stop):
        run.log(step, loss=1.0 / (step + 1))
        if step % 3 == 0:
            run.log(step, held_out=step * 2.0)


def test_resumed_metrics_equal_uninterrupted_ones(tmp_path: Path) -> None:
    with create(tmp_path, name="whole") as run:
        train(run, 0, 10)
    with create(tmp_path, name="killed") as run:
        train(run, 0, 8)
    with open(tmp_path / "killed" / "metrics.jsonl", "a") as file:
        file.write('{"stage": "", "st')
    with create(tmp_path, resume=True, name="killed") as run:
        train(run, 5, 10)
    assert (tmp_path / "killed" / "metrics.jsonl").read_text() == (tmp_path / "whole" / "metrics.jsonl").read_text()


def interrupt_stage(run: Run, name: str) -> None:
    with run.stage(name):
        train(run, 0, 4)
        raise KeyboardInterrupt


def test_only_the_stage_at_hand_is_rewound(tmp_path: Path) -> None:
    with create(tmp_path) as run:
        with run.stage("one"):
            train(run, 0, 2)
        with pytest.raises(KeyboardInterrupt):
            interrupt_stage(run, "two")
    with create(tmp_path, resume=True) as run:
        assert run.done("one") == {}
        assert run.done("two") is None
        with run.stage("two") as results:
            run.rewind(1)
            results["loss"] = 0.5
        rows = [(row["stage"], row["step"]) for row in read_metrics(run.path)]
    assert rows == [("one", 0), ("one", 0), ("one", 1), ("two", 0), ("two", 0), ("two", 1)]
    with create(tmp_path, resume=True) as run:
        assert run.done("two") == {"loss": 0.5}


def test_an_undefined_figure_is_null_and_an_infinite_one_an_error(tmp_path: Path) -> None:
    with create(tmp_path) as run:
        run.log(0, loss=math.nan)
        with pytest.raises(ValueError, match="infinite"):
            run.log(1, loss=math.inf)
        assert read_metrics(run.path) == [{"stage": "", "step": 0, "loss": None}]


def test_stages_do_not_nest_and_their_names_are_file_names(tmp_path: Path) -> None:
    with create(tmp_path) as run:
        with pytest.raises(ValueError, match="stages don't nest"), run.stage("one"), run.stage("two"):
            pass
        with pytest.raises(ValueError, match="may hold only letters"), run.stage("../one"):
            pass


def test_an_input_is_recorded_and_must_not_change(tmp_path: Path) -> None:
    data = tmp_path / "clips"
    data.mkdir()
    (data / "a").write_text("1")
    with create(tmp_path) as run:
        digest = run.record_input("clips", data)
        assert run.record_input("clips", data) == digest
        run.record_input("votes", data / "a")
        assert read_json(run.path / "inputs.json")["clips"] == {"path": str(data), "sha256": digest}
    (data / "a").write_text("2")
    with create(tmp_path, resume=True) as run, pytest.raises(DataError, match="has changed since the run first was started"):
        run.record_input("clips", data)


def test_other_versions_on_resume_are_noted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    create(tmp_path).close()
    create(tmp_path, resume=True).close()
    assert read_json(tmp_path / "first" / "versions.json")["resumed_with"] == []
    monkeypatch.setattr("recipes._run.collect_versions", lambda: {"python": "4.0"})
    create(tmp_path, resume=True).close()
    create(tmp_path, resume=True).close()
    assert read_json(tmp_path / "first" / "versions.json")["resumed_with"] == [{"python": "4.0"}]


def test_only_the_first_rank_writes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with create(tmp_path) as run:
        monkeypatch.setenv("RANK", "1")
        before = sorted(run.path.rglob("*"))
        other = Run.join(run.path)
        other.log(0, loss=1.0)
        other.save_json("x", {})
        with other.stage("one", "why") as results, other.progress("working", 2) as advance:
            results["a"] = 1
            advance(2)
        assert other.done("one") == {"a": 1}
        assert sorted(run.path.rglob("*")) == before
        assert capsys.readouterr() == ("", "")
        monkeypatch.setenv("RANK", "0")
        first = Run.join(run.path)
        first.log(0, loss=1.0)
        assert read_metrics(run.path) == [{"stage": "", "step": 0, "loss": 1.0}]


def test_progress_says_what_and_why_where_there_is_no_terminal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with create(tmp_path) as run, run.progress("counting", 20, "because [red]we[/] can") as advance:
        for step in range(20):
            advance(loss=step / 3)
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "counting: because [red]we[/] can"
    assert lines[1] == "counting: 2/20 loss=0.3333"
    assert lines[-1] == "counting: 20/20 loss=6.333"
    assert len(lines) == 11


def launch(request: Request) -> dict[str, object]:
    recipe, config, run = open_run(request)
    with run:
        return execute(request, recipe, config, run)


def test_a_recipe_is_run_once_and_its_report_kept(recipe_file: Path, tmp_path: Path) -> None:
    request = Request(str(recipe_file), overrides=["num_steps=2"], name="n", runs=tmp_path / "runs")
    expected = {"total": 2, "ranks": 1, "part": {"nan": None}}
    assert launch(request) == expected
    assert len(read_metrics(tmp_path / "runs" / "n")) == 2
    with pytest.raises(RunError, match="exists already"):
        launch(request)
    assert launch(Request(str(recipe_file), name="n", resume=True, runs=tmp_path / "runs")) == expected
    assert len(read_metrics(tmp_path / "runs" / "n")) == 2


def test_a_failed_run_is_resumed_with_its_own_configuration(recipe_file: Path, tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    recipe_file.write_text(recipe_file.read_text().replace('return {"total"', 'raise DataError("late")\n    return {"total"'))
    with pytest.raises(DataError, match="late"):
        launch(Request(str(recipe_file), overrides=["num_steps=4"], name="n", runs=runs))
    assert not (runs / "n" / "report.json").exists()
    recipe_file.write_text(recipe_file.read_text().replace('raise DataError("late")', "pass"))
    with pytest.raises(ConfigError, match="num_steps was 4, is 5"):
        launch(Request(str(recipe_file), overrides=["num_steps=5"], name="n", resume=True, runs=runs))
    assert launch(Request(str(recipe_file), name="n", resume=True, runs=runs))["total"] == 4
    assert [row["step"] for row in read_metrics(runs / "n")] == [0, 1, 2, 3]


def test_resuming_needs_a_name(recipe_file: Path) -> None:
    with pytest.raises(ConfigError, match="--resume needs --name"):
        open_run(Request(str(recipe_file), resume=True))


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_two_processes_work_as_one_run(recipe_file: Path, tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    report = launch(Request(str(recipe_file), name="two", num_processes=2, runs=runs))
    assert report["ranks"] == 2
    assert [row["step"] for row in read_metrics(runs / "two")] == [0, 1, 2]
    with pytest.raises(GptsimError, match=r"^on purpose$") as caught:
        launch(Request(str(recipe_file), name="bad", num_processes=2, overrides=["fail=on purpose"], runs=runs))
    assert caught.value.exit_code == DataError.exit_code


def test_a_launch_that_starts_too_few_processes_is_caught(recipe_file: Path, tmp_path: Path) -> None:
    config = tmp_path / "lazy.yaml"
    config.write_text("compute_environment: LOCAL_MACHINE\ndistributed_type: 'NO'\nnum_processes: 2\nuse_cpu: true\n")
    request = Request(str(recipe_file), name="lazy", accelerate_config=str(config), runs=tmp_path / "runs")
    recipe, _, run = open_run(request)
    with run:
        assert json.loads((run.path / "run.json").read_text())["num_processes"] == 2
        worker = [sys.executable, "-m", "recipes._worker", recipe.source, str(run.path)]
        finished = subprocess.run(worker, cwd=Path(__file__).parents[2], check=False)
    assert finished.returncode == RunError.exit_code
    assert "2 processes were asked for but 1 started" in read_json(run.path / "failure.json")["message"]
