from __future__ import annotations

import hashlib
from collections import Counter

import numpy as np
import pandas as pd
import pytest

from align.errors import DataError
from align.preferences.pairing import candidate_pairs, make_pairs, select_pairs, thin_axes
from align.preferences.votes.schema import Pair


def as_sets(pairs: list[Pair]) -> set[frozenset[str]]:
    return {frozenset((pair.rollout_a, pair.rollout_b)) for pair in pairs}


@pytest.mark.parametrize("seed", range(5))
def test_pairs_stay_in_their_context_and_spread(make_rollouts, seed: int) -> None:
    rollouts = make_rollouts(num_contexts=6, per_context=4)
    context_of = dict(zip(rollouts["rollout_id"], rollouts["context_id"], strict=True))
    pairs = make_pairs(rollouts, 10, ["spill"], seed)
    assert {context_of[p.rollout_a] for p in pairs} | {context_of[p.rollout_b] for p in pairs} <= {p.context_id for p in pairs}
    assert all(context_of[p.rollout_a] == context_of[p.rollout_b] == p.context_id for p in pairs)
    assert all(p.rollout_a != p.rollout_b and p.selection == "random" and p.axes == ("spill",) for p in pairs)
    per_context = Counter(p.context_id for p in pairs)
    assert sorted(per_context.values()) == [1, 1, 2, 2, 2, 2]  # ten pairs over six contexts
    assert len(as_sets(pairs)) == len({p.pair_id for p in pairs}) == 10


def test_the_second_pair_of_a_context_shows_other_rollouts(make_rollouts) -> None:
    pairs = make_pairs(make_rollouts(5, 4), 10, ["spill"], seed=0)
    shown = [rollout for pair in pairs for rollout in (pair.rollout_a, pair.rollout_b)]
    assert len(set(shown)) == 20


def test_the_seed_decides_and_a_is_either_rollout(make_rollouts) -> None:
    rollouts = make_rollouts(200, 2)
    pairs = make_pairs(rollouts, 200, ["spill"], seed=1)
    assert pairs == make_pairs(rollouts.sample(frac=1, random_state=0), 200, ["spill"], seed=1)  # row order has no say
    assert pairs != make_pairs(rollouts, 200, ["spill"], seed=2)
    first_is_a = sum(pair.rollout_a.endswith("r0") for pair in pairs)
    assert 70 <= first_is_a <= 130  # 4.2 standard deviations around 100


def test_a_seed_gives_the_pairs_that_it_always_gave(make_rollouts) -> None:
    """Labels, and runs that go on, rest on it."""
    rollouts = make_rollouts(12, 4).sample(frac=1, random_state=0)
    drawn = "\n".join(f"{pair.rollout_a} {pair.rollout_b} {pair.axes}" for pair in candidate_pairs(rollouts, ["spill"], seed=3))
    assert hashlib.sha256(drawn.encode()).hexdigest()[:20] == "374d2c9e493554e02faa"
    assert drawn.startswith("c0-r0 c0-r3 (")


def test_identical_clips_are_never_paired(make_rollouts) -> None:
    rollouts = make_rollouts(4, 3)
    rollouts.loc[rollouts["rollout_id"] == "c0-r1", "sha256"] = "hash of c0-r0"
    rollouts.loc[rollouts["rollout_id"] == "c1-r1", "file_name"] = "videos/c1-r0.mp4"
    pairs = as_sets(candidate_pairs(rollouts, ["spill"], seed=0))
    assert len(pairs) == 4 * 3 - 2
    assert not pairs & {frozenset(("c0-r0", "c0-r1")), frozenset(("c1-r0", "c1-r1"))}


def test_outcomes_are_never_read(make_rollouts) -> None:
    class Blindfold(pd.DataFrame):
        """Fails when a column is read that tells what truly happened."""

        def __getitem__(self, key):
            asked = [key] if isinstance(key, str) else list(key)
            assert not any(str(name).startswith(("outcome_", "severity_", "success")) for name in asked)
            return super().__getitem__(key)

    rollouts = make_rollouts()
    told = Blindfold(rollouts.assign(outcome_spill=np.arange(len(rollouts)) % 2.0, severity_spill=1.0, success=0.0))
    with pytest.raises(AssertionError):
        told["outcome_spill"]
    assert make_pairs(told, 8, ["spill"], seed=3) == make_pairs(rollouts, 8, ["spill"], seed=3)


