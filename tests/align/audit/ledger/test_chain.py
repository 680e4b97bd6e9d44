"""Where a chain is broken, in words."""

from __future__ import annotations

from pathlib import Path

import pytest

from align.audit.ledger import GENESIS, read_chain
from align.audit.ledger.records import Record, encode_record


@pytest.fixture
def lines(project: Path) -> list[bytes]:
    return (project / "runs" / "ledger.jsonl").read_bytes().splitlines(keepends=True)


def fault(lines: list[bytes]) -> str:
    chain = read_chain(b"".join(lines))
    assert chain.fault is not None
    return chain.fault


def test_a_whole_chain_has_no_fault(lines: list[bytes]) -> None:
    chain = read_chain(b"".join(lines))
    assert chain.fault is None
    assert [record.index for record in chain.records] == [0, 1, 2, 3, 4]
    assert chain.head == chain.records[-1].hash
    assert chain.records[0].previous == GENESIS
    assert read_chain(b"").head == GENESIS


def test_an_edited_record_is_named(lines: list[bytes]) -> None:
    lines[1] = lines[1].replace(b"0.7", b"0.8")
    assert fault(lines) == "record 1 (line 2) was changed after it was written: it does not have the hash that it says"
    assert len(read_chain(b"".join(lines)).records) == 1


def test_a_removed_record_is_named(lines: list[bytes]) -> None:
    assert fault([lines[0], *lines[2:]]) == "record 1 is missing before record 2 (votes) in line 2"
    assert fault([lines[0], *lines[3:]]) == "records 1 to 2 are missing before record 3 (dpo, dpo-0) in line 2"
    assert fault(lines[1:]) == "record 0 is missing before record 1 (rollout, rollout-0) in line 1"


def test_moved_and_repeated_records_are_named(lines: list[bytes]) -> None:
    swapped = [lines[0], lines[2], lines[1], *lines[3:]]
    assert fault(swapped) == "record 2 (votes) stands in line 2, not in its place: records were reordered"
    assert fault([*lines, lines[3]]) == "record 3 (dpo, dpo-0) stands in the ledger twice, the second time in line 6"


def test_a_replaced_record_with_a_hash_of_its_own_does_not_fit(lines: list[bytes]) -> None:
    before = read_chain(b"".join(lines)).records
    lines[1] = encode_record(Record(1, before[0].hash, "rollout", "rollout-0")) + b"\n"
    found = fault(lines)
    assert found == "record 2 (votes) does not follow from record 1 (rollout, rollout-0): one of them was replaced"
    lines[0] = encode_record(Record(0, "1" * 64, "simulate")) + b"\n"
    assert fault(lines) == "record 0 (simulate) does not follow from the start of a ledger: one of them was replaced"


def test_a_cut_line_and_an_empty_one_are_faults(lines: list[bytes]) -> None:
    whole = b"".join(lines)
    assert fault([whole[:-1]]) == "record 4 (line 5) is cut off: its line has no end"
    assert fault([whole[:-40]]) == "record 4 (line 5) is cut off: its line has no end"
    assert fault([*lines, b"\n"]) == "record 5 (line 6) does not end in its hash"
