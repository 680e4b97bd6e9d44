"""The run folder: what a training run leaves behind, and how a killed one goes on.

    runs/<name>/
        config.yaml     the resolved configuration          run.json        recipe, seed, number of processes, start
        versions.json   Python, packages, git commit        inputs.json     SHA-256 of every data set read
        metrics.jsonl   one row a logged step               stages/         one marker with results for each finished stage
        checkpoints/    whatever the recipe saves           report.json     the figures; written last: marks a finished run

A run is never overwritten. Only one process tree works in a folder at a time; of several ranks only the first writes.
A finished run has a record in the ledger beside all runs, ``runs/ledger.jsonl``: what it read, what it wrote, and how.
"""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import yaml
from filelock import FileLock, Timeout

from align.audit.ledger.files import hash_path
from align.errors import ConfigError, DataError, RunError
from align.io import atomic_path, atomic_write, read_json, to_jsonable, write_error, write_json
from recipes._config import compare_configs, config_dict, dump_config
from recipes._ledger import append_run, find_ledger, find_reads
from recipes._progress import Advance, say, show_progress
from recipes._trackers import Trackers
from recipes._versions import collect_versions

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_INCOMPLETE = {".lock", "run.json"}
"""What a start that was killed leaves behind; such a folder may be started again."""


def make_run_name(recipe: str, seed: int) -> str:
    """The default name of a run: recipe, seed and the time in UTC."""
    return f"{recipe}-{seed}-{datetime.now(UTC):%Y%m%d-%H%M%S}"


