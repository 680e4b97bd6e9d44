"""What the commands about votes share: kinds of labels, and the label database."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path

from align.errors import DataError

DEFAULT_DB = "sqlite:///labels.db"


class Kind(StrEnum):
    """What a file holds; the keys of ``align.preferences.exchange.KINDS``."""

    votes = "votes"
    judgements = "judgements"
    flags = "flags"
    breakpoints = "breakpoints"


def existing_database(url: str) -> str:
    """Refuse to read from a SQLite file that isn't there: opening it would create an empty one.

    Raises:
        DataError: There is no such file.
    """
    path = Path(url.removeprefix("sqlite:///"))
    if url.startswith("sqlite:///") and not path.is_file():
        raise DataError(f"there is no label database {path}; give the right one, or import votes first")
    return url
