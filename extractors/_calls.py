"""Guarded calls of an extractor: what it may give back, and what is wrong with anything else."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import islice
from types import GeneratorType
from typing import Any

from pydantic import BaseModel, ValidationError

from extractors._registry import Extractor
from schemas.errors import DecodeError, ExtractError, RecordError, RowValidationError
from schemas.failure import describe_exception, describe_refusal, own_traceback
from schemas.guard import GROWTH_BYTES, MemoryLimitReached, Raised, TimeLimit, TimeLimitReached
from weighbridge import Envelope

_DICTS = {dict}


@dataclass(slots=True)
class Taken:
    """Rows of some envelopes of a message, one envelope after another.

    Attributes:
        rows: as dicts.
        counts: how many each envelope has.
        positions: of the envelopes among those that the extractor was called with.
    """

    rows: list[dict[str, Any]] = field(default_factory=list)
    counts: list[int] = field(default_factory=list)
    positions: list[int] = field(default_factory=list)

    def add(self, rows: list[dict[str, Any]], position: int) -> None:
        """Take the rows of one more."""
        self.rows += rows
        self.counts.append(len(rows))
        self.positions.append(position)


@dataclass(slots=True)
class Extracted:
    """What became of the envelopes of a message.

    Attributes:
        unchecked: rows that the extractor gave as dicts.
        checked: rows that it gave as instances of the row class, which has checked them.
        empty: positions of envelopes without rows.
        failed: positions of envelopes that are refused, and why.
        with_nan: envelopes that hold NaN or Infinity, which JSON does not have.
        calls: how many envelopes were taken.
    """

    unchecked: Taken = field(default_factory=Taken)
    checked: Taken = field(default_factory=Taken)
    empty: list[int] = field(default_factory=list)
    failed: list[tuple[int, RecordError]] = field(default_factory=list)
    with_nan: int = 0
    calls: int = 0


class ExtractorCalls:
    """Calls one extractor, within its limits of rows and time.

    Args:
        extractor: the one.
        limit: ends calls that take too long; many extractors can share it.
    """

    def __init__(self, extractor: Extractor, limit: TimeLimit) -> None:
        self._row = extractor.row
        self._rows = {extractor.row}
        self._function = extractor.function
        self._most = extractor.settings.max_rows_per_envelope
        self._seconds = extractor.settings.timeout.total_seconds()
        self._limit = limit

    def extract(self, envelopes: Iterable[Envelope]) -> Extracted:
        """The rows of envelopes, and the errors of those that give none as they should.

        It may stop after `TICK_SECONDS`, lest rows without bound gather before anybody looks at
        them: call it again with the same iterator for the rest.

        An error is a `DecodeError` if a body that the extractor asked for is broken, an
        `ExtractError` if it raised something, took too long, or gave what are no rows or too many,
        and a `RowValidationError` if its row class refused in the constructor.

        Raises:
            KeyboardInterrupt: as it is.
        """
        found = Extracted()
        self._with_nan = 0
        taken = Taken()
        rows, counts, positions = taken.rows, taken.counts, taken.positions
        limit = self._limit
        ticks, position = limit.ticks, -1
        outcomes = limit.each(self._list, envelopes, self._seconds)
        for position, items in enumerate(outcomes):
            if not isinstance(items, list):
                found.failed.append((position, self._error(items)))
            elif items:
                rows += items
                counts.append(len(items))
                positions.append(position)
            else:
                found.empty.append(position)
            if limit.ticks != ticks:
                break
        found.calls = position + 1
        found.with_nan = self._with_nan
        kinds = set(map(type, rows))
        if kinds <= _DICTS:
            found.unchecked = taken
        elif kinds == self._rows or all(issubclass(kind, self._row) for kind in kinds):
            found.checked = Taken([row.__dict__ for row in rows], counts, positions)
        else:
            self._sort(taken, found)
        return found

    def _list(self, envelope: Envelope) -> list[Any] | ExtractError:
        # Our own errors are returned, as one that the extractor raises may quote the input.
        result: Any = self._function(envelope)
        if type(result) is not GeneratorType and not _gives_rows(result):
            return ExtractError(f"returned {_kind_name(result)}; yield rows, or return a list")
        items = list(islice(result, self._most + 1))
        if len(items) > self._most:
            return ExtractError(
                f"gave more than {self._most} rows, ModelSettings.max_rows_per_envelope"
            )
        if envelope.used_nan:
            self._with_nan += 1
        return items

    def _sort(self, taken: Taken, found: Extracted) -> None:
        """Envelope by envelope, where some rows are no dicts and some no instances."""
        end = 0
        for position, count in zip(taken.positions, taken.counts):
            start, end = end, end + count
            items: list[Any] = taken.rows[start:end]
            if set(map(type, items)) == _DICTS:
                found.unchecked.add(items, position)
                continue
            try:
                found.checked.add(self._instances(items), position)
            except RecordError as error:
                found.failed.append((position, error))

    def _instances(self, items: list[Any]) -> list[dict[str, Any]]:
        rows = []
        for position, item in enumerate(items):
            if isinstance(item, dict):
                try:
                    item = self._row.model_validate(item)
                except Exception as error:  # a validator of the class's own raises what it likes
                    raise RowValidationError(
                        describe_refusal(error, self._row), detail=f"row {position}"
                    ) from None
            elif not isinstance(item, self._row):
                raise ExtractError(
                    f"gave {_kind_name(item)} for a row; rows are {self._row.__name__} or dict",
                    detail=f"row {position}",
                )
            rows.append(item.__dict__)
        return rows

    def _error(self, outcome: ExtractError | Raised) -> RecordError:
        if isinstance(outcome, ExtractError):
            return outcome
        error = outcome.error
        if isinstance(error, KeyboardInterrupt):
            raise error
        if isinstance(error, DecodeError):
            return error
        if isinstance(error, TimeLimitReached):
            return ExtractError(
                f"took longer than {self._seconds:g} s",
                error="TimeLimitReached",
                trace=self._trace(error),
            )
        if isinstance(error, MemoryLimitReached):
            cause = f"took more than {GROWTH_BYTES >> 20} MiB of memory"
            return ExtractError(cause, error="MemoryLimitReached")
        if isinstance(error, ValidationError):
            return self._refused(error)
        return self._raised(error)

    def _refused(self, error: ValidationError) -> RecordError:
        if error.title != (self._row.model_config.get("title") or self._row.__name__):
            return self._raised(error)
        return RowValidationError(describe_refusal(error, self._row), trace=self._trace(error))

    def _raised(self, error: BaseException) -> ExtractError:
        described = describe_exception(error, self._function.__module__)
        return ExtractError(
            f"raised {described}", error=type(error).__name__, trace=self._trace(error)
        )

    def _trace(self, error: BaseException) -> str:
        return own_traceback(error, self._function.__module__)


def _gives_rows(result: Any) -> bool:
    # All of these are iterable, and would silently become something else.
    if isinstance(result, (BaseModel, dict, str, bytes)):
        return False
    try:
        iter(result)
    except TypeError:
        return False
    return True


def _kind_name(value: object) -> str:
    name = type(value).__name__
    if value is None:
        return "None"
    return f"an {name}" if name[0] in "aeiouAEIOU" else f"a {name}"