class Run:
    """An open run folder; make one with :meth:`create` or :meth:`join`, and close it (it is a context manager).

    Attributes:
        path: The folder.
        name: Its name.
        is_main: Whether this process writes; False on every rank but the first.
        resumed: Whether an earlier process has worked in this folder.
        trackers: Where logged figures are shown as they come; None shows none.
    """

    def __init__(self, path: Path, *, lock: FileLock | None = None, is_main: bool = True, resumed: bool = False) -> None:
        self.path = path
        self.name = path.name
        self.is_main = is_main
        self.resumed = resumed
        self.trackers: Trackers | None = None
        self._lock = lock
        self._stage = ""
        self._hashes: dict[Path, str] = {}
        self._rewound: set[str] = set()
        # Taken once: a rank that comes late must not see a stage as done that the first rank finished meanwhile.
        self._done = {file.stem: read_json(file) for file in sorted(path.glob("stages/*.json"))}

    @classmethod
    def create(
        cls, root: str | Path, name: str, config: Any, resume: bool = False, *, recipe: str = "", num_processes: int = 1
    ) -> Self:
        """Makes the folder ``root/name``, or opens it again.

        Args:
            root: The folder of all runs.
            name: Letters, digits, dots, dashes and underscores.
            config: The resolved configuration, a dataclass.
            resume: Continue the run of this name, which must have been started with the same configuration.
            recipe: The recipe's name, for the record.
            num_processes: How many processes work together; a resumed run needs as many as it was started with.

        Raises:
            ConfigError: If the name is not allowed, or a resumed run had another configuration; names every difference.
            RunError: If the run exists already, doesn't exist though it should, is in use, or can't be written.
        """
        if not _NAME.fullmatch(name):
            raise ConfigError(f"the run name {name!r} may hold only letters, digits, dots, dashes and underscores")
        path = Path(root) / name
        if resume and not (path / "config.yaml").exists():
            raise RunError(f"there is no run {path} to resume; start it without --resume")
        lock = _lock(path)
        try:
            if not resume and not {file.name for file in path.iterdir()} <= _INCOMPLETE:
                raise RunError(f"the run {path} exists already; choose another --name, or continue it with --resume")
            about = {"recipe": recipe, "seed": getattr(config, "seed", None), "num_processes": num_processes}
            if resume:
                _check_same(path, config, about)
            else:
                _write_start(path, config, about)
            run = cls(path, lock=lock, resumed=resume)
            run._record_versions()
            for field, read in find_reads(config).items():
                run.record_input(field, read)
        except BaseException:
            lock.release()
            raise
        return run

    @classmethod
    def join(cls, path: str | Path) -> Self:
        """Opens a folder that the launching process has created and holds, from one of its ranks."""
        folder = Path(path)
        resumed = any((folder / name).exists() for name in ("metrics.jsonl", "stages", "checkpoints"))
        return cls(folder, is_main=int(os.environ.get("RANK", "0")) == 0, resumed=resumed)

    @property
    def checkpoints(self) -> Path:
        """The folder for checkpoints; it is there."""
        folder = self.path / "checkpoints"
        folder.mkdir(exist_ok=True)
        return folder

    def record_input(self, name: str, path: str | Path) -> str:
        """Writes down the SHA-256 of a file or folder that the run reads, and returns it.

        Raises:
            DataError: If it can't be read, or has changed since the run was started.
        """
        source = Path(path)
        digest = self._hash(source)
        file = self.path / "inputs.json"
        inputs = read_json(file) if file.exists() else {}
        if name in inputs and inputs[name]["sha256"] != digest:
            raise DataError(
                f"{path} ({name}) has changed since the run {self.name} was started; start a new run on the new data"
            )
        if self.is_main and name not in inputs:
            write_json(file, {**inputs, name: {"path": str(source), "sha256": digest}})
        return digest

    def _hash(self, source: Path) -> str:
        """Hashed once: a recipe records again what its configuration names."""
        if source not in self._hashes:
            self._hashes[source] = hash_path(source, find_ledger(self.path).home if self.is_main else None)
        return self._hashes[source]

    def log(self, step: int, **figures: Any) -> None:
        """Appends one row of figures to metrics.jsonl, and shows it in the trackers."""
        self.write_row(step, figures)
        self.track(step, figures)

    def track(self, step: int, figures: Mapping[str, Any]) -> None:
        """Shows figures in the trackers alone."""
        if self.is_main and self.trackers is not None:
            prefix = f"{self._stage}/" if self._stage else ""
            self.trackers.log(step, {prefix + name: value for name, value in figures.items()})

    def write_row(self, step: int, figures: Mapping[str, Any]) -> None:
        """Appends one row of figures to metrics.jsonl alone.

        The first row that a resumed process logs in a stage drops what an earlier process logged from that step on, so
        the file ends up as if nothing had been interrupted.
        """
        if not self.is_main:
            return
        if self.resumed and self._stage not in self._rewound:
            self.rewind(step - 1)
        row = {"stage": self._stage, "step": step, **to_jsonable(figures)}
        try:
            with open(self.path / "metrics.jsonl", "a", encoding="utf-8") as file:
                file.write(json.dumps(row, allow_nan=False) + "\n")
        except OSError as error:
            raise write_error(self.path / "metrics.jsonl", error) from error

    def rewind(self, step: int) -> None:
        """Drops the rows of the current stage after ``step``, the step of the checkpoint that training goes on from."""
        self._rewound.add(self._stage)
        file = self.path / "metrics.jsonl"
        if self.is_main and file.exists():
            rows = [row for row in read_metrics(self.path) if row["stage"] != self._stage or row["step"] <= step]
            atomic_write(file, "".join(json.dumps(row) + "\n" for row in rows))

    def done(self, stage: str) -> dict[str, Any] | None:
        """The results of a stage that is finished, or None."""
        return self._done.get(stage)

    @contextmanager
    def stage(self, name: str, why: str = "") -> Iterator[dict[str, Any]]:
        """A part of a longer recipe that is done once. Put small results into the dict; a clean exit marks the stage done.

        A stage that was killed leaves no marker and is done again::

            if (base := run.done("base")) is None:
                with run.stage("base", "the world model that everything starts from") as base:
                    base["loss"] = train(...)
        """
        if self._stage:
            raise ValueError(f"stage {name} begins inside stage {self._stage}; stages don't nest")
        if not _NAME.fullmatch(name):
            raise ValueError(f"the stage name {name!r} may hold only letters, digits, dots, dashes and underscores")
        self.say(f"[{name}] {why}" if why else f"[{name}]")
        self._stage = name
        results: dict[str, Any] = {}
        try:
            yield results
        finally:
            self._stage = ""
        self._done[name] = results
        self.save_json(f"stages/{name}.json", results)

    def save_json(self, name: str, value: Any) -> None:
        """Writes ``value`` to a JSON file in the run folder, whole or not at all."""
        if self.is_main:
            write_json(self.path / (name if name.endswith(".json") else f"{name}.json"), value)

    def finish(self, figures: dict[str, Any]) -> None:
        """Appends the run to the ledger and writes report.json, which marks it as finished.

        Raises:
            RunError: The ledger is broken or can't be written; the run is then not finished, and can be resumed.
        """
        if not self.is_main:
            return
        with atomic_path(self.path / "report.json") as temporary:
            write_json(temporary, figures)
            append_run(self.path, figures, temporary)

    @contextmanager
    def progress(self, what: str, total: int | None = None, why: str = "") -> Iterator[Advance]:
        """A progress bar that says what happens and why; the body calls the given function: ``advance(1, loss=0.3)``."""
        with show_progress(what, total, why, visible=self.is_main) as advance:
            yield advance

    def say(self, text: str) -> None:
        """Prints one line on stderr, from the first rank only."""
        if self.is_main:
            say(text)

    def close(self) -> None:
        """Lets other processes work in the folder again."""
        if self.trackers is not None:
            self.trackers.finish()
        if self._lock is not None:
            self._lock.release()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def _record_versions(self) -> None:
        """Writes versions.json; a run that goes on with other versions notes those as well."""
        file = self.path / "versions.json"
        versions = collect_versions()
        if not file.exists():
            write_json(file, {**versions, "resumed_with": []})
            return
        before = read_json(file)
        known = [{key: value for key, value in before.items() if key != "resumed_with"}, *before["resumed_with"]]
        if versions != known[-1]:
            write_json(file, {**before, "resumed_with": [*before["resumed_with"], versions]})


