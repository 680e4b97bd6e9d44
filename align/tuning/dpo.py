"""Direct preference optimisation of behaviour: TRL's DPOTrainer on action tokens, with an anchor on frames.

The loss on a pair of rollouts of one context (Rafailov et al. 2023, arXiv:2305.18290) is

    -log σ(β [Σ_t log π(a⁺_t)/π₀(a⁺_t) - Σ_t log π(a⁻_t)/π₀(a⁻_t)]) - w · mean_t log π(a⁺_t)

where only *action* tokens are summed: what the world did in answer is evidence, not behaviour. The second term keeps the
chosen actions likely; without it plain DPO pushes both down until the robot forgets its task.

We override as little of TRL as possible: rows are already token ids, the collator masks what carries no loss, the fused
head only computes scored positions, and an anchor may be added to the loss.
"""

from __future__ import annotations

import types
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from datasets import Dataset
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
from torch import Tensor, nn
from transformers import PreTrainedTokenizerFast
from trl import DPOTrainer
from trl.trainer.dpo_trainer import DataCollatorForPreference
from trl.trainer.utils import FusedCausalLMOutput

from align.world_models.base import TokenWorldModel
from align.world_models.layout import TokenLayout
from align.world_models.temporal_depth import TemporalDepthModel

Anchor = Callable[[nn.Module, int], Tensor]
"""Gives a scalar loss for the policy (a PeftModel) at a step; the same step draws the same clips, so a run can be resumed."""


def id_tokenizer(layout: TokenLayout) -> PreTrainedTokenizerFast:
    """The tokenizer object that TRL asks for: id 7 is the string "<7>". Our data never passes through strings."""
    vocabulary = {f"<{index}>": index for index in range(layout.vocab_size)}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token=f"<{layout.pad_id}>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex("<[^>]+>"), "isolated")
    tokenizer.decoder = decoders.Fuse()
    pad = f"<{layout.pad_id}>"
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token=pad, eos_token=pad, unk_token=pad)


def preference_rows(layout: TokenLayout, chosen: Tensor, rejected: Tensor) -> Dataset:
    """TRL's columns from whole clips: ids int64 [P, L] of the better and the worse rollout of each pair.

    Raises:
        ValueError: If the two of a pair don't start from the same context.
    """
    cut = layout.prompt_length
    if not torch.equal(chosen[:, :cut], rejected[:, :cut]):
        raise ValueError("chosen and rejected must start from the same context in every pair")
    columns = {"prompt_ids": chosen[:, :cut], "chosen_ids": chosen[:, cut:], "rejected_ids": rejected[:, cut:]}
    return Dataset.from_dict({name: ids.tolist() for name, ids in columns.items()})


@dataclass
class BehaviourCollator(DataCollatorForPreference):
    """TRL's collator, with the completion mask cut down to the tokens that carry loss.

    Attributes:
        scored: bool [L], tokens of a clip that may carry loss.
        frames: Whether frame positions are needed; False lets the model skip them.
    """

    scored: Tensor | None = None
    frames: bool = False

    def torch_call(self, examples: list[dict[str, Any]]) -> dict[str, Any]:
        batch = super().torch_call(examples)
        assert self.scored is not None
        batch["completion_mask"] = batch["completion_mask"] * self.scored[: batch["input_ids"].shape[1]].long()
        batch["frames"] = self.frames
        return batch


