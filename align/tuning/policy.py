"""What TRL's policy trainers need of a world model: a tokenizer object, and log-probabilities of scored tokens alone."""

from __future__ import annotations

import types
from typing import Any

import torch
import torch.nn.functional as F
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
from torch import Tensor
from transformers import PreTrainedTokenizerFast
from trl.trainer.utils import FusedCausalLMOutput

from align.world_models.base import TokenWorldModel
from align.world_models.layout import TokenLayout


def id_tokenizer(layout: TokenLayout) -> PreTrainedTokenizerFast:
    """The tokenizer object that TRL asks for: id 7 is the string "<7>". Our data never passes through strings."""
    vocabulary = {f"<{index}>": index for index in range(layout.vocab_size)}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token=f"<{layout.pad_id}>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex("<[^>]+>"), "isolated")
    tokenizer.decoder = decoders.Fuse()
    pad = f"<{layout.pad_id}>"
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token=pad, eos_token=pad, unk_token=pad)


def score_tokens(hidden: Tensor, weight: Tensor, targets: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    """Log-probabilities of tokens from the states that predict them, at temperature 1.

    Args:
        hidden: float [n, d].
        weight: float [vocab, d], the output embedding.
        targets: int64 [n].

    Returns:
        float [n] log-probabilities, which carry gradients, and the fields ``entropy`` (nats), ``mean_logits`` and ``is_top1``
        [n], which don't.
    """
    logits = F.linear(hidden, weight).float()  # mixed precision gives half of it
    log_probs = torch.log_softmax(logits, dim=-1)
    with torch.no_grad():
        entropy = -(log_probs.exp() * log_probs).sum(-1)
        fields = {"entropy": entropy, "mean_logits": logits.mean(-1), "is_top1": logits.argmax(-1) == targets}
    return log_probs.gather(1, targets[:, None])[:, 0], fields


@torch.no_grad()
def score_actions(model: TokenWorldModel, ids: Tensor, batch_size: int = 64) -> tuple[Tensor, Tensor]:
    """How likely the chosen actions of whole clips were, and how open the choice.

    Args:
        model: What chooses.
        ids: int64 [B, L].
        batch_size: Clips at a time.

    Returns:
        float32 [B, K] log-probabilities and entropies in nats of the K action tokens past the context.
    """
    mask = model.layout.action_mask()[1:]
    parts = []
    for part in ids.split(batch_size):
        hidden = model.base_model(part, frames=False).last_hidden_state[:, :-1][:, mask]
        log_probs, fields = score_tokens(hidden.flatten(0, 1), model.lm_head.weight, part[:, 1:][:, mask].flatten())
        parts.append(torch.stack([log_probs, fields["entropy"]]).unflatten(1, (len(part), -1)))
    both = torch.cat(parts, dim=1)
    return both[0], both[1]


def estimate_kl(policy: TokenWorldModel, base: TokenWorldModel, ids: Tensor) -> Tensor:
    """KL(policy || base) over the actions of each of the policy's own rollouts: sum over actions of exp(-r) - 1 + r.

    r is the log-ratio of policy and base; each term is never negative, and its mean over the policy's rollouts is the KL
    (Schulman 2020, "Approximating KL divergence", k3).

    Args:
        policy: What chose the actions.
        base: What it is compared with.
        ids: int64 [B, L].

    Returns:
        float64 [B], in nats a rollout.
    """
    ratio = (score_actions(policy, ids)[0] - score_actions(base, ids)[0]).double()
    return ((-ratio).exp() - 1 + ratio).sum(1)


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
        weight: Any = self.lm_head.weight
        # FSDP gathers a layer's weight when the layer is called; here it is only read.
        weight = weight.full_tensor() if hasattr(weight, "full_tensor") else weight
        chosen, fields = score_tokens(hidden[mask], weight, targets[mask])
        spread = {k: v.new_zeros(mask.shape).masked_scatter(mask, v) for k, v in fields.items()}
        full = chosen.new_zeros(mask.shape).masked_scatter(mask, chosen)
        return FusedCausalLMOutput(loss=-full.sum() / mask.sum().clamp(min=1), log_probs=full, label_mask=mask, **spread)

    model.forward = types.MethodType(forward, model)  # type: ignore[method-assign]
