"""How many processes work on a run, on which machines, and the command line that starts them."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from align.errors import ConfigError
from recipes._registry import find_accelerate_config

_SHARDED = ("FSDP", "DEEPSPEED")


@dataclass(frozen=True)
class Launch:
    """A plan of processes.

    Attributes:
        path: The accelerate configuration; None is plain torchrun.
        num_processes: Ranks on all machines together.
        num_machines: Machines.
        machine_rank: Which of them this is.
        kind: Accelerate's ``distributed_type``.
        use_cpu: The configuration asks for CPUs.
    """

    path: Path | None = None
    num_processes: int = 1
    num_machines: int = 1
    machine_rank: int = 0
    kind: str = "NO"
    use_cpu: bool = False

    def on_machine(self, rank: int) -> Launch:
        """The same on another machine."""
        if self.num_machines == 1:
            raise ConfigError("--machine-rank needs an --accelerate-config of several machines, such as machines")
        if not 0 <= rank < self.num_machines:
            raise ConfigError(f"--machine-rank must lie in 0 … {self.num_machines - 1}, got {rank}")
        return replace(self, machine_rank=rank)

    def command(self, worker: Sequence[str]) -> list[str]:
        """The launcher's command line for a module and its arguments."""
        count = str(self.num_processes)
        if self.path is None:
            # Not accelerate, whose ``launch --cpu`` starts one process whatever it is told.
            launch = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", count]
        else:
            launch = ["-m", "accelerate.commands.launch", "--config_file", str(self.path), "--num_processes", count]
            launch += ["--machine_rank", str(self.machine_rank)] if self.num_machines > 1 else []
            launch += ["--mixed_precision", "no"] if self._on_cpu() else []
        return [sys.executable, *launch, "-m", *worker]

    def environment(self) -> dict[str, str]:
        """What the ranks need to know beside the command line; raises ConfigError if there is no GPU for the plan."""
        return {"ACCELERATE_USE_CPU": "true"} if self.path is not None and self._on_cpu() else {}

    def _on_cpu(self) -> bool:
        """Whether ranks are to work on CPUs; a machine without GPUs is no reason to do so unasked."""
        import torch
        from accelerate.utils import parse_flag_from_env

        name = "" if self.path is None else self.path.stem
        if self.use_cpu or parse_flag_from_env("ACCELERATE_USE_CPU"):
            if self.kind in _SHARDED:
                raise ConfigError(f"{name} shares weights out over GPUs; on CPUs take ddp, or --num-processes alone")
            return True
        if not torch.cuda.is_available():
            raise ConfigError(
                f"the accelerate configuration {name} needs a GPU and there is none; use --num-processes alone, or set "
                "ACCELERATE_USE_CPU=true to try it on CPUs"
            )
        return False


def plan_launch(accelerate_config: str | None, num_processes: int | None) -> Launch:
    """The plan of ``--accelerate-config`` and ``--num-processes``.

    Raises:
        ConfigError: If there is no such configuration, or it is none, or its processes can't be shared out over its machines.
    """
    if accelerate_config is None:
        return Launch(num_processes=num_processes or 1)
    path = find_accelerate_config(accelerate_config)
    try:
        values: Mapping[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
        plan = Launch(
            path,
            num_processes or int(values.get("num_processes", 1)),
            int(values.get("num_machines", 1)),
            int(values.get("machine_rank", 0)),
            str(values.get("distributed_type", "NO")),
            bool(values.get("use_cpu", False)),
        )
    except (AttributeError, TypeError, ValueError, yaml.YAMLError) as error:
        raise ConfigError(f"{path} is not an accelerate configuration: {error}") from error
    if plan.num_processes % plan.num_machines:
        raise ConfigError(f"{plan.num_processes} processes can't be shared out evenly over {plan.num_machines} machines")
    if plan.kind == "NO" and plan.num_processes > 1 and not plan.use_cpu:
        raise ConfigError(f"{path.stem} is for one process, got {plan.num_processes}; take ddp for several")
    return plan
