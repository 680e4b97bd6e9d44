"""The flat shape: any Hugging Face causal LM over the ids of a clip.

The engineer's own autoregressive model plugs in here. The wrapper adds nothing that learns: it appends the one-hot of the
next token's kind to the hidden state and the fixed columns to the output embedding (see ``base``).
"""

from __future__ import annotations

from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import AutoConfig, AutoModelForCausalLM, DynamicCache, PretrainedConfig, PreTrainedModel
from transformers.cache_utils import DynamicLayer
from transformers.modeling_outputs import BaseModelOutputWithPast

from align.world_models.base import (
    TokenWorldModel,
    WorldModelConfig,
    as_base_output,
    check_right_padding,
    kind_columns,
    kind_embedding,
    next_kinds,
)
from align.world_models.layout import TokenLayout


class FlatConfig(WorldModelConfig):
    """``inner`` is the ``to_dict()`` of the wrapped model's config, ``model_type`` included."""

    model_type = "gptsim_flat"

    def __init__(self, layout: dict[str, Any] | None = None, inner: dict[str, Any] | None = None, **kwargs: Any) -> None:
        self.inner = inner or {}
        if self.inner:
            # Some architectures call it n_embd or d_model; their config class knows.
            kwargs["hidden_width"] = inner_config(self.inner).hidden_size
        super().__init__(layout, **kwargs)


def inner_config(values: dict[str, Any]) -> PretrainedConfig:
    """The config of the wrapped model from its ``to_dict()``."""
    sizes = dict(values)
    return AutoConfig.for_model(sizes.pop("model_type"), **sizes)


class FlatBackbone(nn.Module):
    """The wrapped model without its head."""

    def __init__(self, inner: PreTrainedModel, layout: TokenLayout) -> None:
        super().__init__()
        self.inner = inner
        self.layout = layout

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor | None = None, frames: bool = True, **kwargs: Any
    ) -> BaseModelOutputWithPast:
        """Hidden states [B, L, hidden_size + 1 + A] of flat ids [B, L]. ``frames`` is accepted and changes nothing."""
        check_right_padding(attention_mask)
        hidden = self.inner(input_ids=input_ids, attention_mask=attention_mask, use_cache=False).last_hidden_state
        kinds = next_kinds(self.layout, input_ids.shape[1], hidden.device).to(hidden.dtype)
        return as_base_output(torch.cat([hidden, kinds.expand(len(hidden), -1, -1)], dim=-1))


class FlatModel(TokenWorldModel):
    """Causal LM over the flat ids of a clip, around any Hugging Face causal LM."""

    config_class = FlatConfig
    LORA_TARGETS = "all-linear"

    def __init__(self, config: FlatConfig) -> None:
        super().__init__(config)
        causal = AutoModelForCausalLM.from_config(inner_config(config.inner))
        self.model = FlatBackbone(causal.base_model, self.layout)
        self.lm_head = kind_embedding(self.layout, config.hidden_width)
        self.post_init()

    @classmethod
    def wrap(cls, causal_lm: PreTrainedModel, layout: TokenLayout) -> FlatModel:
        """Use a causal LM that is already there; its weights are taken over, its head is copied.

        Raises:
            ValueError: If its vocabulary or its number of positions is smaller than the layout's, or its head has a bias.
        """
        head = causal_lm.get_output_embeddings()
        positions = getattr(causal_lm.config, "max_position_embeddings", None)
        if positions is not None and positions < layout.length:
            raise ValueError(f"the causal LM has {positions} positions but a clip has {layout.length} ids; choose a longer one")
        if getattr(head, "bias", None) is not None:
            raise ValueError("the causal LM's output embedding has a bias, which a world model's has not; choose one without")
        if head.weight.shape[0] < layout.vocab_size:
            raise ValueError(
                f"the causal LM has {head.weight.shape[0]} ids but the layout needs {layout.vocab_size}; "
                f"call resize_token_embeddings({layout.vocab_size}) first"
            )
        model = cls(FlatConfig(layout.to_dict(), inner=causal_lm.config.to_dict()))
        model.model.inner.load_state_dict(causal_lm.base_model.state_dict())
        with torch.no_grad():
            width = model.config.hidden_width
            model.lm_head.weight[:, :width] = head.weight[: layout.vocab_size]
            model.lm_head.weight[:, width:] = kind_columns(layout)
        return model.eval()

    def unwrap(self) -> PreTrainedModel:
        """Undo :meth:`wrap`: a causal LM of the wrapped family with copies of these weights.

        It knows nothing of kinds: what may not stand at a position gets the logit -1e4 here and some other there.
        """
        causal: Any = AutoModelForCausalLM.from_config(inner_config({**self.config.inner, "tie_word_embeddings": False}))
        causal.base_model.load_state_dict(self.model.inner.state_dict())
        head = causal.get_output_embeddings()
        with torch.no_grad():
            head.weight[: self.layout.vocab_size] = self.lm_head.weight[:, : self.config.hidden_width]
        return cast(PreTrainedModel, causal.eval())

    def incremental(self) -> IncrementalLM:
        """A reader of sequences, token by token."""
        return IncrementalLM(self)


class _RoomyLayer(DynamicLayer):
    """One layer's keys and values, growing into room set aside: nothing is copied, only what is there is read."""

    def __init__(self, length: int) -> None:
        super().__init__()
        self.length = length
        self.room: list[Tensor] = []

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        """Append [B, heads, P, width] keys and values; returns all that there are."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
            self.room = [new.new_empty(*new.shape[:2], self.length, new.shape[3]) for new in (key_states, value_states)]
        start = self.get_seq_length()
        end = start + key_states.shape[2]
        for room, new in zip(self.room, (key_states, value_states), strict=True):
            room[:, :, start:end] = new
        self.keys, self.values = (room[:, :, :end] for room in self.room)
        return self.keys, self.values


class IncrementalLM:
    """Feeds tokens to a causal LM through a key-value cache of fixed size."""

    def __init__(self, model: FlatModel) -> None:
        self.inner = model.model.inner
        self.weight = model.lm_head.weight[:, : model.config.hidden_width]
        self.cache = DynamicCache(config=self.inner.config)
        # Layers of another kind (a sliding window) keep their own cache.
        self.cache.layers = [
            _RoomyLayer(model.layout.length) if type(layer) is DynamicLayer else layer for layer in self.cache.layers
        ]
        self.position = 0
        self.last: Tensor = torch.empty(0)

    def feed(self, ids: Tensor) -> None:
        """Append ids int64 [B, P]."""
        positions = torch.arange(self.position, self.position + ids.shape[1], device=ids.device)
        out = self.inner(input_ids=ids, past_key_values=self.cache, position_ids=positions[None], use_cache=True)
        self.last = out.last_hidden_state[:, -1]
        self.position += ids.shape[1]

    def logits(self, start: int, stop: int) -> Tensor:
        """[B, stop - start], of the next token being one of the ids from ``start`` to before ``stop``."""
        return F.linear(self.last, self.weight[start:stop])
