"""Before the first weight changes: faults that training would hide.

An empty adapter, a policy that samples otherwise than it is trained, merged weights that answer otherwise, ranks that all
learn from the same rows, and gradients that are never shared leave a loss that falls and an adapter that is worth nothing.
Each is refused with a sentence.
"""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import TrainerCallback
from trl.trainer.utils import use_adapter

from align.errors import ConfigError, RunError
from align.tuning.policy import score_actions
from align.tuning.ranks import Ranks
from align.world_models.layout import TokenLayout

TOLERANCE = 1e-3
"""Largest difference in nats a token between log-probabilities that should be equal; float32 gives a hundredth of it."""
GRADIENT_TOLERANCE = 1e-5
"""Largest relative difference of gradients between ranks after they were averaged."""
_CLIPS = 2


def check_policy(policy: Any) -> None:
    """Check a policy (a PeftModel on a token world model, with the compact head) before it is trained.

    Clips of random ids are enough, because nothing here asks what is likely. Needs a second copy of the model for a moment.

    Raises:
        RunError: If the adapter is empty, the ratio of new to old probabilities is not 1, or merging changes the answers.
    """
    learned = [p for p in policy.parameters() if p.requires_grad]
    if not learned:
        raise RunError("the adapter is empty: nothing in the policy is trainable; check its rank and the modules it targets")
    ids = random_clips(policy.get_base_model().layout, _CLIPS).to(learned[0].device)
    training = policy.training
    try:
        # Dropout, if there is any, must not change what the run draws later.
        with torch.random.fork_rng(devices=[ids.device] if ids.is_cuda else []):
            _check_reached(policy, learned, ids)
            _check_ratio(policy, ids)
            _check_merged(policy, ids)
    finally:
        policy.train(training)


def random_clips(layout: TokenLayout, count: int) -> Tensor:
    """Valid ids int64 [count, L], the same every time."""
    chance = torch.Generator().manual_seed(0)
    codes = torch.randint(layout.num_codes, (count, layout.num_frames, layout.tokens_per_frame), generator=chance)
    bins = torch.randint(layout.num_bins, (count, layout.num_frames - 1, layout.num_dims), generator=chance)
    return layout.join(codes, bins)


def _trained_log_probs(policy: Any, ids: Tensor) -> Tensor:
    """Log-probabilities [B, K] of the action tokens as the losses see them."""
    wanted = policy.get_base_model().layout.action_mask().to(ids.device)
    labels = ids.masked_fill(~wanted, -100)
    out = policy(
        input_ids=ids, attention_mask=torch.ones_like(ids), labels=labels, fused_lm_head=True, frames=False, use_cache=False
    )
    log_probs: Tensor = out.log_probs[:, wanted[1:]]
    return log_probs


def _check_reached(policy: Any, learned: Sequence[Tensor], ids: Tensor) -> None:
    with torch.enable_grad():
        total = _trained_log_probs(policy.train(), ids).sum()
        gradients = torch.autograd.grad(total, learned, allow_unused=True) if total.requires_grad else ()
    if not any(bool((gradient != 0).any()) for gradient in gradients if gradient is not None):
        raise RunError(
            "the adapter is empty: no gradient of the actions' probabilities reaches it; check the modules it targets, "
            "and that it was not initialised with zeros throughout"
        )


@torch.no_grad()
def _check_ratio(policy: Any, ids: Tensor) -> None:
    """The policy that is trained against the one that acted, and against the reference, from which it starts."""
    new = _trained_log_probs(policy.train(), ids)
    old, _ = score_actions(policy.eval().get_base_model(), ids)
    _compare(
        new,
        old,
        "the ratio of new to old probabilities is not 1 before the first step: the policy in training and the same policy "
        "acting differ by {gap} nats a token; turn dropout off",
    )
    with use_adapter(policy, "ref" if "ref" in policy.peft_config else None):
        reference, _ = score_actions(policy.get_base_model(), ids)
    _compare(
        old,
        reference,
        "the ratio of new to old probabilities is not 1 before the first step: the policy differs from its reference by {gap} "
        "nats a token; start from a fresh adapter, or make the one you start from the reference as well",
    )


@torch.no_grad()
def _check_merged(policy: Any, ids: Tensor) -> None:
    """A fresh adapter does nothing, merged or not; so a copy of it is given an effect first."""
    copied = copy.deepcopy(policy).eval()
    chance = torch.Generator().manual_seed(0)
    for name, tensor in copied.named_parameters():
        if ".lora_B." in name:
            tensor += 0.02 * torch.randn(tensor.shape, generator=chance).to(tensor)
    unmerged, _ = score_actions(copied.get_base_model(), ids)
    merged, _ = score_actions(copied.merge_and_unload(), ids)
    _compare(
        merged,
        unmerged,
        "an adapter merged into the weights answers otherwise than beside them, by {gap} nats a token; use a kind of adapter "
        "that can be merged, on weights that are not quantised",
    )


def _compare(first: Tensor, second: Tensor, sentence: str) -> None:
    gap = float((first - second).abs().max())
    if not gap <= TOLERANCE:
        raise RunError(sentence.format(gap=f"{gap:.2g}"))


