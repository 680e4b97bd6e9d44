"""Files and folders that records name: their hashes, and where they lie seen from the ledger.

A folder's hash is the SHA-256 of the list of its files (``align.io.list_hashes``). The list is kept beside the ledger in
``ledger_files/<hash>.txt``; it proves itself, and lets ``verify`` say which file of a folder has changed.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

from align.errors import DataError
from align.io import atomic_write, list_hashes, sha256_file

LISTS = "ledger_files"


@dataclass(frozen=True)
class Artefact:
    """A file or folder at the time of a record.

    Attributes:
        path: Where it lies: relative to the ledger's folder, with forward slashes, or absolute.
        sha256: Hash of the file, or of the list of a folder's files.
    """

    path: str
    sha256: str


def locate(artefact: Artefact, home: Path) -> Path:
    """Where an artefact should lie now, given the ledger's folder."""
    return Path(os.path.normpath(home / artefact.path))


def relative_to_ledger(path: Path, home: Path) -> str:
    """The path to write down: relative if it lies under the folder that holds the ledger's folder, else absolute.

    ``runs/ledger.jsonl`` reaches ``../clips/tune`` this way, so a whole project can be moved; data from elsewhere stays where
    it is when the project moves.
    """
    target, home = Path(os.path.abspath(path)), Path(os.path.abspath(home))
    return Path(os.path.relpath(target, home)).as_posix() if target.is_relative_to(home.parent) else target.as_posix()


def hash_path(path: Path, home: Path | None = None) -> str:
    """The hash of a file or folder; with the ledger's folder, a folder's list is kept there.

    Raises:
        DataError: If it is missing, empty or can't be read.
    """
    if not path.is_dir():
        return sha256_file(path)
    text = list_hashes(path)
    digest = hashlib.sha256(text.encode()).hexdigest()
    if home is not None and not (kept := _list_path(home, digest)).exists():
        atomic_write(kept, text)
    return digest


def name_change(path: Path, expected: str, home: Path) -> str:
    """Which files of a folder differ from what they were: `` (a.mp4 changed, b.mp4 missing)``, or "" where nobody can say."""
    before = _read_list(home, expected)
    if before is None or not path.is_dir():
        return ""
    try:
        now = _parse(list_hashes(path))
    except DataError as error:
        return f" ({error})"
    changes = [f"{name} {'changed' if name in now else 'missing'}" for name in before if now.get(name) != before[name]]
    changes += [f"{name} added" for name in now if name not in before]
    more = f", and {len(changes) - 3} more" if len(changes) > 3 else ""
    return f" ({', '.join(changes[:3])}{more})" if changes else ""


def _list_path(home: Path, digest: str) -> Path:
    return home / LISTS / f"{digest}.txt"


def _read_list(home: Path, digest: str) -> dict[str, str] | None:
    """File name to hash, or None if the list is gone or isn't the one that was kept."""
    try:
        data = _list_path(home, digest).read_bytes()
    except OSError:
        return None
    return _parse(data.decode()) if hashlib.sha256(data).hexdigest() == digest else None


def _parse(text: str) -> dict[str, str]:
    lines = (line.split("  ", 1) for line in text.split("\n") if line)
    return {name: digest for digest, name in lines}