class BehaviourDPOTrainer(DPOTrainer):
    """TRL's DPOTrainer for world models.

    Args:
        anchor: Added to the loss with ``anchor_weight``; None for adapters of the action path, which can't touch frames.
        anchor_weight: Weight of the anchor.
    """

    def __init__(self, *args: Any, anchor: Anchor | None = None, anchor_weight: float = 0.0, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.anchor, self.anchor_weight = anchor, anchor_weight
        policy: Any = self.model
        use_compact_head(policy.get_base_model())

    def _prepare_dataset(self, dataset: Any, *args: Any, **kwargs: Any) -> Any:
        """Rows are token ids already."""
        return dataset

    def _compute_loss(self, model: nn.Module, inputs: dict[str, Any], return_outputs: bool) -> Any:
        loss = super()._compute_loss(model, inputs, return_outputs)
        if self.anchor is None or not model.training:
            return loss
        step = self.state.global_step * self.accelerator.num_processes + self.accelerator.process_index
        anchor = self.anchor(self.accelerator.unwrap_model(model), step)
        self._metrics["train"]["anchor"].append(float(anchor.detach()))
        return loss + self.anchor_weight * anchor


def use_compact_head(model: TokenWorldModel) -> None:
    """Make ``model(..., labels=…, fused_lm_head=True)`` project only the positions whose label is scored.

    TRL's own fused head does so on GPUs with Triton; elsewhere it projects every position of the clip, most of which are
    frame tokens. Same numbers, same fields.
    """
    plain = type(model).forward

    def forward(self: TokenWorldModel, *args: Any, fused_lm_head: bool = False, labels: Any = None, **kwargs: Any) -> Any:
        if not fused_lm_head:
            return plain(self, *args, **kwargs | {"labels": labels})
        kwargs.pop("use_cache", None)
        hidden = self.base_model(*args, **kwargs).last_hidden_state[:, :-1]
        targets = labels[:, 1:]
        mask = targets != -100
        logits = F.linear(hidden[mask], self.lm_head.weight)
        log_probs = torch.log_softmax(logits, dim=-1)
        scored = targets[mask]
        with torch.no_grad():
            entropy = -(log_probs.exp() * log_probs).sum(-1)
            fields = {"entropy": entropy, "mean_logits": logits.mean(-1), "is_top1": logits.argmax(-1) == scored}
        chosen = log_probs.gather(1, scored[:, None])[:, 0]
        spread = {k: v.new_zeros(mask.shape).masked_scatter(mask, v) for k, v in fields.items()}
        full = hidden.new_zeros(mask.shape).masked_scatter(mask, chosen)
        return FusedCausalLMOutput(loss=-full.sum() / mask.sum().clamp(min=1), log_probs=full, label_mask=mask, **spread)

    model.forward = types.MethodType(forward, model)  # type: ignore[method-assign]


def make_frame_anchor(codes: Tensor, bins: Tensor, clips_per_step: int, seed: int, frames_per_clip: int = 4) -> Anchor:
    """Keep the dynamics what they were: KL(base || policy) per frame token under given actions, on real clips.

    The clips include unsafe ones, so hazards stay what they were too.

    Args:
        codes: int64 [n, T, N] of real clips.
        bins: int64 [n, T-1, A], their actions.
        clips_per_step: Clips drawn each step.
        seed: Seed of the draws.
        frames_per_clip: Frames scored a clip (temporal + depth models).

    Returns:
        A function of the policy (a PeftModel), differentiable, in nats per frame token.
    """

    def anchor(policy: Any, step: int) -> Tensor:
        generator = torch.Generator().manual_seed(seed * 1_000_003 + step)
        rows = torch.randint(len(codes), (clips_per_step,), generator=generator)
        picks = torch.rand(clips_per_step, codes.shape[1] - 1, generator=generator).argsort(1)[:, :frames_per_clip]
        model = policy.get_base_model()
        now = frame_log_probs(model, codes[rows], bins[rows], picks)
        with torch.no_grad(), policy.disable_adapter():
            base = frame_log_probs(model, codes[rows], bins[rows], picks)
        return (base.exp() * (base - now)).sum(-1).mean()

    return anchor


def frame_log_probs(model: TokenWorldModel, codes: Tensor, bins: Tensor, picks: Tensor) -> Tensor:
    """Distributions over codes of frames ``picks + 1`` under given actions.

    Args:
        model: The world model.
        codes: int64 [B, T, N].
        bins: int64 [B, T-1, A].
        picks: int64 [B, F], frames before the ones that are scored.

    Returns:
        float [B·F, N, num_codes], log-probabilities.
    """
    layout, batch = model.layout, len(codes)
    clip = torch.arange(batch)[:, None].expand_as(picks).flatten()
    before = picks.flatten()
    if isinstance(model, TemporalDepthModel):
        net = model.model
        trunk = net.run_trunk(codes[:, :-1], bins)
        hidden = net.picked_frame_states(trunk, codes, clip, before)
        weight = model.lm_head.weight[: layout.num_codes, : model.config.hidden_width]
        return torch.log_softmax(F.linear(hidden, weight), dim=-1)
    hidden = model.base_model(layout.join(codes, bins)).last_hidden_state
    start = (before + 1) * layout.stride - 1
    places = start[:, None] + torch.arange(layout.tokens_per_frame)
    logits = model.lm_head(hidden[clip[:, None], places])
    return torch.log_softmax(logits[..., : layout.num_codes], dim=-1)
