"""What a cell of a label may hold: ids, names, texts, times, counts."""

from __future__ import annotations

import hashlib
import uuid
from datetime import UTC, datetime
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints


def utc_now() -> str:
    """The time now as the ``created_at`` of a row, for example ``2026-01-31T09:30:00.000000Z``."""
    return _utc_text(datetime.now(UTC))


def new_id() -> str:
    """A random id for a vote or judgement that a person casts."""
    return str(uuid.uuid4())


def pair_id_of(context_id: str, rollout_a: str, rollout_b: str) -> str:
    """The id of a pair; the same two rollouts the other way round are another id."""
    digest = hashlib.sha256("\n".join((context_id, rollout_a, rollout_b)).encode()).hexdigest()
    return f"pair-{digest[:20]}"


def _utc_text(moment: datetime) -> str:
    # A fixed width makes the texts sort by time. The column is defined as UTC, so a time without an offset is taken as UTC.
    aware = moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
    try:
        return aware.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
    except OverflowError:
        raise ValueError("the time is out of range") from None


def _parse_moment(value: Any) -> Any:
    if isinstance(value, datetime):
        return _utc_text(value)
    try:
        return _utc_text(datetime.fromisoformat(value))
    except (TypeError, ValueError):
        raise ValueError("write an ISO 8601 time in UTC such as 2026-01-31T09:30:00Z") from None


def _storable(text: str) -> str:
    if "\x00" in text:
        raise ValueError("the text holds a NUL character, which databases refuse")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError("the text holds half a character (a lone surrogate), which no file can hold") from None
    return text


Id = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, pattern=r"^[^\x00-\x1f]+$")]
Name = Annotated[str, StringConstraints(strip_whitespace=True), AfterValidator(_storable)]
Text = Annotated[str, AfterValidator(_storable)]
Moment = Annotated[str, BeforeValidator(_parse_moment)]
Seconds = Annotated[float, Field(ge=0)]
FrameIndex = Annotated[int, Field(ge=0)]
Severity = Annotated[int, Field(ge=1, le=3)]


class Row(BaseModel):
    """Base of every row: frozen, without unknown columns, without infinities."""

    # Numbers as ids are common in other people's tables: 17 becomes "17".
    model_config = ConfigDict(frozen=True, extra="forbid", coerce_numbers_to_str=True, allow_inf_nan=False)
