"""Files written whole or not at all, JSON in one form, and hashes of files and folders.

A killed process never leaves half a file under a final name. What a power cut leaves is the file system's business.
"""

from __future__ import annotations

import dataclasses
import errno
import hashlib
import json
import math
import os
import re
import secrets
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from align.errors import DataError, RunError

_UNWRITABLE = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]")
"""In a file's name: what would end a line of a list, or has no form in UTF-8."""
_WRITE_FAULTS = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO, errno.ENAMETOOLONG}
_REMEDIES = {
    errno.ENOSPC: "free some space or choose another folder",
    errno.EDQUOT: "free some of your quota or choose another folder",
    errno.ENAMETOOLONG: "choose a shorter name",
}


def write_error(path: Path, error: OSError) -> RunError:
    """The sentence for a file or folder that can't be written."""
    remedy = _REMEDIES.get(error.errno or 0, "choose a folder that you may write to")
    return RunError(f"could not write {path}: {error.strerror or error}; {remedy}")


@contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """Gives a name beside ``path`` to write to; on a clean exit it becomes ``path``, after an error it is gone.

    The temporary name keeps the suffix, because writers choose their format by it. A folder may be made under the
    temporary name as well, as long as ``path`` doesn't exist yet.

    Args:
        path: The final name; missing parent folders are made.

    Raises:
        RunError: If the file can't be written (no space, no permission, ...).
    """
    final = Path(path)
    temporary = final.with_name(f".{final.stem}.{secrets.token_hex(4)}.tmp{final.suffix}")
    try:
        final.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        os.replace(temporary, final)
    except OSError as error:
        # Something else that the body failed to open (a missing source, say) is not ours to rename.
        ours = error.errno in _WRITE_FAULTS or error.filename in (str(temporary), str(final), str(final.parent))
        if not (ours or error.filename2 == str(final)):
            raise
        raise write_error(final, error) from error
    finally:
        _remove(temporary)


def atomic_write(path: str | Path, content: bytes | str) -> None:
    """Writes ``content`` (text as UTF-8) to ``path`` whole or not at all; raises RunError if it can't."""
    data = content.encode() if isinstance(content, str) else content
    with atomic_path(path) as temporary:
        temporary.write_bytes(data)


def write_json(path: str | Path, value: Any) -> None:
    """Writes ``value`` as JSON with sorted keys, atomically; see :func:`to_jsonable` for what is allowed."""
    atomic_write(path, json.dumps(to_jsonable(value), indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n")


def read_json(path: str | Path) -> Any:
    """Reads a JSON file; raises DataError that names the file when it is missing or broken."""
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise DataError(f"could not read {path}: {error.strerror or error}") from error
    except ValueError as error:
        raise DataError(f"{path} is not valid JSON: {error}; restore it or write it again") from error


def to_jsonable(value: Any) -> Any:
    """Turns dataclasses, mappings, sequences, arrays, tensors and paths into plain JSON values.

    NaN (an undefined statistic) becomes null. An infinity has no such meaning and is refused.

    Raises:
        ValueError: If a value has no JSON form.
    """
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        if math.isinf(value):
            raise ValueError("an infinite number can't be written as JSON; write NaN for an undefined figure")
        return None if math.isnan(value) else value
    if callable(as_list := getattr(value, "tolist", None)):  # arrays, tensors and their scalars, none of which is imported here
        return to_jsonable(as_list())
    if isinstance(value, Mapping):
        return {str(key): to_jsonable(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [to_jsonable(item) for item in value]
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: to_jsonable(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Path):
        return str(value)
    raise ValueError(f"a value of type {type(value).__name__} has no JSON form; convert it to numbers, text, lists or mappings")


def sha256_file(path: str | Path) -> str:
    """The SHA-256 of a file's bytes, as 64 hex digits; raises DataError if it can't be read."""
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise DataError(f"could not read {path}: {error.strerror or error}") from error


def sha256_folder(path: str | Path) -> str:
    """One SHA-256 over the names and contents of all files in a folder, as 64 hex digits: that of :func:`list_hashes`.

    Raises:
        DataError: If the folder is missing, holds no file, or a file can't be read.
    """
    return hashlib.sha256(list_hashes(path).encode()).hexdigest()


def list_hashes(path: str | Path) -> str:
    """The files of a folder with their SHA-256, one a line and sorted by name, as ``sha256sum --check`` reads them.

    Hidden files and folders (locks, temporary files) are left out; the order in which the disk lists files doesn't matter.

    Raises:
        DataError: If the folder is missing, holds no file, or a file can't be read or has a name that makes lines ambiguous.
    """
    folder = Path(path)
    if not folder.is_dir():
        raise DataError(f"{path} is not a folder")
    names = sorted(file.relative_to(folder).as_posix() for file in folder.rglob("*") if file.is_file())
    names = [name for name in names if not any(part.startswith(".") for part in name.split("/"))]
    if not names:
        raise DataError(f"{path} holds no files")
    bad = next((name for name in names if _UNWRITABLE.search(name)), None)
    if bad is not None:
        raise DataError(f"{path} holds a file whose name can't be listed because of a control character, {bad!r}; rename it")
    return "".join(f"{sha256_file(folder / name)}  {name}\n" for name in names)


def _remove(path: Path) -> None:
    """Removes what an error left under a temporary name; the error itself matters more than a failure to tidy up."""
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    elif path.exists():
        path.unlink(missing_ok=True)
