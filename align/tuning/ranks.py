"""Work that is split over the ranks of a run: rollouts, scores, encoded clips."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Ranks:
    """Which of how many processes this is; a launcher says so in the environment, one process alone is rank 0 of 1."""

    index: int = 0
    count: int = 1

    @classmethod
    def here(cls) -> Ranks:
        """Those of this process."""
        return cls(int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1")))

    def gather(self, value: Any) -> list[Any]:
        """The values of all ranks, in their order; every rank must ask, and gets the same."""
        if self.count == 1:
            return [value]
        from accelerate import PartialState
        from accelerate.utils import gather_object

        # The group of processes that a trainer uses afterwards; the first to ask makes it.
        PartialState(cpu=on_cpu())
        values: list[Any] = gather_object([value])
        return values


def on_cpu() -> bool:
    """Whether ranks work on CPUs: there is no GPU, or ``ACCELERATE_USE_CPU`` asks for it."""
    import torch
    from accelerate.utils import parse_flag_from_env

    return not torch.cuda.is_available() or bool(parse_flag_from_env("ACCELERATE_USE_CPU"))


def map_over_ranks(task: Callable[[Item], Result], items: Sequence[Item]) -> list[Result]:
    """Results in the order of ``items``; each rank does its share, and all get the whole."""
    ranks = Ranks.here()
    shares = ranks.gather([task(item) for item in items[ranks.index :: ranks.count]])
    return [shares[place % ranks.count][place // ranks.count] for place in range(len(items))]
