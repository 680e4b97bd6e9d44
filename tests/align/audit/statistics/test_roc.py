"""AUROC against scikit-learn."""

from __future__ import annotations

import math

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from align.audit.statistics import auroc, bootstrap_weights, roc

NAN = math.nan


def test_auroc_is_scikit_learns_with_ties() -> None:
    rng = np.random.default_rng(0)
    scores, labels = rng.integers(0, 6, 200).astype(float), rng.integers(0, 2, 200)
    got = auroc(scores, labels)
    assert got.value == pytest.approx(roc_auc_score(labels, scores), abs=1e-12)
    assert got.low < got.value < got.high
    weights = bootstrap_weights(200, 3, seed=0)
    expected = [roc_auc_score(labels, scores, sample_weight=w) for w in weights]
    assert roc._weighted_auroc(scores, labels.astype(float), weights) == pytest.approx(expected, abs=1e-12)


def test_auroc_interval_widens_with_copies_in_clusters_and_not_without() -> None:
    rng = np.random.default_rng(0)
    labels = np.arange(60) % 2
    scores = rng.normal(size=60) + labels
    once = auroc(scores, labels)
    copied = auroc(np.repeat(scores, 9), np.repeat(labels, 9), np.repeat(np.arange(60), 9))
    naive = auroc(np.repeat(scores, 9), np.repeat(labels, 9))
    assert (copied.low, copied.high) == pytest.approx((once.low, once.high))
    assert naive.high - naive.low < 0.5 * (copied.high - copied.low)


def test_auroc_of_one_class_is_undefined_and_of_perfect_scores_not_certain() -> None:
    lonely = auroc([0.1, 0.2, NAN], [1, 1, 1])
    assert math.isnan(lonely.value)
    assert (lonely.n, lonely.num_missing) == (2, 1)
    perfect = auroc(np.arange(40.0), np.arange(40) >= 20)
    assert (perfect.value, perfect.high) == (1.0, 1.0)
    assert perfect.low == pytest.approx(1 - (1 - 0.05 ** (1 / 20)))
