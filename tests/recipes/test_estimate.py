"""The figures of a dry run, against arithmetic."""

from __future__ import annotations

import time

import pytest
import torch
from torch import nn

from recipes._estimate import Workload, estimate


def make_workload(*, dreams: bool) -> tuple[Workload, list[int]]:
    """Two layers, the first of them frozen; what it was asked to compute."""
    module = nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 3, bias=False))
    module[0].requires_grad_(False)
    asked: list[int] = []

    def loss(count: int) -> torch.Tensor:
        asked.append(count)
        return module(torch.ones(count, 6)).square().sum()

    def dream(count: int) -> None:
        asked.append(-count)
        time.sleep(0.01)

    return Workload(module, loss, 64, 100, dream if dreams else None, 640 if dreams else 0), asked


def test_parameters_memory_and_time_add_up() -> None:
    work, asked = make_workload(dreams=False)
    figures = estimate(work)
    assert asked == [8, 8], "once to count what is kept, once warm"
    assert figures["parameters"] == 6 * 5 + 5 + 5 * 3 and figures["trained_parameters"] == 15
    assert figures["trained"] == {"2": 15}
    memory = figures["memory_mb"]
    assert memory["weights"] == pytest.approx(4 * 50 / 1e6)
    assert memory["gradients and AdamW"] == pytest.approx(3 * 4 * 15 / 1e6)
    # Kept for the backward pass: what enters the second layer, and its output, which is squared.
    assert memory["activations"] == pytest.approx(64 * (5 + 3) * 4 / 1e6)
    assert memory["together"] == pytest.approx(sum(value for name, value in memory.items() if name != "together"))
    assert figures["training_s"] == pytest.approx(100 * figures["step_s"]) == figures["total_s"] > 0


def test_dreams_are_measured_on_a_few_clips() -> None:
    work, asked = make_workload(dreams=True)
    figures = estimate(work)
    assert asked == [8, 8, -32]
    assert figures["dreaming_s"] >= 0.01 * 640 / 32
    assert figures["total_s"] == pytest.approx(figures["training_s"] + figures["dreaming_s"])
