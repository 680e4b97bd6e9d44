"""Verification: each kind of change is found and named, and 10,000 random ones as well."""

from __future__ import annotations

import hashlib
import json
import random
import re
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from align.audit.ledger import Ledger, read_chain, verify_ledger
from align.audit.ledger.records import encode_record
from align.errors import DataError
from align.io import atomic_write


@pytest.fixture
def ledger(project: Path) -> Ledger:
    return Ledger(project / "runs" / "ledger.jsonl")


def only_violation(ledger: Ledger, head: str | None = None) -> str:
    found = verify_ledger(ledger.path, head)
    assert not found.intact
    assert len(found.violations) == 1, found.violations
    return found.violations[0]


def test_an_untouched_project_is_intact(ledger: Ledger) -> None:
    head = ledger.read().head
    found = verify_ledger(ledger.path, head)
    assert found.intact
    assert (found.num_records, found.num_files, found.since_head, found.head) == (5, 10, 0, head)
    assert (found.rewritten, found.missing) == ((), ())


def test_a_moved_project_is_intact(ledger: Ledger, project: Path) -> None:
    moved = shutil.move(project, project.with_name("moved"))
    assert verify_ledger(Path(moved) / "runs" / "ledger.jsonl").intact


def test_a_changed_file_is_named_with_every_record_that_names_it(ledger: Ledger, project: Path) -> None:
    atomic_write(project / "votes.csv", "vote_id,vote\n1,b\n")
    assert verify_ledger(ledger.path).violations == (
        "record 2 (votes): its output votes, ../votes.csv, has changed",
        "record 3 (dpo, dpo-0): its input votes, ../votes.csv, has changed",
    )


def test_which_file_of_a_folder_changed_is_said(ledger: Ledger, project: Path) -> None:
    atomic_write(project / "clips" / "sub" / "c.mp4", "another film")
    (project / "clips" / "a.mp4").rename(project / "clips" / "z.mp4")
    found = verify_ledger(ledger.path).violations
    assert found[0] == (
        "record 0 (simulate, simulate-0): its output out, ../clips, has changed (a.mp4 missing, sub/c.mp4 changed, z.mp4 added)"
    )


def test_without_the_kept_list_the_folder_is_named_still(ledger: Ledger, project: Path) -> None:
    for kept in (project / "runs" / "ledger_files").iterdir():
        kept.write_text("forged")
    atomic_write(project / "clips" / "a.mp4", "x")
    assert verify_ledger(ledger.path).violations[0].endswith("its output out, ../clips, has changed")


def test_a_kept_list_is_what_sha256sum_reads(ledger: Ledger, project: Path) -> None:
    digest = ledger.read().records[0].outputs["out"].sha256
    text = (project / "runs" / "ledger_files" / f"{digest}.txt").read_text()
    assert text.splitlines()[0] == f"{hashlib.sha256(b'film a.mp4').hexdigest()}  a.mp4"


def test_a_missing_file_is_a_violation_unless_it_may_be_elsewhere(ledger: Ledger, project: Path) -> None:
    shutil.rmtree(project / "clips")
    assert len(verify_ledger(ledger.path).violations) == 2
    found = verify_ledger(ledger.path, allow_missing=True)
    assert found.intact
    assert found.missing[0] == "record 0 (simulate, simulate-0): its output out, ../clips, is not here any more"
    (project / "clips").mkdir()
    assert "can't be checked" in verify_ledger(ledger.path, allow_missing=True).violations[0]


def test_what_a_later_step_wrote_anew_is_told_and_no_violation(ledger: Ledger, project: Path) -> None:
    atomic_write(project / "votes.csv", "vote_id,vote\n1,a\n2,b\n")
    ledger.append("votes", outputs={"votes": ledger.artefact(project / "votes.csv")})
    found = verify_ledger(ledger.path)
    assert found.intact
    assert found.rewritten[0] == (
        "record 2 (votes): its output votes, ../votes.csv, was written anew by record 5 (votes); what it held before is gone"
    )
    atomic_write(project / "votes.csv", "vote_id,vote\n")
    assert only_violation(ledger) == "record 5 (votes): its output votes, ../votes.csv, has changed"


def test_a_cut_ledger_is_found_by_its_head_only(ledger: Ledger) -> None:
    head, lines = ledger.read().head, ledger.path.read_bytes().splitlines(keepends=True)
    ledger.path.write_bytes(b"".join(lines[:-2]))
    assert verify_ledger(ledger.path).intact
    assert "the ledger was cut short, written anew, or is another" in only_violation(ledger, head)
    ledger.path.write_bytes(b"")
    assert not verify_ledger(ledger.path, head).intact


def test_an_older_head_allows_what_was_appended_since(ledger: Ledger) -> None:
    old = ledger.read().records[2].hash
    found = verify_ledger(ledger.path, old)
    assert (found.intact, found.since_head) == (True, 2)


def test_what_can_not_be_checked_is_an_error(tmp_path: Path, ledger: Ledger) -> None:
    with pytest.raises(DataError, match="there is no ledger"):
        verify_ledger(tmp_path / "none.jsonl")
    with pytest.raises(ValueError, match="head must be the 64 hex digits"):
        verify_ledger(ledger.path, "abc")


