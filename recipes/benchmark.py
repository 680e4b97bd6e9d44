"""Time the engine and the trainer against the stock paths, side by side on this machine, and check that they agree."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from recipes import _tuning  # noqa: F401  before TRL, so that trainers don't report their start
from recipes._run import Run

if TYPE_CHECKING:
    import torch

    from align.world_models.flat import FlatModel
    from align.world_models.layout import TokenLayout


@dataclass(frozen=True)
class Config:
    """What to time."""

    model: str = "household"
    """World model whose rollouts are timed."""
    batch_size: int = 64
    """Clips at a time."""
    repeats: int = 3
    """Interleaved repetitions; the smallest time counts."""
    num_workers: int = 2
    """Processes for the household rollouts."""
    clips: int = 512
    """Household clips to dream."""
    pairs: int = 16
    """Pairs of a DPO step."""
    dpo_steps: int = 4
    """Steps timed together."""
    grpo_prompts: int = 8
    """Prompts of a GRPO step, each with 4 rollouts."""
    grpo_steps: int = 2
    """Steps timed together."""
    seed: int = 0
    """Seed."""


def main(config: Config, run: Run) -> dict[str, Any]:
    """Return seconds, ratios and agreement."""
    figures: dict[str, Any] = {}
    for name, part in (("rollouts", _rollouts), ("engine", _engine), ("dpo", _dpo), ("grpo", _grpo)):
        if (done := run.done(name)) is None:
            with run.stage(name) as results:
                results |= part(config)
            done = dict(results)
        figures[name] = done
    return figures


def _timed(work: Callable[[], Any]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def _side_by_side(ours: Callable[[], Any], theirs: Callable[[], Any], repeats: int) -> dict[str, float]:
    """Smallest of interleaved times, so that a busy moment hits both."""
    pairs = [(_timed(ours), _timed(theirs)) for _ in range(repeats)]
    own, other = min(p[0] for p in pairs), min(p[1] for p in pairs)
    return {"ours_s": own, "stock_s": other, "ratio": other / own}


# -- household rollouts -----------------------------------------------------------------------------------------------------


def _rollouts(config: Config) -> dict[str, Any]:
    """Clips a second on all workers, without the seconds that starting them takes."""
    from align.audit.behaviour import EpisodeJob
    from align.scenes.behaviour import split_seed
    from align.world_models.pool import Pool, chunks

    seeds = [split_seed("evaluate", 99, index) for index in range(config.clips)]
    jobs = [EpisodeJob(config.model, "", "shelf", tuple(part)) for part in chunks(seeds, config.batch_size)]
    with Pool(config.num_workers) as pool:
        list(pool.map(_dream_only, jobs[: config.num_workers]))
        seconds = _timed(lambda: list(pool.map(_dream_only, jobs)))
    return {"clips_per_s": config.clips / seconds, "num_workers": config.num_workers, "cached_minus_forced": _agreement(config)}


def _dream_only(job: Any) -> int:
    from align.audit.behaviour import make_prompts, sampling_seed
    from align.world_models.engine import roll_out
    from align.world_models.pool import cached_policy

    prompts, _ = make_prompts(job)
    policy = cached_policy(job.world_model, job.adapter)
    return len(roll_out(policy, prompts, [sampling_seed(seed, 0) for seed in job.seeds]).ids)


def _agreement(config: Config) -> float:
    """Largest difference between the engine's log-probabilities and teacher forcing, on 16 clips."""
    import torch

    from align.audit.behaviour import EpisodeJob, make_prompts
    from align.world_models.engine import roll_out
    from align.world_models.pool import cached_policy

    prompts, _ = make_prompts(EpisodeJob(config.model, "", "pour", tuple(range(16))))
    policy = cached_policy(config.model, "")
    made = roll_out(policy, prompts, range(16))
    with torch.no_grad():
        forced = policy.dynamics.token_log_probs(made.ids)[:, policy.layout.prompt_length - 1 :]
    return float((forced - made.log_probs[:, policy.layout.prompt_length :]).abs().max())


# -- engine against generate ------------------------------------------------------------------------------------------------