def read_metrics(path: str | Path) -> list[dict[str, Any]]:
    """The rows of a run's metrics.jsonl; a last line that was cut off by a kill is left out."""
    file = Path(path) / "metrics.jsonl"
    if not file.exists():
        return []
    lines = file.read_text(encoding="utf-8").split("\n")[:-1]
    try:
        return [json.loads(line) for line in lines]
    except ValueError as error:
        raise DataError(f"{file} holds a line that is not JSON: {error}; remove that line") from error


def _lock(path: Path) -> FileLock:
    """Takes the folder for this process. The system frees the lock of a process that died, however it died."""
    try:
        path.mkdir(parents=True, exist_ok=True)
        lock = FileLock(path / ".lock")
        lock.acquire(timeout=0)
    except Timeout as error:
        raise RunError(f"another process is working on the run {path}; wait for it or choose another --name") from error
    except OSError as error:
        raise write_error(path, error) from error
    return lock


def _write_start(path: Path, config: Any, about: dict[str, Any]) -> None:
    """Writes what describes the run; config.yaml comes last, so its presence means that the start was complete."""
    write_json(path / "run.json", {**about, "command": sys.argv, "started_at": datetime.now(UTC).isoformat(timespec="seconds")})
    atomic_write(path / "config.yaml", dump_config(config))


def _check_same(path: Path, config: Any, about: dict[str, Any]) -> None:
    """Raises ConfigError unless the run was started with the same configuration."""
    try:
        before = yaml.safe_load((path / "config.yaml").read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError) as error:
        raise RunError(f"could not read {path / 'config.yaml'}: {error}; start a new run") from error
    described = {key: value for key, value in read_json(path / "run.json").items() if key in about}
    # The seed stands in both; the configuration's is the one to name.
    outer = [text for text in compare_configs(described, about) if not text.startswith("seed ")]
    differences = compare_configs(before or {}, config_dict(config)) + outer
    if differences:
        raise ConfigError(
            f"the run {path} can't be resumed with another configuration: {'; '.join(differences)}; "
            "drop the changes, or start a new run under another --name"
        )