# ------------------------------------------------------------------------------------------------------- fault injection


def rewrite_chain(data: bytes, chance: random.Random) -> bytes:
    """A forger changes one record and gives all later ones sound hashes."""
    records = [json.loads(line) for line in data.splitlines()]
    place = chance.randrange(len(records))
    records[place]["config"] = {"forged": chance.random()}
    lines: list[bytes] = []
    previous = "0" * 64
    for values in records:
        values = {**values, "previous": previous}
        del values["hash"]
        body = json.dumps(values, sort_keys=True, separators=(",", ":"), ensure_ascii=True).encode()
        previous = hashlib.sha256(body).hexdigest()
        lines.append(body[:-1] + f',"hash":"{previous}"}}\n'.encode())
    return b"".join(lines)


def edit(data: bytes, chance: random.Random) -> bytes:
    place = chance.randrange(len(data))
    kind = chance.choice(["flip", "insert", "delete"])
    if kind == "flip":
        return data[:place] + bytes([data[place] ^ (1 << chance.randrange(8))]) + data[place + 1 :]
    if kind == "insert":
        return data[:place] + bytes([chance.randrange(256)]) + data[place:]
    return data[:place] + data[place + 1 :]


def remove(data: bytes, chance: random.Random) -> bytes:
    lines = data.splitlines(keepends=True)
    del lines[chance.randrange(len(lines))]
    return b"".join(lines)


def reorder(data: bytes, chance: random.Random) -> bytes:
    lines = data.splitlines(keepends=True)
    shuffled = lines[:]
    while shuffled == lines:
        chance.shuffle(shuffled)
    return b"".join(shuffled)


def repeat(data: bytes, chance: random.Random) -> bytes:
    lines = data.splitlines(keepends=True)
    lines.insert(chance.randrange(len(lines) + 1), chance.choice(lines))
    return b"".join(lines)


def truncate(data: bytes, chance: random.Random) -> bytes:
    if chance.random() < 0.5:
        return data[: chance.randrange(len(data))]
    lines = data.splitlines(keepends=True)
    return b"".join(lines[: chance.randrange(len(lines))])


FAULTS = (edit, remove, reorder, repeat, truncate, rewrite_chain)


def test_ten_thousand_random_faults_are_all_found(ledger: Ledger) -> None:
    chance, data, head = random.Random(0), ledger.path.read_bytes(), ledger.read().head
    rewritten = rewrite_chain(data, chance)
    assert read_chain(rewritten).fault is None, "a forger with the whole chain is found by the head alone"
    for trial in range(10_000):
        fault = FAULTS[trial % len(FAULTS)]
        while (changed := fault(data, chance)) == data:
            pass  # a byte was put beside its equal, which is no fault
        chain = read_chain(changed)
        assert chain.fault is not None or head not in {record.hash for record in chain.records}, (trial, fault.__name__)


def test_a_thousand_random_faults_in_files_are_all_found(ledger: Ledger, project: Path) -> None:
    chance, head = random.Random(1), ledger.read().head
    named = [project / "votes.csv", project / "runs" / "evaluate-0" / "report.json"]
    named += [
        path for folder in ("clips", "rollouts", "runs/dpo-0/adapter") for path in sorted((project / folder).rglob("*.*"))
    ]
    for trial in range(1_000):
        path = chance.choice(named)
        before = path.read_bytes()
        kind = chance.choice(["edit", "remove", "rename", "add"])
        other = path.with_name(f"other-{path.name}")
        if kind == "edit":
            path.write_bytes(edit(before, chance))
        elif kind == "add" and path.parent.name in ("clips", "rollouts", "sub", "adapter"):
            other.write_bytes(before)
        elif kind == "rename":
            path.rename(other)
        else:
            path.unlink()
        if path.exists() and path.read_bytes() == before and not other.exists():
            continue
        assert not verify_ledger(ledger.path, head).intact, (trial, kind, path)
        other.unlink(missing_ok=True)
        path.write_bytes(before)
    assert verify_ledger(ledger.path, head).intact


def test_a_record_encodes_to_its_own_line(ledger: Ledger) -> None:
    lines = ledger.path.read_bytes().splitlines()
    assert [encode_record(record) for record in ledger.read().records] == lines


def test_the_program_in_the_docs_checks_a_ledger(ledger: Ledger, project: Path) -> None:
    page = (Path(__file__).parents[4] / "docs" / "design" / "ledger.md").read_text(encoding="utf-8")
    program = textwrap.dedent(re.search(r"    import hashlib.*?\n\n", page, re.S)[0])  # type: ignore[index]
    command = [sys.executable, "-c", program]
    told = subprocess.run(command, cwd=project, capture_output=True, text=True, check=True).stdout
    assert told == f"head {ledger.read().head}\n"
    ledger.path.write_bytes(ledger.path.read_bytes().replace(b"0.7", b"0.8"))
    assert subprocess.run(command, cwd=project, capture_output=True, check=False).returncode != 0
