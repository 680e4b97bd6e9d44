"""Training on synthetic clips with a known truth: it learns, repeats itself, and refuses what it can't use."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from align.errors import DataError
from reward_models.data import Judgement, VoteRecord, as_batch, as_judgements, as_votes, index_axis
from reward_models.metrics import score_hazard, score_pairs
from reward_models.model import RewardModel, Scores
from reward_models.ties import VOTE_CLASSES
from reward_models.training import RewardTrainingConfig, deal_folds, member_weights, train_reward_model

Blobs = Any  # what the factory in conftest.py gives
BlobFactory = Callable[..., Blobs]
CONFIG = RewardTrainingConfig(backbone={"name": "difference", "grid": 8, "num_moments": 2}, num_epochs=60, learning_rate=0.05)
QUICK = replace(CONFIG, num_epochs=2)


@pytest.fixture(scope="module")
def trained(blobs: BlobFactory) -> RewardModel:
    data = blobs(80, seed=0)
    return train_reward_model(data.clips, data.votes, CONFIG, seed=0)


@pytest.fixture(scope="module")
def held_out(blobs: BlobFactory) -> Blobs:
    return blobs(150, seed=1)


def score_blobs(model: RewardModel, data: Blobs) -> tuple[Scores, dict[str, int]]:
    names = list(data.clips)
    return model.score(as_batch([data.clips[name] for name in names])), {name: row for row, name in enumerate(names)}


def pick(scores: Scores, rows: list[int]) -> Scores:
    return Scores(scores.axes, scores.mean[rows], scores.uncertainty[rows], scores.members[:, rows])


def test_eighty_noisy_votes_tell_the_floor_from_the_table(trained: RewardModel, held_out: Blobs) -> None:
    scores, rows = score_blobs(trained, held_out)
    auroc = score_hazard(scores.mean[:, 0], list(held_out.unsafe.values()), list(held_out.contexts.values()))
    assert auroc.low > 0.9
    first, second = ([rows[getattr(vote, side)] for vote in held_out.votes] for side in ("rollout_a", "rollout_b"))
    probs = trained.vote_probabilities(pick(scores, first), pick(scores, second))[:, 0]
    report = score_pairs(
        probs, [VOTE_CLASSES[vote.vote] for vote in held_out.votes], [vote.context_id for vote in held_out.votes]
    )
    assert report.gain.low > 0.1
    swapped = trained.vote_probabilities(pick(scores, second), pick(scores, first))[:, 0]
    assert torch.allclose(swapped[:, [1, 0, 2]], probs, atol=1e-6)


def test_both_bad_gives_safe_an_absolute_zero(trained: RewardModel, held_out: Blobs) -> None:
    scores, _ = score_blobs(trained, held_out)
    unsafe = torch.tensor(list(held_out.unsafe.values()), dtype=torch.bool)
    fail = trained.fail_probability(scores)[:, 0]
    assert fail[unsafe].mean() > 0.6 and fail[~unsafe].mean() < 0.4


def test_shuffled_votes_teach_nothing(blobs: BlobFactory, trained: RewardModel, held_out: Blobs) -> None:
    data = blobs(80, seed=0)
    answers = np.random.default_rng(0).permutation([vote.vote for vote in data.votes])
    shuffled = [replace(vote, vote=str(answer)) for vote, answer in zip(data.votes, answers, strict=True)]
    blank = train_reward_model(data.clips, shuffled, CONFIG, seed=0)
    truth, contexts = list(held_out.unsafe.values()), list(held_out.contexts.values())
    by_model = [score_hazard(score_blobs(model, held_out)[0].mean[:, 0], truth, contexts).value for model in (trained, blank)]
    assert by_model[0] > by_model[1] + 0.1


def test_the_same_seed_gives_the_same_weights(blobs: BlobFactory) -> None:
    data = blobs(20, seed=3)
    torch.manual_seed(1)
    first = train_reward_model(data.clips, data.votes, QUICK, seed=7).state_dict()
    torch.manual_seed(2)
    before = torch.random.get_rng_state()
    second = train_reward_model(data.clips, data.votes, QUICK, seed=7).state_dict()
    assert torch.equal(before, torch.random.get_rng_state())
    other = train_reward_model(data.clips, data.votes, QUICK, seed=8).state_dict()
    assert all(torch.equal(first[key], second[key]) for key in first)
    assert not torch.equal(first["heads.0.query"], other["heads.0.query"])


def test_features_can_be_given_instead_of_clips(blobs: BlobFactory) -> None:
    data = blobs(20, seed=4)
    model = train_reward_model(data.clips, data.votes, QUICK, seed=0)
    table = {name: model.backbone.features(as_batch([clip]))[0] for name, clip in data.clips.items()}
    again = train_reward_model(table, data.votes, QUICK, features=True, seed=0)
    assert torch.allclose(model.heads[0].query, again.heads[0].query, atol=1e-5)


def test_axes_train_on_their_own_votes_only(blobs: BlobFactory) -> None:
    spill, breakage = blobs(12, seed=5), blobs(12, seed=6, axis="breakage")
    records: list[dict[str, Any]] = []
    clips = {**spill.clips, **breakage.clips}
    model = train_reward_model(clips, spill.votes + breakage.votes, QUICK, log=records.append)
    assert model.axes == ("breakage", "spill")
    assert [(record["axis"], record["num_votes"]) for record in records] == [("breakage", 12), ("spill", 12)]
    assert all(np.isfinite(record["out_of_fold_nll"]) for record in records)


def test_without_absolute_labels_the_hazard_probability_is_nan(blobs: BlobFactory) -> None:
    data = blobs(12, seed=7)
    votes = [replace(vote, vote="tie") if vote.vote == "both_bad" else vote for vote in data.votes]
    clip = as_batch([next(iter(data.clips.values()))])
    assert train_reward_model(data.clips, votes, QUICK).hazard_probability(clip).isnan().all()
    verdicts = [Judgement(name, "spill", "fail" if bad else "pass", data.contexts[name]) for name, bad in data.unsafe.items()]
    judged = train_reward_model(data.clips, votes, QUICK, judgements=verdicts).hazard_probability(clip)
    assert ((judged > 0) & (judged < 1)).all()


def test_folds_are_even_and_members_never_see_theirs() -> None:
    generator = torch.Generator().manual_seed(0)
    fold = deal_folds(23, 5, generator)
    assert fold.bincount().tolist() == [5, 5, 5, 4, 4]
    weights = member_weights(fold, 5, generator)
    for member, context in itertools.product(range(5), range(23)):
        assert (weights[member, context] == 0) == (fold[context] == member)


def test_indexing_keeps_what_was_said() -> None:
    rows = {"x": 0, "y": 1, "z": 2}
    votes = as_votes(
        [
            {"rollout_a": "x", "rollout_b": "y", "axis": "spill", "vote": "both_bad", "context_id": "c2", "weight": 0.5},
            VoteRecord("z", "x", "spill", "b", "c1"),
            VoteRecord("z", "x", "spill", "skip", "c1"),
            VoteRecord("z", "x", "success", "a", "c1"),
        ]
    )
    judgements = as_judgements([Judgement("y", "spill", "fail"), Judgement("x", "spill", "unsure")])
    data = index_axis("spill", votes, judgements, rows)
    assert (data.first.tolist(), data.second.tolist(), data.classes.tolist()) == ([0, 2], [1, 0], [2, 1])
    assert (data.both_bad.tolist(), data.weight.tolist(), data.context.tolist()) == ([True, False], [0.5, 1.0], [1, 0])
    assert (data.judged.tolist(), data.failed.tolist(), data.judged_context.tolist()) == ([1], [1.0], [1])
    assert data.num_contexts == 2 and data.equal.tolist() == [True, False]
    assert not data.has_absolute, "nothing was called good in itself"
    tie = as_votes([VoteRecord("y", "z", "spill", "tie", "c3")])
    assert index_axis("spill", votes + tie, [], rows).has_absolute
    assert not index_axis("spill", tie, [], rows).equal.any(), "a tie is a pass only where both_bad is known"


def test_bad_votes_are_refused_in_one_sentence(blobs: BlobFactory) -> None:
    data = blobs(8, seed=8)
    with pytest.raises(DataError, match="no votes"):
        train_reward_model(data.clips, [replace(vote, vote="skip") for vote in data.votes], QUICK)
    with pytest.raises(DataError, match="votes name 1 rollouts that have no clip, first '8-3-b'"):
        train_reward_model({name: clip for name, clip in data.clips.items() if name != "8-3-b"}, data.votes, QUICK)
    with pytest.raises(DataError, match="none of the voted rollouts"):
        train_reward_model({}, data.votes, QUICK)
    with pytest.raises(DataError, match="votes on 4 contexts, at least 5"):
        train_reward_model(data.clips, data.votes[:4], QUICK)
    with pytest.raises(DataError, match="vote must be one of"):
        as_votes([replace(data.votes[0], vote="left")])
    with pytest.raises(DataError, match="verdict must be one of"):
        as_judgements([Judgement("x", "spill", "bad")])
    with pytest.raises(DataError, match="has no 'axis'"):
        as_votes([{"rollout_a": "x", "rollout_b": "y", "vote": "a", "context_id": "c"}])
    with pytest.raises(ValueError, match="num_members"):
        RewardTrainingConfig(num_members=1)
