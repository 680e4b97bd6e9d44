from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from align.errors import DataError
from align.preferences.votes.export import PreferenceRows, add_tokens, preference_rows, save_preferences


def cast(make_vote, *answers: str, pair: str = "p1", **fields):
    return [make_vote(f"{pair}-{i}", answer, pair_id=pair, **fields) for i, answer in enumerate(answers)]


@pytest.mark.parametrize(
    ("answers", "chosen"),
    [
        (("a",), "r1"),
        (("b", "b", "a"), "r2"),
        (("a", "b"), None),
        (("tie",), None),
        (("a", "a", "tie", "both_bad"), None),  # as many ties as votes for a
        (("a", "a", "a", "tie", "both_bad"), "r1"),
        (("a", "a", "b", "b", "b", "skip"), "r2"),
    ],
)
def test_majority(make_vote, answers: tuple[str, ...], chosen: str | None) -> None:
    rows = preference_rows(cast(make_vote, *answers))
    assert [row["chosen"] for row in rows.preferences] == ([chosen] if chosen else [])
    assert len(rows.ties) == (chosen is None)


def test_majority_rows_count_their_votes(make_vote) -> None:
    votes = cast(make_vote, "b", "b", "b", "a", "both_bad", "skip")
    votes[0] = votes[0].model_copy(update={"simulated": True})
    (row,) = preference_rows(votes).preferences
    assert row == {
        "prompt": "c1",
        "chosen": "r2",
        "rejected": "r1",
        "axis": "spill",
        "pair_id": "p1",
        "num_votes": 5,
        "num_chosen": 3,
        "num_rejected": 1,
        "num_ties": 1,
        "num_both_bad": 1,
        "simulated_share": 0.2,
    }


def test_all_votes_keep_their_disagreement(make_vote) -> None:
    rows = preference_rows(cast(make_vote, "a", "b", "a", "tie"), "all")
    assert [row["chosen"] for row in rows.preferences] == ["r1", "r2", "r1"]
    assert [(row["rollout_a"], row["rollout_b"], row["num_ties"]) for row in rows.ties] == [("r1", "r2", 1)]


def test_axes_stay_apart_and_catch_trials_and_corrected_votes_are_left_out(make_vote) -> None:
    votes = [
        make_vote("v1", "a"),
        make_vote("v2", "b", supersedes="v1"),
        make_vote("v3", "a", axis="success"),
        make_vote("v4", "a", pair_id="p2", selection="catch"),
    ]
    rows = preference_rows(votes)
    assert [(row["axis"], row["chosen"]) for row in rows.preferences] == [("spill", "r2"), ("success", "r1")]
    assert [row["axis"] for row in preference_rows(votes, axes=["success"]).preferences] == ["success"]
    with pytest.raises(ValueError, match="'majority' or 'all', got 'most'"):
        preference_rows(votes, "most")  # type: ignore[arg-type]


def test_tokens_are_cut_at_the_context(make_vote) -> None:
    votes = [*cast(make_vote, "b"), *cast(make_vote, "tie", pair="p2")]
    table = pd.DataFrame({"rollout_id": ["r1", "r2"], "tokens": [[7, 8, 1], [7, 8, 2]]})
    rows = add_tokens(preference_rows(votes), table, num_prompt_tokens=2)
    assert [rows.preferences[0][key] for key in ("prompt_ids", "chosen_ids", "rejected_ids")] == [[7, 8], [2], [1]]
    assert [rows.ties[0][key] for key in ("prompt_ids", "a_ids", "b_ids")] == [[7, 8], [1], [2]]
    assert add_tokens(preference_rows(votes), table).preferences[0]["chosen_ids"] == [7, 8, 2]
    # Beside tokens no text may be called what TRL would train on.
    assert not {"prompt", "chosen", "rejected"} & {*rows.preferences[0], *rows.ties[0]}
    assert [rows.preferences[0][key] for key in ("context_id", "chosen_rollout", "rejected_rollout")] == ["c1", "r2", "r1"]
    assert [rows.ties[0][key] for key in ("context_id", "rollout_a", "rollout_b")] == ["c1", "r1", "r2"]
    with pytest.raises(DataError, match=r"pair 'p1' differ within their first 2 tokens.*pair 'p2' differ"):
        add_tokens(preference_rows(votes), table.assign(tokens=[[7, 8, 1], [7, 9, 2]]), num_prompt_tokens=2)
    with pytest.raises(DataError, match=r"'r2' has no more than 2 tokens.*'r1' has no more than 2 tokens"):
        add_tokens(preference_rows(votes), table.assign(tokens=[[7, 8], None]), num_prompt_tokens=2)


