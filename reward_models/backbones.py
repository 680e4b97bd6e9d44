"""Frozen feature extractors. A backbone turns a video into a small table of vectors per frame and cell; it sees no votes.

Every backbone has a name in ``BACKBONES`` and a JSON-able ``config()``, from which ``build_backbone`` makes it again.
"""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Protocol, TypeVar, runtime_checkable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from align.errors import ConfigError, MissingExtra

LUMA = (0.299, 0.587, 0.114)


@runtime_checkable
class Backbone(Protocol):
    """A frozen encoder of video."""

    name: ClassVar[str]

    def config(self) -> dict[str, Any]:
        """JSON-able keyword arguments that rebuild this backbone."""
        ...

    def features(self, video: Tensor) -> Tensor:
        """Encode [B, T, C, H, W] float32 in [0, 1] to [B, T', S, D] float32: T' moments, S spatial cells, D numbers each.

        Frozen, but differentiable in the video: nothing is kept for gradients unless the video asks for them.
        """
        ...


BACKBONES: dict[str, Callable[..., Any]] = {}
"""Name to the class that is called with the keyword arguments of ``config()``."""

BackboneClass = TypeVar("BackboneClass", bound=type)


def register_backbone(cls: BackboneClass) -> BackboneClass:
    """Class decorator: makes a backbone known under its ``name``."""
    BACKBONES[cls.name] = cls  # type: ignore[attr-defined]
    return cls


def build_backbone(config: Mapping[str, Any], module: nn.Module | None = None) -> Backbone:
    """Make a backbone from ``{"name": ..., **arguments}``.

    Args:
        config: What ``describe_backbone`` returned, or the same written by hand.
        module: The network that a backbone such as ``tokenizer`` wraps and does not store itself; a backbone that
            wraps none ignores it, so a caller need not know which one a folder holds.

    Raises:
        ConfigError: An unknown name or arguments that the backbone doesn't take.
    """
    arguments = dict(config)
    name = arguments.pop("name", None)
    if name not in BACKBONES:
        raise ConfigError(f"backbone must be one of {', '.join(sorted(BACKBONES))}, got {name!r}")
    if module is not None and "module" in inspect.signature(BACKBONES[name]).parameters:
        arguments["module"] = module
    try:
        return BACKBONES[name](**arguments)
    except (TypeError, ValueError) as err:
        raise ConfigError(f"backbone {name!r} can't be built from {arguments}: {err}") from err


def describe_backbone(backbone: Backbone) -> dict[str, Any]:
    """The JSON-able record from which ``build_backbone`` makes the backbone again."""
    return {"name": backbone.name, **backbone.config()}


def check_video(video: Tensor) -> None:
    """Raise ``ValueError`` unless ``video`` is [B, T, 3, H, W] floating point in [0, 1]."""
    if video.ndim != 5 or video.shape[2] != 3 or not video.is_floating_point():
        raise ValueError(f"video must be float [B, T, 3, H, W], got {video.dtype} {list(video.shape)}")
    if video.numel() and (video.min() < -1e-3 or video.max() > 1 + 1e-3):
        raise ValueError(f"video must lie in [0, 1], got {video.min():.3g} to {video.max():.3g}")


def choose_moments(num_frames: int, num_moments: int) -> list[int]:
    """Indices of ``num_moments`` frames spread evenly over frames 1 to the last, the last always among them.

    A shorter video repeats frames, so that every clip gives equally many moments.
    """
    if num_frames < 2:
        raise ValueError(f"a video needs at least 2 frames, got {num_frames}")
    step = (num_frames - 1) / num_moments
    return [max(1, round((moment + 1) * step)) for moment in range(num_moments)]


@register_backbone
class Difference(nn.Module):
    """Parameter-free: how each cell of a few chosen frames differs from frame 0.

    The numbers per cell: mean absolute difference per colour (3), mean signed difference per colour (3), mean colour (3),
    fraction of changed pixels (1), mean absolute change since the frame before (1). Comparing with frame 0 takes wall and
    floor colours out; the box filter and the tolerance make it indifferent to the blur and drift of dreamed clips.

    Args:
        grid: Cells per side.
        num_moments: How many frames are looked at.
        threshold: A pixel counts as changed when its brightness differs from frame 0 by more than this, of 1.
        smooth: Side of the box of pixels that are averaged before anything else.
        tolerance: Differences are taken towards 0 by this much, of 1; smaller ones are nothing.
    """

    name: ClassVar[str] = "difference"
    feature_dim: ClassVar[int] = 11

    def __init__(
        self, grid: int = 8, num_moments: int = 5, threshold: float = 0.1, smooth: int = 2, tolerance: float = 0.05
    ) -> None:
        super().__init__()
        if min(grid, num_moments, smooth) < 1:
            raise ValueError(f"grid, num_moments and smooth must be >= 1, got {grid}, {num_moments}, {smooth}")
        if not 0 < threshold < 1 or not 0 <= tolerance < 1:
            raise ValueError(f"threshold must be in (0, 1) and tolerance in [0, 1), got {threshold} and {tolerance}")
        self.grid, self.num_moments, self.threshold = grid, num_moments, threshold
        self.smooth, self.tolerance = smooth, tolerance

    def config(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in ("grid", "num_moments", "threshold", "smooth", "tolerance")}

    def features(self, video: Tensor) -> Tensor:
        """Encode [B, T, 3, H, W] in [0, 1] to [B, num_moments, grid * grid, 11]; cells run row by row from the top left."""
        check_video(video)
        video = F.avg_pool2d(video.flatten(0, 1), self.smooth).unflatten(0, video.shape[:2])
        moments = choose_moments(video.shape[1], self.num_moments)
        frames, before = video[:, moments], video[:, [moment - 1 for moment in moments]]
        luma = video.new_tensor(LUMA).view(3, 1, 1)
        difference = frames - video[:, :1]
        changed = ((difference * luma).sum(2, keepdim=True).abs() > self.threshold).to(video.dtype)
        change = F.softshrink(difference, self.tolerance)
        motion = F.softshrink(((frames - before) * luma).sum(2, keepdim=True), self.tolerance).abs()
        planes = torch.cat([change.abs(), change, frames, changed, motion], dim=2)
        cells = F.adaptive_avg_pool2d(planes.flatten(0, 1), self.grid)
        return cells.unflatten(0, planes.shape[:2]).flatten(3).transpose(2, 3).contiguous()


