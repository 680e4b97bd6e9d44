"""Tokenizers by name: ours, somebody's own, and what is said when nobody knows the name."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from align.errors import ConfigError, DataError
from align.world_models import tokenizers
from align.world_models.tokenizer import FrameTokenizer, TokenizerConfig
from align.world_models.tokenizers import MODULES, load_tokenizer, name_of
from align.world_models.world_model import load_world_model, save_world_model

OWN = '''
from align.world_models.tokenizer import FrameTokenizer
from align.world_models.tokenizers import TOKENIZERS


class Own(FrameTokenizer):
    """Ours under another name."""


TOKENIZERS["own"] = Own
'''


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Name of a module, importable but not imported, that registers ``own``."""
    (tmp_path / "own_tokenizer.py").write_text(OWN)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(tokenizers, "TOKENIZERS", dict(tokenizers.TOKENIZERS))
    yield "own_tokenizer"
    sys.modules.pop("own_tokenizer", None)


@pytest.fixture
def ours() -> FrameTokenizer:
    torch.manual_seed(0)
    return FrameTokenizer(TokenizerConfig((16, 24), (8, 8), (4, 2), width=8)).eval().requires_grad_(False)


def test_a_module_that_is_named_registers_its_own(own: str, ours: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ours.save_pretrained(tmp_path / "files")
    with pytest.raises(DataError, match=f"the tokenizer own is not known, only fsq; set {MODULES}"):
        load_tokenizer("own", tmp_path / "files")
    monkeypatch.setenv(MODULES, f" {own},")
    loaded = load_tokenizer("own", tmp_path / "files")
    assert type(loaded).__name__ == "Own" and name_of(loaded) == "own" and name_of(ours) == "fsq"
    monkeypatch.setenv(MODULES, "there_is_no_such_module")
    with pytest.raises(ConfigError, match="names there_is_no_such_module, which can't be imported"):
        load_tokenizer("fsq", tmp_path / "files")
    with pytest.raises(ValueError, match="Linear is not registered"):
        name_of(torch.nn.Linear(1, 1))


def test_a_world_model_comes_back_with_its_own_tokenizer(
    own: str, ours: Any, make_model: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = make_model("flat")
    save_world_model(tmp_path / "plain", ours, model, {})
    assert type(load_world_model(tmp_path / "plain").tokenizer) is FrameTokenizer
    monkeypatch.setenv(MODULES, own)
    save_world_model(tmp_path / "other", load_tokenizer("own", tmp_path / "plain"), model, {})
    assert type(load_world_model(tmp_path / "other").tokenizer).__name__ == "Own"


def test_a_folder_from_before_there_were_names_holds_ours() -> None:
    assert type(load_world_model("household").tokenizer) is FrameTokenizer
