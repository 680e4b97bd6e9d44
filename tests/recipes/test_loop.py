"""The recipes as commands, one after the other, at a size where each takes seconds."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from align.io import read_json
from recipes._run import read_metrics

pytestmark = pytest.mark.timeout(900)  # seconds on an idle machine, but a busy one is not a failure

ROOT = Path(__file__).parents[2]
MODEL = (
    "tokenizer={size: [16, 16], cell: [8, 8], levels: [4, 4], width: 8}",
    "model={trunk_width: 32, trunk_layers: 1, depth_layers: 1, hidden_width: 16}",
    "tokenizer_steps=24",
    "model_steps=30",
    "batch_size=8",
    "held_out=4",
    "checkpoint_every=10",
)
DPO = ("num_steps=10", "batch_size=2", "save_every=5", "min_margin=0", "rank=2")


def run(recipe: str, *wishes: str, name: str = "") -> dict[str, Any]:
    """``gptsim run RECIPE …`` in this process; the figures of its report."""
    from ui.cli.main import app

    name = name or recipe
    result = CliRunner().invoke(app, ["run", recipe, "--name", name, "--runs", "runs", *wishes], prog_name="gptsim")
    assert result.exit_code == 0, result.output
    return dict(read_json(Path("runs") / name / "report.json"))


def refused(recipe: str, *wishes: str) -> str:
    """What ``gptsim run RECIPE …`` says when it ends with an error."""
    from ui.cli.main import app

    arguments = ["run", recipe, "--name", f"{recipe}-refused-{time.monotonic_ns()}", "--runs", "refused", *wishes]
    result = CliRunner().invoke(app, arguments, prog_name="gptsim")
    assert result.exit_code >= 3, result.output
    return result.output


def start(*arguments: str, **environment: str) -> subprocess.Popen[bytes]:
    """The same as a process of its own, in the working folder of the test."""
    paths = {"PYTHONPATH": str(ROOT), **environment}
    command = [sys.executable, "-m", "ui.cli", "run", *arguments, "--runs", "runs"]
    return subprocess.Popen(command, env={**os.environ, **paths}, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)


def finish(process: subprocess.Popen[bytes]) -> None:
    _, error = process.communicate(timeout=600)
    assert process.returncode == 0, error.decode()[-3000:]


def kill_when(process: subprocess.Popen[bytes], ready: Callable[[], bool]) -> None:
    """Kill -9 as soon as something is there; the run must not be finished by then."""
    deadline = time.monotonic() + 600
    while not ready():
        assert process.poll() is None, "the run ended before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.communicate()


@pytest.fixture(scope="session")
def loop(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The folder of a loop with everything up to the reward model in it; read it, write elsewhere."""
    folder = tmp_path_factory.mktemp("loop")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        reports = {
            "simulate": run("simulate", "out=clips", "num_contexts=6", "num_workers=1"),
            "pretrain": run("pretrain", "clips=clips", "out=wm", *MODEL),
        }
        small = ("num_contexts=6", "held_out=2", "num_steps=12")
        reports["judges"] = run("judges", "world_model=wm", "out=eyes", *small)
        dream = ("model=wm", "contexts=clips", "out=dreams", "samples_per_context=4", "num_workers=1")
        reports["rollout"] = run("rollout", *dream)
        ask = ("rollouts=dreams", "out=votes.parquet", "labeller=eyes/labeller", "budget=72")
        reports["annotate"] = run("annotate", *ask)
        learn = ("rollouts=dreams", "votes=votes.parquet", "out=reward", "world_model=wm", "num_epochs=10", "num_members=2")
        reports["reward"] = run("reward", *learn)
    return folder, reports


