"""Rows of a model's own tables as a training or validation set: predictions with their actuals."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta

import pyarrow as pa

from pipelines.baseline.shape import BaselineShape
from pipelines.destination import Destination
from pipelines.reader import in_blocks
from pipelines.spans import between
from pipelines.tables import table_of

BLOCK_ROWS = 50_000
"""Rows that are looked up and sent at a time, at least."""


def joined(
    tables: Destination, shape: BaselineShape, since: date | None, until: date | None
) -> Iterator[tuple[pa.Table, int]]:
    """Predictions of these days with their latest actual, and how many have none.

    Args:
        tables: where both tables are.
        shape: which columns.
        since: first day of the predictions' event time, UTC.
        until: last day.
    """
    found = _latest(tables, shape)
    days = between(_start(since), _start(until and until + timedelta(days=1)))
    schema = shape.predictions.shape().schema
    batches = tables.rows(table_of(shape.predictions).name, schema, days)
    for rows in in_blocks(batches, BLOCK_ROWS):
        if found is None:
            yield rows, 0
            continue
        places, truths = found
        wanted = [places.get(id_) for id_ in rows["prediction_id"].to_pylist()]
        known = [place for place in wanted if place is not None]
        kept = rows.filter(pa.array([place is not None for place in wanted], pa.bool_()))
        matching = truths.take(pa.array(known, pa.int64()))
        for column, name in zip(shape.truths, shape.sources, strict=True):
            kept = kept.append_column(column.name, matching[name].cast(column.type))
        yield kept, rows.num_rows - kept.num_rows


def _latest(tables: Destination, shape: BaselineShape) -> tuple[dict[str, int], pa.Table] | None:
    """Where the latest actual of each prediction is, in a table of all."""
    if shape.actuals is None:
        return None
    wanted = shape.actuals.shape().schema
    columns = ("prediction_id", "event_time", *shape.sources)
    schema = pa.schema([wanted.field(name) for name in columns])
    rows = pa.Table.from_batches(tables.rows(table_of(shape.actuals).name, schema), schema)
    rows = rows.sort_by("event_time")
    return {id_: place for place, id_ in enumerate(rows["prediction_id"].to_pylist())}, rows


def _start(day: date | None) -> datetime | None:
    return None if day is None else datetime.combine(day, time(), UTC)
