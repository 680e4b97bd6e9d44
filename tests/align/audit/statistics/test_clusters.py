"""The bootstrap against a loop over resamples, and what bad arguments are told."""

from __future__ import annotations

import math

import numpy as np
import pytest

from align.audit.statistics import (
    auroc,
    bootstrap_weights,
    cluster_bootstrap_means,
    cluster_rate,
    mean_interval,
    paired_difference,
)

NAN = math.nan


def test_bootstrap_weights_draw_as_many_clusters_as_there_are() -> None:
    weights = bootstrap_weights(7, 50, seed=3)
    assert weights.shape == (50, 7)
    assert (weights.sum(1) == 7).all()
    assert not np.array_equal(weights, bootstrap_weights(7, 50, seed=4))


def test_bootstrap_means_equal_a_loop_over_resamples() -> None:
    rng = np.random.default_rng(0)
    values, clusters = rng.normal(size=(3, 20)), np.array(list("ddcbaadccbbaaabbccdd"))
    values[1, 4] = NAN
    got = cluster_bootstrap_means(values, clusters, num_resamples=25, seed=9)
    names = np.unique(clusters)
    for row, weights in enumerate(bootstrap_weights(4, 25, seed=9)):
        drawn = np.concatenate(
            [np.tile(values[:, clusters == name], k) for name, k in zip(names, weights, strict=True)], axis=1
        )
        assert got[:, row] == pytest.approx(np.nanmean(drawn, axis=1))
    assert cluster_bootstrap_means(values[0], clusters, num_resamples=25, seed=9) == pytest.approx(got[0])


def test_bad_arguments_say_what_is_allowed() -> None:
    with pytest.raises(ValueError, match=r"lie in \[0, 1\]"):
        cluster_rate([0.0, 2.0], ["a", "b"], missing="drop")
    with pytest.raises(ValueError, match="one label per outcome"):
        cluster_rate([0.0, 1.0], ["a"], better="lower")
    with pytest.raises(ValueError, match="must be finite or NaN"):
        mean_interval([math.inf], ["a"])
    with pytest.raises(ValueError, match="'wrong' or 'drop'"):
        cluster_rate([0.0], ["a"], missing="ignore")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="pair row by row"):
        paired_difference([0.0], [0.0, 1.0], ["a"], better="lower")
    with pytest.raises(ValueError, match="confidence must lie"):
        mean_interval([0.0], ["a"], confidence=95)
    with pytest.raises(ValueError, match="labels must be 0 or 1"):
        auroc([0.0], [2])