@pytest.fixture
def folder(loop: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder of the test's own, with links to what the loop has made."""
    for source in loop[0].iterdir():
        if source.name != "runs":
            (tmp_path / source.name).symlink_to(source)
    monkeypatch.chdir(tmp_path)
    return tmp_path


TUNE = ("model=wm", "rollouts=dreams", "votes=votes.parquet", *DPO)
MEASURE = (
    "model=wm",
    "judge=eyes/judge",
    "simulator_contexts=2",
    "dream_contexts=2",
    "honesty_contexts=4",
    "fidelity_contexts=2",
    "clips_shown=1",
    "num_workers=1",
)


def test_the_reports_add_up(loop: Any) -> None:
    _, reports = loop
    assert reports["simulate"]["num_clips"] == 18
    assert set(reports["simulate"]["unsafe"]) == {"outcome_spill", "outcome_breakage", "outcome_politeness"}
    assert reports["pretrain"]["nll_frame_token"] < 2.9, "30 steps beat guessing among 17 codes"
    assert {"labeller", "judge"} == set(reports["judges"])
    assert reports["rollout"]["num_rollouts"] == 72
    assert reports["annotate"]["num_votes"] <= 72 and reports["annotate"]["simulated"]
    assert sum(sum(counts.values()) for counts in reports["annotate"]["votes"].values()) == reports["annotate"]["num_votes"]
    assert reports["reward"]["num_simulated"] == reports["reward"]["num_votes"] > 0


def test_rollouts_carry_what_tuning_needs(loop: Any) -> None:
    from align.video.folder import load_clip_folder
    from align.world_models.world_model import load_world_model

    folder, _ = loop
    dreams, layout = load_clip_folder(folder / "dreams"), load_world_model(folder / "wm").layout
    assert len(dreams) == 72 and not dreams.validate()
    assert all(len(dreams.tokens(i)) == layout.length for i in range(72))
    assert dreams.table["context_id"].value_counts().eq(4).all()
    assert dreams.table["seed"].nunique() == 72
    assert not any("style" in dreams.attributes(i) for i in range(72)), "how a script behaved must not reach a rollout"


def test_dpo_best_of_n_and_evaluation(folder: Path) -> None:
    tuned = run("dpo", *TUNE, "reward_model=reward", "out=adapter")
    assert tuned["labelled_by"] == "reward model" and tuned["num_pairs"] >= 2
    assert (folder / "adapter" / "README.md").read_text().count("| margin |") == 1
    rows = read_metrics("runs/dpo")
    assert [row["step"] for row in rows] == [5, 10]
    picked = run("best_of_n", "model=wm", "reward_model=reward", "contexts=2", "n=[1, 3]", "num_workers=1")
    assert set(picked) == {f"n{n}_{scene}" for n in (1, 3) for scene in ("pour", "shelf", "corridor")}
    assert picked["n3_pour"]["unsafe"]["n"] == 2
    report = run("evaluate", "adapter=adapter", *MEASURE)
    assert report["verdict"] in ("pass", "fail", "not measured")
    assert {figure["key"] for figure in report["figures"]} >= {"unsafe", "dreamed", "success", "fidelity_nll", "fidelity_psnr"}
    surprise = next(figure for figure in report["figures"] if figure["key"] == "fidelity_nll")
    assert surprise["difference"]["value"] == 0, "an adapter of the action path leaves the dynamics exactly"
    assert len(report["clips"]) == 3 and all((Path("runs/evaluate") / clip["base"]).is_file() for clip in report["clips"])
    assert (Path("runs/evaluate") / "report.html").is_file()
    assert len(read_json("runs/evaluate/stages/base-dreams.json")["rows"]) == 6
    again = run("evaluate", "adapter=adapter", "base_rows=runs/evaluate", *MEASURE, "clips_shown=0", name="again")
    assert again["figures"] == report["figures"]
    assert "was measured with" in refused("evaluate", "base_rows=runs/evaluate", *MEASURE, "dream_contexts=1")


def test_shared_path_is_held_by_the_anchor(folder: Path) -> None:
    figures = run("dpo", *TUNE, "path=shared", "anchor_clips=clips", "out=adapter")
    assert figures["labelled_by"] == "votes"
    rows = read_metrics("runs/dpo")
    # A divergence; where nothing has been learned yet it is 0 up to float32 rounding.
    assert all(row["anchor"] > -1e-6 for row in rows) and rows[-1]["anchor"] > 0


def test_mistakes_are_one_sentence(folder: Path) -> None:
    assert "exists already" in refused("rollout", "model=wm", "contexts=clips", "out=dreams")
    assert "exists already" in refused("simulate", "out=clips")
    assert "people's votes" in refused("annotate", "rollouts=dreams", "out=votes.parquet")
    assert "votes is empty" in refused("dpo", "model=wm", "rollouts=dreams")
    assert "score=all" in refused("dpo", *TUNE, "score=all")
    assert "needs anchor_clips" in refused("dpo", *TUNE, "path=shared")
    assert "no tokens of this world model" in refused("dpo", *TUNE, "rollouts=clips")
    assert "pairs differ clearly" in refused("dpo", *TUNE, "reward_model=reward", "min_margin=1000")
    assert "reward_model is empty" in refused("best_of_n", "model=wm")
    assert "is no world model" in refused("rollout", "model=clips", "contexts=clips", "out=other")
    assert "base_rows" in refused("evaluate", "base_rows=nowhere", *MEASURE)


def weights(folder: Path) -> dict[str, Any]:
    from safetensors.torch import load_file

    return dict(load_file(folder / "adapter_model.safetensors"))


def test_a_killed_dpo_goes_on_to_the_same_adapter(folder: Path) -> None:
    import torch

    wanted = run("dpo", *TUNE, "out=whole")
    rows = read_metrics("runs/dpo")
    victim = start("dpo", "--name", "victim", *TUNE, "out=resumed")
    kill_when(victim, lambda: Path("runs/victim/checkpoints/checkpoint-5/trainer_state.json").exists())
    assert not Path("runs/victim/report.json").exists()
    finish(start("dpo", "--name", "victim", "--resume"))
    got = read_json("runs/victim/report.json")
    volatile = {"out"}
    assert {k: v for k, v in got.items() if k not in volatile} == {k: v for k, v in wanted.items() if k not in volatile}
    assert [row["step"] for row in read_metrics("runs/victim")] == [row["step"] for row in rows]
    first, second = weights(folder / "whole"), weights(folder / "resumed")
    assert first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def test_a_killed_rollout_goes_on_to_the_same_dreams(folder: Path) -> None:
    from align.video.folder import load_clip_folder

    wishes = ("model=wm", "contexts=clips", "out=resumed", "samples_per_context=4", "num_workers=1")
    victim = start("rollout", "--name", "victim", *wishes)
    # 72 rollouts are a chunk of 64 and one of 8.
    kill_when(victim, lambda: len(list(Path("resumed.partial/videos").glob("*.mp4"))) > 20)
    assert not Path("resumed").exists()
    finish(start("rollout", "--name", "victim", "--resume"))
    first, second = load_clip_folder("dreams"), load_clip_folder("resumed")
    columns = ["rollout_id", "context_id", "seed", "sha256", "scene"]
    assert first.table[columns].equals(second.table[columns])
    assert all((first.tokens(i) == second.tokens(i)).all() for i in range(72))
    assert not second.validate()


def test_two_ranks_train_the_adapter_of_one_with_twice_the_batch(folder: Path) -> None:
    import torch

    # Four steps are less than an epoch: at its end an odd rest would be shared out in another way.
    # The votes themselves are mostly ties about such dreams; the reward model ranks them all.
    few = (*TUNE, "reward_model=reward", "num_steps=4", "save_every=4")
    assert run("dpo", *few, "out=one", "batch_size=4")["num_pairs"] >= 16
    ddp = ("--num-processes", "2", "--accelerate-config", "ddp")
    finish(start("dpo", "--name", "two", *ddp, *few, "out=two", ACCELERATE_USE_CPU="true"))
    run("dpo", *few, "out=half", name="half")
    assert read_json("runs/two/run.json")["num_processes"] == 2

    def learned(name: str) -> Any:
        return torch.cat([tensor.flatten() for key, tensor in sorted(weights(folder / name).items()) if "lora_B" in key])

    # Adam makes much of rounding where a gradient is nearly 0, so single weights may differ; the whole must not.
    one, two, half = (learned(name) for name in ("one", "two", "half"))
    assert (two - one).norm() < 0.03 * one.norm()
    assert (half - one).norm() > 0.15 * one.norm(), "ranks that don't share gradients would be noticed"


@pytest.mark.slow
def test_two_ranks_that_share_the_weights_out_train_the_same_adapter(folder: Path) -> None:
    """FSDP2 as it ships, and once more from a checkpoint of a killed run."""
    import torch

    from recipes._launch import Request, open_run

    few = (*TUNE, "reward_model=reward", "num_steps=4", "save_every=2")
    run("dpo", *few, "out=one", "batch_size=4")
    request = Request("dpo", overrides=[*few, "out=two"], name="two", num_processes=2)
    for resume in (False, True):
        open_run(replace(request, resume=resume))[2].close()
        config = [
            "--config_file",
            str(ROOT / "recipes/accelerate/fsdp2.yaml"),
            "--num_processes",
            "2",
            "--mixed_precision",
            "no",
        ]
        # Accelerate takes CPUs for a kind of ranks that knows no FSDP, so the rank is a script of ours.
        worker = [str(Path(__file__).with_name("cpu_rank.py")), "dpo", "runs/two"]
        command = [sys.executable, "-m", "accelerate.commands.launch", *config, "--num_processes", "2", *worker]
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "ACCELERATE_TORCH_DEVICE": "cpu", "OMP_NUM_THREADS": "1"}
        finish(subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE))
        one, two = weights(folder / "one"), weights(folder / "two")
        assert one.keys() == two.keys()
        assert all(one[name].shape == two[name].shape for name in one), "whole tensors, not a rank's share"
        difference = torch.cat([(one[name] - two[name]).flatten() for name in one if "lora_B" in name])
        assert difference.norm() < 0.03 * torch.cat([one[name].flatten() for name in one if "lora_B" in name]).norm()
        shutil.rmtree(folder / "two")
        Path("runs/two/report.json").unlink()
        shutil.rmtree("runs/two/checkpoints/checkpoint-4")


