"""Any causal LM as a world model. What both shapes must keep is in test_temporal_depth."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from align.world_models.engine import Policy, roll_out
from align.world_models.flat import FlatModel

SMALL = {
    "llama": {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48},
    "gpt_neox": {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48},
    "qwen2": {
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "intermediate_size": 48,
    },
    "gpt2": {"n_embd": 32, "n_layer": 2, "n_head": 4, "bos_token_id": 0, "eos_token_id": 0},
}


def make_lm(name: str, vocab: int, length: int = 64, **sizes: Any) -> Any:
    torch.manual_seed(0)
    positions = {"n_positions": length} if name == "gpt2" else {"max_position_embeddings": length}
    config = AutoConfig.for_model(name, **{**SMALL[name], **positions, "vocab_size": vocab, **sizes})
    return AutoModelForCausalLM.from_config(config).eval()


@pytest.mark.parametrize("name", list(SMALL))
def test_wrapping_keeps_the_models_own_numbers(name: str, layout: Any, random_ids: Callable[..., Any]) -> None:
    inner = make_lm(name, layout.vocab_size + 3)
    model = FlatModel.wrap(inner, layout)
    ids = random_ids(2)
    with torch.no_grad():
        wanted, got = inner(ids).logits[..., : layout.vocab_size], model(ids).logits
    forbidden = ~layout.allowed_ids()[torch.cat([layout.kinds[1:], layout.kinds[:1]])]
    torch.testing.assert_close(got, wanted - 1e4 * forbidden, atol=2e-3, rtol=0)
    allowed = ~forbidden.expand_as(got)
    torch.testing.assert_close(got[allowed], wanted[allowed], atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", list(SMALL))
def test_wrapped_models_roll_out(name: str, layout: Any, random_ids: Callable[..., Any]) -> None:
    model = FlatModel.wrap(make_lm(name, layout.vocab_size), layout).requires_grad_(False)
    made = roll_out(Policy(model, model), random_ids(3)[:, : layout.prompt_length], [1, 2, 3], batch_size=3)
    wanted = model.token_log_probs(made.ids)[:, layout.prompt_length - 1 :]
    torch.testing.assert_close(made.log_probs[:, layout.prompt_length :], wanted, atol=1e-4, rtol=0)


def test_too_small_a_vocabulary_is_refused(layout: Any) -> None:
    with pytest.raises(ValueError, match=rf"has {layout.vocab_size - 1} ids but the layout needs {layout.vocab_size}"):
        FlatModel.wrap(make_lm("llama", layout.vocab_size - 1), layout)


def test_too_few_positions_are_refused(layout: Any) -> None:
    with pytest.raises(ValueError, match=f"{layout.length - 1} positions but a clip has {layout.length} ids"):
        FlatModel.wrap(make_lm("gpt2", layout.vocab_size, layout.length - 1), layout)


def test_a_head_with_a_bias_is_refused(layout: Any) -> None:
    inner = make_lm("llama", layout.vocab_size)
    inner.lm_head = torch.nn.Linear(32, layout.vocab_size, bias=True)
    with pytest.raises(ValueError, match="bias"):
        FlatModel.wrap(inner, layout)


@pytest.mark.parametrize("name", ["llama", "gpt_neox", "qwen2"])
@pytest.mark.parametrize("tied", [False, True])
def test_unwrapping_gives_the_familys_own_model_back(
    name: str, tied: bool, layout: Any, random_ids: Callable[..., Any]
) -> None:
    model = FlatModel.wrap(make_lm(name, layout.vocab_size + 3, tie_word_embeddings=tied), layout)
    with torch.no_grad():
        model.lm_head.weight[:, 0] += 1  # what was tied once may have been tuned since
    inner = model.unwrap()
    assert inner.config.model_type == name
    again = FlatModel.wrap(inner, layout)
    ids = random_ids(2)
    torch.testing.assert_close(again.token_log_probs(ids), model.token_log_probs(ids), atol=1e-5, rtol=0)
    assert not {t.data_ptr() for t in inner.parameters()} & {t.data_ptr() for t in model.parameters()}