def _engine(config: Config) -> dict[str, Any]:
    """Our loop on a flat 5M Llama with the LoRA merged, against ``generate`` with the LoRA unmerged; both greedy."""
    import torch
    from transformers import LogitsProcessorList

    from align.world_models.adapters import add_lora, policy_of
    from align.world_models.base import kind_columns
    from align.world_models.engine import roll_out

    layout, flat = _small_flat(config.seed)
    policy = add_lora(flat, 8, 16, config.seed)
    with torch.no_grad():
        for name, tensor in policy.named_parameters():
            if "lora_B" in name:
                tensor.normal_(std=0.02)
    merged = policy_of(policy, flat, "shared")
    codes = torch.randint(layout.num_codes, (config.batch_size, layout.context_frames, layout.tokens_per_frame))
    bins = torch.zeros(config.batch_size, layout.context_frames - 1, layout.num_dims, dtype=torch.long)
    prompts = layout.join(codes, bins)
    mask = kind_columns(layout).T

    def allow(ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        return scores + mask[layout.kinds[ids.shape[1]]]

    causal = _as_causal_lm(policy)

    def ours() -> torch.Tensor:
        return roll_out(merged, prompts, range(len(prompts)), temperature=0, batch_size=config.batch_size).ids

    def theirs() -> torch.Tensor:
        with torch.no_grad():
            new = layout.length - layout.prompt_length
            return causal.generate(
                prompts, max_new_tokens=new, do_sample=False, logits_processor=LogitsProcessorList([allow]), eos_token_id=None
            )

    same = float((ours() == theirs()).float().mean())
    return {**_side_by_side(ours, theirs, config.repeats), "same_tokens": same, "batch_size": config.batch_size}


def _small_flat(seed: int) -> tuple[TokenLayout, FlatModel]:
    import torch

    from align.types import ActionSpace
    from align.world_models.flat import FlatConfig, FlatModel
    from align.world_models.layout import TokenLayout

    torch.manual_seed(seed)
    layout = TokenLayout(8, 4, 30, 1001, ActionSpace(("x", "y"), (-1.0, -1.0), (1.0, 1.0)))
    inner = {
        "model_type": "llama",
        "vocab_size": layout.vocab_size,
        "hidden_size": 256,
        "intermediate_size": 704,
        "num_hidden_layers": 6,
        "num_attention_heads": 4,
        "max_position_embeddings": layout.length,
    }
    return layout, FlatModel(FlatConfig(layout.to_dict(), inner=inner)).eval().requires_grad_(False)


def _as_causal_lm(policy: Any) -> Any:
    """The wrapped model with its LoRA as the plain Hugging Face causal LM that ``generate`` knows."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    flat = policy.get_base_model()
    causal = LlamaForCausalLM(LlamaConfig(**{k: v for k, v in flat.config.inner.items() if k != "model_type"})).eval()
    causal.model = flat.model.inner
    with torch.no_grad():
        causal.lm_head.weight.copy_(flat.lm_head.weight[:, : flat.config.hidden_width])
    return causal


# -- DPO step against TRL -----------------------------------------------------------------------------------------------------


def _dpo(config: Config) -> dict[str, Any]:
    """Steps of our trainer against TRL's DPOTrainer on the same model, pairs and tokens; losses must agree."""
    import tempfile

    from trl import DPOTrainer

    from align.tuning.dpo import BehaviourDPOTrainer

    class Stock(DPOTrainer):
        """TRL's trainer; only told that rows are token ids already."""

        def _prepare_dataset(self, dataset: Any, *args: Any, **kwargs: Any) -> Any:
            return dataset

    losses: dict[str, list[float]] = {}
    seconds: dict[str, list[float]] = {"ours": [], "stock": []}
    for _ in range(config.repeats):
        for name, kind in (("ours", BehaviourDPOTrainer), ("stock", Stock)):
            with tempfile.TemporaryDirectory() as folder:
                trainer = _make_trainer(kind, config, folder, frames=name == "stock")
                seconds[name].append(_timed(trainer.train))
                losses[name] = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    own, other = min(seconds["ours"]), min(seconds["stock"])
    gap = max(abs(a - b) for a, b in zip(losses["ours"], losses["stock"], strict=True))
    return {"ours_s": own, "stock_s": other, "ratio": other / own, "loss_difference": gap, "steps": config.dpo_steps}


def _make_trainer(kind: Any, config: Config, folder: str, *, frames: bool) -> Any:
    import torch
    from trl import DPOConfig

    from align.tuning.dpo import BehaviourCollator, preference_rows
    from align.tuning.policy import id_tokenizer
    from align.world_models.adapters import add_lora
    from align.world_models.pool import cached_world_model

    model = cached_world_model(config.model).model
    layout, count = model.layout, config.pairs * config.dpo_steps
    torch.manual_seed(config.seed)
    codes = torch.randint(layout.num_codes, (2 * count, layout.num_frames, layout.tokens_per_frame))
    bins = torch.randint(layout.num_bins, (2 * count, layout.num_frames - 1, layout.num_dims))
    ids = layout.join(codes, bins)
    ids[count:, : layout.prompt_length] = ids[:count, : layout.prompt_length]
    arguments = DPOConfig(
        output_dir=folder,
        per_device_train_batch_size=config.pairs,
        max_steps=config.dpo_steps,
        loss_type=["sigmoid", "sft"],
        loss_weights=[1.0, 1.0],
        max_length=None,
        remove_unused_columns=False,
        activation_checkpointing=False,
        bf16=False,
        use_cpu=True,
        logging_steps=1,
        save_strategy="no",
        report_to=[],
        disable_tqdm=True,
        seed=config.seed,
    )
    return kind(
        model=add_lora(model, 8, 16, config.seed),
        args=arguments,
        train_dataset=preference_rows(layout, ids[:count], ids[count:]),
        processing_class=id_tokenizer(layout),
        data_collator=BehaviourCollator(layout.pad_id, scored=layout.action_mask(), frames=frames),
    )


# -- GRPO step against TRL ----------------------------------------------------------------------------------------------------


def _grpo(config: Config) -> dict[str, Any]:
    """Whole steps, rollouts included, of our trainer with our engine against TRL's GRPOTrainer with ``generate``."""
    import torch

    from recipes._benchmark_grpo import GROUP, make_steps

    layout, flat = _small_flat(config.seed)
    codes = torch.randint(layout.num_codes, (config.grpo_prompts, layout.context_frames, layout.tokens_per_frame))
    bins = torch.randint(layout.num_bins, (config.grpo_prompts, layout.context_frames - 1, layout.num_dims))
    ours, stock = make_steps(flat, layout.join(codes, bins), config.grpo_steps, config.seed)
    rollouts = config.grpo_prompts * GROUP
    return {**_side_by_side(ours, stock, config.repeats), "steps": config.grpo_steps, "rollouts_a_step": rollouts}
