"""Which rows are meant: times in a column, in words that row filters of Iceberg and SQL share."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Span(NamedTuple):
    """A time in a column. Microseconds since 1970, UTC; None has no bound, the end is outside."""

    column: str
    start: int | None = None
    end: int | None = None


def between(since: datetime | None, until: datetime | None) -> Span:
    """A time of event time, of moments that are aware."""
    bounds = (None if each is None else _micros(each) for each in (since, until))
    return Span("event_time", *bounds)


def where(spans: Sequence[Span]) -> str:
    """The rows in any of the spans; "" for all rows."""
    parts = [_bounds(span) for span in spans]
    return " or ".join(f"({part})" for part in parts) if all(parts) else ""


def _bounds(span: Span) -> str:
    bounds = ((">=", span.start), ("<", span.end))
    found = [f"{span.column} {sign} '{_text(time)}'" for sign, time in bounds if time is not None]
    return " and ".join(found)


def _micros(moment: datetime) -> int:
    return (moment - _EPOCH) // timedelta(microseconds=1)


def _text(time: int) -> str:
    return (_EPOCH + timedelta(microseconds=max(0, time))).isoformat()
