"""What can go wrong, as one tree.

    GptsimError
    ├── ConfigError      a recipe's configuration is wrong; lists every problem at once
    ├── DataError        a file, folder or table is missing, broken or inconsistent; names it and the reason
    │   ├── ClipError    one clip can't be read
    │   ├── NotFound     what a request names isn't there
    │   └── Conflict     a request contradicts what is stored already
    ├── AdapterError     an adapter doesn't fit the model, or may not be used in this way
    ├── RunError         a run folder can't be created, continued or finished
    ├── Forbidden        somebody asks for what isn't theirs, or can't show who they are
    │   └── TooManyAttempts  too many failed sign-ins; carries how long to wait
    └── MissingExtra     an optional dependency isn't installed; carries the pip command

A bad argument of a function is a plain ``ValueError`` that names the argument, what was got and what is allowed.
The command line prints any of these as one sentence and exits with a code of 3 or more.
"""

from __future__ import annotations


class GptsimError(Exception):
    """Base of every error that a user can mend; its text is one clear sentence."""

    exit_code = 3


class ConfigError(GptsimError):
    """A configuration has one or more problems; all of them are listed."""

    exit_code = 4


class DataError(GptsimError):
    """A file, folder or table is missing, broken or inconsistent."""

    exit_code = 5


class ClipError(DataError):
    """One clip can't be read; the message names the clip and the reason."""


class NotFound(DataError):
    """A request names a lease, an annotator or another row that isn't there."""


class Conflict(DataError):
    """A request contradicts what is stored already, for example another content under a used id."""


class AdapterError(GptsimError):
    """An adapter doesn't fit the model it is asked to change, or may not be used in this way."""

    exit_code = 6


class RunError(GptsimError):
    """A run folder can't be created, continued or finished."""

    exit_code = 7


class Forbidden(GptsimError):
    """Somebody asks for what isn't theirs, or can't show who they are."""

    exit_code = 9


class TooManyAttempts(Forbidden):
    """Too many failed sign-ins under one name or from one address.

    Args:
        retry_after_s: Seconds until the next attempt is worth making, at least 1.
    """

    def __init__(self, retry_after_s: int) -> None:
        super().__init__(f"too many failed sign-ins; try again in {retry_after_s} s")
        self.retry_after_s = retry_after_s


class MissingExtra(GptsimError):
    """An optional dependency isn't installed.

    Args:
        package: The import name that is missing.
        extra: The extra of gptsim-align that brings it.
    """

    exit_code = 8

    def __init__(self, package: str, extra: str) -> None:
        super().__init__(f"{package} is not installed; run: pip install 'gptsim-align[{extra}]'")
