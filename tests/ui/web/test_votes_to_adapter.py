"""From the page to an adapter and back: votes cast by keyboard train models, and a withdrawal finds those models again."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from align.io import read_json

pytestmark = pytest.mark.timeout(600)  # half a minute on an idle machine, but a busy one is not a failure

CLIPS = "[...document.querySelectorAll('.g-stage.is-current video')]"
SHOWN = f"{CLIPS}.map((video) => video.src).join()"
LIGHT = f"""() => {CLIPS}.map((video) => {{
  const pencil = new OffscreenCanvas(16, 16).getContext('2d');
  pencil.drawImage(video, 0, 0, 16, 16);
  return pencil.getImageData(0, 0, 16, 16).data.reduce((sum, value) => sum + value);
}})"""
DPO = ("num_steps=2", "save_every=2", "batch_size=2", "rank=2", "min_margin=0")
DB = "sqlite:///labels.db"


def gptsim(*arguments: str) -> str:
    """The command in this process, in the working folder of the test."""
    from ui.cli.main import app

    result = CliRunner().invoke(app, arguments, prog_name="gptsim")
    assert result.exit_code == 0, result.output
    return result.output


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, web: Any) -> Iterator[Any]:
    """The app over twelve rollouts of the world model that ships; two people answer everything."""
    monkeypatch.chdir(tmp_path)
    gptsim("run", "simulate", "out=clips", "scenes=[pour]", "split=tune", "num_contexts=4", "num_workers=1")
    gptsim("run", "rollout", "contexts=clips", "samples_per_context=3", "num_workers=1", "out=dreams")
    with web.serve_app(Path("dreams"), DB, ["light=Which one ends in more light?"], overlap=2) as running:
        yield running


@pytest.fixture
def visit(browser: Any, server: Any) -> Iterator[Callable[..., Any]]:
    """``visit(name, path, role)``: a page for this person, in a window of its own."""
    contexts: list[Any] = []

    def open_one(name: str, path: str, role: str = "labeler") -> Any:
        contexts.append(browser.new_context(viewport={"width": 1280, "height": 800}))
        contexts[-1].add_cookies([{"name": "gptsim_session", "value": server.sign_in(name, role), "url": server.url}])
        page = contexts[-1].new_page()
        page.set_default_timeout(60_000)
        page.goto(server.url + path, wait_until="commit")
        return page

    yield open_one
    for context in contexts:
        context.close()


def answer_everything(page: Any) -> int:
    """Prefer the clip that ends in more light until nothing is left to answer; returns how many tasks there were."""
    num_tasks, before = 0, ""
    while True:
        page.wait_for_function(
            f"before => ![before, ''].includes({SHOWN}) || document.body.innerText.includes('All done')", arg=before
        )
        before = page.evaluate(SHOWN)
        if not before:
            page.wait_for_function("!Object.keys(localStorage).some((key) => key.startsWith('gptsim.outbox/'))")
            return num_tasks
        page.focus(".g-slider")
        page.keyboard.press("End")
        page.wait_for_function(f"{CLIPS}.every((video) => video.paused && !video.seeking && video.currentTime > 1)")
        left, right = page.evaluate(LIGHT)
        page.keyboard.press("1" if left > right else "2" if right > left else "0")
        num_tasks += 1


def train(name: str) -> None:
    """Everything that was voted so far into a reward model and an adapter."""
    gptsim("votes", "export", f"{name}.parquet", "--db", DB)
    learn = ("rollouts=dreams", f"votes={name}.parquet")
    gptsim("run", "reward", "--name", f"{name}-reward", *learn, "num_members=2")
    gptsim("run", "dpo", "--name", f"{name}-dpo", *learn, f"reward_model=runs/{name}-reward/reward_model", *DPO)


def share_obeyed(votes: list[Any], run: Path) -> float:
    """Of the decided votes, how many the reward model agrees with that labelled the run's pairs."""
    import pandas as pd

    scores = read_json(run / "scores.json")["light"]
    score_of = dict(zip(pd.read_parquet("dreams/metadata.parquet")["rollout_id"], scores, strict=True))
    decided = [vote for vote in votes if vote.vote in ("a", "b")]
    return sum((score_of[vote.rollout_a] > score_of[vote.rollout_b]) == (vote.vote == "a") for vote in decided) / len(decided)


def test_votes_cast_in_the_page_train_an_adapter_and_a_withdrawal_names_it(visit: Callable[..., Any], server: Any) -> None:
    from safetensors.torch import load_file

    store = server.app.state.gptsim.store
    num_before = answer_everything(visit("bob", "/label/"))
    train("early")
    page = visit("ann", "/label/")
    num_tasks = answer_everything(page)
    train("late")
    votes = store.votes()
    assert num_tasks >= 12, "three pairs of each of four contexts, and perhaps a catch trial"
    assert [vote.annotator_id for vote in votes] == ["bob"] * num_before + ["ann"] * num_tasks
    assert share_obeyed(votes, Path("runs/late-dpo")) > 0.7, "what was learned is what was pressed, and not its opposite"
    learned = load_file("runs/late-dpo/adapter/adapter_model.safetensors")
    assert any(tensor.any() for name, tensor in learned.items() if "lora_B" in name)
    assert read_json(Path("runs/late-reward/report.json"))["num_votes"] == num_before + num_tasks

    desk = visit("boss", "/admin/", "admin")
    desk.get_by_role("button", name="Manage: ann").click()
    desk.get_by_role("button", name="Withdraw this person").click()
    desk.get_by_label("Type the name to delete").fill("ann")
    desk.get_by_role("button", name="Delete everything").click()
    told = desk.locator("#message .notice")
    told.wait_for()
    assert f"Everything of ann is deleted: {num_tasks} votes" in told.inner_text()
    named = told.locator("li").all_inner_texts()
    assert f"runs/late-reward/reward_model (reward model): it was trained on {num_tasks} of these votes" in named
    assert "runs/late-dpo/adapter (adapter): it was trained through runs/late-reward/reward_model" in named
    assert all(
        name.startswith(("runs/late-reward/reward_model ", "runs/late-dpo/adapter ", "runs/late-dpo/checkpoints/"))
        for name in named
    )
    assert {vote.annotator_id for vote in store.votes()} == {"bob"}
    assert page.evaluate("fetch('/api/me').then((answer) => answer.status)") == 401
