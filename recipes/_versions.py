"""Which software a run was made with."""

from __future__ import annotations

import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

PACKAGES = (
    "gptsim-align", "torch", "trl", "transformers", "accelerate", "peft", "datasets", "numpy", "av", "pymunk", "pillow",
    "scipy", "scikit-learn", "safetensors",
)  # fmt: skip


def collect_versions() -> dict[str, object]:
    """Python, the platform, the packages that can change a result, and the commit of a checkout (None elsewhere)."""
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": {name: package_version(name) for name in PACKAGES},
        "git": _git_state(Path(__file__).parent.parent),
    }


def package_version(name: str) -> str | None:
    """The installed version of a distribution, None where it isn't installed."""
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _git_state(root: Path) -> dict[str, object] | None:
    """The commit of the checkout that this code runs from, and whether tracked files were changed since."""
    if not (root / ".git").exists():
        return None
    try:
        commit = _git(root, "rev-parse", "HEAD")
        return {"commit": commit, "changed": bool(_git(root, "status", "--porcelain", "--untracked-files=no"))}
    except (OSError, subprocess.CalledProcessError):
        return None


def _git(root: Path, *arguments: str) -> str:
    finished = subprocess.run(["git", "-C", str(root), *arguments], capture_output=True, text=True, check=True)
    return finished.stdout.strip()
