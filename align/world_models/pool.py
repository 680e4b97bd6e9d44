"""Several processes for sampling: each loads the world model once and works through chunks of clips.

A task is a function at the top of a module and one picklable argument. Results come in the order of the arguments and do
not depend on how many processes there are.
"""

from __future__ import annotations

import functools
import multiprocessing
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any, Self, TypeVar

from align.world_models.adapters import load_policy
from align.world_models.engine import Policy
from align.world_models.world_model import SHIPPED, WorldModel, load_world_model

Item = TypeVar("Item")
Result = TypeVar("Result")


class Pool:
    """A context manager that maps tasks over processes; with one process everything runs in this one."""

    def __init__(self, num_workers: int) -> None:
        if num_workers < 1:
            raise ValueError(f"num_workers must be at least 1, got {num_workers}")
        self.num_workers = num_workers
        self._pool: ProcessPoolExecutor | None = None

    def __enter__(self) -> Self:
        if self.num_workers > 1:
            # spawn: a forked child of a process that runs torch threads may hang
            context = multiprocessing.get_context("spawn")
            self._pool = ProcessPoolExecutor(self.num_workers, mp_context=context, initializer=_one_thread)
        return self

    def __exit__(self, *_: object) -> None:
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)

    def map(self, task: Callable[[Item], Result], items: Sequence[Item]) -> Iterator[Result]:
        """Results in the order of ``items``, each as soon as it and those before it are there."""
        if self._pool is None:
            return map(task, items)
        return self._pool.map(task, items)


def _one_thread() -> None:
    threading.Thread(target=_end_with_parent, daemon=True).start()
    os.environ["OMP_NUM_THREADS"] = "1"
    import torch

    torch.set_num_threads(1)


def _end_with_parent() -> None:
    """A worker whose parent was killed would wait for work for ever."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def cached_world_model(name: str) -> WorldModel:
    """The world model of this process; a folder is known by its full path, since the working folder may change."""
    return _load_once(_full_name(name))


@functools.lru_cache(maxsize=2)
def _load_once(name: str) -> WorldModel:
    return load_world_model(name)


def cached_policy(name: str, adapter: str) -> Policy:
    """The policy of this process; ``adapter`` is a folder, known by its full path as well, or "" for the base."""
    return _load_policy_once(_full_name(name), str(Path(adapter).resolve()) if adapter else "")


@functools.lru_cache(maxsize=4)
def _load_policy_once(name: str, adapter: str) -> Policy:
    return load_policy(_load_once(name).model, Path(adapter) if adapter else None)


def _full_name(name: str) -> str:
    return name if name in SHIPPED else str(Path(name).resolve())


def chunks(items: Sequence[Any], size: int) -> list[Sequence[Any]]:
    """Consecutive parts of at most ``size`` items."""
    return [items[start : start + size] for start in range(0, len(items), size)]