def test_known_pairs_do_not_come_again(make_rollouts) -> None:
    rollouts = make_rollouts(6, 3)
    first = make_pairs(rollouts, 12, ["spill"], seed=0)
    second = make_pairs(rollouts, 6, ["spill"], seed=1, exclude=first)
    assert not as_sets(first) & as_sets(second)
    with pytest.raises(DataError, match="7 pairs were asked for, but only 6 are possible with 6 contexts"):
        make_pairs(rollouts, 7, ["spill"], seed=1, exclude=first)


def test_axes_may_depend_on_the_scene(make_rollouts) -> None:
    rollouts = pd.concat(
        [
            make_rollouts(2, 2),
            make_rollouts(2, 2, "shelf").map(lambda cell: cell.replace("c", "s") if cell != "shelf" else cell),
        ]
    )
    axes = {"pour": ["spill", "success"], "shelf": ["breakage"]}
    pairs = make_pairs(rollouts, 4, axes, seed=0)
    assert {pair.axes for pair in pairs if pair.context_id.startswith("c")} == {("spill", "success")}
    assert {pair.axes for pair in pairs if pair.context_id.startswith("s")} == {("breakage",)}
    with pytest.raises(DataError, match="scene 'shelf', for which no axes"):
        make_pairs(rollouts, 4, {"pour": ["spill"]}, seed=0)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda table: table.drop(columns=["sha256", "scene"]), "lacks the column.s. scene, sha256"),
        (lambda table: table.assign(sha256=None), "empty cells in sha256"),
        (lambda table: table.assign(rollout_id="x"), "repeats the rollout_id.s. x"),
    ],
)
def test_bad_tables_are_refused(make_rollouts, change, reason: str) -> None:
    with pytest.raises(DataError, match=reason):
        make_pairs(change(make_rollouts()), 1, ["spill"], seed=0)


def test_selection_takes_the_highest_scores_and_a_random_fifth(make_rollouts) -> None:
    candidates = candidate_pairs(make_rollouts(50, 2), ["spill"], seed=0)
    scores = np.arange(50.0)
    chosen = select_pairs(candidates, scores, 20, seed=0)
    by_selection = Counter(pair.selection for pair in chosen)
    assert by_selection == {"random": 4, "active": 16}
    score_of = {pair.pair_id: score for pair, score in zip(candidates, scores, strict=True)}
    lowest_active = min(score_of[pair.pair_id] for pair in chosen if pair.selection == "active")
    passed_over = [
        score for pair, score in zip(candidates, scores, strict=True) if pair.pair_id not in {p.pair_id for p in chosen}
    ]
    assert lowest_active > max(passed_over)
    assert len(as_sets(chosen)) == 20


def test_the_random_part_does_not_depend_on_the_scores(make_rollouts) -> None:
    candidates = candidate_pairs(make_rollouts(50, 2), ["spill"], seed=0)
    runs = [select_pairs(candidates, sign * np.arange(50.0), 20, seed=5, random_share=0.3) for sign in (1, -1)]
    random = [{pair.pair_id for pair in run if pair.selection == "random"} for run in runs]
    assert random[0] == random[1]
    assert len(random[0]) == 6


def test_selection_keeps_to_few_pairs_a_context(make_rollouts) -> None:
    candidates = candidate_pairs(make_rollouts(5, 5), ["spill"], seed=0)
    scores = [100.0 * (pair.context_id == "c0") for pair in candidates]
    chosen = select_pairs(candidates, scores, 10, seed=0)
    assert set(Counter(pair.context_id for pair in chosen).values()) == {2}
    with pytest.raises(DataError, match="give only 10"):
        select_pairs(candidates, scores, 11, seed=0)


@pytest.mark.parametrize(("scores", "share"), [([1.0], 0.2), ([1.0, np.nan], 0.2), ([1.0, 2.0], 0.1)])
def test_selection_refuses_bad_arguments(make_rollouts, scores, share: float) -> None:
    candidates = candidate_pairs(make_rollouts(2, 2), ["spill"], seed=0)
    with pytest.raises(ValueError, match=r"scores must be|random_share must be"):
        select_pairs(candidates, scores, 1, seed=0, random_share=share)


def test_thinned_axes_ask_the_first_of_all_and_the_others_of_every_third(make_rollouts) -> None:
    pairs = make_pairs(make_rollouts(5, 4), 10, {"pour": ["spill", "success"]}, seed=0)
    thinned = thin_axes(pairs, 3)
    assert [pair.axes for pair in thinned] == [("spill", "success") if i % 3 == 0 else ("spill",) for i in range(10)]
    assert [pair.pair_id for pair in thinned] == [pair.pair_id for pair in pairs]
    assert thin_axes(pairs, 1) == pairs
    with pytest.raises(ValueError, match="at least 1"):
        thin_axes(pairs, 0)
