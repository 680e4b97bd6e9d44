"""Figures with honest error bars: rollouts of one context resemble each other, so every interval is built from clusters.

A context (the start of a clip) is a cluster; rollouts of one context are not independent, and an interval that forgets it is
too narrow. What is undefined is NaN with its count, never 0; an outcome that nobody could read counts as wrong unless the
caller says otherwise; a count of zero has an upper bound, not a standard error of zero.

The intervals in one place (C clusters, n outcomes, V the cluster-robust variance of the mean, t with C-1 degrees of freedom):

- rate: Wilson's interval at the effective n (p(1-p)/V, scaled by (z/t)^2 as in Korn & Graubard 1998); with fewer than 10 events
  or non-events Clopper-Pearson's, also at the effective n; with none the one-sided exact bound 1 - (1-confidence)^(1/n_eff),
  the "rule of three".
- mean: value +- t sqrt(V).
- paired difference: Agresti & Min (2005), two pseudo-pairs at the effective n; outside [0, 1] the t interval.
- unpaired difference and ratio: MOVER (Newcombe 1998; Donner & Zou 2012) on the Wilson intervals, so zero counts stay honest.
- AUROC: cluster bootstrap.
- gap between groups that may share contexts: cluster bootstrap (Hesterberg's expanded percentiles), MOVER where events are few.

Where fewer than 10 events were seen, the design effect can't be learned from them and leans on ``SPARSE_ICC``.
"""

from align.audit.statistics.calibration import Calibration, expected_calibration_error
from align.audit.statistics.clusters import ENOUGH_EVENTS, SPARSE_ICC, bootstrap_weights, cluster_bootstrap_means
from align.audit.statistics.differences import difference, paired_difference
from align.audit.statistics.gaps import GapBootstrap, TwoGroups
from align.audit.statistics.mcnemar import clustered_mcnemar
from align.audit.statistics.multiplicity import holm
from align.audit.statistics.power import GapPower, MeanPower, PairPower, Power
from align.audit.statistics.rates import cluster_rate, mean_interval
from align.audit.statistics.ratios import ratio_interval
from align.audit.statistics.roc import auroc
from align.audit.statistics.values import Better, Float64, Missing, Rate, count_missing_as_wrong

__all__ = [
    "ENOUGH_EVENTS",
    "SPARSE_ICC",
    "Better",
    "Calibration",
    "Float64",
    "GapBootstrap",
    "GapPower",
    "MeanPower",
    "Missing",
    "PairPower",
    "Power",
    "Rate",
    "TwoGroups",
    "auroc",
    "bootstrap_weights",
    "cluster_bootstrap_means",
    "cluster_rate",
    "clustered_mcnemar",
    "count_missing_as_wrong",
    "difference",
    "expected_calibration_error",
    "holm",
    "mean_interval",
    "paired_difference",
    "ratio_interval",
]