@pytest.mark.slow
def test_two_ranks_dream_what_one_dreams(folder: Path) -> None:
    from align.video.folder import load_clip_folder

    wishes = ("model=wm", "contexts=clips", "out=shared", "samples_per_context=4", "num_workers=1")
    finish(start("rollout", "--name", "shared", "--num-processes", "2", *wishes))
    columns = ["rollout_id", "context_id", "seed", "sha256", "scene"]
    assert load_clip_folder("shared").table[columns].equals(load_clip_folder("dreams").table[columns])


def test_a_training_that_would_be_in_vain_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from align.world_models import adapters

    def zeros(*arguments: Any) -> Any:
        policy = plain(*arguments)
        for name, tensor in policy.named_parameters():
            if ".lora_A." in name:
                tensor.data.zero_()
        return policy

    plain = adapters.add_lora
    monkeypatch.setattr(adapters, "add_lora", zeros)
    said = refused("dpo", *TUNE, "reward_model=reward", "out=vain")
    assert "error: the adapter is empty: no gradient" in said and not Path("vain").exists()


def test_a_copied_recipe_runs(folder: Path) -> None:
    from ui.cli.main import app

    copied = CliRunner().invoke(app, ["recipes", "copy", "dpo", "mine"], prog_name="gptsim")
    assert copied.stdout.splitlines()[-1] == "run it with: gptsim run ./mine/dpo.py"
    wishes = (*TUNE, "reward_model=reward", "num_steps=2", "save_every=2")
    assert run("./mine/dpo.py", *wishes, name="copied")["num_pairs"] >= 2
    assert read_json("runs/copied/run.json")["recipe"] == "dpo"


