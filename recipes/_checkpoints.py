"""Checkpoints of a tuning run as adapters that can be loaded."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from recipes._run import Run


def find_adapters(run: Run, world_model: str, path: str) -> Iterator[tuple[str, str]]:
    """Names and folders of an adapter, or of all checkpoints of a tuning run, which are written as adapters into this run.

    Raises:
        DataError: There is neither.
    """
    from align.errors import DataError

    folder = Path(path)
    if (folder / "trainer_state.json").is_file():
        yield _as_adapter(run, world_model, folder)
    elif (folder / "adapter_config.json").is_file():
        yield "-".join(folder.resolve().parts[-2:]), path
    else:
        saved = sorted(folder.glob("checkpoints/checkpoint-*"), key=lambda file: int(file.name.split("-")[1]))
        if not saved:
            raise DataError(f"{path} is neither an adapter nor a tuning run with checkpoints; give one of the two")
        for checkpoint in saved:
            yield _as_adapter(run, world_model, checkpoint)


def _as_adapter(run: Run, world_model: str, checkpoint: Path) -> tuple[str, str]:
    """A trainer's checkpoint doesn't say which path it works on; its run does."""
    import yaml

    from align.world_models.adapters import add_lora, save_adapter
    from align.world_models.pool import cached_world_model
    from recipes._tuning import restore_adapter

    source = checkpoint.parent.parent
    name = f"{source.name}-{checkpoint.name}"
    out = run.path / "adapters" / name
    if not (out / "gptsim_adapter.json").is_file():
        tuned = yaml.safe_load((source / "config.yaml").read_text(encoding="utf-8"))
        policy = add_lora(cached_world_model(world_model).model, tuned["rank"], tuned["alpha"], 0)
        restore_adapter(policy, checkpoint)
        save_adapter(policy, out, tuned["path"], f"Checkpoint {checkpoint.name} of the run {source.name}.\n")
    return name, str(out)
