"""What every token world model has in common, whatever its shape.

A world model here is a ``PreTrainedModel`` that is a causal LM over the flat ids of a :class:`TokenLayout`: one hidden
state a position, one output embedding. So trainers that know nothing about video can train it, and the engine, the
anchor and the metrics need not know which shape they have.

The hidden state carries, behind its d learned channels, a one-hot of the *kind* of token that comes next, and the output
embedding has a fixed -1e4 where an id may not stand at a position of that kind. So a frame position can only give frame
codes and an action position only its own dim's bins, for sampling, for scoring and for TRL's fused head alike: at
temperature 1 a token is drawn from the very distribution that is trained.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import GenerationConfig, PretrainedConfig, PreTrainedModel
from transformers.modeling_outputs import BaseModelOutputWithPast, CausalLMOutputWithPast

from align.world_models.layout import TokenLayout

FORBIDDEN = -1e4
"""Logit of an id that may not stand at a position."""


class WorldModelConfig(PretrainedConfig):
    """Config of a token world model; ``layout`` is :meth:`TokenLayout.to_dict`."""

    model_type = "gptsim_world_model"

    def __init__(self, layout: dict[str, Any] | None = None, **kwargs: Any) -> None:
        self.layout = layout
        self.hidden_width = kwargs.pop("hidden_width", 128)
        kwargs.setdefault("tie_word_embeddings", False)
        super().__init__(**kwargs)
        if layout is not None:
            self.vocab_size = self.token_layout.vocab_size
            self.pad_token_id = self.token_layout.pad_id
            self.hidden_size = self.hidden_width + 1 + self.token_layout.num_dims

    @property
    def token_layout(self) -> TokenLayout:
        """The layout that the config describes."""
        if self.layout is None:
            raise ValueError("this config has no layout; give layout=TokenLayout(...).to_dict()")
        return TokenLayout.from_dict(self.layout)


def kind_embedding(layout: TokenLayout, width: int) -> nn.Linear:
    """The output embedding: d learned columns, then one fixed column a kind of token."""
    head = nn.Linear(width + 1 + layout.num_dims, layout.vocab_size, bias=False)
    nn.init.normal_(head.weight, std=0.02)
    with torch.no_grad():
        head.weight[:, width:] = kind_columns(layout)
    head.weight.register_hook(lambda grad: F.pad(grad[:, :width], (0, grad.shape[1] - width)))
    return head


def kind_columns(layout: TokenLayout) -> Tensor:
    """float32 [vocab, 1 + A]: 0 where an id may stand at a position of a kind, else -1e4."""
    return torch.where(layout.allowed_ids().T, 0.0, FORBIDDEN)


def next_kinds(layout: TokenLayout, length: int, device: torch.device) -> Tensor:
    """float32 one-hot [length, 1 + A]: the kind of token that position i predicts, i.e. of position i + 1."""
    kinds = torch.cat([layout.kinds[1:], layout.kinds[:1]])[:length].to(device)
    return F.one_hot(kinds, 1 + layout.num_dims).float()


class TokenWorldModel(PreTrainedModel):
    """Base of the shapes. A shape gives ``hidden_states`` and a sampler; the rest is here.

    Attributes:
        layout: What stands where.
        lm_head: Output embedding over the flat vocabulary.
    """

    config_class = WorldModelConfig
    base_model_prefix = "model"
    main_input_name = "input_ids"
    _supports_sdpa = True
    supports_gradient_checkpointing = True
    lm_head: nn.Linear

    def __init__(self, config: WorldModelConfig) -> None:
        super().__init__(config)
        self.layout = config.token_layout
        self.generation_config = GenerationConfig(pad_token_id=self.layout.pad_id)

    def get_input_embeddings(self) -> Any:
        """None: ids of frames and of actions have embeddings of their own, and a shape decides which."""
        return None

    def get_output_embeddings(self) -> nn.Module:
        return self.lm_head

    def set_output_embeddings(self, new: nn.Linear) -> None:
        self.lm_head = new

    def _init_weights(self, module: nn.Module) -> None:
        """Weights are initialised where the modules are built."""

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        labels: Tensor | None = None,
        frames: bool = True,
        use_cache: bool | None = None,
        **kwargs: Any,
    ) -> CausalLMOutputWithPast:
        """Logits [B, L, vocab] of the next token at every position, and the mean loss over ``labels`` if given.

        Args:
            input_ids: int64 [B, L], whole clips or any prefix of them. Right padding is allowed, left padding is not.
            attention_mask: Only checked: padding must be on the right.
            labels: int64 [B, L] with -100 where nothing is scored; shifted inside.
            frames: False skips the hidden states of frame positions (they are then zero), which is much cheaper for
                losses that score actions only.
        """
        hidden = self.base_model(input_ids, attention_mask=attention_mask, frames=frames).last_hidden_state
        logits = self.lm_head(hidden)
        loss = None
        if labels is not None:
            loss = F.cross_entropy(logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten(), ignore_index=-100)
        return CausalLMOutputWithPast(loss=loss, logits=logits)

    def token_log_probs(self, input_ids: Tensor, *, frames: bool = True) -> Tensor:
        """Exact log-probabilities [B, L-1] of tokens 1…L-1 given all before them; 0 on frame tokens with ``frames=False``."""
        hidden = self.base_model(input_ids, frames=frames).last_hidden_state[:, :-1]
        wanted = torch.ones(input_ids.shape[1], dtype=torch.bool)
        if not frames:
            wanted = self.layout.action_mask(past_context=False)[: input_ids.shape[1]]
        return log_probs_at(self.lm_head, hidden, input_ids[:, 1:], wanted[1:])


def log_probs_at(head: nn.Linear, hidden: Tensor, targets: Tensor, wanted: Tensor) -> Tensor:
    """Log-probability of each target, computed only where wanted.

    Args:
        head: Output embedding.
        hidden: float [B, P, d], the state that predicts each target.
        targets: int64 [B, P].
        wanted: bool [P] or [B, P].

    Returns:
        float [B, P], 0 where not wanted.
    """
    mask = wanted.to(targets.device).expand(targets.shape)
    logits = F.linear(hidden[mask], head.weight, head.bias)
    chosen = torch.log_softmax(logits, dim=-1).gather(1, targets[mask][:, None])[:, 0]
    return hidden.new_zeros(targets.shape).masked_scatter(mask, chosen)


def check_right_padding(attention_mask: Tensor | None) -> None:
    """Refuse left padding, which would shift every token off its place in the layout."""
    if attention_mask is not None and not bool((attention_mask[:, 0] == 1).all()):
        raise ValueError("clips must be padded on the right, got an attention_mask that starts with 0")


def as_base_output(hidden: Tensor) -> BaseModelOutputWithPast:
    return BaseModelOutputWithPast(last_hidden_state=hidden)
