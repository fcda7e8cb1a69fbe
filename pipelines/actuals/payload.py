"""A record of a file as what a late actual carries: payload, event time, sampling key."""

from __future__ import annotations

import base64
import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from decimal import Decimal
from typing import Any

import orjson

from pipelines.decode import MAX_TIME, MIN_TIME
from schemas import ConfigurationError

MAX_BYTES = 8 << 20
"""Of one payload, as the publisher has it."""
NANOS = {"s": 1_000_000_000, "ms": 1_000_000, "us": 1_000, "ns": 1}
"""By the name of a unit of time."""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def payload(record: Mapping[str, Any], number: int) -> bytes:
    """The record as a JSON object.

    Args:
        record: its fields.
        number: which one it is, for errors.

    Raises:
        ConfigurationError: a value that JSON cannot hold, or too many bytes.
    """
    try:
        data = orjson.dumps(record, default=_plain)
    except TypeError:
        data = _with_any_keys(record, number)
    if len(data) > MAX_BYTES:
        raise ConfigurationError(
            f"record {number} has more than {MAX_BYTES >> 20} MiB, which no envelope may; leave "
            "out columns that no extractor needs"
        )
    return data


def _with_any_keys(record: Mapping[str, Any], number: int) -> bytes:
    try:
        return orjson.dumps(record, default=_plain, option=orjson.OPT_NON_STR_KEYS)
    except TypeError:
        pass
    for name, value in record.items():
        try:
            orjson.dumps(value, default=_plain, option=orjson.OPT_NON_STR_KEYS)
        except TypeError:
            raise ConfigurationError(
                f"record {number}, column {name}: JSON cannot hold this {type(value).__name__}; "
                "leave the column out, or write it as text"
            ) from None
    raise ConfigurationError(f"record {number}: JSON cannot hold it")


def _plain(value: Any) -> Any:
    """What orjson does not know as what it does."""
    if isinstance(value, Decimal):
        # As a number with all its digits.
        return orjson.Fragment(f"{value:f}") if value.is_finite() else None
    if isinstance(value, (bytes, bytearray, memoryview)):
        return base64.b64encode(value).decode()
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, (datetime, date, time)):  # derived classes, such as those with ns
        return value.isoformat()
    raise TypeError


@dataclass(frozen=True)
class EventTimes:
    """When each actual became known.

    Args:
        column: the column that says so; "" for the same time for all.
        otherwise: that time, microseconds since 1970.
        zone: of times that name none.
        unit: of times that are numbers since 1970, one of `NANOS`.
        latest: what is later is a mistake.
    """

    column: str
    otherwise: int
    zone: tzinfo | None
    unit: str
    latest: int

    def of(self, record: Mapping[str, Any], number: int) -> int:
        """The event time of a record in microseconds since 1970, UTC.

        Raises:
            ConfigurationError: there is none, or it is not clear which.
        """
        if not self.column:
            return self.otherwise
        found = self._micros(record[self.column], f"record {number}, column {self.column}")
        if not MIN_TIME <= found <= MAX_TIME:
            raise ConfigurationError(
                f"record {number}, column {self.column}: the time is beyond the years 1 to 9999"
                + self._unit_hint()
            )
        if found > self.latest:
            raise ConfigurationError(
                f"record {number}, column {self.column}: the time is in the future"
                + (self._unit_hint() or ("; look at --time_zone" if self.zone else ""))
            )
        return found

    def _unit_hint(self) -> str:
        return "; is --time_unit the right one?" if self.unit else ""

    def _micros(self, value: Any, where: str) -> int:
        if isinstance(value, str):
            try:
                value = datetime.fromisoformat(value)
            except ValueError:
                raise ConfigurationError(
                    f"{where}: the text is no time as ISO 8601 has it, such as 2026-01-31T17:00:00Z"
                ) from None
        elif isinstance(value, (int, float, Decimal)) and not isinstance(value, bool):
            return self._counted(value, where)
        elif isinstance(value, date) and not isinstance(value, datetime):
            value = datetime(value.year, value.month, value.day)
        if not isinstance(value, datetime):
            kind = "empty" if value is None else f"a {type(value).__name__} and no time"
            raise ConfigurationError(f"{where} is {kind}; every actual needs an event time")
        if value.tzinfo is None:
            if self.zone is None:
                raise ConfigurationError(
                    f"{where}: the time has no time zone; name it, e.g. --time_zone UTC"
                )
            value = value.replace(tzinfo=self.zone)
        try:
            return int((value - _EPOCH) // timedelta(microseconds=1))
        except OverflowError:
            return MAX_TIME + 1

    def _counted(self, value: int | float | Decimal, where: str) -> int:
        if not self.unit:
            raise ConfigurationError(
                f"{where} is a number; say what it counts since 1970, e.g. --time_unit ms, or, if "
                "it is a time without marks in a CSV file, write it as 2026-01-31"
            )
        if not math.isfinite(value):
            raise ConfigurationError(f"{where} is no number; every actual needs an event time")
        return int(value * NANOS[self.unit]) // 1000


def sampling_key(record: Mapping[str, Any], column: str, number: int) -> str | None:
    """What a record is sampled by; None where it has no key.

    Raises:
        ConfigurationError: it is neither text nor a whole number.
    """
    value = record[column]
    if isinstance(value, bool) or not isinstance(value, (str, int, type(None))):
        raise ConfigurationError(
            f"record {number}, column {column}: a sampling key is text or a whole number, as the "
            f"service says it, and no {type(value).__name__}; in CSV name it with --as_text"
        )
    return None if value is None else str(value)