@pytest.mark.parametrize(("recipe", "dreams"), [("dpo", False), ("grpo", True)])
def test_a_dry_run_shows_what_would_be_trained_and_writes_nothing(recipe: str, dreams: bool, folder: Path) -> None:
    from ui.cli.main import app

    before = sorted(folder.iterdir())
    wishes = ["model=wm", "rank=2", "num_steps=10", "--dry-run"]
    result = CliRunner().invoke(app, ["run", recipe, *wishes], prog_name="gptsim")
    assert result.exit_code == 0, result.output
    assert sorted(folder.iterdir()) == before
    assert "num_steps: 10\n" in result.stdout and "model: wm\n" in result.stdout
    # Rank 2 on 4 projections of 32 x 32 and 2 of 32 x 128 in one layer, and 32 x 16 behind it.
    count = 2 * (4 * (32 + 32) + 2 * (32 + 128) + (32 + 16))
    assert f"trained: {count:,} of " in result.stdout and "estimate" in result.stdout
    assert ("dreaming" in result.stdout) == dreams
    silent = CliRunner().invoke(app, ["run", "annotate", "--dry-run", "--json", "figures.json"], prog_name="gptsim")
    assert "nothing can be said about its cost" in silent.stdout and read_json("figures.json") == {}


@pytest.mark.slow
def test_a_killed_pretraining_goes_on_to_the_same_model(folder: Path, loop: Any) -> None:
    import torch
    from safetensors.torch import load_file

    for moment in ("stages/tokenizer.json", "checkpoints/model.safetensors"):
        name = moment.split("/")[0]
        victim = start("pretrain", "--name", name, "clips=clips", f"out={name}-wm", *MODEL)
        kill_when(victim, (Path("runs") / name / moment).exists)
        finish(start("pretrain", "--name", name, "--resume"))
        got = read_json(f"runs/{name}/report.json")
        wanted = loop[1]["pretrain"]
        assert {k: v for k, v in got.items() if k != "out"} == {k: v for k, v in wanted.items() if k != "out"}
        first, second = load_file(folder / "wm/model.safetensors"), load_file(folder / f"{name}-wm/model.safetensors")
        assert all(torch.equal(first[key], second[key]) for key in first)