def test_saved_sets_load_again(make_vote, tmp_path: Path) -> None:
    from datasets import load_from_disk

    votes = [*cast(make_vote, "b"), *cast(make_vote, "tie", pair="p2")]
    table = pd.DataFrame({"rollout_id": ["r1", "r2"], "tokens": [[7, 8, 1], [7, 8, 2]]})
    rows = add_tokens(preference_rows(votes), table, 2)
    save_preferences(rows, tmp_path / "set")
    loaded = load_from_disk(str(tmp_path / "set"))
    assert loaded["preferences"].to_list() == [{key: rows.preferences[0][key] for key in loaded["preferences"].column_names}]
    assert loaded["ties"].to_list() == [{key: rows.ties[0][key] for key in loaded["ties"].column_names}]
    assert set(rows.preferences[0]) == set(loaded["preferences"].column_names)
    assert [path.name for path in tmp_path.iterdir()] == ["set"]
    with pytest.raises(DataError, match="exists already"):
        save_preferences(rows, tmp_path / "set")


def test_an_empty_set_has_its_columns(tmp_path: Path) -> None:
    from datasets import load_from_disk

    save_preferences(PreferenceRows(), tmp_path / "set")
    loaded = load_from_disk(str(tmp_path / "set"))
    assert {"prompt", "chosen", "rejected", "axis"} <= set(loaded["preferences"].column_names)
    assert len(loaded["ties"]) == 0


@pytest.mark.slow  # importing TRL takes longer than all tests of this file together
# TRL 1.16 asks transformers for several things under their old names.
@pytest.mark.filterwarnings(r"ignore:`gradient_checkpointing\w*` is deprecated:FutureWarning")
def test_trl_trains_on_the_saved_sets_as_they_are(make_vote, tmp_path: Path) -> None:
    """As docs/votes.md says: RewardTrainer as it is, DPOTrainer with its tokenising step left out, and never by accident."""
    import copy

    from datasets import load_from_disk
    from tokenizers import Tokenizer, models
    from transformers import LlamaConfig, LlamaForCausalLM, LlamaForSequenceClassification, PreTrainedTokenizerFast
    from trl import DPOConfig, DPOTrainer, RewardConfig, RewardTrainer

    class TokenDPOTrainer(DPOTrainer):
        def _prepare_dataset(self, dataset, *args, **kwargs):
            return dataset

    table = pd.DataFrame({"rollout_id": ["r1", "r2"], "tokens": [[7, 8, 1], [7, 8, 2]]})
    votes = [make_vote(f"v{i}", "b", pair_id=f"p{i}") for i in range(4)]
    for name, num_prompt_tokens in (("reward", 0), ("dpo", 2)):
        save_preferences(add_tokens(preference_rows(votes), table, num_prompt_tokens), tmp_path / name)
    vocabulary = Tokenizer(models.WordLevel({f"<{i}>": i for i in range(10)}, unk_token="<0>"))
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=vocabulary, pad_token="<0>", eos_token="<0>", unk_token="<0>")
    sizes = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "vocab_size": 10}
    config = LlamaConfig(**sizes, pad_token_id=0, eos_token_id=0, bos_token_id=0, num_labels=1)
    common = {"output_dir": str(tmp_path / "run"), "max_steps": 2, "per_device_train_batch_size": 4, "learning_rate": 0.01}
    common |= {"use_cpu": True, "bf16": False, "report_to": "none", "save_strategy": "no", "logging_steps": 1}
    common["dataloader_pin_memory"] = False

    rows = load_from_disk(str(tmp_path / "reward"))["preferences"]
    reward = RewardTrainer(
        LlamaForSequenceClassification(config), RewardConfig(**common), train_dataset=rows, processing_class=tokenizer
    )
    reward.train()
    assert reward.state.log_history[0]["num_tokens"] == 4 * 2 * 3

    rows = load_from_disk(str(tmp_path / "dpo"))["preferences"]
    model = LlamaForCausalLM(config)
    parts = {"ref_model": copy.deepcopy(model), "train_dataset": rows, "processing_class": tokenizer}
    dpo = TokenDPOTrainer(model, args=DPOConfig(**common), **parts)
    dpo.train()
    first, second, _ = dpo.state.log_history
    assert first["rewards/margins"] == 0.0
    assert second["rewards/margins"] > 0.0
    with pytest.raises(KeyError, match="chosen"):
        DPOTrainer(model, args=DPOConfig(**common), **parts)
