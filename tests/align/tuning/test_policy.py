"""What every policy trainer needs: the tokenizer of ids, and scores of tokens that are TRL's and the model's own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from trl.trainer.utils import add_fused_lm_head

from align.tuning.policy import estimate_kl, id_tokenizer, score_actions, use_compact_head

Make = Callable[..., Any]


def test_tokenizer_of_ids_is_a_round_trip(layout: Any) -> None:
    tokenizer, ids = id_tokenizer(layout), [0, 7, layout.pad_id, 12]
    assert tokenizer.decode(ids) == f"<0><7><{layout.pad_id}><12>"
    assert tokenizer(tokenizer.decode(ids))["input_ids"] == ids


def test_compact_head_gives_every_field_at_every_scored_position(make_model: Make, random_ids: Make) -> None:
    ids = random_ids(3)
    labels = ids.masked_fill(~make_model("flat").layout.action_mask(), -100)
    outputs = []
    for change in (add_fused_lm_head, use_compact_head):
        model = make_model("flat")
        change(model)
        outputs.append(model(ids, labels=labels, fused_lm_head=True))
    stock, ours = outputs
    mask = labels[:, 1:] != -100
    torch.testing.assert_close(ours.log_probs[mask], stock.log_probs[mask], atol=1e-5, rtol=0)
    assert (ours.log_probs[~mask] == 0).all()
    torch.testing.assert_close(ours.loss, -ours.log_probs[mask].mean())


def test_scores_of_actions_are_the_models_own(model: Any, layout: Any, random_ids: Make) -> None:
    ids = random_ids(5)
    log_probs, entropy = score_actions(model, ids, batch_size=2)
    wanted = model(ids).logits[:, :-1].log_softmax(-1)[:, layout.action_mask()[1:]]
    targets = ids[:, 1:][:, layout.action_mask()[1:]]
    torch.testing.assert_close(log_probs, wanted.gather(2, targets[..., None])[..., 0], atol=2e-5, rtol=0)
    torch.testing.assert_close(entropy, -(wanted.exp() * wanted).sum(-1), atol=2e-5, rtol=0)
    assert log_probs.shape == (5, 3 * layout.num_dims) and (entropy > 0).all()


def test_kl_of_rollouts_is_zero_at_the_base_and_sums_over_actions(make_model: Make, random_ids: Make) -> None:
    policy, base, ids = make_model("flat"), make_model("flat", seed=1), random_ids(3)
    assert torch.equal(estimate_kl(base, base, ids), torch.zeros(3, dtype=torch.float64))
    mask = base.layout.action_mask()[1:]
    ratio = (policy.token_log_probs(ids) - base.token_log_probs(ids))[:, mask].double()
    by_hand = torch.stack([sum(torch.exp(-r) - 1 + r for r in row) for row in ratio])
    torch.testing.assert_close(estimate_kl(policy, base, ids), by_hand, atol=1e-4, rtol=1e-4)
    assert (by_hand > 0).all()
