"""A record's line: checkable on its bytes, and refused in any other form."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace

import pytest

from align.audit.ledger import GENESIS, Artefact, Record
from align.audit.ledger.records import decode_record, encode_record

RECORD = Record(0, GENESIS, "dpo", "first", {"votes": Artefact("../votes.csv", "a" * 64)}, config={"lr": 3e-4, "name": "Zoë"})


def reseal(body: bytes) -> bytes:
    """What a forger writes who knows how a hash is made."""
    return body[:-1] + b',"hash":"' + hashlib.sha256(body).hexdigest().encode() + b'"}'


def test_a_line_is_read_back_as_it_was() -> None:
    found = decode_record(encode_record(RECORD))
    assert replace(found, hash="") == RECORD
    assert found.describe() == "record 0 (dpo, first)"


def test_anybody_can_check_a_line_with_a_hash_function_alone() -> None:
    line = encode_record(RECORD)
    assert line.isascii()
    body, digest = line[: -len(',"hash":""}') - 64] + b"}", line[-66:-2].decode()
    assert hashlib.sha256(body).hexdigest() == digest
    assert list(json.loads(line))[-1] == "hash"
    assert reseal(body) == line


def test_the_hash_says_nothing_about_itself() -> None:
    assert encode_record(replace(RECORD, hash="f" * 64)) == encode_record(RECORD)


@pytest.mark.parametrize(
    "change",
    [
        (b'"kind":"dpo"', b'"kind": "dpo"'),
        (b'"kind":"dpo"', b'"kind":"dpo","kind":"dpo"'),
        (b'"index":0', b'"index":0.0'),
        (b'"index":0', b'"index":false'),
        (b'"kind":"dpo",', b""),
        (b'"kind":"dpo"', b'"kind":5'),
        (b'"kind":"dpo"', b'"extra":1,"kind":"dpo"'),
        (b'"path":"../votes.csv"', b'"path":["../votes.csv"]'),
        (b'"outputs":{}', b'"outputs":[]'),
        (b'"outputs":{}', b'"outputs":{"a":"b"}'),
        (b'"config":{"lr":0.0003,"name":"Zo\\u00eb"}', b'"config":[]'),
        (b'"version":1', b'"version":2'),
    ],
    ids=lambda change: change[1].decode(),
)
def test_a_forged_line_of_another_form_is_refused(change: tuple[bytes, bytes]) -> None:
    body = encode_record(RECORD)[: -len(',"hash":""}') - 64] + b"}"
    forged = body.replace(*change)
    assert forged != body
    with pytest.raises(ValueError, match="another form"):
        decode_record(reseal(forged))


@pytest.mark.parametrize("line", [b"", b"{}", b"\xff" * 80, b'{"hash":"' + b"0" * 64 + b'"}'])
def test_what_is_no_record_is_refused(line: bytes) -> None:
    with pytest.raises(ValueError, match=r"end in its hash|does not have the hash"):
        decode_record(line)