def fingerprint(module: nn.Module) -> str:
    """The first 16 hex digits of a SHA-256 over a module's weights: tells whether two networks are the same."""
    digest = hashlib.sha256()
    for key, value in sorted(module.state_dict().items()):
        digest.update(key.encode())
        digest.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:16]


@register_backbone
class TokenizerFeatures(nn.Module):
    """The frame tokenizer of a world model as a frozen encoder, for a few chosen frames.

    Its weights belong to the world model and are not stored with the reward model; the fingerprint in the config makes sure
    that loading meets the same weights again.

    Args:
        module: Any network with ``encode_features(video [B, T, 3, H, W]) -> [B, T, S, D]``.
        num_moments: How many frames are kept.
        weights: Fingerprint that ``module`` must have; None to accept any.
    """

    name: ClassVar[str] = "tokenizer"

    def __init__(self, module: nn.Module, num_moments: int = 5, weights: str | None = None) -> None:
        super().__init__()
        if not hasattr(module, "encode_features"):
            raise ValueError(f"module must offer encode_features(video), got {type(module).__name__}")
        self.weights = fingerprint(module)
        if weights is not None and weights != self.weights:
            raise ValueError(f"the reward model was trained on tokenizer {weights}, got {self.weights}")
        # a plain tuple hides the network from state_dict(): it is saved with the world model, not twice
        self._module = (module.eval().requires_grad_(False),)
        self.num_moments = num_moments

    def config(self) -> dict[str, Any]:
        return {"num_moments": self.num_moments, "weights": self.weights}

    def features(self, video: Tensor) -> Tensor:
        """Encode [B, T, 3, H, W] in [0, 1] to [B, num_moments, S, D]."""
        check_video(video)
        encoded = self._module[0].encode_features(video)  # type: ignore[operator]
        if encoded.ndim != 4 or encoded.shape[:2] != video.shape[:2]:
            raise ValueError(f"encode_features must give [B, T, S, D], got {list(encoded.shape)} for {list(video.shape)}")
        return encoded[:, choose_moments(video.shape[1], self.num_moments)].float()


@register_backbone
class HuggingFaceVideo(nn.Module):
    """A pretrained video encoder of the Hugging Face hub, such as ``MCG-NJU/videomae-base`` or a V-JEPA 2.

    Args:
        path: Hub name or local folder.
        revision: Commit or tag, to pin what is downloaded.
        module: An encoder already in memory, instead of loading ``path``.
    """

    name: ClassVar[str] = "huggingface"

    def __init__(self, path: str, revision: str | None = None, module: nn.Module | None = None) -> None:
        super().__init__()
        self.path, self.revision = path, revision
        encoder = load_encoder(path, revision) if module is None else module
        self._module = (encoder.eval().requires_grad_(False),)
        config: Any = encoder.config
        self.num_frames = int(_first_of(config, "num_frames", "frames_per_clip"))
        self.image_size = int(_first_of(config, "image_size", "crop_size"))
        self.tubelet = int(_first_of(config, "tubelet_size"))

    def config(self) -> dict[str, Any]:
        return {"path": self.path, "revision": self.revision}

    def features(self, video: Tensor) -> Tensor:
        """Encode [B, T, 3, H, W] in [0, 1] to [B, frames / tubelet, S, D]; frames are resampled to what the encoder expects."""
        check_video(video)
        index = torch.linspace(0, video.shape[1] - 1, self.num_frames).round().long()
        frames = video[:, index]
        size = (self.image_size, self.image_size)
        resized = F.interpolate(frames.flatten(0, 1), size, mode="bilinear", antialias=True, align_corners=False)
        mean, std = video.new_tensor(IMAGENET_MEAN).view(3, 1, 1), video.new_tensor(IMAGENET_STD).view(3, 1, 1)
        pixels = ((resized - mean) / std).unflatten(0, frames.shape[:2])
        hidden = self._module[0](pixels).last_hidden_state
        return hidden.unflatten(1, (self.num_frames // self.tubelet, -1)).float()


IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def load_encoder(path: str, revision: str | None) -> nn.Module:
    """Load a video encoder with transformers; raises ``ConfigError`` with the reason when it can't be found or read."""
    try:
        from transformers import AutoModel
    except ImportError as err:
        raise MissingExtra("transformers", "models") from err
    try:
        encoder: nn.Module = AutoModel.from_pretrained(path, revision=revision, use_safetensors=True, dtype=torch.float32)
    except (OSError, ValueError) as err:
        raise ConfigError(f"video encoder {path!r} can't be loaded: {err}") from err
    return encoder


def _first_of(config: Any, *names: str) -> Any:
    for name in names:
        if getattr(config, name, None) is not None:
            return getattr(config, name)
    raise ValueError(f"the encoder's config has none of {', '.join(names)}; it doesn't look like a video encoder")