@pytest.mark.slow
def test_a_killed_evaluation_goes_on_to_the_same_figures(folder: Path) -> None:
    wanted = run("evaluate", *MEASURE)
    victim = start("evaluate", "--name", "victim", *MEASURE)
    kill_when(victim, Path("runs/victim/stages/base-dreams.json").exists)
    finish(start("evaluate", "--name", "victim", "--resume"))
    assert read_json("runs/victim/report.json")["figures"] == wanted["figures"]


@pytest.mark.slow
def test_a_killed_filming_goes_on_to_the_same_clips(folder: Path) -> None:
    from align.video.folder import load_clip_folder

    victim = start("simulate", "--name", "victim", "out=resumed", "num_contexts=6", "num_workers=1")
    kill_when(victim, lambda: len(list(Path("resumed.partial/videos").glob("*.mp4"))) > 6)
    finish(start("simulate", "--name", "victim", "--resume"))
    columns = ["rollout_id", "context_id", "seed", "sha256"]
    assert load_clip_folder("resumed").table[columns].equals(load_clip_folder("clips").table[columns])


OTHERS = {
    "annotate": ("rollouts=dreams", "labeller=eyes/labeller", "budget=72", "out=votes-again.parquet"),
    "reward": ("rollouts=dreams", "votes=votes.parquet", "world_model=wm", "num_epochs=10", "out=reward-again"),
    "judges": ("world_model=wm", "num_contexts=6", "held_out=2", "num_steps=12", "out=eyes-again"),
    "best_of_n": ("model=wm", "reward_model=reward", "contexts=3", "n=[1, 3]", "num_workers=1"),
    "evaluate_reward": ("world_model=wm", "reward_model=reward", "contexts=3", "num_workers=1"),
}


@pytest.mark.slow
@pytest.mark.parametrize("recipe", OTHERS)
def test_a_recipe_killed_half_way_goes_on_to_the_same_figures(recipe: str, folder: Path) -> None:
    begun = time.monotonic()
    finish(start(recipe, "--name", "whole", *OTHERS[recipe]))
    half = (time.monotonic() - begun) / 2
    out = folder / OTHERS[recipe][-1].removeprefix("out=")
    if out.is_dir():
        shutil.rmtree(out)
    elif out.is_file():
        out.unlink()
    begun = time.monotonic()
    victim = start(recipe, "--name", "victim", *OTHERS[recipe])
    kill_when(victim, lambda: Path("runs/victim/config.yaml").exists() and time.monotonic() - begun > half)
    finish(start(recipe, "--name", "victim", "--resume"))
    assert read_json("runs/victim/report.json") == read_json("runs/whole/report.json")


@pytest.mark.slow
def test_a_quickstart_killed_in_its_steps_goes_on_to_the_same_figures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    small = ("contexts=8", "votes=72", "dpo_steps=10", "simulator_contexts=2", "dream_contexts=2", "honesty_contexts=2")
    small += ("fidelity_contexts=2", "num_workers=1")
    finish(start("quickstart", "--name", "whole", *small))
    victim = start("quickstart", "--name", "victim", *small)
    kill_when(victim, lambda: any(Path("runs/victim/data").glob("rollouts.partial/videos/*.mp4")))
    for moment in ("steps/5-dpo/config.yaml", "steps/6-evaluate/stages/base-dreams.json"):
        victim = start("quickstart", "--name", "victim", "--resume")
        kill_when(victim, (Path("runs/victim") / moment).exists)
    finish(start("quickstart", "--name", "victim", "--resume"))
    whole, resumed = (read_json(Path("runs") / name / "report.json") for name in ("whole", "victim"))
    assert resumed["figures"] == whole["figures"]


@pytest.mark.slow
def test_workers_end_with_a_killed_rollout(folder: Path) -> None:
    """Processes that outlive a kill -9 would hold memory for ever."""
    wishes = ("model=wm", "contexts=clips", "out=orphans", "samples_per_context=40", "num_workers=2")
    victim = start("rollout", "--name", "victim", *wishes)
    children = Path(f"/proc/{victim.pid}/task/{victim.pid}/children")
    kill_when(victim, lambda: Path("orphans.partial/videos").exists() and any(Path("orphans.partial/videos").iterdir()))
    shutil.rmtree("orphans.partial")
    assert not children.exists()
    deadline = time.monotonic() + 30
    marker = re.compile(r"spawn_main")
    while left := [p for p in Path("/proc").glob("[0-9]*/cmdline") if marker.search(_read(p)) and _cwd(p) == folder]:
        assert time.monotonic() < deadline, f"{len(left)} workers are left"
        time.sleep(0.2)


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""


def _cwd(path: Path) -> Path | None:
    try:
        return (path.parent / "cwd").resolve()
    except OSError:
        return None
