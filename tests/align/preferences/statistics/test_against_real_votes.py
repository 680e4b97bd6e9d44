"""Alpha, Davidson's model and Dawid and Skene's against other programs: on small data made here, and on real votes.

The real votes are public data sets that the project doesn't ship. Set GPTSIM_REAL_DATA to a folder that holds them:

    votes_llm/crowd-comparisons.csv         github.com/dustalov/llmfao
    votes_pandalm/testset-v1.json           github.com/WeOpenML/PandaLM
    votes_hd_video/results.csv              github.com/slhck/hd-uhd-comparison
    votes_tonemap/ex3_tmo_cmp_data.csv      github.com/mantiuk/pwcmp
    ratings_imagenhub/*_rater[123].tsv      github.com/TIGER-AI-Lab/ImagenHub
    labels_crowd/labels.csv                 github.com/ipeirotis/Get-Another-Label
"""

from __future__ import annotations

import json
import math
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import krippendorff
import numpy as np
import pandas as pd
import pytest
from scipy import sparse, special
from scipy.sparse.linalg import spsolve

from align.preferences.statistics import dawid_skene
from align.preferences.statistics.agreement import canonical, vote_agreement
from align.preferences.statistics.alpha import METRICS, ONE_VALUE, krippendorff_alpha
from align.preferences.statistics.ranking import Comparison, comparisons_of, fit_davidson
from align.preferences.statistics.reliability import annotator_report
from align.preferences.votes.schema import Vote

TOLERANCE = 1e-6
FOLDER = Path(os.environ.get("GPTSIM_REAL_DATA", ""))
NEEDS_DATA = pytest.mark.skipif(
    "GPTSIM_REAL_DATA" not in os.environ, reason="real votes are not checked: set GPTSIM_REAL_DATA to their folder"
)


# ------------------------------------------------------------------------------------------------------------ other programs


def log_linear(comparisons: Sequence[Comparison], ties: bool = True) -> tuple[dict[str, float], dict[str, float], float, float]:
    """Davidson's model as a log-linear model of counts (Critchlow and Fligner, Psychometrika 56, 1991).

    log E[count] = pair + (w_i, w_j, or their mean for a tie) + log_tie for a tie: a Poisson regression with a parameter for
    every pair and the last item as reference. Returns worths, their standard errors, log_tie and its standard error.
    """
    items = sorted({name for row in comparisons for name in row[:2]})
    pairs = {pair: number for number, pair in enumerate(sorted({tuple(sorted(row[:2])) for row in comparisons}))}
    outcomes = 3 if ties else 2
    counts = np.zeros(outcomes * len(pairs))
    for a, b, outcome, _ in comparisons:
        low, high = sorted((a, b))
        winner = {"a": a, "b": b, "tie": None}[outcome]
        counts[outcomes * pairs[low, high] + (2 if winner is None else 0 if winner == low else 1)] += 1
    k = len(items)
    x = sparse.lil_matrix((len(counts), k + ties + len(pairs)))
    for (low, high), number in pairs.items():
        i, j, row = items.index(low), items.index(high), outcomes * number
        x[row, i] = x[row + 1, j] = 1
        if ties:
            x[row + 2, i] = x[row + 2, j] = 0.5
            x[row + 2, k] = 1
        x[row : row + outcomes, k + ties + number] = 1
    x = x.tocsc()[:, [column for column in range(x.shape[1]) if column != k - 1]]
    beta = np.zeros(x.shape[1])
    for step in range(200):
        mean = np.exp(x @ beta)
        move = spsolve((x.T @ x.multiply(mean[:, None])).tocsc(), x.T @ (counts - mean))
        beta = beta + move / max(1.0, np.abs(move).max())
        if step > 5 and np.abs(move).max() < 1e-12:
            break
    size = k - 1 + ties
    information = (x.T @ x.multiply(np.exp(x @ beta)[:, None])).toarray()
    covariance = np.linalg.inv(information)[:size, :size]
    centre = np.zeros((k, size))  # from differences to the last item to worths that sum to zero
    centre[:-1, : k - 1] = np.eye(k - 1)
    centre -= centre.mean(axis=0)
    worth, errors = centre @ beta[:size], np.sqrt(np.diag(centre @ covariance @ centre.T))
    tie = (float(beta[k - 1]), float(np.sqrt(covariance[-1, -1]))) if ties else (math.nan, math.nan)
    return dict(zip(items, worth, strict=True)), dict(zip(items, errors, strict=True)), *tie


