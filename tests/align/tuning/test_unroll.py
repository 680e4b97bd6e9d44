"""Rollouts read again, differentiably: the same pictures, and the gradients that were promised."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy import stats

from align.tuning.unroll import Relaxation, draw_exponentials, gumbel_noise, interpolate_levels, unroll
from align.world_models.adapters import add_lora, policy_of
from align.world_models.engine import Policy, roll_out
from align.world_models.flat import FlatModel
from align.world_models.soft import Past, make_reader, paint_frame

Make = Callable[..., Any]
SEEDS = range(3)
RELAXED = Relaxation(straight_through=False, checkpointed=False)
SOFT_CHECKPOINTED = Relaxation(straight_through=False)


@pytest.fixture(params=["temporal_depth", "flat"])
def world_model(request: pytest.FixtureRequest, make_world_model: Make) -> Any:
    return make_world_model(request.param)


class Dream:
    """A tuned policy, what it dreamed, and its unrolling with a number to differentiate."""

    def __init__(self, world_model: Any, contexts: Any, tune_a_little: Make, path: str, double: bool = False) -> None:
        self.tokenizer = copy.deepcopy(world_model.tokenizer)
        base = copy.deepcopy(world_model.model)
        # Drawn in float32 first: which tokens they are doesn't matter here.
        cut = base.layout.prompt_length
        self.peft = tune_a_little(add_lora(base, 2, 4, 0), 0.3)
        self.ids = roll_out(policy_of(self.peft, base, path), contexts.ids[:, :cut], SEEDS).ids
        self.first = contexts.first_input()
        self.chance = draw_exponentials(SEEDS, base.layout)
        if double:
            for module in (base, self.peft, self.tokenizer):
                module.double()
            self.first = self.first.double()
        tuned = self.peft.get_base_model()
        self.policy = Policy(tuned, base if path == "action" else tuned)
        self.learned = [p for p in self.peft.parameters() if p.requires_grad]
        size = torch.Generator().manual_seed(1)
        shape = (base.layout.num_frames, *self.first.shape[1:])
        self.look = torch.randn(shape, generator=size).to(self.first.dtype)

    def video(self, how: Relaxation, levels: Any = None) -> Any:
        chance = self.chance if levels is None else None
        return unroll(self.policy, self.tokenizer, self.ids, self.first, how, exponentials=chance, levels=levels)

    def value(self, how: Relaxation, levels: Any = None) -> Any:
        """A reward that cares for every pixel, and not linearly."""
        seen = (self.video(how, levels) * self.look).mean((1, 2, 3, 4))
        return (seen + seen.square()).sum()

    def gradient(self, how: Relaxation) -> Any:
        return torch.cat([g.flatten() for g in torch.autograd.grad(self.value(how), self.learned)])


@pytest.fixture
def dream(world_model: Any, make_contexts: Make, tune_a_little: Make) -> Make:
    """``dream(path)``: three clips."""
    return lambda path="action": Dream(world_model, make_contexts(len(SEEDS)), tune_a_little, path)


@pytest.fixture
def dream_double(world_model: Any, make_model: Make, make_contexts: Make, tune_a_little: Make) -> Make:
    """``dream_double(path)``: the same in float64, around a causal LM that doesn't cast to float32 inside."""
    if isinstance(world_model.model, FlatModel):
        world_model = replace(world_model, model=make_model("flat", model_type="gpt_neox"))
    return lambda path: Dream(world_model, make_contexts(len(SEEDS)), tune_a_little, path, double=True)


@pytest.mark.parametrize("path", ["action", "shared"])
def test_pictures_are_the_engines(path: str, dream: Make) -> None:
    made = dream(path)
    codes, _ = made.policy.layout.split(made.ids)
    wanted = made.tokenizer.decode(codes, made.first)
    for how in (Relaxation(), Relaxation(last_steps=1), Relaxation(checkpointed=False)):
        torch.testing.assert_close(made.video(how).detach(), wanted, atol=2e-5, rtol=0)
    assert (made.video(RELAXED).detach() - wanted).abs().max() > 0.01, "soft pictures are others"