class Preflight(TrainerCallback):
    """Looks at the first step of a training, on all ranks, before any weight changes.

    Args:
        trainer: A Hugging Face trainer; its first batch is seen through ``training_step``.
    """

    def __init__(self, trainer: Any) -> None:
        self.trainer = trainer
        self.ranks = Ranks.here()
        self.sharded = bool(trainer.is_fsdp_enabled or trainer.is_deepspeed_enabled)
        self.waiting = True

    def attach(self) -> None:
        """Check what can be seen without a batch, and wait for the first step.

        Raises:
            ConfigError: If weights are to be shared out over ranks and the trainer needs them whole.
            RunError: If the trainer doesn't know of all the ranks.
        """
        known = self.trainer.accelerator.num_processes
        if known != self.ranks.count:
            raise RunError(f"{self.ranks.count} processes were started but the trainer knows of {known}, so nothing is shared")
        if _shares_weights(self.trainer) and (reason := _needs_whole_weights(self.trainer)):
            raise ConfigError(f"{reason} needs the whole model on every process; take the accelerate configuration ddp")
        self.trainer.add_callback(self)
        self._see_first_batch()

    def _see_first_batch(self) -> None:
        step = self.trainer.training_step

        def watched(model: Any, inputs: Any, *rest: Any, **named: Any) -> Any:
            self.trainer.training_step = step
            check_data(self.ranks.gather(digest(inputs)))
            return step(model, inputs, *rest, **named)

        self.trainer.training_step = watched

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """An adapter that training goes on from must have an effect by now."""
        if state.global_step > 0 and not self.sharded:
            check_resumed(self.trainer.model, state.global_step)

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Gradients are averaged by now. Where they are shared out (FSDP, DeepSpeed) no rank has what another has."""
        if self.waiting and not self.sharded:
            check_gradients(self.ranks.gather(measure_gradients(self.trainer.model)))
        self.waiting = False


def _shares_weights(trainer: Any) -> bool:
    """Whether each rank holds a part of the weights only."""
    plugin = getattr(getattr(trainer.accelerator, "state", None), "deepspeed_plugin", None)
    return bool(trainer.is_fsdp_enabled or (plugin is not None and plugin.zero_stage == 3))


def _needs_whole_weights(trainer: Any) -> str:
    """What in a trainer reads weights past the wrapped model; "" if nothing does."""
    if getattr(trainer, "rollout_func", None) is not None:
        return "sampling with the adapter merged"
    return "the anchor on frames" if getattr(trainer, "anchor", None) is not None else ""


def check_resumed(policy: Any, step: int) -> None:
    """Raise RunError if an adapter that was trained for ``step`` steps does nothing, so that it was not really loaded."""
    grown = [tensor for name, tensor in policy.named_parameters() if ".lora_B.default." in name]
    if grown and not any(bool((tensor != 0).any()) for tensor in grown):
        raise RunError(f"the adapter of step {step} changes nothing, so its checkpoint was not loaded; start a new run")


def digest(value: Any) -> str:
    """SHA-256 of a batch, whatever it is made of."""
    found = hashlib.sha256()
    for part in _flatten(value):
        found.update(part)
    return found.hexdigest()


def _flatten(value: Any) -> Iterator[bytes]:
    if isinstance(value, Tensor):
        yield value.detach().cpu().reshape(-1).contiguous().view(torch.uint8).numpy().tobytes()
    elif isinstance(value, Mapping):
        for key in sorted(value):
            yield str(key).encode()
            yield from _flatten(value[key])
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _flatten(item)
    else:
        yield repr(value).encode()


def check_data(digests: Sequence[str]) -> None:
    """Raise RunError if two ranks have the same first batch; ``digests`` has one a rank."""
    for rank, found in enumerate(digests):
        if (first := digests.index(found)) != rank:
            raise RunError(
                f"processes {first} and {rank} see the same data in the first step, so one of them adds nothing; let the "
                "trainer share the data out, and have more of it than one batch for each process"
            )


def measure_gradients(policy: Any) -> list[float]:
    """Norm and sum of each learned tensor's gradient, NaN where it has none."""
    figures = []
    for tensor in (p for p in policy.parameters() if p.requires_grad):
        gradient = None if tensor.grad is None else tensor.grad.double()
        figures += [float("nan")] * 2 if gradient is None else [float(gradient.norm()), float(gradient.sum())]
    return figures


def check_gradients(by_rank: Sequence[Sequence[float]]) -> None:
    """Raise RunError if ranks hold different gradients; ``by_rank`` has what :meth:`measure_gradients` gave each."""
    table = torch.tensor([list(figures) for figures in by_rank], dtype=torch.float64)
    scale = torch.nan_to_num(table[:, ::2]).square().sum(1).sqrt().max().clamp(min=1e-30)
    gap = float((torch.nan_to_num(table) - torch.nan_to_num(table[:1])).abs().max() / scale)
    if gap > GRADIENT_TOLERANCE or bool((table.isnan() != table[:1].isnan()).any()):
        raise RunError(
            f"gradients differ between processes by {gap:.2g} of their norm after they were averaged, so each trains a model "
            "of its own; call the model that the trainer wrapped, not the one inside it"
        )
