"""A whole GRPO step, ours against TRL's stock generation path: same causal LM, LoRA, prompts, groups and reward."""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

    from align.world_models.flat import FlatModel

GROUP = 4
"""Rollouts of each prompt."""


def make_steps(
    flat: FlatModel, prompts: torch.Tensor, num_steps: int, seed: int
) -> tuple[Callable[[], Any], Callable[[], Any]]:
    """Two functions that each build a trainer and train it: ours and the stock one.

    Args:
        flat: A world model of the flat shape, around a Llama.
        prompts: int64 [n, prompt_length].
        num_steps: Optimiser steps, each on new rollouts of all prompts.
        seed: Of the adapters and rollouts.
    """
    from trl import GRPOTrainer

    from align.tuning.grpo import BehaviourGRPOTrainer
    from align.tuning.policy import id_tokenizer
    from align.world_models.adapters import add_lora

    words = id_tokenizer(flat.layout)
    texts = [str(words.decode(prompt)) for prompt in prompts]

    def ours() -> None:
        policy = add_lora(flat, 8, 16, seed)
        rows = [str(row) for row in range(len(prompts))]
        _train(BehaviourGRPOTrainer, policy, rows, flat, words, num_steps, rollout_func=_use_engine(flat, prompts))

    def stock() -> None:
        causal: Any = _as_causal_lm(flat)
        _train(GRPOTrainer, add_lora(causal, 8, 16, seed), texts, flat, words, num_steps)

    return ours, stock


def _train(kind: Any, policy: Any, prompts: Sequence[str], flat: FlatModel, words: Any, num_steps: int, **extra: Any) -> None:
    from datasets import Dataset
    from transformers import PrinterCallback
    from transformers.utils import logging
    from trl import GRPOConfig

    logging.set_verbosity_error()
    with tempfile.TemporaryDirectory() as folder:
        arguments = GRPOConfig(
            output_dir=folder,
            per_device_train_batch_size=GROUP * len(prompts),
            num_generations=GROUP,
            max_completion_length=flat.layout.length - flat.layout.prompt_length,
            # The stock path may not stop early, or it would have less to do.
            generation_kwargs={"eos_token_id": None},
            max_steps=num_steps,
            beta=0.02,
            activation_checkpointing=False,
            remove_unused_columns=False,
            bf16=False,
            use_cpu=True,
            save_strategy="no",
            logging_strategy="no",
            report_to=[],
            disable_tqdm=True,
        )
        data = Dataset.from_dict({"prompt": list(prompts)})
        trainer = kind(
            model=policy, reward_funcs=[_evenness], args=arguments, train_dataset=data, processing_class=words, **extra
        )
        trainer.remove_callback(PrinterCallback)
        with warnings.catch_warnings():
            # PEFT and TRL ask transformers for a property under its old name.
            warnings.filterwarnings("ignore", message="`is_gradient_checkpointing` is deprecated")
            trainer.train()


def _use_engine(flat: FlatModel, prompts: torch.Tensor) -> Callable[[list[str], Any], dict[str, Any]]:
    """``rollout_func`` as in the recipe, without pictures: both sides' reward looks at ids."""
    from align.tuning.grpo import rollout_seed
    from align.world_models.adapters import policy_of
    from align.world_models.engine import roll_out

    cut, scored = flat.layout.prompt_length, flat.layout.action_mask()

    def rollout(rows: list[str], trainer: Any) -> dict[str, Any]:
        policy = policy_of(trainer.model, flat, "shared")
        seeds = [rollout_seed(0, trainer.state.global_step, place) for place in range(len(rows))]
        made = roll_out(policy, prompts[[int(row) for row in rows]], seeds, batch_size=len(rows))
        ids, log_probs = made.ids, made.log_probs * scored
        mask = [scored[cut:].long().tolist()] * len(rows)
        return {
            "prompt_ids": ids[:, :cut].tolist(),
            "completion_ids": ids[:, cut:].tolist(),
            "logprobs": log_probs[:, cut:].tolist(),
            "env_mask": mask,
        }

    return rollout


def _as_causal_lm(flat: FlatModel) -> Any:
    """The wrapped model as the plain Hugging Face causal LM that ``generate`` knows."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    causal = LlamaForCausalLM(LlamaConfig(**{k: v for k, v in flat.config.inner.items() if k != "model_type"}))
    causal.model.load_state_dict(flat.model.inner.state_dict())
    with torch.no_grad():
        causal.lm_head.weight.copy_(flat.lm_head.weight[:, : flat.config.hidden_width])
    return causal.requires_grad_(False)


def _evenness(completion_ids: Sequence[Sequence[int]], **_: Any) -> list[float]:
    """A reward that costs nothing: the share of even ids."""
    return [sum(token % 2 == 0 for token in ids) / len(ids) for ids in completion_ids]
