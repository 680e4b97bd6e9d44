"""Categorical labels by fallible annotators: the model of Dawid and Skene, fitted by EM.

Every item has one true class, drawn with probability ``priors``; annotator w answers k where the truth is c with probability
``confusion[w, c, k]``, independently. The first posteriors are the shares of an item's labels (majority vote). A. P. Dawid and
A. M. Skene, "Maximum likelihood estimation of observer error-rates using the EM algorithm", Applied Statistics 28, 1979.

There is no smoothing: an annotator who never gave a label gets probability 0 for it. Where the model can say little, ``notes``
does: single labels, annotators with few of them, a maximum that was not reached.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from align.errors import DataError

Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]
NOTHING = 1e-6
FEW_LABELS = 10
"""Below this many labels, an annotator's confusion matrix is mostly noise."""


@dataclass(frozen=True)
class DawidSkeneFit:
    """What the labels say about items and annotators; W annotators, I items, C classes.

    Attributes:
        classes: The labels in sorted order.
        items: Names of the items.
        annotators: Names of the annotators.
        priors: [C] share of each class, summing to 1.
        confusion: [W, C, C] probability of an answer (last) given the truth; NaN rows where an annotator met no item of that
            class (fewer than ``NOTHING`` of one, by the posteriors).
        posteriors: [I, C] probability of each class; rows sum to 1.
        log_likelihood: Of all labels, at the end.
        num_iterations: EM steps made.
        converged: Whether the posteriors stopped moving.
        notes: What to know before trusting this.
    """

    classes: tuple[Hashable, ...]
    items: tuple[Hashable, ...]
    annotators: tuple[Hashable, ...]
    priors: Float64
    confusion: Float64
    posteriors: Float64
    log_likelihood: float
    num_iterations: int
    converged: bool
    notes: tuple[str, ...] = ()


def fit(
    labels: Iterable[tuple[Hashable, Hashable, Hashable]], *, max_iterations: int = 5000, tolerance: float = 1e-9
) -> DawidSkeneFit:
    """Fit the model.

    Args:
        labels: (annotator, item, label), each annotator at most once an item.
        max_iterations: Most EM steps.
        tolerance: Stop where a step moves no posterior by more than this. EM creeps: the likelihood looks flat long before
            the parameters have arrived.

    Raises:
        DataError: No label, an item labelled twice by one annotator, or no item with two labels, so that nothing can be learnt
            about anybody.
        ValueError: A bad limit.
    """
    rows = list(labels)
    if max_iterations < 1 or not tolerance >= 0:
        raise ValueError(f"max_iterations must be at least 1 and tolerance at least 0, got {max_iterations} and {tolerance}")
    _check(rows)
    (annotators, who), (items, item), (classes, label) = (_codes([row[place] for row in rows]) for place in range(3))
    order = sorted(range(len(classes)), key=lambda code: (str(type(classes[code])), classes[code]))
    label = np.argsort(order)[label]
    sizes = (len(annotators), len(items), len(classes))
    posteriors = np.zeros(sizes[1:])
    np.add.at(posteriors, (item, label), 1.0)
    posteriors /= posteriors.sum(axis=1, keepdims=True)
    converged, step = False, 0
    while not converged and step < max_iterations:
        step += 1
        priors, confusion = _maximise(posteriors, who, item, label, sizes)
        before = posteriors
        posteriors, height = _expect(priors, confusion, who, item, label, sizes)
        converged = bool(np.abs(posteriors - before).max() <= tolerance)
    priors, confusion = _maximise(posteriors, who, item, label, sizes, NOTHING)
    names = tuple(classes[code] for code in order)
    notes = _notes(np.bincount(who), np.bincount(item), annotators, converged, step, len(classes))
    return DawidSkeneFit(names, items, annotators, priors, confusion, posteriors, height, step, converged, notes)


def _check(rows: list[tuple[Hashable, Hashable, Hashable]]) -> None:
    if not rows:
        raise DataError("there are no labels; the Dawid-Skene model needs (annotator, item, label) rows")
    cells = [row[:2] for row in rows]
    if len(set(cells)) < len(cells):
        twice = next(cell for cell in cells if cells.count(cell) > 1)
        raise DataError(f"annotator {twice[0]!r} labels the item {twice[1]!r} more than once; keep one label")
    if len({item for _, item in cells}) == len(cells):
        raise DataError("no item has two labels, so nothing can be learnt about annotators; ask for an overlap of at least 2")


def _codes(values: list[Hashable]) -> tuple[tuple[Hashable, ...], Int64]:
    index = {value: code for code, value in enumerate(dict.fromkeys(values))}
    return tuple(index), np.array([index[value] for value in values], dtype=np.int64)


def _maximise(
    posteriors: Float64, who: Int64, item: Int64, label: Int64, sizes: tuple[int, int, int], least: float = 0.0
) -> tuple[Float64, Float64]:
    """M-step: priors [C] and confusion [W, C, C] from posteriors [I, C]; rows resting on ``least`` items or fewer are NaN."""
    num_annotators, _, num_classes = sizes
    counts = np.zeros((num_annotators, num_classes, num_classes))  # [W, answer, truth]
    np.add.at(counts, (who, label), posteriors[item])
    counts = counts.transpose(0, 2, 1)
    total = counts.sum(axis=2, keepdims=True)
    confusion = np.divide(counts, total, out=np.full_like(counts, math.nan), where=total > least)
    return posteriors.mean(axis=0), confusion


def _expect(
    priors: Float64, confusion: Float64, who: Int64, item: Int64, label: Int64, sizes: tuple[int, int, int]
) -> tuple[Float64, float]:
    """E-step: posteriors [I, C] and the log-likelihood. An unknown row of a confusion matrix says nothing about the truth."""
    known = np.where(np.isnan(confusion), 1 / sizes[2], confusion)
    with np.errstate(divide="ignore"):
        log_answer, log_prior = np.log(known), np.log(priors)
    joint = np.tile(log_prior, (sizes[1], 1))
    np.add.at(joint, item, log_answer[who, :, label])
    top = joint.max(axis=1, keepdims=True)
    weight = np.exp(joint - top)
    total = weight.sum(axis=1, keepdims=True)
    return weight / total, float((top + np.log(total)).sum())


def _notes(
    per_annotator: Int64, per_item: Int64, annotators: tuple[Hashable, ...], converged: bool, steps: int, num_classes: int
) -> tuple[str, ...]:
    few = [f"{name} ({count})" for name, count in zip(annotators, per_annotator.tolist(), strict=True) if count < FEW_LABELS]
    single = int((per_item == 1).sum())
    named = ", ".join(few[:8]) + (f" and {len(few) - 8} more" if len(few) > 8 else "")
    notes = {
        "every label is the same, so annotators can't be told apart": num_classes == 1,
        f"{single} of {len(per_item)} items have one label only; their classes rest on one annotator each": single > 0,
        f"fewer than {FEW_LABELS} labels each, too few for a confusion matrix: {named}": bool(few),
        "fewer than 3 annotators: the model can't tell who of two is right": len(annotators) < 3,
        f"no convergence after {steps} steps": not converged,
    }
    return tuple(note for note, holds in notes.items() if holds)
