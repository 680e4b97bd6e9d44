"""Rollouts: exact, repeatable, and the same whoever shares the batch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from align.world_models.adapters import add_lora, policy_of
from align.world_models.engine import Policy, act_on_true_frames, draw_uniforms, pick, roll_out

Make = Callable[..., Any]


def prompts_of(model: Any, random_ids: Make, batch: int) -> Any:
    return random_ids(batch)[:, : model.layout.prompt_length]


def tuned(model: Any, path: str, scale: float = 0.3) -> Policy:
    """A policy whose adapter does something."""
    peft = add_lora(model, 2, 4, seed=0)
    torch.manual_seed(1)
    with torch.no_grad():
        for name, tensor in peft.named_parameters():
            if "lora_B" in name:
                tensor.normal_(std=scale)
    return policy_of(peft, model, path)


def test_pick_inverts_the_distribution() -> None:
    logits = torch.tensor([0.2, 0.3, 0.5]).log().expand(6, -1)
    index, log_probs = pick(logits, torch.tensor([0.0, 0.19, 0.21, 0.49, 0.51, 1 - 2**-24]), 1.0)
    assert index.tolist() == [0, 0, 1, 1, 2, 2]
    torch.testing.assert_close(log_probs.exp(), torch.tensor([0.2, 0.2, 0.3, 0.3, 0.5, 0.5]))


def test_pick_is_sharper_when_cold_and_tells_the_warm_log_probability() -> None:
    logits = torch.tensor([[0.2, 0.8]]).log().expand(2, -1)
    # At temperature 1/2 the probabilities are 0.04 and 0.64 over 0.68.
    index, log_probs = pick(logits, torch.tensor([0.058, 0.06]), 0.5)
    assert index.tolist() == [0, 1]
    torch.testing.assert_close(log_probs.exp(), torch.tensor([0.2, 0.8]))


def test_cached_log_probs_are_the_teacher_forced_ones(model: Any, random_ids: Make) -> None:
    layout = model.layout
    made = roll_out(Policy(model, model), prompts_of(model, random_ids, 8), range(8), batch_size=8)
    wanted = model.token_log_probs(made.ids)[:, layout.prompt_length - 1 :]
    torch.testing.assert_close(made.log_probs[:, layout.prompt_length :], wanted, atol=1e-4, rtol=0)
    assert (made.log_probs[:, : layout.prompt_length] == 0).all()


def test_rollouts_hold_only_ids_that_may_stand_there(model: Any, random_ids: Make) -> None:
    ids = roll_out(
        Policy(model, model), prompts_of(model, random_ids, 8), range(8), batch_size=8, temperature=3.0, frame_temperature=3.0
    ).ids
    assert model.layout.allowed_ids()[model.layout.kinds, ids].all()


def test_a_rollout_is_the_same_in_any_company(model: Any, random_ids: Make) -> None:
    policy, prompts = Policy(model, model), prompts_of(model, random_ids, 7)
    seeds = [11, 5, 9, 2, 7, 3, 1]
    together = roll_out(policy, prompts, seeds, batch_size=4)
    for row in (0, 4, 6):
        alone = roll_out(policy, prompts[row : row + 1], [seeds[row]], batch_size=4)
        assert torch.equal(alone.ids[0], together.ids[row])
        assert torch.equal(alone.log_probs[0], together.log_probs[row])
    order = [3, 6, 0, 5, 2, 4, 1]
    mixed = roll_out(policy, prompts[order], [seeds[i] for i in order], batch_size=4)
    assert torch.equal(mixed.ids, together.ids[order]) and torch.equal(mixed.log_probs, together.log_probs[order])


def test_seeds_make_the_difference(model: Any, random_ids: Make) -> None:
    policy, prompt = Policy(model, model), prompts_of(model, random_ids, 1).repeat(2, 1)
    same, other = roll_out(policy, prompt, [4, 4], batch_size=2).ids, roll_out(policy, prompt, [4, 5], batch_size=2).ids
    assert torch.equal(same[0], same[1]) and not torch.equal(other[0], other[1])


def test_greedy_takes_the_likeliest_and_needs_no_chance(model: Any, random_ids: Make) -> None:
    policy, prompts = Policy(model, model), prompts_of(model, random_ids, 3)
    ids = roll_out(policy, prompts, [1, 2, 3], temperature=0.0, frame_temperature=0.0, batch_size=3).ids
    assert torch.equal(ids, roll_out(policy, prompts, [4, 5, 6], temperature=0.0, frame_temperature=0.0, batch_size=3).ids)
    start = model.layout.prompt_length
    assert torch.equal(model(ids).logits.argmax(-1)[:, start - 1 : -1], ids[:, start:])


def test_frames_may_be_colder_than_actions(model: Any, random_ids: Make) -> None:
    layout, policy, prompts = model.layout, Policy(model, model), prompts_of(model, random_ids, 3)
    made = roll_out(policy, prompts, [1, 2, 3], temperature=1.0, frame_temperature=0.0, batch_size=3)
    likeliest = model(made.ids).logits.argmax(-1)[:, :-1] == made.ids[:, 1:]
    assert likeliest[:, layout.frame_mask()[1:]].all()
    assert not likeliest[:, layout.action_mask()[1:]].all()


def test_given_actions_are_kept_and_the_contexts_own_win(model: Any, random_ids: Make) -> None:
    layout, ids = model.layout, random_ids(3)
    given = layout.split(random_ids(3, seed=9))[1]
    made = roll_out(Policy(model, model), ids[:, : layout.prompt_length], range(3), bins=given, batch_size=3)
    bins, past = layout.split(made.ids)[1], layout.context_frames - 1
    assert torch.equal(bins[:, past:], given[:, past:])
    assert torch.equal(made.ids[:, : layout.prompt_length], ids[:, : layout.prompt_length])
    assert (made.log_probs[:, layout.kinds > 0] == 0).all()
    wanted = model.token_log_probs(made.ids)[:, layout.frame_mask()[1:]]
    torch.testing.assert_close(made.log_probs[:, layout.frame_mask()], wanted, atol=1e-4, rtol=0)


def test_two_paths_without_an_update_are_the_base(model: Any, random_ids: Make) -> None:
    prompts = prompts_of(model, random_ids, 4)
    split = policy_of(add_lora(model, 2, 4, seed=0), model, "action")
    assert split.behaviour is not split.dynamics
    base, two = (roll_out(policy, prompts, range(4), batch_size=4) for policy in (Policy(model, model), split))
    assert torch.equal(base.ids, two.ids)
    torch.testing.assert_close(base.log_probs, two.log_probs, atol=1e-5, rtol=0)


def test_two_paths_act_by_one_model_and_dream_by_the_other(model: Any, random_ids: Make) -> None:
    layout, policy = model.layout, tuned(model, "action")
    made = roll_out(policy, prompts_of(model, random_ids, 6), range(6), batch_size=6)
    for mask, source in ((layout.action_mask(), policy.behaviour), (layout.frame_mask(), model)):
        wanted = source.token_log_probs(made.ids)[:, mask[1:]]
        torch.testing.assert_close(made.log_probs[:, mask], wanted, atol=1e-4, rtol=0)
    acted = policy.behaviour.token_log_probs(made.ids)[:, layout.action_mask()[1:]]
    assert (acted - model.token_log_probs(made.ids)[:, layout.action_mask()[1:]]).abs().max() > 1e-2


def test_acting_on_the_frames_of_a_dream_repeats_its_actions(model: Any, random_ids: Make) -> None:
    policy, prompts, seeds = tuned(model, "action"), prompts_of(model, random_ids, 4), [3, 1, 4, 5]
    codes, bins = model.layout.split(roll_out(policy, prompts, seeds, batch_size=4).ids)
    told = []

    def observe(frame_idx: int, actions: Any) -> Any:
        told.append(actions)
        return codes[:, frame_idx]

    context_bins = bins[:, : model.layout.context_frames - 1]
    assert torch.equal(act_on_true_frames(policy, observe, context_bins, seeds), bins)
    assert told[0] is None
    np.testing.assert_array_equal(np.stack(told[1:], 1), model.layout.bins_to_actions(bins).numpy())


def test_progress_counts_each_clip_once(model: Any, random_ids: Make) -> None:
    done: list[int] = []
    roll_out(Policy(model, model), prompts_of(model, random_ids, 5), range(5), batch_size=2, progress=done.append)
    assert done == [2, 2, 1]


def test_uniforms_depend_on_the_seed_alone(layout: Any) -> None:
    draws = draw_uniforms([7, 8], layout)
    assert draws.shape == (2, layout.num_frames, layout.stride) and draws.min() >= 0 and draws.max() < 1
    assert torch.equal(draws[1], draw_uniforms([8], layout)[0])


def test_wrong_sizes_are_named(model: Any, random_ids: Make) -> None:
    policy, ids = Policy(model, model), random_ids(2)
    with pytest.raises(ValueError, match=f"must have {model.layout.prompt_length} ids, got {model.layout.length}"):
        roll_out(policy, ids, [1, 2])
    with pytest.raises(ValueError, match="got 1 for 2"):
        roll_out(policy, ids[:, : model.layout.prompt_length], [1])
