"""A whole ledger: its records in order, and the first place where the chain is broken, in words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from align.audit.ledger.records import GENESIS, Record, decode_record


@dataclass(frozen=True)
class Chain:
    """What a ledger's bytes hold.

    Attributes:
        records: The records before the first fault; all of them where there is none.
        fault: What is wrong, in one sentence that names the record; None where the chain is whole.
    """

    records: tuple[Record, ...]
    fault: str | None = None

    @property
    def head(self) -> str:
        """Hash of the last record; `GENESIS` of an empty ledger."""
        return self.records[-1].hash if self.records else GENESIS


def read_chain(data: bytes) -> Chain:
    """Reads the bytes of a ledger and follows the chain as far as it holds."""
    lines = data.split(b"\n")
    cut_off = lines.pop()
    found = [_try_decode(line) for line in lines]
    records: list[Record] = []
    for place, item in enumerate(found):
        previous = records[-1].hash if records else GENESIS
        if isinstance(item, str):
            return Chain(tuple(records), f"record {place} (line {place + 1}) {item}")
        if item.index != place or item.previous != previous:
            return Chain(tuple(records), _explain(place, item, found))
        records.append(item)
    if cut_off:
        return Chain(tuple(records), f"record {len(records)} (line {len(records) + 1}) is cut off: its line has no end")
    return Chain(tuple(records))


def _try_decode(line: bytes) -> Record | str:
    try:
        return decode_record(line)
    except ValueError as error:
        return str(error)


def _explain(place: int, item: Record, found: Sequence[Record | str]) -> str:
    """Why a sound record can't stand where it stands."""
    others = {other.index for other in found[place + 1 :] if isinstance(other, Record)}
    before = [other for other in found[:place] if isinstance(other, Record)]
    name = item.describe()
    if any(other.hash == item.hash for other in before):
        return f"{name} stands in the ledger twice, the second time in line {place + 1}"
    if item.index > place and place not in others:
        gone = f"record {place} is" if item.index == place + 1 else f"records {place} to {item.index - 1} are"
        return f"{gone} missing before {name} in line {place + 1}"
    if item.index != place:
        return f"{name} stands in line {place + 1}, not in its place: records were reordered"
    neighbour = before[-1].describe() if before else "the start of a ledger"
    return f"{name} does not follow from {neighbour}: one of them was replaced"
