"""Whole files or none, one form of JSON, hashes that see every change."""

from __future__ import annotations

import errno
import hashlib
import json
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from align.errors import DataError, RunError
from align.io import atomic_path, atomic_write, list_hashes, read_json, sha256_file, sha256_folder, to_jsonable, write_json


def names(folder: Path) -> list[str]:
    return sorted(file.name for file in folder.iterdir())


def test_atomic_write_replaces_the_file_and_leaves_nothing_beside_it(tmp_path: Path) -> None:
    atomic_write(tmp_path / "a.txt", "old")
    atomic_write(tmp_path / "a.txt", b"new")
    assert (tmp_path / "a.txt").read_bytes() == b"new"
    assert names(tmp_path) == ["a.txt"]


def test_atomic_path_makes_parents_and_keeps_the_suffix(tmp_path: Path) -> None:
    with atomic_path(tmp_path / "deep" / "array.npz") as temporary:
        assert temporary.suffix == ".npz"
        assert temporary.parent == tmp_path / "deep"
        np.savez(temporary, x=np.arange(3))
        assert not (tmp_path / "deep" / "array.npz").exists()
    assert np.load(tmp_path / "deep" / "array.npz")["x"].tolist() == [0, 1, 2]


def test_an_error_while_writing_keeps_the_old_file(tmp_path: Path) -> None:
    target = tmp_path / "a.txt"
    target.write_text("old")

    def interrupted() -> None:
        with atomic_path(target) as temporary:
            temporary.write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert target.read_text() == "old"
    assert names(tmp_path) == ["a.txt"]


def test_a_folder_can_be_made_whole(tmp_path: Path) -> None:
    with atomic_path(tmp_path / "clips") as temporary:
        temporary.mkdir()
        (temporary / "one").write_text("1")
    assert names(tmp_path / "clips") == ["one"]


def test_a_folder_that_failed_is_removed(tmp_path: Path) -> None:
    def failing() -> None:
        with atomic_path(tmp_path / "clips") as temporary:
            temporary.mkdir()
            (temporary / "one").write_text("1")
            raise RuntimeError("no more")

    with pytest.raises(RuntimeError, match="no more"):
        failing()
    assert names(tmp_path) == []


def test_a_full_disk_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(self: Path, data: bytes) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(RunError, match=r"could not write .*a\.txt: No space left on device; free some space"):
        atomic_write(tmp_path / "a.txt", "x")


def test_a_file_where_a_folder_should_be_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match="could not write"):
        atomic_write(tmp_path / "file" / "a.txt", "x")


def test_a_missing_source_is_not_called_a_failure_to_write(tmp_path: Path) -> None:
    def copying() -> None:
        with atomic_path(tmp_path / "a.txt") as temporary:
            temporary.write_bytes((tmp_path / "missing").read_bytes())

    with pytest.raises(FileNotFoundError):
        copying()


@dataclass(frozen=True)
class Figure:
    mean: float
    names: tuple[str, ...]


def test_json_takes_what_reports_are_made_of(tmp_path: Path) -> None:
    value = {
        "b": np.float32(0.5),
        "a": np.array([[1, 2]]),
        "flag": np.bool_(True),
        "figure": Figure(math.nan, ("x",)),
        "path": Path("videos/a.mp4"),
        3: None,
    }
    write_json(tmp_path / "r.json", value)
    assert read_json(tmp_path / "r.json") == {
        "3": None,
        "a": [[1, 2]],
        "b": 0.5,
        "figure": {"mean": None, "names": ["x"]},
        "flag": True,
        "path": "videos/a.mp4",
    }
    keys = [line.split('"')[1] for line in (tmp_path / "r.json").read_text().splitlines() if line.startswith('  "')]
    assert keys == sorted(keys)


@pytest.mark.parametrize("value", [math.inf, -math.inf, np.float32("inf"), {1, 2}, object()])
def test_json_refuses_what_it_can_not_hold(value: object, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"infinite|no JSON form"):
        write_json(tmp_path / "r.json", {"x": [value]})
    assert names(tmp_path) == []


PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(PLAIN)
def test_plain_values_come_through_unchanged(value: object) -> None:
    assert json.loads(json.dumps(to_jsonable(value))) == value


def test_broken_and_missing_json_name_the_file(tmp_path: Path) -> None:
    (tmp_path / "r.json").write_text('{"a": ')
    with pytest.raises(DataError, match=r"r\.json is not valid JSON"):
        read_json(tmp_path / "r.json")
    with pytest.raises(DataError, match=r"could not read .*none\.json: No such file"):
        read_json(tmp_path / "none.json")


def test_sha256_file_is_the_hash_of_its_bytes(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"abc")
    assert sha256_file(tmp_path / "a") == hashlib.sha256(b"abc").hexdigest()
    with pytest.raises(DataError, match="could not read"):
        sha256_file(tmp_path / "b")


def make_folder(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        atomic_write(root / name, text)
    return root


def test_sha256_folder_sees_names_and_contents_and_nothing_else(tmp_path: Path) -> None:
    files = {"a.txt": "1", "sub/b.txt": "2"}
    base = sha256_folder(make_folder(tmp_path / "base", files))
    assert sha256_folder(make_folder(tmp_path / "same", dict(reversed(files.items())))) == base
    assert sha256_folder(make_folder(tmp_path / "hidden", {**files, ".lock": "", ".cache/x": "y"})) == base
    others = [{"a.txt": "1", "sub/b.txt": "3"}, {"a.txt": "1", "sub/c.txt": "2"}, {"a.txt": "1"}, {**files, "c": ""}]
    hashes = {sha256_folder(make_folder(tmp_path / f"other{idx}", other)) for idx, other in enumerate(others)}
    assert len(hashes) == len(others)
    assert base not in hashes


def test_sha256_folder_refuses_an_empty_or_missing_one(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="is not a folder"):
        sha256_folder(tmp_path / "none")
    with pytest.raises(DataError, match="holds no files"):
        sha256_folder(tmp_path)


def test_the_list_of_a_folder_is_what_sha256sum_writes_and_has_one_meaning(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "base", {"b.txt": "2", "a é.txt": "1"})
    one, two = (hashlib.sha256(text).hexdigest() for text in (b"1", b"2"))
    assert list_hashes(folder) == f"{one}  a é.txt\n{two}  b.txt\n"
    assert sha256_folder(folder) == hashlib.sha256(list_hashes(folder).encode()).hexdigest()
    # One file whose name looks like a second line would have the hash of two files.
    (folder / f"x\n{two}  y").write_text("1")
    with pytest.raises(DataError, match="control character"):
        list_hashes(folder)
