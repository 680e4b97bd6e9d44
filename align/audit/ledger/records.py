"""One record of a ledger and the line that it is written as.

    {"config":{},"index":0,"inputs":{},...,"versions":{},"hash":"…"}

The line is JSON with sorted keys, without spaces and in ASCII, and ``hash`` comes last: it is the SHA-256 of the line without
``,"hash":"…"``. So a third party can check it on the bytes, in any language, without writing JSON again.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from align.audit.ledger.files import Artefact
from align.io import to_jsonable

RECORD_VERSION = 1
GENESIS = "0" * 64
"""What the first record gives as the hash of the one before it."""
HASH = re.compile(r"[0-9a-f]{64}")
_TAIL = re.compile(rb',"hash":"([0-9a-f]{64})"\}')
_TAIL_LENGTH = len(',"hash":""}') + 64
_FIELDS = {"config", "index", "inputs", "kind", "name", "outputs", "previous", "time", "version", "versions"}


@dataclass(frozen=True)
class Record:
    """One step: what went in, what came out, and how.

    Attributes:
        index: Place in the ledger, from 0.
        previous: Hash of the record before it; `GENESIS` for the first.
        kind: What was done, for a recipe its name: ``rollout``, ``annotate``, ``dpo`` …
        name: Which run it was.
        inputs: Name to what was read.
        outputs: Name to what was written.
        config: Plain JSON: the resolved configuration.
        versions: Plain JSON: software that it was done with.
        time: When it was appended, ISO 8601 in UTC.
        hash: SHA-256 of the record; "" as long as it is in no ledger.
    """

    index: int
    previous: str
    kind: str
    name: str = ""
    inputs: Mapping[str, Artefact] = field(default_factory=dict)
    outputs: Mapping[str, Artefact] = field(default_factory=dict)
    config: Mapping[str, Any] = field(default_factory=dict)
    versions: Mapping[str, Any] = field(default_factory=dict)
    time: str = ""
    hash: str = ""

    def describe(self) -> str:
        """``record 3 (dpo, first)``, for sentences."""
        return f"record {self.index} ({', '.join(text for text in (self.kind, self.name) if text)})"


def encode_record(record: Record) -> bytes:
    """The record's line, with its hash and without a line break. ``record.hash`` is not looked at."""
    values = {name: getattr(record, name) for name in _FIELDS - {"version"}}
    body = _canonical({**values, "version": RECORD_VERSION})
    return body[:-1] + b',"hash":"' + hashlib.sha256(body).hexdigest().encode() + b'"}'


def decode_record(line: bytes) -> Record:
    """Reads a line and checks the record by itself; its place in the chain is not looked at.

    Raises:
        ValueError: In words that go on from "record 3": what is wrong with it.
    """
    tail = _TAIL.fullmatch(line[-_TAIL_LENGTH:])
    if tail is None:
        raise ValueError("does not end in its hash")
    body = line[:-_TAIL_LENGTH] + b"}"
    if hashlib.sha256(body).hexdigest().encode() != tail[1]:
        raise ValueError("was changed after it was written: it does not have the hash that it says")
    try:
        values = json.loads(body)
        found = dict(values)
        if found.pop("version", None) != RECORD_VERSION or found.keys() != _FIELDS - {"version"} or _canonical(values) != body:
            raise ValueError("another form")
        _check_types(found)
        for side in ("inputs", "outputs"):
            found[side] = {name: Artefact(**artefact) for name, artefact in found[side].items()}
        return Record(**found, hash=tail[1].decode())
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise ValueError("was not written by this program: its fields have another form") from error


def _check_types(found: Mapping[str, Any]) -> None:
    """A record may be forged together with all hashes after it; it must still not lead a reader astray."""
    artefacts = [artefact for side in ("inputs", "outputs") for artefact in found[side].values()]
    texts = [found[name] for name in ("kind", "name", "previous", "time")]
    texts += [artefact[name] for artefact in artefacts for name in ("path", "sha256")]
    maps = [found[name] for name in ("config", "versions")]
    if type(found["index"]) is not int or not all(isinstance(text, str) for text in texts):
        raise TypeError("index must be a whole number, and names, paths and hashes text")
    if not all(isinstance(value, dict) for value in maps):
        raise TypeError("config and versions must be mappings")


def _canonical(value: Mapping[str, Any]) -> bytes:
    plain = to_jsonable(value)
    return json.dumps(plain, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False).encode()
