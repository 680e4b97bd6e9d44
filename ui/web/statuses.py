"""Errors of the library as HTTP statuses."""

from __future__ import annotations

from align.errors import Conflict, Forbidden, GptsimError, NotFound, TooManyAttempts

STATUS = {TooManyAttempts: 429, Forbidden: 403, NotFound: 404, Conflict: 409, GptsimError: 422}
"""Errors to status codes; the first that fits counts."""


def status_of(error: Exception) -> int:
    """The status that says most about an error; 500 where it is a fault of ours."""
    return next((code for kind, code in STATUS.items() if isinstance(error, kind)), 500)
