"""Several processes: the launch configurations that ship, the command lines, and what is refused."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from accelerate.commands.config.config_args import ClusterConfig, load_config_from_file

from align.errors import ConfigError
from align.io import read_json
from align.tuning.ranks import Ranks, map_over_ranks
from recipes._launch import Request, open_run, resolve
from recipes._processes import plan_launch
from recipes._registry import FOLDER, copy_recipe

ROOT = Path(__file__).parents[2]
SHIPPED = sorted((FOLDER / "accelerate").glob("*.yaml"))
KINDS = {
    "one_gpu": "NO",
    "ddp": "MULTI_GPU",
    "fsdp2": "FSDP",
    "zero2": "DEEPSPEED",
    "zero3": "DEEPSPEED",
    "machines": "MULTI_GPU",
}


def test_a_configuration_ships_for_each_way_to_share_the_work() -> None:
    assert {path.stem for path in SHIPPED} == set(KINDS)


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_accelerate_reads_every_configuration(path: Path) -> None:
    config = load_config_from_file(str(path))
    assert isinstance(config, ClusterConfig)
    assert str(config.distributed_type.value) == KINDS[path.stem]
    assert str(config.mixed_precision) == "bf16" and not config.use_cpu
    assert config.num_processes == plan_launch(path.stem, None).num_processes
    assert (config.num_machines > 1) == (path.stem == "machines")
    stages = {"zero2": 2, "zero3": 3}
    if path.stem in stages:
        assert config.deepspeed_config["zero_stage"] == stages[path.stem]
    if path.stem == "fsdp2":
        assert config.fsdp_config["fsdp_version"] == 2
    assert path.read_text().startswith("# "), "a line says what it is for"


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_the_launcher_takes_every_key(path: Path) -> None:
    """A key that no option of ``accelerate launch`` knows would be left out in silence."""
    from accelerate.commands.launch import launch_command_parser

    options = set(vars(launch_command_parser().parse_args(["script"])))
    values = yaml.safe_load(path.read_text())
    nested = [key for part in ("fsdp_config", "deepspeed_config") for key in values.pop(part, {})]
    known = options | {"compute_environment", "distributed_type", "use_cpu"}
    assert set(values) | set(nested) <= known


def test_the_command_line_of_each_way(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = plan_launch(None, 2)
    assert plain.command(["m", "a"])[1:] == [
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc_per_node",
        "2",
        "-m",
        "m",
        "a",
    ]
    assert plain.environment() == {}
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    plan = plan_launch("machines", 4).on_machine(1)
    options = ["--num_processes", "4", "--machine_rank", "1", "--mixed_precision", "no", "-m", "m", "a"]
    assert plan.command(["m", "a"])[1:] == ["-m", "accelerate.commands.launch", "--config_file", str(plan.path), *options]
    assert plan.environment() == {"ACCELERATE_USE_CPU": "true"}


@pytest.mark.parametrize(
    ("wishes", "sentence"),
    [
        ({"accelerate_config": "dpd"}, "did you mean ddp"),
        ({"accelerate_config": "machines", "num_processes": 3, "name": "n"}, "can't be shared out evenly over 2 machines"),
        ({"accelerate_config": "machines"}, "on several machines needs --name"),
        ({"accelerate_config": "machines", "machine_rank": 2}, "--machine-rank must lie in 0 … 1, got 2"),
        ({"machine_rank": 1}, "--machine-rank needs an --accelerate-config of several machines"),
        ({"accelerate_config": "one_gpu", "num_processes": 2}, "one_gpu is for one process"),
        ({"accelerate_config": "fsdp2"}, "fsdp2 shares weights out over GPUs; on CPUs take ddp"),
    ],
)
def test_what_can_not_be_launched_is_refused(
    wishes: dict[str, object], sentence: str, recipe_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    with pytest.raises(ConfigError, match=sentence):
        open_run(Request(str(recipe_file), runs=tmp_path / "runs", **wishes))  # type: ignore[arg-type]
    assert not (tmp_path / "runs").exists()


def test_a_machine_without_a_gpu_is_no_silent_fallback(recipe_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.delenv("ACCELERATE_USE_CPU", raising=False)
    with pytest.raises(ConfigError, match="the accelerate configuration ddp needs a GPU and there is none"):
        resolve(Request(str(recipe_file), accelerate_config="ddp"))


def test_a_recipe_that_does_not_share_its_work_runs_in_one_process() -> None:
    with pytest.raises(ConfigError, match="the recipe evaluate works in one process"):
        resolve(Request("evaluate", num_processes=2))
    assert resolve(Request("dpo", num_processes=2))[2].num_processes == 2


def test_a_launch_configuration_is_copied_for_editing(tmp_path: Path) -> None:
    (copied,) = copy_recipe("accelerate/machines", tmp_path / "mine")
    assert copied == tmp_path / "mine" / "machines.yaml"
    assert plan_launch(str(copied), None).num_machines == 2
    with pytest.raises(ConfigError, match="there is no accelerate configuration machine "):
        copy_recipe("accelerate/machine", tmp_path)


def test_one_process_alone_is_the_first_of_one(monkeypatch: pytest.MonkeyPatch) -> None:
    assert Ranks.here() == Ranks(0, 1)
    assert map_over_ranks(lambda item: item + 1, [1, 2, 3]) == [2, 3, 4]
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "3")
    assert Ranks.here() == Ranks(1, 3)


@pytest.mark.parametrize("count", [2, 3, 5])
def test_shares_of_ranks_are_put_together_in_order(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    items = list(range(4))
    monkeypatch.setenv("WORLD_SIZE", str(count))
    monkeypatch.setattr(Ranks, "gather", lambda ranks, mine: [[10 * i for i in items[rank::count]] for rank in range(count)])
    assert map_over_ranks(lambda item: 10 * item, items) == [0, 10, 20, 30]


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_two_machines_work_as_one_run(recipe_file: Path, tmp_path: Path) -> None:
    """Two launchers, as on two machines, that meet on a port of this one."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    (config,) = copy_recipe("accelerate/machines", tmp_path / "mine")
    values = yaml.safe_load(config.read_text())
    config.write_text(yaml.safe_dump(values | {"main_process_ip": "127.0.0.1", "main_process_port": port, "num_processes": 2}))
    command = [sys.executable, "-m", "ui.cli", "run", str(recipe_file), "--name", "both", "--runs", str(tmp_path / "runs")]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "ACCELERATE_USE_CPU": "true"}
    machines = [
        subprocess.Popen(
            [*command, "--accelerate-config", str(config), "--machine-rank", str(rank)],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        for rank in (1, 0)
    ]
    for machine in machines:
        out, error = machine.communicate(timeout=500)
        assert machine.returncode == 0, error.decode()[-3000:]
        assert b"ranks: 2" in out
    assert read_json(tmp_path / "runs/both/run.json")["num_processes"] == 2


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_gradients_of_two_ranks_are_those_of_one(tmp_path: Path) -> None:
    """By the benchmark itself; how fast it was is not asked here."""
    command = [
        sys.executable,
        str(Path(__file__).with_name("bench_ranks.py")),
        "--clips",
        "2",
        "--json",
        str(tmp_path / "f.json"),
    ]
    subprocess.run(command, check=True, capture_output=True)
    assert 0 < read_json(tmp_path / "f.json")["gradient_difference"] < 1e-5
