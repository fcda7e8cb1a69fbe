"""Rows of one table, gathered by envelope, checked by column and turned into one record batch."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from functools import lru_cache, reduce
from operator import itemgetter
from typing import Any, Generic, NamedTuple, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import ValidationError

from schemas.arize import ModelType
from schemas.arrow import TIME, to_array
from schemas.columns import Column, columns_of, needs_row_path, table_schema
from schemas.errors import RecordError, RowValidationError
from schemas.failure import describe_refusal
from schemas.row import STAMPED, Row
from schemas.rules import RowRule, outcome_columns, row_rules
from schemas.settings import ModelSettings

S = TypeVar("S")
UNVERSIONED = "unversioned"
KEPT = 2000
"""Shapes that are derived once, as a run asks for each three times: more than it has models."""


@dataclass(frozen=True)
class RowShape:
    """All that follows from a row class and is needed to check and stamp rows of its table."""

    row: type[Row]
    model_id: str
    extractor_version: str
    columns: tuple[Column, ...]
    schema: pa.Schema
    rules: tuple[RowRule, ...]
    outcomes: tuple[str, ...]
    by_row: bool
    prediction_id: str | None
    model_version: str | None

    @classmethod
    @lru_cache(maxsize=KEPT)
    def of(
        cls, row: type[Row], model_id: str, model_type: ModelType, extractor_version: str
    ) -> RowShape:
        """Derive everything from the row class.

        Raises:
            InvalidExtractorError: a class that no table can hold.
        """
        columns = columns_of(row)
        by_role = {column.role.kind: column.name for column in columns}
        return cls(
            row,
            model_id,
            extractor_version,
            columns,
            table_schema(columns),
            row_rules(columns, model_type),
            outcome_columns(columns) if model_type != "untyped" else (),
            needs_row_path(row),
            by_role.get("prediction_id"),
            by_role.get("model_version"),
        )


class Flushed(NamedTuple, Generic[S]):
    """One record batch (None without good rows), and the source of each refused envelope."""

    batch: pa.RecordBatch | None
    refused: list[tuple[S, RecordError]]


class RowBuffer(Generic[S]):
    """Gathers the rows of whole envelopes; an envelope is all or nothing.

    Args:
        shape: what the rows must be.
        checked: whether rows come from instances of the row class, which has checked them.
        max_row_bytes: the most that a row may have, in Arrow's form.
    """

    def __init__(
        self, shape: RowShape, checked: bool, max_row_bytes: int = ModelSettings().max_row_bytes
    ) -> None:
        self.shape = shape
        self._checked = checked
        self._max_row_bytes = max_row_bytes
        names = [column.name for column in shape.columns]
        self._names = frozenset(names)
        self._required = frozenset(column.name for column in shape.columns if column.required)
        self._blank: dict[str, Any] = dict.fromkeys(names)
        self._values: Callable[[Any], tuple[Any, ...]] = (
            itemgetter(*names) if len(names) > 1 else lambda row: (row[names[0]],)
        )
        self.clear()

    def clear(self) -> None:
        """Forget everything."""
        self.rows: list[dict[str, Any]] = []
        self._counts: list[int] = []
        self._ids: list[str] = []
        self._event_times: list[int] = []
        self._ingest_times: list[int] = []
        self._versions: list[str] = []
        self.sources: list[S] = []

    def add(
        self,
        rows: Sequence[dict[str, Any]],
        envelope_id: str,
        event_time: int,
        ingest_time: int,
        model_version: str,
        source: S,
    ) -> None:
        """Take the rows of one envelope. Times in microseconds since 1970, UTC."""
        counts, ids = [len(rows)], [envelope_id]
        self.extend(rows, counts, ids, [event_time], [ingest_time], model_version, [source])

    def extend(
        self,
        rows: Iterable[dict[str, Any]],
        counts: Sequence[int],
        envelope_ids: Sequence[str],
        event_times: Sequence[int],
        ingest_times: Sequence[int],
        model_version: str,
        sources: Iterable[S],
    ) -> None:
        """Take the rows of many envelopes, one after another; `counts` says how many each has."""
        self.rows += rows
        self._counts += counts
        self._ids += envelope_ids
        self._event_times += event_times
        self._ingest_times += ingest_times
        self._versions += [model_version] * len(counts)
        self.sources += sources

    def flush(self) -> Flushed[S]:
        """Check everything taken, give it as one batch, and start anew."""
        if not self.rows:
            self.clear()
            return Flushed(None, [])
        owners = np.repeat(np.arange(len(self._counts)), self._counts)
        check = _Check(owners)
        arrays = self._arrays(check)
        stamped = self._stamp(owners, arrays)
        batch = pa.RecordBatch.from_arrays(
            [stamped.get(name, arrays.get(name)) for name in self.shape.schema.names],
            schema=self.shape.schema,
        )
        for position in _too_large(batch, self._max_row_bytes):
            cause = f"more than {self._max_row_bytes} bytes, ModelSettings.max_row_bytes"
            check.refuse_row(position, cause)
        self._apply_rules(batch, check)
        if check.refused:
            batch = batch.filter(pa.array(~np.isin(owners, list(check.refused))))
        refused = [
            (self.sources[envelope], self._error(refusal, owners))
            for envelope, refusal in sorted(check.refused.items())
        ]
        self.clear()
        return Flushed(batch if batch.num_rows else None, refused)

    def _error(self, refusal: _Refusal, owners: Any) -> RecordError:
        position, cause = refusal
        if position is None:
            return RowValidationError(cause)
        if not cause:
            # Asked here, so that both ways to check, by row and by column, give one message.
            try:
                self.shape.row.model_validate(self.rows[position])
                cause = "refused by the validator of a column"
            except Exception as error:  # a validator of the class's own raises what it likes
                cause = describe_refusal(error, self.shape.row)
        first = int(np.searchsorted(owners, owners[position]))
        return RowValidationError(cause, detail=f"row {position - first}")

    def _arrays(self, check: _Check) -> dict[str, pa.Array]:
        """An array a column; values of refused rows may be null there."""
        arrays = {}
        for column, values in zip(self.shape.columns, self._columns(check)):
            array, bad = to_array(values, column.type, column.convert)
            for position in bad:
                check.refuse_row(position, f"column {column.name}: does not fit into {column.type}")
            arrays[column.name] = array
        return arrays

    def _columns(self, check: _Check) -> list[list[Any]]:
        """Values by column; those of refused rows may be anything, or null."""
        if self.shape.by_row and not self._checked:
            return self._transposed(self._validated(check))
        whole = self._checked or set(map(len, self.rows)) == {len(self._names)}
        try:
            columns = self._transposed(self.rows if whole else self._completed(check))
        except KeyError:
            columns = self._transposed(self._completed(check))
        if self._checked:
            return columns
        return [_valid(*pair, check) for pair in zip(self.shape.columns, columns)]

    def _transposed(self, rows: Iterable[dict[str, Any]]) -> list[list[Any]]:
        return [list(column) for column in zip(*map(self._values, rows))]

    def _validated(self, check: _Check) -> Iterator[dict[str, Any]]:
        for position, row in enumerate(self.rows):
            try:
                yield self.shape.row.model_validate(row).__dict__
            except Exception:  # a validator of the class's own raises what it likes
                check.refuse_row(position)
                yield self._blank

    def _completed(self, check: _Check) -> Iterator[dict[str, Any]]:
        """Rows with defaults filled in; those with missing or unknown columns are refused."""
        for position, row in enumerate(self.rows):
            keys = row.keys()
            if keys == self._names or (self._checked and keys > self._names):
                yield row  # an instance of a derived class has more
            elif self._required <= keys < self._names:
                yield {**self._defaults(keys), **row}
            else:  # of the instances, one by model_construct, which asks for nothing
                check.refuse_row(position)
                yield {**self._blank, **row}

    def _defaults(self, keys: AbstractSet[str]) -> dict[str, Any]:
        return {
            column.name: column.make_default()
            for column in self.shape.columns
            if column.name not in keys
        }

    def _stamp(self, owners: Any, arrays: dict[str, pa.Array]) -> dict[str, pa.Array]:
        shape, count = self.shape, len(owners)
        take = pa.array(owners)
        row_ids = pa.array(
            [f"{id_}:{i}" for id_, n in zip(self._ids, self._counts) for i in range(n)],
            pa.string(),
        )
        versions = pa.array([version or None for version in self._versions], pa.string()).take(take)
        if shape.model_version is not None:
            own = arrays[shape.model_version]
            versions = pc.coalesce(versions, pc.if_else(pc.not_equal(own, ""), own, None))
        stamped = (
            pa.array(self._ids, pa.string()).take(take),
            row_ids,
            row_ids if shape.prediction_id is None else arrays[shape.prediction_id],
            pa.repeat(pa.scalar(shape.model_id), count),
            pc.fill_null(versions, UNVERSIONED),
            pa.array(self._event_times, pa.int64()).take(take).view(TIME),
            pa.array(self._ingest_times, pa.int64()).take(take).view(TIME),
            pa.repeat(pa.scalar(shape.extractor_version), count),
        )
        return dict(zip(STAMPED, stamped))

    def _apply_rules(self, batch: pa.RecordBatch, check: _Check) -> None:
        for rule in self.shape.rules:
            broken = rule.broken(batch[rule.column])
            for position in _true(broken):
                check.refuse_row(position, f"column {rule.column}: {rule.cause}")
        if self.shape.outcomes:
            empty = reduce(pc.and_, (batch[name].is_null() for name in self.shape.outcomes))
            cause = f"column {self.shape.outcomes[0]} must not be null"
            if len(self.shape.outcomes) > 1:
                cause = f"columns {', '.join(self.shape.outcomes)} must not all be null"
            for position in _true(empty):
                check.refuse_row(position, cause)
        if self.shape.prediction_id is not None and batch.num_rows > len(self._counts):
            self._check_unique(batch["prediction_id"].to_pylist(), check)

    def _check_unique(self, ids: list[str | None], check: _Check) -> None:
        if len(set(ids)) == len(ids):
            return
        start = 0
        for envelope, count in enumerate(self._counts):
            if len(set(ids[start : start + count])) < count:
                check.refuse(envelope, "two rows of the envelope have the same prediction id")
            start += count


class _Refusal(NamedTuple):
    """Position of the row (None: the envelope as a whole); "" where the row class has the cause."""

    position: int | None
    cause: str


class _Check:
    """The envelopes refused so far, each with its first row that is refused."""

    def __init__(self, owners: Any) -> None:
        self._owners = owners
        self.refused: dict[int, _Refusal] = {}

    def refuse_row(self, position: int, cause: str = "") -> None:
        envelope = int(self._owners[position])
        # Columns are checked one after the other: a later one may name an earlier row.
        first = self.refused.get(envelope)
        if first is None or first.position is None or first.position > position:
            self.refused[envelope] = _Refusal(position, cause)

    def refuse(self, envelope: int, cause: str) -> None:
        self.refused.setdefault(envelope, _Refusal(None, cause))


def _valid(column: Column, values: list[Any], check: _Check) -> list[Any]:
    """The column's validated values, null where its rows are refused."""
    try:
        return column.validate(values)
    except ValidationError as error:
        places = error.errors(include_input=False, include_url=False, include_context=False)
        bad = {place["loc"][0] for place in places}
    except Exception:  # a validator of the class's own: it stops at the first, and names none
        bad = {position for position, value in enumerate(values) if not _is_valid(column, value)}
    for position in bad:
        check.refuse_row(int(position))
    good = iter(column.validate([value for i, value in enumerate(values) if i not in bad]))
    return [None if i in bad else next(good) for i in range(len(values))]


def _is_valid(column: Column, value: Any) -> bool:
    try:
        column.validate([value])
    except Exception:
        return False
    return True


def _too_large(batch: pa.RecordBatch, limit: int, first: int = 0) -> Iterator[int]:
    """Positions of rows that have more bytes: halves are looked at only as long as they may."""
    if batch.nbytes <= limit:
        return
    if batch.num_rows == 1:
        yield first
        return
    half = batch.num_rows // 2
    yield from _too_large(batch.slice(0, half), limit, first)
    yield from _too_large(batch.slice(half), limit, first + half)


def _true(mask: pa.Array) -> list[int]:
    if not pc.any(mask).as_py():
        return []
    positions: list[int] = np.flatnonzero(pc.fill_null(mask, False)).tolist()
    return positions
