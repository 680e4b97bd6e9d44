"""From sources to what was made of them: which record made what another one read."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from align.audit.ledger.files import Artefact
from align.audit.ledger.records import Record


@dataclass(frozen=True)
class Branch:
    """A record, or a source that no record made, in the tree of one artefact.

    Attributes:
        via: Under which name the step above reads it; "" at the root.
        artefact: What the step above reads; None at the root.
        record: The step that made it; None for a source.
        inputs: What that step read. Empty where the step stands in the tree already.
        repeated: Whether the step stands in the tree already.
    """

    via: str
    artefact: Artefact | None
    record: Record | None
    inputs: tuple[Branch, ...] = ()
    repeated: bool = False


class Lineage:
    """Who made what, by content: an input was made by the last earlier record with an output of the same hash.

    Args:
        records: The records of a ledger, in order.
    """

    def __init__(self, records: Sequence[Record]) -> None:
        self.records = tuple(records)
        self._makers: dict[str, list[Record]] = {}
        for record in self.records:
            for sha256 in {output.sha256 for output in record.outputs.values()}:
                self._makers.setdefault(sha256, []).append(record)

    def ends(self) -> list[Record]:
        """Records of which nothing was made later."""
        made = (self._made_by(read, later) for later in self.records for read in later.inputs.values())
        used = {record.index for record in made if record is not None}
        return [record for record in self.records if record.index not in used]

    def makers(self, sha256: str) -> list[Record]:
        """Records with an output of this hash, in order."""
        return list(self._makers.get(sha256, ()))

    def tree(self, record: Record) -> Branch:
        """Everything that went into a record, down to the sources. The record itself need not be in the ledger yet."""
        return self._branch("", None, record, set())

    def text(self, record: Record) -> str:
        """The tree in lines, one a step or source."""
        return "\n".join(_lines(self.tree(record)))

    def _made_by(self, read: Artefact, reader: Record) -> Record | None:
        makers = self._makers.get(read.sha256, ())
        return next((record for record in reversed(makers) if record.index < reader.index), None)

    def _branch(self, via: str, artefact: Artefact | None, record: Record | None, seen: set[int]) -> Branch:
        if record is None:
            return Branch(via, artefact, None)
        if record.index in seen:
            return Branch(via, artefact, record, repeated=True)
        seen.add(record.index)
        inputs = tuple(
            self._branch(name, read, self._made_by(read, record), seen) for name, read in sorted(record.inputs.items())
        )
        return Branch(via, artefact, record, inputs)


def describe_branch(branch: Branch) -> str:
    """One line: what is read, and who made it."""
    read = "" if branch.artefact is None else f"{branch.via}: {branch.artefact.path} ({branch.artefact.sha256[:12]})"
    if branch.record is None:
        return f"{read}, a source: no recorded step made it"
    step = branch.record.describe() if branch.record.hash else f"this step ({branch.record.kind})"
    return f"{read}, from {step}{', see above' if branch.repeated else ''}" if read else step


def _lines(branch: Branch, head: str = "", rest: str = "") -> Iterator[str]:
    yield head + describe_branch(branch)
    for number, part in enumerate(branch.inputs):
        last = number == len(branch.inputs) - 1
        yield from _lines(part, rest + ("└─ " if last else "├─ "), rest + ("   " if last else "│  "))
