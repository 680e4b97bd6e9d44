"""What every shape must keep, and the temporal + depth shape's own arithmetic."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from align.world_models.temporal_depth import TemporalDepthConfig, TemporalDepthModel, neighbour_index

Make = Callable[..., Any]


def changed_everywhere(ids: Any, layout: Any) -> Any:
    """[L, L]: row p is the clip with another valid token at p."""
    rows = ids.repeat(layout.length, 1)
    allowed = layout.allowed_ids()
    for p in range(layout.length):
        others = allowed[layout.kinds[p]].nonzero()[:, 0]
        rows[p, p] = others[(others > rows[p, p]).nonzero()[0, 0]] if (others > rows[p, p]).any() else others[0]
    return rows


def test_causality_is_exact(model: Any, random_ids: Make) -> None:
    layout, ids = model.layout, random_ids(1)
    before, after = model(ids.repeat(layout.length, 1)).logits, model(changed_everywhere(ids, layout)).logits
    for p in range(layout.length):
        assert torch.equal(after[p, :p], before[p, :p]), f"token {p} is seen too early"
        if p < layout.length - 1:
            assert not torch.equal(after[p, p:], before[p, p:]), f"token {p} is never seen"


def test_every_prefix_gives_the_same_logits(model: Any, random_ids: Make) -> None:
    ids = random_ids(2)
    whole = model(ids).logits.clamp(min=-100)  # near -1e4 float32 has no decimals to compare
    for length in range(1, ids.shape[1] + 1):
        got = model(ids[:, :length]).logits.clamp(min=-100)
        torch.testing.assert_close(got, whole[:, :length], atol=2e-5, rtol=0)


def test_right_padding_changes_nothing(model: Any, random_ids: Make) -> None:
    ids = random_ids(2)
    padded, mask = ids.clone(), torch.ones_like(ids)
    padded[:, 20:], mask[:, 20:] = model.layout.pad_id, 0
    kept = model(padded, attention_mask=mask).logits[:, :20].clamp(min=-100)
    torch.testing.assert_close(kept, model(ids).logits[:, :20].clamp(min=-100), atol=2e-5, rtol=0)


def test_left_padding_is_refused(model: Any, random_ids: Make) -> None:
    ids = random_ids(1)
    mask = torch.ones_like(ids)
    mask[:, 0] = 0
    with pytest.raises(ValueError, match="padded on the right"):
        model(ids, attention_mask=mask)


def test_forbidden_ids_have_no_probability(model: Any, random_ids: Make) -> None:
    layout = model.layout
    probabilities = model(random_ids(3)).logits.softmax(-1)[:, :-1]
    allowed = layout.allowed_ids()[layout.kinds[1:]]
    assert (probabilities[:, ~allowed] == 0).all()
    inside = probabilities[:, layout.kinds[1:] == 0][..., : layout.num_codes].sum(-1)
    torch.testing.assert_close(inside, torch.ones_like(inside))


def test_token_log_probs_are_the_log_softmax_of_the_logits(model: Any, random_ids: Make) -> None:
    ids = random_ids(3)
    by_hand = model(ids).logits[:, :-1].log_softmax(-1).gather(2, ids[:, 1:, None])[..., 0]
    torch.testing.assert_close(model.token_log_probs(ids), by_hand)


def test_actions_alone_score_the_same_without_frames(model: Any, random_ids: Make) -> None:
    ids, layout = random_ids(3), model.layout
    action = layout.action_mask(past_context=False)[1:]
    alone = model.token_log_probs(ids, frames=False)
    torch.testing.assert_close(alone[:, action], model.token_log_probs(ids)[:, action])
    assert (alone[:, ~action] == 0).all()


def test_loss_is_the_mean_over_labels(model: Any, random_ids: Make) -> None:
    ids = random_ids(2)
    labels = ids.masked_fill(~model.layout.action_mask(), -100)
    log_probs = model.token_log_probs(ids)[:, model.layout.action_mask()[1:]]
    torch.testing.assert_close(model(ids, labels=labels).loss, -log_probs.mean())


def test_kind_columns_never_learn(make_model: Make, random_ids: Make) -> None:
    model = make_model("temporal_depth").requires_grad_(True)
    ids = random_ids(2)
    model(ids, labels=ids).loss.backward()
    width = model.config.hidden_width
    assert (model.lm_head.weight.grad[:, width:] == 0).all()
    assert (model.lm_head.weight.grad[:, :width] != 0).any()


def test_neighbours_of_a_corner_and_of_the_middle() -> None:
    index = neighbour_index(3, 3)
    assert index[0].tolist() == [9, 9, 9, 9, 0, 1, 9, 3, 4]
    assert index[4].tolist() == list(range(9))


def test_grid_must_hold_the_tokens(layout: Any) -> None:
    with pytest.raises(ValueError, match="6 tokens a frame"):
        TemporalDepthModel(TemporalDepthConfig(layout.to_dict(), grid=(2, 2)))
