"""Checks the rows of a file as the pipeline checks those of an extractor, and by the same rules."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import ValidationError

from pipelines.baseline.shape import BaselineShape
from schemas import ConfigurationError
from schemas.arrow import CLASS_SCORES, to_array
from schemas.buffer import RowBuffer
from schemas.columns import Column
from schemas.row import STAMPED
from schemas.rules import row_rules

_SHOWN = 5
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass
class Refusals:
    """Rows that are refused, by cause."""

    _found: dict[str, list[int]] = field(default_factory=dict)

    def add(self, cause: str, row: int) -> None:
        """Note a row, counted from 1."""
        self._found.setdefault(cause, []).append(row)

    def __bool__(self) -> bool:
        return bool(self._found)

    def __str__(self) -> str:
        lines = [
            f"  {cause}; {len(rows):,} rows, the first is row {min(rows):,}"
            for cause, rows in list(self._found.items())[:_SHOWN]
        ]
        more = len(self._found) - _SHOWN
        return "\n".join([*lines, *([f"  and {more} other causes"] if more > 0 else [])])


def check_columns_of(shape: BaselineShape, names: Sequence[str]) -> list[str]:
    """Whether a file has the columns that it needs; gives those that are not sent.

    Raises:
        ConfigurationError: naming each column that is missing, its role and type.
    """
    present = set(names)
    missing = [c for c in shape.columns if c.required and c.name not in present]
    missing += [
        column
        for column in shape.truths
        if column.name not in present and (not column.nullable or len(shape.truths) == 1)
    ]
    if missing:
        listed = ", ".join(f"{c.name} ({c.role}, {c.type})" for c in missing)
        raise ConfigurationError(f"columns are missing: {listed}; add them to the file")
    known = {*(column.name for column in shape.sent), *STAMPED}
    return [name for name in names if name not in known]


def checked(
    shape: BaselineShape, rows: pa.Table, first: int, version: str, refusals: Refusals
) -> pa.Table:
    """Rows of a file as a table of them would hold them, with `prediction_id`, and actuals.

    Args:
        shape: their columns.
        rows: as the file has them.
        first: number of the first row, from 1.
        version: of the model, where rows do not say.
        refusals: is told of rows that are refused; they are left out.
    """
    names = {column.name for column in shape.columns}
    values = _values(shape.columns, rows)
    times = _times(rows)
    versions = rows["model_version"].to_pylist() if "model_version" in rows.column_names else None
    buffer: RowBuffer[int] = RowBuffer(shape.predictions.shape(), False)
    for position, row in enumerate(values):
        moment = times[position]
        own = (versions[position] if versions and not version else None) or version
        number = first + position
        given = {name: value for name, value in row.items() if name in names}
        buffer.add([given], f"row-{number}", moment, moment, own, number)
    flushed = buffer.flush()
    bad = set()
    for number, error in flushed.refused:
        refusals.add(error.cause, number)
        bad.add(number - first)
    truths = [_truth(column, rows, first, refusals, bad) for column in shape.truths]
    _check_any(shape, truths, first, refusals, bad)
    kept = pa.array([i for i in range(rows.num_rows) if i not in bad], pa.int64())
    batch = flushed.batch
    if batch is None or not len(kept):
        return pa.table({})
    good = pa.Table.from_batches([batch])
    numbers = [int(id_[4:]) - first for id_ in good["envelope_id"].to_pylist()]
    good = good.filter(pa.array([number not in bad for number in numbers]))
    for column, array in zip(shape.truths, truths, strict=True):
        good = good.append_column(column.name, array.take(kept))
    return good


def _values(columns: Sequence[Column], rows: pa.Table) -> Iterator[dict[str, Any]]:
    present = [column for column in columns if column.name in rows.column_names]
    lists = [_plain(column, rows[column.name].to_pylist()) for column in present]
    names = [column.name for column in present]
    if not lists:
        yield from ({} for _ in range(rows.num_rows))
        return
    for values in zip(*lists, strict=True):
        yield dict(zip(names, values, strict=True))


def _plain(column: Column, values: list[Any]) -> list[Any]:
    """Class scores as the mappings that extractors give, however Parquet holds them."""
    if column.type != CLASS_SCORES:
        return values
    return [_scores(value) for value in values]


def _scores(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: score for name, score in value.items() if score is not None}
    if isinstance(value, list) and all(isinstance(item, dict) for item in value):
        return {item.get("class_name"): item.get("score") for item in value}
    return dict(value) if isinstance(value, list) else value


def _times(rows: pa.Table) -> list[int]:
    """Event times of a file's rows in microseconds; without any the time does not matter."""
    now = int(datetime.now(UTC).timestamp() * 1e6)
    if "event_time" not in rows.column_names:
        return [now] * rows.num_rows
    column = rows["event_time"]
    if not pa.types.is_timestamp(column.type) or column.type.tz is None:
        raise ConfigurationError(
            f"column event_time: the file has {column.type}; make it a timestamp with a time zone"
        )
    micros = column.cast(pa.timestamp("us", "UTC"), safe=False).cast(pa.int64())
    return [now if value is None else value for value in micros.to_pylist()]


def _truth(
    column: Column, rows: pa.Table, first: int, refusals: Refusals, bad: set[int]
) -> pa.Array:
    """A column of actuals, null where it is refused."""
    if column.name not in rows.column_names:
        return pa.nulls(rows.num_rows, column.type)
    values = _plain(column, rows[column.name].to_pylist())
    wrong: set[int] = set()
    try:
        values = column.validate(values)
    except ValidationError as error:
        for place in error.errors(include_input=False, include_url=False, include_context=False):
            position = int(place["loc"][0])
            if position not in wrong:
                wrong.add(position)
                refusals.add(f"column {column.name}: {place['msg']}", first + position)
        values = [None if i in wrong else value for i, value in enumerate(values)]
    array, unfit = to_array(values, column.type, column.convert)
    for position in unfit:
        wrong.add(position)
        refusals.add(f"column {column.name}: does not fit into {column.type}", first + position)
    for rule in row_rules((column,), _typed(column)):
        if rule.column != column.name:
            continue
        for position in np.flatnonzero(pc.fill_null(rule.broken(array), False)).tolist():
            wrong.add(position)
            refusals.add(f"column {column.name}: {rule.cause}", first + position)
    bad |= wrong
    return array


def _typed(column: Column) -> Any:
    return "multiclass" if column.type == CLASS_SCORES else "binary"


def _check_any(
    shape: BaselineShape,
    truths: list[pa.Array],
    first: int,
    refusals: Refusals,
    bad: set[int],
) -> None:
    if not truths:
        return
    for position in range(len(truths[0])):
        if position not in bad and not any(array[position].is_valid for array in truths):
            names = ", ".join(column.name for column in shape.truths)
            refusals.add(f"column {names}: nothing says what turned out true", first + position)
            bad.add(position)
