"""Does everything still stand as it was recorded: the chain, its end, and every file that a record names?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from align.audit.ledger.book import Ledger
from align.audit.ledger.chain import Chain
from align.audit.ledger.files import Artefact, hash_path, locate, name_change
from align.audit.ledger.records import HASH, Record
from align.errors import DataError


@dataclass(frozen=True)
class Verification:
    """What was checked and what was found.

    Attributes:
        num_records: Records of the unbroken part.
        head: Hash of the last of them; keep it outside.
        since_head: Records after the head that was given; None if none was given or it wasn't found.
        num_files: Files and folders that are as they were recorded.
        rewritten: Sentences about files whose content a later recorded step replaced, so the older one can't be checked.
        missing: Sentences about files that are not here, where that was allowed.
        violations: One sentence for each thing that is not as it was recorded.
    """

    num_records: int
    head: str
    since_head: int | None
    num_files: int
    rewritten: tuple[str, ...]
    missing: tuple[str, ...]
    violations: tuple[str, ...]

    @property
    def intact(self) -> bool:
        return not self.violations


def verify_ledger(path: str | Path, head: str | None = None, *, allow_missing: bool = False) -> Verification:
    """Follows the chain, looks for the head, and hashes every file again.

    Args:
        path: The ledger's JSONL file.
        head: Hash of the last record at an earlier time, kept where nobody who can write the ledger can change it. Without
            it, records that were cut off at the end, or a chain that was written anew, can't be noticed.
        allow_missing: Files that are not here are only counted; those that are here must still be as they were.

    Raises:
        ValueError: ``head`` is no hash.
        DataError: There is no ledger, or it can't be read.
    """
    if head is not None and not HASH.fullmatch(head):
        raise ValueError(f"head must be the 64 hex digits of a record's hash, got {head!r}")
    ledger = Ledger(path)
    if not ledger.path.is_file():
        raise DataError(f"there is no ledger {path}; give the path of a ledger.jsonl")
    chain = ledger.read()
    violations = [chain.fault] if chain.fault is not None else []
    since = _records_since(chain, head)
    if head is not None and since is None:
        violations.append(
            f"no record has the hash {head[:12]}… that was kept outside: the ledger was cut short, written anew, or is another"
        )
    mentions = list(_mentions(chain.records))
    checker = _Checker(ledger.home, mentions, allow_missing)
    for mention in mentions:
        checker.check(mention)
    return Verification(
        len(chain.records),
        chain.head,
        since,
        checker.num_sound,
        tuple(checker.rewritten),
        tuple(checker.missing),
        (*violations, *checker.violations),
    )


def _records_since(chain: Chain, head: str | None) -> int | None:
    hashes = [record.hash for record in chain.records]
    return len(hashes) - 1 - hashes.index(head) if head in hashes else None


@dataclass(frozen=True)
class _Mention:
    """A file as one record names it."""

    record: Record
    role: str
    name: str
    artefact: Artefact

    def sentence(self, what: str) -> str:
        return f"{self.record.describe()}: its {self.role} {self.name}, {self.artefact.path}, {what}"


def _mentions(records: Sequence[Record]) -> list[_Mention]:
    return [
        _Mention(record, role, name, artefact)
        for record in records
        for role, artefacts in (("input", record.inputs), ("output", record.outputs))
        for name, artefact in sorted(artefacts.items())
    ]


class _Checker:
    """Hashes each path once and sorts mentions into sound, rewritten, missing and violated."""

    def __init__(self, home: Path, mentions: Sequence[_Mention], allow_missing: bool) -> None:
        self.home = home
        self.allow_missing = allow_missing
        self.num_sound = 0
        self.rewritten: list[str] = []
        self.missing: list[str] = []
        self.violations: list[str] = []
        self._hashes: dict[str, str | DataError] = {}
        self._writers: dict[str, list[_Mention]] = {}
        for mention in mentions:
            if mention.role == "output":
                self._writers.setdefault(mention.artefact.path, []).append(mention)

    def check(self, mention: _Mention) -> None:
        path, expected = locate(mention.artefact, self.home), mention.artefact.sha256
        writer = self._later_writer(mention)
        if writer is not None:
            what = f"was written anew by {writer.record.describe()}; what it held before is gone"
            self.rewritten.append(mention.sentence(what))
        elif not path.exists():
            (self.missing if self.allow_missing else self.violations).append(mention.sentence("is not here any more"))
        elif isinstance(found := self._hash(path), DataError):
            self.violations.append(mention.sentence(f"can't be checked: {found}"))
        elif found != expected:
            self.violations.append(mention.sentence(f"has changed{name_change(path, expected, self.home)}"))
        else:
            self.num_sound += 1

    def _later_writer(self, mention: _Mention) -> _Mention | None:
        """A later step that says that it put another content there."""
        writers = self._writers.get(mention.artefact.path, ())
        later = (other for other in writers if other.record.index > mention.record.index)
        return next((other for other in later if other.artefact.sha256 != mention.artefact.sha256), None)

    def _hash(self, path: Path) -> str | DataError:
        key = str(path)
        if key not in self._hashes:
            try:
                self._hashes[key] = hash_path(path)
            except DataError as error:
                self._hashes[key] = error
        return self._hashes[key]
