"""Rows of a model's own tables as a training or validation set: predictions with their actuals."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date, timedelta

import pyarrow as pa

from pipelines.baseline.shape import BaselineShape
from pipelines.tables import Tables, table_of
from schemas.row import STAMPED


def joined(
    tables: Tables, shape: BaselineShape, since: date | None, until: date | None
) -> Iterator[tuple[pa.Table, int]]:
    """Predictions of these days with their latest actual, and how many have none.

    Args:
        tables: where both tables are.
        shape: which columns.
        since: first day of the predictions' event time, UTC.
        until: last day.
    """
    found = _latest(tables, shape)
    limits = []
    if since is not None:
        limits.append(f"event_time >= '{since.isoformat()}T00:00:00+00:00'")
    if until is not None:
        limits.append(f"event_time < '{(until + timedelta(days=1)).isoformat()}T00:00:00+00:00'")
    columns = [*STAMPED, *(c.name for c in shape.columns if c.name not in STAMPED)]
    table = tables.load(table_of(shape.predictions).name)
    scan = table.scan(" and ".join(limits) or "true", tuple(columns))
    schema = shape.predictions.shape().schema
    for batch in scan.to_arrow_batch_reader():
        rows = pa.Table.from_batches([batch])
        rows = rows.select(schema.names).cast(schema)
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


def _latest(tables: Tables, shape: BaselineShape) -> tuple[dict[str, int], pa.Table] | None:
    """Where the latest actual of each prediction is, in a table of all."""
    if shape.actuals is None:
        return None
    columns = ("prediction_id", "event_time", *shape.sources)
    table = tables.load(table_of(shape.actuals).name)
    rows = table.scan(selected_fields=columns).to_arrow().sort_by("event_time")
    return {id_: place for place, id_ in enumerate(rows["prediction_id"].to_pylist())}, rows
