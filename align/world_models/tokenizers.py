"""Frame tokenizers by name: ours, and an engineer's own behind the same protocol.

A tokenizer of somebody's own is a class in a module that can be imported; the module puts it into :data:`TOKENIZERS`, and the
environment variable ``GPTSIM_MODULES`` names the module, so that every command and every worker process knows it.
"""

from __future__ import annotations

import os
from importlib import import_module
from pathlib import Path
from typing import Protocol, Self, cast

from torch import Tensor

from align.errors import ConfigError, DataError
from align.world_models.tokenizer import FrameTokenizer

MODULES = "GPTSIM_MODULES"
"""Environment variable with the names of modules to import, separated by commas."""


class Sizes(Protocol):
    """What everybody may ask of a tokenizer's ``config``."""

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of a frame in pixels."""

    @property
    def tokens_per_frame(self) -> int:
        """N, codes of a frame."""

    @property
    def num_codes(self) -> int:
        """Codes are 0 … num_codes - 1."""


class Tokenizer(Protocol):
    """Frames to codes and back. Pictures are float32 in [0, 1], codes int64."""

    @property
    def config(self) -> Sizes:
        """Its sizes."""

    def encode(self, video: Tensor) -> Tensor:
        """Codes [B, T, N] of clips [B, T, 3, H, W]. A frame's codes may depend on it and on frame 0 alone."""

    def encode_frame(self, frames: Tensor, first: Tensor) -> Tensor:
        """Codes [B, N] of single later frames [B, 3, H, W], given frame 0 of each; what :meth:`encode` says of them."""

    def decode(self, codes: Tensor, first: Tensor) -> Tensor:
        """Pictures [B, T, 3, H, W] of codes [B, T, N], given frame 0 [B, 3, H, W], which comes back as it is."""

    def save_pretrained(self, folder: Path, *, half: bool = False) -> None:
        """Write files into a world model's folder; none of them may be config.json, model.* or world_model.json."""

    @classmethod
    def from_pretrained(cls, folder: Path) -> Self:
        """Read what :meth:`save_pretrained` wrote, ready to use."""


TOKENIZERS: dict[str, type[Tokenizer]] = {"fsq": cast("type[Tokenizer]", FrameTokenizer)}
"""Name to class."""


def load_tokenizer(name: str, folder: Path) -> FrameTokenizer:
    """Load a tokenizer by its name, which is looked for in ``GPTSIM_MODULES`` too.

    Returns:
        What the class gave. It is typed as ours, since only ours passes gradients of pixels on to codes.

    Raises:
        ConfigError: ``GPTSIM_MODULES`` names something that can't be imported.
        DataError: Nobody knows the name.
    """
    for module in filter(None, os.environ.get(MODULES, "").split(",")):
        try:
            import_module(module.strip())
        except ImportError as error:
            raise ConfigError(
                f"{MODULES} names {module.strip()}, which can't be imported: {error}; is PYTHONPATH set?"
            ) from error
    if name not in TOKENIZERS:
        raise DataError(
            f"the tokenizer {name} is not known, only {', '.join(sorted(TOKENIZERS))}; set {MODULES} to the module that "
            "puts it into align.world_models.tokenizers.TOKENIZERS"
        )
    return cast(FrameTokenizer, TOKENIZERS[name].from_pretrained(folder))


def name_of(tokenizer: object) -> str:
    """The name under which a tokenizer's class is registered; raises ValueError if it isn't."""
    for name, cls in TOKENIZERS.items():
        if type(tokenizer) is cls:
            return name
    raise ValueError(f"{type(tokenizer).__name__} is not registered; put it into align.world_models.tokenizers.TOKENIZERS")
