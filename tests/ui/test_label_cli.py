"""``gptsim label``: what it says at the start, what it refuses, how it ends."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from align.preferences.campaign import Campaign
from align.preferences.storage.store import LabelStore
from align.video.writer import ClipFolderWriter
from ui.cli.main import app


def write_rollouts(path: Path, contexts: range) -> Path:
    """Two clips of each context."""
    rng = np.random.default_rng(0)
    with ClipFolderWriter(path, {"axes": ["spill"]}) as writer:
        for context in contexts:
            for number in range(2):
                row = {"rollout_id": f"r{context}-{number}", "context_id": f"c{context}", "scene": "x", "fps_hz": 8.0}
                writer.add(row, rng.integers(0, 255, (3, 16, 16, 3), dtype=np.uint8))
    return path


@pytest.fixture
def rollouts(tmp_path: Path) -> Path:
    """Three contexts of two clips."""
    return write_rollouts(tmp_path / "rollouts", range(3))


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Instead of building and serving the app, remember that it would have been."""
    calls: list[Any] = []
    monkeypatch.setattr("ui.web.app.build_app", lambda state: state)
    monkeypatch.setattr(
        "ui.web.server.serve", lambda state, listener: (calls.append(listener.getsockname()), state.store.close())
    )
    return calls


def label(tmp_path: Path, *arguments: object) -> Result:
    db = () if "--db" in arguments else ("--db", f"sqlite:///{tmp_path}/labels.db")
    return CliRunner().invoke(app, ["label", *map(str, arguments), *db, *(() if "--port" in arguments else ("--port", "0"))])


def campaign(tmp_path: Path) -> Campaign:
    return Campaign(LabelStore(f"sqlite:///{tmp_path}/labels.db"))


def test_the_first_start_makes_tasks_and_an_admin_link(tmp_path: Path, rollouts: Path, served: list[Any]) -> None:
    result = label(tmp_path, rollouts, "--overlap", 3, "--seed", 5)
    assert result.exit_code == 0, result.output
    assert "4 tasks about 6 clips" in result.output  # three pairs and a catch trial
    port = served[0][1]
    assert re.search(rf"become the admin .*: http://127\.0\.0\.1:{port}/join\?token=[\w-]{{40,}}\n", result.output)
    assert f"labelers: http://127.0.0.1:{port}/" in result.output
    assert campaign(tmp_path).settings().overlap == 3


def test_a_later_start_goes_on(tmp_path: Path, rollouts: Path, served: list[Any]) -> None:
    from align.preferences.accounts import Accounts

    token = re.search(r"token=(\S+)", label(tmp_path, rollouts).output)
    assert token is not None
    before = campaign(tmp_path).tasks()
    assert "token=" in label(tmp_path, rollouts).output  # nobody has become the admin yet
    Accounts(LabelStore(f"sqlite:///{tmp_path}/labels.db")).redeem(token[1], "ada", "correct horse")
    again = label(tmp_path, rollouts, "--public-url", "https://label.example.org/", "--seed", 9)
    assert "token=" not in again.output
    assert "labelers: https://label.example.org/ (" in again.output
    assert campaign(tmp_path).tasks() == before


def test_contexts_that_were_added_are_asked_about(tmp_path: Path, rollouts: Path, served: list[Any]) -> None:
    from align.video.folder import merge_folders

    assert label(tmp_path, rollouts, "--axis", "care=Which one is more careful?").exit_code == 0
    merge_folders([rollouts, write_rollouts(tmp_path / "more", range(3, 5))], tmp_path / "both")
    assert label(tmp_path, tmp_path / "both").exit_code == 0
    tasks = [task for task in campaign(tmp_path).tasks() if task.selection == "random"]
    assert sorted(task.context_id for task in tasks) == ["c0", "c1", "c2", "c3", "c4"]
    assert {task.axes for task in tasks} == {("care",)}  # what was wished at the first start goes for all


@pytest.mark.parametrize(("number", "sizes"), [(1, {1}), (2, {2})])
def test_single_clips_or_pairs(tmp_path: Path, rollouts: Path, served: list[Any], number: int, sizes: set[int]) -> None:
    assert label(tmp_path, rollouts, "--clips-per-task", number).exit_code == 0
    assert {len(task.rollouts) for task in campaign(tmp_path).tasks()} == sizes
    assert campaign(tmp_path).settings().mode == ("single" if number == 1 else "pairs")


