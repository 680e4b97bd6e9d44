"""Public tables, where they are there: rates and gaps against libraries that know nothing of this project.

Set GPTSIM_REAL_DATA to the folder that holds them.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

ROOT = os.environ.get("GPTSIM_REAL_DATA")
pytestmark = pytest.mark.skipif(not ROOT, reason="GPTSIM_REAL_DATA is not set")

Audit = Callable[..., dict[str, Any]]


def crowd() -> pd.DataFrame:
    """Binary labels of a crowd: one row a label, the item is the context, workers in groups by how much they labelled."""
    table = pd.read_csv(Path(str(ROOT)) / "labels_crowd" / "labels.csv")
    sizes = table.groupby("worker")["label"].transform("size")
    groups = pd.qcut(sizes, 4, labels=["fewest", "few", "many", "most"]).astype(str)
    return pd.DataFrame({"context_id": table["item"].astype(str), "group": groups, "bumped": table["label"].astype(float)})


def llm() -> pd.DataFrame:
    """Votes on pairs of language models: a tie is the outcome, the prompt the context, busy voters against others."""
    table = pd.read_csv(Path(str(ROOT)) / "votes_llm" / "crowd-comparisons.csv")
    groups = np.where(table.groupby("worker")["id"].transform("size") > 72, "busy", "other")
    tie = (table["winner"] == "tie").astype(float)
    return pd.DataFrame({"context_id": table["prompt"].astype(str), "group": groups, "bumped": tie})


@pytest.mark.parametrize("load", [crowd, llm])
def test_rates_gaps_and_cluster_robust_errors_equal_statsmodels(load: Callable[[], pd.DataFrame], audit: Audit) -> None:
    sm = pytest.importorskip("statsmodels.api")
    from align.audit.statistics import mean_interval

    frame = load()
    report = audit(frame, {"intersections": 1, "max_groups": 20})
    clusters = pd.factorize(frame["context_id"])[0]
    for rate in report["outcomes"][0]["rates"][1:]:
        chosen = (frame["group"] == rate["group"]).to_numpy()
        values = frame["bumped"][chosen].to_numpy()
        assert rate["value"] == pytest.approx(float(sm.OLS(values, np.ones(len(values))).fit().params[0]), abs=1e-9)
        fit = sm.OLS(values, np.ones(len(values))).fit(cov_type="cluster", cov_kwds={"groups": clusters[chosen]}, use_t=True)
        # Ours corrects by C/(C-1), theirs by (n-1)/(n-k) as well, which is 1 for a mean.
        ours = mean_interval(values, clusters[chosen])
        assert (ours.low, ours.high) == pytest.approx(tuple(fit.conf_int()[0]), abs=1e-9)
    for finding in report["findings"]:
        if finding["kind"] == "gap":
            sides = [frame["bumped"][frame["group"] == finding[side]] for side in "ab"]
            expected = float(sides[1].mean() - sides[0].mean())
            assert finding["gap"]["value"] == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("load", [crowd, llm])
def test_rates_and_gaps_equal_fairlearn(load: Callable[[], pd.DataFrame], audit: Audit) -> None:
    metrics = pytest.importorskip("fairlearn.metrics")
    frame = load()
    report = audit(frame, {"intersections": 1, "max_groups": 20})
    by_group = metrics.MetricFrame(
        metrics=metrics.selection_rate, y_true=frame["bumped"], y_pred=frame["bumped"], sensitive_features=frame["group"]
    )
    found = {rate["group"]: rate["value"] for rate in report["outcomes"][0]["rates"][1:]}
    assert found == pytest.approx(by_group.by_group.to_dict(), abs=1e-9)
    largest = max(abs(finding["gap"]["value"]) for finding in report["findings"] if finding["kind"] == "gap")
    assert largest == pytest.approx(by_group.difference(), abs=1e-9)