def dense_em(rows: Sequence[tuple[object, object, object]], tolerance: float = 1e-11) -> tuple[np.ndarray, list, list, list]:
    """Dawid and Skene's EM on a dense array [items, annotators, classes] of ones and zeros, until nothing moves."""
    workers, items, classes = (sorted({row[place] for row in rows}) for place in range(3))  # type: ignore[type-var]
    seen = np.zeros((len(items), len(workers), len(classes)))
    for worker, item, label in rows:
        seen[items.index(item), workers.index(worker), classes.index(label)] = 1
    posterior = seen.sum(axis=1) / seen.sum(axis=(1, 2))[:, None]
    flat = seen.reshape(len(items), -1)
    for _ in range(20_000):
        counts = (posterior.T @ flat).reshape(len(classes), len(workers), len(classes))  # [truth, annotator, answer]
        totals = counts.sum(axis=2, keepdims=True)
        confusion = np.where(totals > 0, counts / np.where(totals > 0, totals, 1), 1 / len(classes))
        answers = np.log(np.maximum(confusion, 1e-300)).reshape(len(classes), -1)
        fresh = special.softmax(np.log(posterior.mean(axis=0)) + flat @ answers.T, axis=1)
        moved = np.abs(fresh - posterior).max()
        posterior = fresh
        if moved < tolerance:
            break
    return posterior, items, workers, classes


def check_davidson(comparisons: Sequence[Comparison], ties: bool = True) -> float:
    """The largest difference in worths, tie parameter and standard errors."""
    fit = fit_davidson(comparisons)
    assert fit.reason == ""
    worth, errors, log_tie, se_log_tie = log_linear(comparisons, ties)
    gaps = [np.abs(fit.worth - [worth[name] for name in fit.items]).max()]
    gaps.append(np.abs(fit.se - [errors[name] for name in fit.items]).max())
    gaps += [abs(fit.log_tie - log_tie), abs(fit.se_log_tie - se_log_tie)] if ties else []
    return float(max(gaps))


def check_dawid_skene(rows: Sequence[tuple[object, object, object]]) -> float:
    """The largest difference in posteriors."""
    fit = dawid_skene.fit(rows)
    posterior, items, _, classes = dense_em(rows)
    assert (fit.converged, list(fit.classes)) == (True, classes)
    return float(np.abs(fit.posteriors - posterior[[items.index(name) for name in fit.items]]).max())


def check_alpha(votes: Sequence[Vote]) -> float:
    """The difference of nominal alpha from the package krippendorff, each annotator once a unit."""
    rated = [canonical(vote) for vote in votes]
    table = pd.DataFrame({"unit": [str(row.unit) for row in rated], "value": [row.value for row in rated]})
    expected = krippendorff.alpha(value_counts=pd.crosstab(table.unit, table.value).to_numpy(), level_of_measurement="nominal")
    alpha = vote_agreement(votes, num_resamples=200)
    assert alpha.low < alpha.value < alpha.high
    return abs(alpha.value - expected)


def say(name: str, gap: float) -> None:
    """Keep the figure where ``pytest -s`` shows it, and hold it against the tolerance."""
    sys.stdout.write(f"\n{name}: largest difference {gap:.1e}\n")
    assert gap <= TOLERANCE, name


# ---------------------------------------------------------------------------------------------------------------- made here


def test_davidson_on_made_data() -> None:
    rng = np.random.default_rng(0)
    worth, names = np.array([1.0, 0.4, 0.0, -0.6, -0.8]), "vwxyz"
    comparisons = []
    for _ in range(800):
        i, j = rng.choice(5, 2, replace=False)
        d = worth[i] - worth[j]
        comparisons.append(
            Comparison(names[i], names[j], rng.choice(["a", "b", "tie"], p=special.softmax([d / 2, -d / 2, -0.3])))
        )
    say("Davidson, made data", check_davidson(comparisons))
    say("Bradley-Terry, made data", check_davidson([row for row in comparisons if row.outcome != "tie"], ties=False))


def test_dawid_skene_on_made_data() -> None:
    rng = np.random.default_rng(1)
    truth = rng.choice(3, 150)
    rows = []
    for worker, skill in enumerate((0.9, 0.8, 0.6, 0.5)):
        for item in rng.choice(150, 120, replace=False):
            rows.append((worker, int(item), int(truth[item] if rng.random() < skill else rng.integers(3))))
    say("Dawid-Skene, made data", check_dawid_skene(rows))


def test_alpha_on_made_data(make_vote) -> None:
    rng = np.random.default_rng(2)
    votes = []
    for pair in range(80):
        for who in rng.choice(6, rng.integers(1, 5), replace=False):
            vote = "tie" if pair % 4 == 0 else "a"
            vote = vote if rng.random() < 0.6 else str(rng.choice(["a", "b", "tie"]))
            ids = {"pair_id": f"p{pair}", "context_id": f"c{pair}", "annotator_id": str(who)}
            votes.append(make_vote(f"v{len(votes)}", vote, **ids))
    say("alpha, made data", check_alpha(votes))


# --------------------------------------------------------------------------------------------------------------- real votes