def test_every_context_is_asked_about_once_before_any_comes_twice(
    tmp_path: Path, served: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(0)
    with ClipFolderWriter(tmp_path / "many", {"axes": ["spill"]}) as writer:
        for i in range(18):
            row = {"rollout_id": f"r{i}", "context_id": f"c{i % 6}", "scene": "x", "fps_hz": 8.0}
            writer.add(row, rng.integers(0, 255, (3, 16, 16, 3), dtype=np.uint8))
    orders = []
    for seed in range(2):
        db = f"sqlite:///{tmp_path}/{seed}.db"
        assert label(tmp_path, tmp_path / "many", "--db", db, "--seed", seed).exit_code == 0
        asking = Campaign(LabelStore(db))
        asking.save_settings(asking.settings().model_copy(update={"catch_share": 0.0, "gold_share": 0.0}))
        orders.append([lease.task.context_id for lease in asking.lease("ann", 18)])
        rounds = [set(orders[-1][start : start + 6]) for start in (0, 6, 12)]
        assert [len(contexts) for contexts in rounds] == [6, 6, 6]
    assert orders[0] != orders[1]


def test_the_folder_of_runs_is_the_one_given_and_must_be_there(tmp_path: Path, rollouts: Path, served: list[Any]) -> None:
    (tmp_path / "my runs").mkdir()
    states: list[Any] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("ui.web.app.build_app", lambda state: states.append(state) or state)
        assert label(tmp_path, rollouts, "--runs", tmp_path / "my runs").exit_code == 0
        assert label(tmp_path, rollouts).exit_code == 0
    assert [state.runs_dir for state in states] == [tmp_path / "my runs", Path("runs")]
    refused = label(tmp_path, rollouts, "--runs", tmp_path / "no runs")
    assert refused.exit_code == 3 and "does not exist" in refused.output


def test_another_folder_than_the_one_it_was_begun_with_is_refused(tmp_path: Path, rollouts: Path, served: list[Any]) -> None:
    assert label(tmp_path, rollouts).exit_code == 0
    result = label(tmp_path, write_rollouts(tmp_path / "other", range(7, 9)))
    assert result.exit_code == 5
    assert "asks about clips that are not in this folder" in result.output
    assert len(served) == 1


def test_a_port_that_is_taken_is_told_before_any_work(tmp_path: Path, served: list[Any]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        result = label(tmp_path, tmp_path / "nothing", "--port", port)
    assert result.exit_code == 7
    assert result.output == f"error: port {port} on 127.0.0.1 is taken by another program; choose another one with --port\n"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "code", "sentence"),
    [
        (["nothing"], 5, "nothing is not a folder"),
        (["empty"], 5, "neither a rollout folder"),
        (["rollouts", "--db", "mysql://x/y"], 5, "labels can't be kept in 'mysql'"),
        (["rollouts", "--db", "sqlite:///no/such/folder/labels.db"], 5, "does not exist; create it first"),
        (["rollouts", "--db", "sqlite:///note.txt"], 5, "can't be opened"),
        (["rollouts", "--host", "no.such.host.invalid"], 7, "is no host name that is known here"),
        (["rollouts", "--clips-per-task", "3"], 5, "has enough clips to compare"),
        (["rollouts", "--clips-per-task", "5"], 3, "clips-per-task"),
        (["rollouts", "--overlap", "0"], 3, "overlap"),
        (["rollouts", "--port", "70000"], 3, "port"),
        (["rollouts", "--axis", "=Which?"], 5, "an axis has no name"),
        (["rollouts", "--public-url", "label.example.org"], 3, "public_url must be like https://label.example.org"),
        (["rollouts", "--public-url", "https://example.org/label"], 3, "with nothing behind the host"),
    ],
)
def test_what_is_wrong_is_told_in_a_sentence(
    tmp_path: Path,
    rollouts: Path,
    served: list[Any],
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    code: int,
    sentence: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "note.txt").write_text("this is no database " * 100)
    result = label(tmp_path, *arguments)
    assert result.exit_code == code, result.output
    assert sentence in result.output
    assert "Traceback" not in result.output
    assert served == []


@pytest.mark.parametrize("folder", ["nothing", "empty"])
def test_a_mistyped_folder_leaves_no_database(tmp_path: Path, served: list[Any], folder: str) -> None:
    (tmp_path / "empty").mkdir()
    assert label(tmp_path, tmp_path / folder).exit_code == 5
    assert [path.name for path in tmp_path.iterdir()] == ["empty"]


def test_a_missing_extra_is_named(tmp_path: Path, rollouts: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if "ui.web" in sys.modules:  # the import below leaves its own half-loaded package as the attribute
        monkeypatch.setattr("ui.web", sys.modules["ui.web"])
    for name in [name for name in sys.modules if name.startswith("ui.web")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "fastapi", None)
    result = label(tmp_path, rollouts)
    assert result.exit_code == 8
    assert "run: pip install 'gptsim-align[ui]'" in result.output


@pytest.fixture
def process(tmp_path: Path, rollouts: Path) -> Iterator[subprocess.Popen[str]]:
    """The command as people start it."""
    command = [sys.executable, "-m", "ui.cli", "label", str(rollouts), "--db", f"sqlite:///{tmp_path}/labels.db", "--port", "0"]
    root = Path(__file__).parents[2]
    pipes: Any = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(root)}, **pipes) as started:
        yield started
        started.kill()


@pytest.mark.slow
def test_it_serves_until_it_is_interrupted_even_with_pages_open(process: subprocess.Popen[str], rollouts: Path) -> None:
    import httpx

    assert process.stdout is not None and process.stderr is not None
    lines = [process.stdout.readline() for _ in range(3)]
    link = lines[1].split()[-1]
    url, token = link.split("/join?token=")
    transport = httpx.HTTPTransport(retries=100)  # the app is still being built when the link is printed
    with httpx.Client(base_url=url, transport=transport, timeout=60) as client:
        joined = client.post("/join", data={"token": token, "name": "ada"}, headers={"Origin": url})
        assert (joined.status_code, joined.headers["location"]) == (303, "/admin/")
        assert client.get("/admin/").status_code == 200
        with client.stream("GET", "/admin/gradio_api/heartbeat/x") as stream:
            assert next(stream.iter_text()).startswith("data: ALIVE")
            process.send_signal(signal.SIGINT)
            assert process.wait(60) == 0
    assert process.stdout.read() == "stopped; every answer that was acknowledged is stored\n"
    assert process.stderr.read() == ""
