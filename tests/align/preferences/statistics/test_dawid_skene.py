from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np
import pytest

from align.errors import DataError
from align.preferences.statistics import dawid_skene


def draw(
    rng: np.random.Generator, num_items: int, skills: list[float], classes: str = "fp"
) -> tuple[list[tuple[str, str, str]], str]:
    truth = rng.choice(list(classes), num_items)
    rows = []
    for person, skill in enumerate(skills):
        for item, true in enumerate(truth):
            answer = true if rng.random() < skill else rng.choice([name for name in classes if name != true])
            rows.append((f"w{person}", f"i{item}", str(answer)))
    return rows, "".join(truth)


def textbook(rows: Iterable[tuple[str, str, str]], steps: int) -> tuple[dict[str, dict[str, float]], dict[str, float]]:
    """The equations of the paper, one by one, with dicts: posteriors and priors after so many steps."""
    rows = list(rows)
    classes, items = sorted({label for *_, label in rows}), sorted({item for _, item, _ in rows})
    workers = sorted({worker for worker, *_ in rows})
    t = {i: {c: sum(1 for _, item, label in rows if item == i and label == c) for c in classes} for i in items}
    t = {i: {c: t[i][c] / sum(t[i].values()) for c in classes} for i in items}
    for _step in range(steps):
        prior = {c: sum(t[i][c] for i in items) / len(items) for c in classes}
        pi = {}
        for w in workers:
            for c in classes:
                row = {k: sum(t[i][c] for worker, i, label in rows if worker == w and label == k) for k in classes}
                pi[w, c] = {k: row[k] / sum(row.values()) for k in classes}
        joint = {
            i: {c: prior[c] * math.prod(pi[w, c][label] for w, item, label in rows if item == i) for c in classes}
            for i in items
        }
        t = {i: {c: joint[i][c] / sum(joint[i].values()) for c in classes} for i in items}
    return t, {c: sum(t[i][c] for i in items) / len(items) for c in classes}


@pytest.mark.parametrize("classes", ["fp", "fpu"])
def test_against_the_paper_written_out(classes: str) -> None:
    rows, _ = draw(np.random.default_rng(0), 25, [0.9, 0.8, 0.6, 0.55], classes)
    steps = 7
    expected, priors = textbook(rows, steps)
    fit = dawid_skene.fit(rows, max_iterations=steps)
    assert (fit.num_iterations, fit.converged) == (steps, False)
    assert "no convergence after 7 steps" in fit.notes
    for item, row in zip(fit.items, fit.posteriors, strict=True):
        assert dict(zip(fit.classes, row, strict=True)) == pytest.approx(expected[str(item)], abs=1e-12)
    assert dict(zip(fit.classes, fit.priors, strict=True)) == pytest.approx(priors, abs=1e-12)


def test_it_beats_the_majority_when_skills_are_unequal() -> None:
    rows, truth = draw(np.random.default_rng(1), 400, [0.97, 0.95, 0.55, 0.55, 0.55])
    fit = dawid_skene.fit(rows)
    found = [fit.classes[k] for k in fit.posteriors.argmax(axis=1)]
    right = np.mean([found[fit.items.index(f"i{i}")] == true for i, true in enumerate(truth)])
    votes = {item: [label for _, other, label in rows if other == item] for item in fit.items}
    majority = np.mean([max("fp", key=votes[f"i{i}"].count) == true for i, true in enumerate(truth)])
    assert right > majority + 0.05
    diagonals = fit.confusion[:, [0, 1], [0, 1]].mean(axis=1)
    assert dict(zip(fit.annotators, diagonals, strict=True)) == pytest.approx(
        {"w0": 0.97, "w1": 0.95, "w2": 0.55, "w3": 0.55, "w4": 0.55}, abs=0.08
    )
    assert fit.converged
    assert fit.notes == ()
    assert fit.confusion.sum(axis=2) == pytest.approx(np.ones((5, 2)))


def test_the_likelihood_never_falls() -> None:
    rows, _ = draw(np.random.default_rng(2), 60, [0.8, 0.7, 0.6])
    heights = [dawid_skene.fit(rows, max_iterations=steps).log_likelihood for steps in (1, 2, 5, 20, 200)]
    assert heights == sorted(heights)


def test_an_annotator_who_met_no_item_of_a_class_has_no_row_for_it() -> None:
    clear = [(f"w{w}", f"i{i}", "pass" if i < 8 else "fail") for w in range(3) for i in range(16)]
    fit = dawid_skene.fit([*clear, *(("late", f"i{i}", "pass") for i in range(8))])
    late = fit.confusion[fit.annotators.index("late")]
    assert fit.classes == ("fail", "pass")
    assert np.isnan(late[0]).all()
    assert late[1] == pytest.approx([0, 1])


def test_too_little_is_refused_or_stated() -> None:
    with pytest.raises(DataError, match="there are no labels"):
        dawid_skene.fit([])
    with pytest.raises(DataError, match="no item has two labels"):
        dawid_skene.fit([("x", "i1", "pass"), ("y", "i2", "fail")])
    with pytest.raises(DataError, match="annotator 'x' labels the item 'i1' more than once"):
        dawid_skene.fit([("x", "i1", "pass"), ("x", "i1", "fail")])
    with pytest.raises(ValueError, match="max_iterations must be at least 1"):
        dawid_skene.fit([("x", "i1", "pass")], max_iterations=0)
    fit = dawid_skene.fit([("x", "i1", "pass"), ("y", "i1", "pass"), ("x", "i2", "pass")])
    assert fit.notes == (
        "every label is the same, so annotators can't be told apart",
        "1 of 2 items have one label only; their classes rest on one annotator each",
        "fewer than 10 labels each, too few for a confusion matrix: x (2), y (1)",
        "fewer than 3 annotators: the model can't tell who of two is right",
    )
    assert fit.priors == pytest.approx([1.0])
