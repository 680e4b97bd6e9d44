"""What can go wrong, as one tree.

    GptsimError
    ├── ConfigError      a recipe's configuration is wrong; lists every problem at once
    ├── DataError        a file, folder or table is missing, broken or inconsistent; names it and the reason
    │   └── ClipError    one clip can't be read
    ├── AdapterError     an adapter doesn't fit the model, or may not be used in this way
    ├── RunError         a run folder can't be created, continued or finished
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


class AdapterError(GptsimError):
    """An adapter doesn't fit the model it is asked to change, or may not be used in this way."""

    exit_code = 6


class RunError(GptsimError):
    """A run folder can't be created, continued or finished."""

    exit_code = 7


class MissingExtra(GptsimError):
    """An optional dependency isn't installed.

    Args:
        package: The import name that is missing.
        extra: The extra of gptsim-align that brings it.
    """

    exit_code = 8

    def __init__(self, package: str, extra: str) -> None:
        super().__init__(f"{package} is not installed; run: pip install 'gptsim-align[{extra}]'")
