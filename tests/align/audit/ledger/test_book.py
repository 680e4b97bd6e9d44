"""Appending: whole, in order, by several processes at once, and never onto a broken chain."""

from __future__ import annotations

import multiprocessing
from pathlib import Path

import pytest

from align.audit.ledger import Ledger
from align.audit.ledger import book as book_module
from align.audit.ledger.book import FileLock
from align.errors import DataError, RunError


def append_ten(arguments: tuple[str, int]) -> None:
    path, worker = arguments
    for step in range(10):
        Ledger(path).append("test", f"{worker}-{step}")


def test_records_follow_each_other(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "deep" / "ledger.jsonl")
    assert ledger.read().records == ()
    first, second = ledger.append("a"), ledger.append("b", config={"x": float("nan")})
    assert (first.index, second.index, second.previous) == (0, 1, first.hash)
    chain = ledger.read()
    assert chain.records == (first, second)
    assert second.config == {"x": None}
    assert second.time.endswith("+00:00")


def test_processes_that_append_at_once_lose_nothing(tmp_path: Path) -> None:
    path = str(tmp_path / "ledger.jsonl")
    with multiprocessing.get_context("spawn").Pool(3) as pool:
        pool.map(append_ten, [(path, worker) for worker in range(3)])
    chain = Ledger(path).read()
    assert chain.fault is None
    names = [record.name for record in chain.records]
    assert sorted(names) == sorted(f"{worker}-{step}" for worker in range(3) for step in range(10))
    assert [name for name in names if name[0] == "1"] == [f"1-{step}" for step in range(10)]


def test_a_broken_chain_is_not_continued(project: Path) -> None:
    path = project / "runs" / "ledger.jsonl"
    path.write_bytes(path.read_bytes().replace(b"0.7", b"0.8"))
    before = path.read_bytes()
    with pytest.raises(RunError, match=r"not intact: record 1 \(line 2\) was changed.*giving it another name"):
        Ledger(path).append("more")
    assert path.read_bytes() == before


def test_a_ledger_that_is_held_is_waited_for_and_then_said_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(book_module, "_WAIT_S", 0.05)
    with (
        FileLock(tmp_path / ".ledger.jsonl.lock"),
        pytest.raises(RunError, match=r"another process has held .*ledger\.jsonl"),
    ):
        Ledger(tmp_path / "ledger.jsonl").append("late")
    assert Ledger(tmp_path / "ledger.jsonl").append("late").index == 0


def test_a_ledger_that_is_no_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="could not read"):
        Ledger(tmp_path).read()


def test_near_files_are_named_relative_to_the_ledger_and_far_ones_absolutely(
    project: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    ledger = Ledger(project / "runs" / "ledger.jsonl")
    assert ledger.artefact(project / "clips").path == "../clips"
    assert ledger.artefact(project / "runs" / "dpo-0" / "adapter").path == "dpo-0/adapter"
    far = tmp_path_factory.mktemp("far") / "votes.csv"
    far.write_text("1")
    assert ledger.artefact(far).path == far.as_posix()


def test_missing_and_empty_things_are_no_artefacts(project: Path) -> None:
    ledger = Ledger(project / "runs" / "ledger.jsonl")
    with pytest.raises(DataError, match="could not read"):
        ledger.artefact(project / "none")
    (project / "empty").mkdir()
    with pytest.raises(DataError, match="holds no files"):
        ledger.artefact(project / "empty")