def test_readers_predict_as_the_model_does(world_model: Any, random_ids: Make) -> None:
    layout, ids = world_model.layout, random_ids(2)
    codes, bins = layout.split(ids)
    reader, past, found = make_reader(world_model.model), Past(), []
    for step in range(layout.num_frames):
        if step:
            for dim in range(layout.num_dims):
                logits = reader.action_logits(past, dim).log_softmax(-1)
                found.append(logits.gather(1, bins[:, step - 1, dim, None]))
                past = reader.read_action(past, dim, F.one_hot(bins[:, step - 1, dim], layout.num_bins).float())
            logits = reader.frame_logits(past, codes[:, step]).log_softmax(-1)
            found.append(logits.gather(2, codes[:, step, :, None])[..., 0])
        past = reader.read_frame(past, F.one_hot(codes[:, step], layout.num_codes).float())
    wanted = world_model.model.token_log_probs(ids)[:, layout.tokens_per_frame - 1 :]
    torch.testing.assert_close(torch.cat(found, 1), wanted, atol=2e-5, rtol=0)


@pytest.fixture
def keep_noise(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first unrolling draws the Gumbel noise, later ones repeat it: it is a constant of the gradient."""
    drawn: list[Any] = []
    calls = iter(range(10**9))
    per_run = 3 * 2  # steps past the context, dims

    def remember(log_probs: Any, *rest: Any) -> Any:
        call = next(calls)
        if call < per_run:
            drawn.append(gumbel_noise(log_probs, *rest))
        return drawn[call % per_run]

    monkeypatch.setattr("align.tuning.unroll.gumbel_noise", remember)


@pytest.mark.parametrize("path", ["action", "shared"])
def test_gradient_of_the_adapter_against_finite_differences(path: str, dream_double: Make, keep_noise: None) -> None:
    """Relaxed and in float64 the whole chain is smooth: along a direction the two agree to a millionth."""
    made, step = dream_double(path), 1e-5
    gradient = made.gradient(RELAXED)
    direction = torch.randn(gradient.shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    direction = direction / direction.norm() + gradient / gradient.norm()

    def moved(by: float) -> float:
        with torch.no_grad():
            for tensor, part in zip(made.learned, direction.split([p.numel() for p in made.learned]), strict=True):
                tensor += by * part.view_as(tensor)
            return float(made.value(RELAXED))

    expected = (moved(step) - moved(-2 * step)) / (2 * step)
    assert float(gradient @ direction) == pytest.approx(expected, rel=1e-6)
    assert gradient.norm() > 1e-4


def test_gradient_of_actions_against_finite_differences(dream_double: Make) -> None:
    made, step = dream_double("action"), 1e-6
    layout = made.policy.layout
    chance = torch.Generator().manual_seed(4)
    shape = (len(SEEDS), layout.num_frames - 1, layout.num_dims)
    levels = (torch.rand(shape, generator=chance, dtype=torch.float64) * (layout.num_bins - 1)).requires_grad_()
    (gradient,) = torch.autograd.grad(made.value(RELAXED, levels), levels)
    assert (gradient[:, : layout.context_frames - 1] == 0).all(), "actions of the context are given"
    for place in [(0, 1, 0), (1, 2, 1), (2, 3, 0)]:
        shift = torch.zeros(shape, dtype=torch.float64)
        shift[place] = step
        with torch.no_grad():
            expected = float(made.value(RELAXED, levels + shift) - made.value(RELAXED, levels - shift)) / (2 * step)
        assert float(gradient[place]) == pytest.approx(expected, rel=1e-5)


def test_checkpointing_changes_no_gradient(dream: Make) -> None:
    made = dream()
    pairs = [(Relaxation(), Relaxation(checkpointed=False)), (SOFT_CHECKPOINTED, RELAXED)]
    for kept, whole in pairs:
        assert torch.equal(made.gradient(kept), made.gradient(whole))


def test_checkpointing_keeps_less(dream: Make) -> None:
    """What a step keeps for the backward pass, counted: with checkpoints only what passes on, and no weights of codes."""
    made = dream()

    def kept(how: Relaxation) -> int:
        sizes: dict[int, int] = {}

        def pack(tensor: Any) -> Any:
            sizes[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            value = made.value(how)
        assert value.requires_grad
        return sum(sizes.values())

    assert kept(Relaxation()) < 0.3 * kept(Relaxation(checkpointed=False))


@pytest.mark.parametrize("how", [Relaxation(), SOFT_CHECKPOINTED])
def test_truncation_keeps_the_last_steps_whole_and_drops_the_others(how: Relaxation, dream: Make) -> None:
    made = dream()
    layout = made.policy.layout
    levels = made.policy.layout.split(made.ids)[1].float() * 0.9 + 0.05
    levels.requires_grad_()

    def gradient(last_steps: int | None) -> Any:
        cut = Relaxation(straight_through=how.straight_through, last_steps=last_steps)
        return torch.autograd.grad(made.value(cut, levels), levels)[0]

    whole = gradient(None)
    assert (whole[:, layout.context_frames - 1 :] != 0).any(-1).all()
    for last_steps in (1, 2):
        cut = gradient(last_steps)
        torch.testing.assert_close(cut[:, -last_steps:], whole[:, -last_steps:], atol=1e-6, rtol=1e-4)
        assert (cut[:, :-last_steps] == 0).all()
    assert torch.equal(gradient(99), whole)
    assert not torch.allclose(made.gradient(Relaxation(last_steps=1)), made.gradient(Relaxation()), rtol=0.1)


def test_noise_given_the_winner_is_gumbel_noise() -> None:
    """Drawing the winner and then the noise is drawing noise and taking the winner."""
    chance = np.random.default_rng(0)
    log_probs = torch.tensor([0.6, 0.3, 0.09, 0.01]).log().expand(4000, 4)
    drawn = torch.from_numpy(chance.choice(4, 4000, p=[0.6, 0.3, 0.09, 0.01]))
    exponentials = torch.from_numpy(chance.standard_exponential((4000, 4))).float()
    noise = gumbel_noise(log_probs, drawn, exponentials)
    assert torch.equal((log_probs + noise).argmax(-1), drawn)
    for column in noise.T.double().numpy():
        assert stats.kstest(column, stats.gumbel_r.cdf).pvalue > 0.001
    # Independent of each other as well: the sum has the variance of two.
    assert float((noise[:, 0] + noise[:, 1]).var()) == pytest.approx(2 * np.pi**2 / 6, rel=0.1)


def test_noise_is_finite_where_an_action_is_impossible() -> None:
    log_probs = torch.tensor([[0.0, -300.0]])
    for winner in (0, 1):
        noise = gumbel_noise(log_probs, torch.tensor([winner]), torch.tensor([[1e-20, 2.0]]))
        assert noise.isfinite().all() and int((log_probs + noise).argmax()) == winner


def test_chance_of_a_rollout_is_its_own(layout: Any) -> None:
    two, one = draw_exponentials([7, 8], layout), draw_exponentials([8], layout)
    assert torch.equal(two[1:], one) and not torch.equal(two[0], two[1])


def test_levels_are_interpolated() -> None:
    levels = torch.tensor([0.0, 1.25, 3.0], requires_grad=True)
    weights = interpolate_levels(levels, 4)
    torch.testing.assert_close(
        weights.detach(), torch.tensor([[1.0, 0, 0, 0], [0, 0.75, 0.25, 0], [0, 0, 0, 1.0]]), atol=1e-6, rtol=0
    )
    (slope,) = torch.autograd.grad((weights * torch.tensor([0.0, 1.0, 4.0, 9.0])).sum(), levels)
    assert slope.tolist() == pytest.approx([1.0, 3.0, 5.0])


def test_a_copied_cell_fades_to_what_it_would_show_instead(make_world_model: Make) -> None:
    tokenizer = make_world_model("temporal_depth").tokenizer
    chances = torch.full((1, 6, 9), 0.5 / 8)
    chances[..., 3], chances[..., -1] = 0.1, 0.5
    chances = chances / chances.sum(-1, keepdim=True)
    first = torch.rand(1, 3, 8, 12, generator=torch.Generator().manual_seed(0))
    drawn = torch.full((1, 6), 8)
    weights = F.one_hot(drawn, 9).float().requires_grad_()
    picture = paint_frame(tokenizer, weights, first, drawn, chances)
    assert torch.equal(picture.detach(), first)
    (slope,) = torch.autograd.grad(picture[..., :4, :4].sum(), weights)
    instead = tokenizer.decode(torch.full((1, 2, 6), 3), first)[:, 1]
    fading = (first - instead)[..., :4, :4].sum()
    assert float(slope[0, 0, -1]) == pytest.approx(float(fading), rel=1e-4)
    assert (slope[0, 1:, -1] == 0).all()


def test_bad_arguments_are_named(dream: Make) -> None:
    made = dream()
    with pytest.raises(ValueError, match="temperatures must be above 0"):
        Relaxation(temperature=0)
    with pytest.raises(ValueError, match="last_steps must be at least 1"):
        Relaxation(last_steps=0)
    with pytest.raises(ValueError, match="give exponentials"):
        unroll(made.policy, made.tokenizer, made.ids, made.first, Relaxation())
