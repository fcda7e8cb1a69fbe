"""Rows of one table, gathered by envelope, checked by column and turned into one record batch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
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
from schemas.failure import describe_validation, safe_message
from schemas.row import STAMPED, Row
from schemas.rules import RowRule, outcome_columns, row_rules

S = TypeVar("S")
UNVERSIONED = "unversioned"


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
    """

    def __init__(self, shape: RowShape, checked: bool) -> None:
        self.shape = shape
        self._checked = checked
        names = [column.name for column in shape.columns]
        self._names = frozenset(names)
        self._required = frozenset(column.name for column in shape.columns if column.required)
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
        self._sources: list[S] = []

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
        self.rows += rows
        self._counts.append(len(rows))
        self._ids.append(envelope_id)
        self._event_times.append(event_time)
        self._ingest_times.append(ingest_time)
        self._versions.append(model_version)
        self._sources.append(source)

    def flush(self) -> Flushed[S]:
        """Check everything taken, give it as one batch, and start anew."""
        owners = np.repeat(np.arange(len(self._counts)), self._counts)
        check = _Check(owners)
        arrays = self._arrays(check)
        stamped = self._stamp(owners, arrays)
        batch = pa.RecordBatch.from_arrays(
            [stamped.get(name, arrays.get(name)) for name in self.shape.schema.names],
            schema=self.shape.schema,
        )
        self._apply_rules(batch, check)
        if check.refused:
            batch = batch.filter(pa.array(~np.isin(owners, list(check.refused))))
        refused = [(self._sources[i], error) for i, error in sorted(check.refused.items())]
        self.clear()
        return Flushed(batch if batch.num_rows else None, refused)

    def _arrays(self, check: _Check) -> dict[str, pa.Array]:
        """An array a column; values of refused rows may be null there."""
        shape = self.shape
        if self._checked:
            values = [list(column) for column in zip(*map(self._values, self.rows))]
        elif shape.by_row:
            values = self._validated_rows(check)
        else:
            values = self._validated_columns(check)
        arrays = {}
        for column, items in zip(shape.columns, values):
            if column.convert is not None:
                items = [item if item is None else column.convert(item) for item in items]
            array, bad = to_array(items, column.type)
            for position in bad:
                check.refuse_row(position, f"column {column.name}: no {column.type} can hold it")
            arrays[column.name] = array
        return arrays

    def _validated_rows(self, check: _Check) -> list[list[Any]]:
        blank = dict.fromkeys(self._names)
        rows: list[dict[str, Any]] = []
        for position, row in enumerate(self.rows):
            try:
                rows.append(self.shape.row.model_validate(row).__dict__)
            except ValidationError as error:
                name, message = describe_validation(error, self.shape.row.model_fields)
                check.refuse_row(position, f"column {name}: {message}" if name else message)
                rows.append(blank)
        return [list(column) for column in zip(*map(self._values, rows))]

    def _validated_columns(self, check: _Check) -> list[list[Any]]:
        columns = self._transposed(check)
        for index, column in enumerate(self.shape.columns):
            try:
                columns[index] = column.validate(columns[index])
            except ValidationError as error:
                columns[index] = _without_bad(column, columns[index], error, check)
        return columns

    def _transposed(self, check: _Check) -> list[list[Any]]:
        """Dicts as columns; defaults are filled in, missing and unknown columns refused."""
        rows = self.rows
        if set(map(len, rows)) == {len(self._names)}:
            try:
                return [list(column) for column in zip(*map(self._values, rows))]
            except KeyError:
                pass
        rows = [self._complete(position, row, check) for position, row in enumerate(rows)]
        return [list(column) for column in zip(*map(self._values, rows))]

    def _complete(self, position: int, row: dict[str, Any], check: _Check) -> dict[str, Any]:
        keys = row.keys()
        if keys == self._names:
            return row
        missing = sorted(self._required - keys)
        if missing:
            check.refuse_row(position, f"column {missing[0]}: Field required")
        elif not keys <= self._names:
            check.refuse_row(position, "a column that the row class does not have")
        return {
            column.name: row[column.name] if column.name in row else column.make_default()
            for column in self.shape.columns
            if not column.required or column.name in row
        } | dict.fromkeys(missing)

    def _stamp(self, owners: Any, arrays: dict[str, pa.Array]) -> dict[str, pa.Array]:
        shape, count = self.shape, len(owners)
        take = pa.array(owners)
        row_ids = pa.array(
            [f"{id_}:{i}" for id_, n in zip(self._ids, self._counts) for i in range(n)],
            pa.string(),
        )
        versions = pa.array([version or None for version in self._versions], pa.string()).take(take)
        if shape.model_version is not None:
            versions = pc.coalesce(versions, arrays[shape.model_version])
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
            nulls = [batch[name].is_null() for name in self.shape.outcomes]
            empty = nulls[0]
            for other in nulls[1:]:
                empty = pc.and_(empty, other)
            for position in _true(empty):
                check.refuse_row(position, f"{' and '.join(self.shape.outcomes)} must not be null")
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


class _Check:
    """The envelopes refused so far, each with its first error."""

    def __init__(self, owners: Any) -> None:
        self._owners = owners
        self._first: dict[int, int] = {}
        self.refused: dict[int, RecordError] = {}

    def refuse_row(self, position: int, cause: str) -> None:
        envelope = int(self._owners[position])
        # Columns are checked one after the other; the first row of the envelope is the one named.
        if self._first.get(envelope, position + 1) > position:
            self._first[envelope] = position
            first = int(np.searchsorted(self._owners, envelope))
            detail = f"row {position - first}"
            self.refused[envelope] = RowValidationError(cause, detail=detail)

    def refuse(self, envelope: int, cause: str) -> None:
        self.refused.setdefault(envelope, RowValidationError(cause))


def _without_bad(
    column: Column, values: list[Any], error: ValidationError, check: _Check
) -> list[Any]:
    """Refuse the rows that the column's own errors name, and validate the others."""
    bad: dict[int, str] = {}
    for item in error.errors(include_input=False, include_url=False, include_context=False):
        position = item["loc"][0]
        if isinstance(position, int):
            bad.setdefault(position, safe_message(item))
    for position, message in bad.items():
        check.refuse_row(position, f"column {column.name}: {message}")
    good = iter(column.validate([v for i, v in enumerate(values) if i not in bad]))
    return [None if i in bad else next(good) for i in range(len(values))]


def _true(mask: pa.Array) -> list[int]:
    if not pc.any(mask).as_py():
        return []
    positions: list[int] = np.flatnonzero(pc.fill_null(mask, False)).tolist()
    return positions
