"""Appending to a ledger: whole lines only, and one process at a time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from align.audit.ledger.chain import Chain, read_chain
from align.audit.ledger.files import Artefact, hash_path, relative_to_ledger
from align.audit.ledger.records import Record, decode_record, encode_record
from align.errors import DataError, RunError
from align.io import atomic_write, write_error

_WAIT_S = 60.0


class Ledger:
    """The ledger in a file; it comes into being with the first record.

    Attributes:
        path: The JSONL file.
        home: Its folder, which paths in records are relative to.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path).absolute()
        self.home = self.path.parent

    def read(self) -> Chain:
        """What the ledger holds; nothing where there is no file yet.

        Raises:
            DataError: The file can't be read.
        """
        try:
            return read_chain(self.path.read_bytes())
        except FileNotFoundError:
            return Chain(())
        except OSError as error:
            raise DataError(f"could not read {self.path}: {error.strerror or error}") from error

    def hash(self, path: str | Path) -> str:
        """The hash of a file or folder as it is now; the list of a folder's files is kept beside the ledger."""
        return hash_path(Path(path), self.home)

    def artefact(self, path: str | Path, sha256: str | None = None) -> Artefact:
        """A file or folder as a record names it; hashed now unless its hash is given.

        Raises:
            DataError: It is missing, empty or can't be read.
        """
        return Artefact(relative_to_ledger(Path(path), self.home), sha256 or self.hash(path))

    def append(
        self,
        kind: str,
        name: str = "",
        *,
        inputs: Mapping[str, Artefact] | None = None,
        outputs: Mapping[str, Artefact] | None = None,
        config: Mapping[str, Any] | None = None,
        versions: Mapping[str, Any] | None = None,
    ) -> Record:
        """Writes a record behind the last one and returns it; its ``hash`` is the ledger's new head.

        The file is replaced as a whole, so that a killed process never leaves half a record.

        Raises:
            RunError: The chain is broken, another process does not let go of the ledger, or it can't be written.
        """
        with self._locked():
            chain = self.read()
            if chain.fault is not None:
                raise RunError(
                    f"nothing was appended to {self.path} because it is not intact: {chain.fault}; keep it for an inquiry "
                    "and start a new one by giving it another name"
                )
            record = Record(
                len(chain.records),
                chain.head,
                kind,
                name,
                inputs or {},
                outputs or {},
                config or {},
                versions or {},
                datetime.now(UTC).isoformat(timespec="seconds"),
            )
            line = encode_record(record)
            old = self.path.read_bytes() if chain.records else b""
            atomic_write(self.path.resolve(), old + line + b"\n")
        return decode_record(line)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        lock = FileLock(self.home / f".{self.path.name}.lock", timeout=_WAIT_S)
        try:
            self.home.mkdir(parents=True, exist_ok=True)
            lock.acquire()
        except Timeout as error:
            raise RunError(f"another process has held {self.path} for {_WAIT_S:.0f} s; try again when it has ended") from error
        except OSError as error:
            raise write_error(self.path, error) from error
        try:
            yield
        finally:
            lock.release()