def _vote(number: int, context: object, a: str, b: str, vote: str, who: object, catch: bool = False) -> Vote:
    return Vote(
        vote_id=str(number),
        pair_id=f"{context}/{a}/{b}",
        context_id=str(context),
        rollout_a=a,
        rollout_b=b,
        axis="better",
        vote=vote,  # type: ignore[arg-type]
        annotator_id=str(who),
        shown_left="a",
        selection="catch" if catch else None,
    )


def read_llm() -> list[Vote]:
    table = pd.read_csv(FOLDER / "votes_llm" / "crowd-comparisons.csv")
    words = {"left": "a", "right": "b", "tie": "tie"}
    rows = zip(table["id"], table["left"], table["right"], table["winner"], table["worker"], strict=True)
    return [_vote(n, unit, left, right, words[winner], who) for n, (unit, left, right, winner, who) in enumerate(rows)]


def read_pandalm() -> list[Vote]:
    rows = json.loads((FOLDER / "votes_pandalm" / "testset-v1.json").read_text())
    votes = []
    for row in rows:
        for who in (1, 2, 3):
            answer = ("tie", "a", "b")[row[f"annotator{who}"]]
            votes.append(_vote(len(votes), row["idx"], *row["cmp_key"].split("_"), answer, who))
    return votes


def read_hd_video() -> list[Vote]:
    """A trial that shows one stream twice is a catch trial; repeats of a question count once, as anywhere."""
    table = pd.read_csv(FOLDER / "votes_hd_video" / "results.csv")
    votes = []
    for n, row in enumerate(table.itertuples()):
        answer = "tie" if row.rating == 0 else "b" if row.rating > 0 else "a"
        context = f"{row.src}, {row.rating_type} points"
        votes.append(_vote(n, context, row.first_res, row.second_res, answer, row.subject, row.first_res == row.second_res))
    return votes


def read_tonemap() -> list[Vote]:
    table = pd.read_csv(FOLDER / "votes_tonemap" / "ex3_tmo_cmp_data.csv")
    rows = zip(
        table["scene"], table["condition_A"], table["condition_B"], table["is_A_selected"], table["observer"], strict=True
    )
    return [_vote(n, scene, a, b, "a" if won else "b", who) for n, (scene, a, b, won, who) in enumerate(rows)]


READERS = {"llm": read_llm, "pandalm": read_pandalm, "hd_video": read_hd_video, "tonemap": read_tonemap}


@NEEDS_DATA
@pytest.mark.parametrize("name", READERS)
def test_alpha_of_real_votes(name: str) -> None:
    votes, seen = [], set()
    for vote in READERS[name]():
        key = (canonical(vote).unit, vote.annotator_id)
        if key not in seen and vote.selection != "catch":
            votes.append(vote)
        seen.add(key)
    say(f"alpha, votes_{name}", check_alpha(votes))


@NEEDS_DATA
@pytest.mark.parametrize("name", READERS)
def test_davidson_on_real_votes(name: str) -> None:
    say(f"Davidson, votes_{name}", check_davidson(comparisons_of(READERS[name]()), ties=name != "tonemap"))


@NEEDS_DATA
def test_alpha_of_real_ratings() -> None:
    worst, undefined = 0.0, 0
    for path in sorted((FOLDER / "ratings_imagenhub").glob("*_rater1.tsv")):
        raters = [pd.read_csv(str(path).replace("rater1", f"rater{n}"), sep="\t").set_index("uid") for n in (1, 2, 3)]
        for model in raters[0].columns:
            cells = pd.concat([rater[model] for rater in raters], axis=1, sort=False)
            for part in (0, 1):
                ratings = cells.map(lambda cell, part=part: math.nan if pd.isna(cell) else json.loads(cell)[part]).to_numpy(
                    float
                )
                for metric in METRICS:
                    alpha = krippendorff_alpha(ratings, metric, num_resamples=50)
                    if alpha.reason == ONE_VALUE:
                        undefined += 1
                        continue
                    worst = max(worst, abs(alpha.value - krippendorff.alpha(ratings.T, level_of_measurement=metric)))
    say("alpha, ratings_imagenhub", worst)
    sys.stdout.write(f"undefined, as one value was given throughout: {undefined}\n")


@NEEDS_DATA
def test_dawid_skene_on_real_labels() -> None:
    table = pd.read_csv(FOLDER / "labels_crowd" / "labels.csv")
    say("Dawid-Skene, labels_crowd", check_dawid_skene(list(table.itertuples(index=False, name=None))))


@NEEDS_DATA
def test_the_annotators_of_real_votes() -> None:
    """The one worker who pressed left 21 times of 21 is found, and most people are left alone."""
    rows = annotator_report(read_llm())
    flagged = [row for row in rows if row.flagged]
    assert any(row.only_answer == "left" and row.sides.num_sided == 21 for row in flagged)
    assert len(flagged) <= 0.1 * len(rows)
    assert not any(row.flagged for row in annotator_report(read_tonemap()))
