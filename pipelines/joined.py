"""Predictions with what turned out to be true of them, and counts of how labels came."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import pyarrow as pa
import pyarrow.compute as pc

from pipelines.reader import Home, in_blocks, read, stream
from weighbridge.wire import Kind

LATEST = ("event_time", "ingest_time", "row_id")
"""Of two actuals of a prediction the latter by these counts."""
DELAY = "delay_seconds"
SHARED = frozenset({"model_id", "prediction_id"})
"""Columns that are the same in both."""
_KEYS = ("row_id", "prediction_id", "event_time")


@dataclass(frozen=True)
class Labels:
    """What became of the labels of a model: prediction ids that have an actual.

    Attributes:
        labels: how many there are, each id once.
        matched: those that have a prediction.
        orphan: those that have none.
        early: of the matched ones, those whose actual is older than the first prediction.
        corrected: those that have more than one actual.
    """

    labels: int
    matched: int
    orphan: int
    early: int
    corrected: int


def joined(
    home: Home,
    model: str,
    *,
    columns: Sequence[str] | None = None,
    actual_columns: Sequence[str] | None = None,
    since: datetime | None = None,
    until: datetime | None = None,
) -> pa.Table:
    """Each prediction with its latest actual, joined by `prediction_id`.

    Args:
        home: where the tables are.
        model: the model id.
        columns: of the predictions, None for all.
        actual_columns: of the actuals, None for all.
        since: leaves out predictions that are earlier.
        until: leaves out predictions of this event time or later.

    Returns:
        The predictions' columns; those of the actual, `actual_` in front; and `delay_seconds`, from
        the one event time to the other. Without an actual these are null.

    Raises:
        ConfigurationError: the model has no predictions or no actuals, or no such column.
    """
    wanted = None if columns is None else list(dict.fromkeys([*columns, *_KEYS]))
    predictions = read(home, model, columns=wanted, since=since, until=until)
    wanted = None
    if actual_columns is not None:
        wanted = list(dict.fromkeys([*actual_columns, *LATEST, "prediction_id"]))
    actuals = _latest(_of(home, model, "actual", predictions["prediction_id"], wanted))
    found = pc.index_in(predictions["prediction_id"], value_set=actuals["prediction_id"])
    matched = actuals.take(found)
    result = predictions if columns is None else predictions.select(list(columns))
    for name in actuals.column_names if actual_columns is None else actual_columns:
        if name not in SHARED:
            result = result.append_column(actual_name(name, result.column_names), matched[name])
    delay = pc.subtract(_micros(matched), _micros(predictions))
    seconds = pc.divide(delay.cast(pa.float64()), 1e6)
    name = DELAY if DELAY not in result.column_names else actual_name(DELAY, result.column_names)
    return result.append_column(name, seconds)


def actual_name(column: str, taken: Sequence[str]) -> str:
    """The name of a column of actuals beside those of predictions."""
    name = f"actual_{column}"
    while name in taken:
        name = f"actual_{name}"
    return name


def count_labels(
    home: Home, model: str, *, since: datetime | None = None, until: datetime | None = None
) -> Labels:
    """Count how labels came, each row once.

    In memory are the ids of the actuals; predictions are read past them.

    Args:
        home: where the tables are.
        model: the model id.
        since: leaves out actuals that are earlier.
        until: leaves out actuals of this event time or later.

    Raises:
        ConfigurationError: the model has no predictions or no actuals.
    """
    rows = read(home, model, kind="actual", columns=_KEYS, since=since, until=until)
    rows = rows.group_by(["row_id", "prediction_id"]).aggregate([("event_time", "max")])
    given = rows.group_by("prediction_id").aggregate(
        [("row_id", "count"), ("event_time_max", "max")]
    )
    predictions = _of(home, model, "prediction", given["prediction_id"], _KEYS)
    first = predictions.group_by("prediction_id").aggregate([("event_time", "min")])
    position = pc.index_in(given["prediction_id"], value_set=first["prediction_id"])
    before = pc.less(given["event_time_max_max"], first["event_time_min"].take(position))
    return Labels(
        given.num_rows,
        first.num_rows,
        given.num_rows - first.num_rows,
        pc.sum(before).as_py() or 0,
        pc.sum(pc.greater(given["row_id_count"], 1)).as_py() or 0,
    )


def _of(
    home: Home, model: str, kind: Kind, ids: pa.ChunkedArray, columns: Sequence[str] | None
) -> pa.Table:
    """Rows of these prediction ids; the others are read, and not kept."""
    rows, wanted = stream(home, model, kind=kind, columns=columns), pc.unique(ids)
    kept = [
        block.filter(pc.is_in(block["prediction_id"], value_set=wanted))
        for block in in_blocks(rows, len(wanted))
    ]
    return pa.concat_tables([rows.schema.empty_table(), *kept])


def _latest(actuals: pa.Table) -> pa.Table:
    """The latest one of each prediction."""
    order = pc.sort_indices(actuals, [(name, "ascending") for name in LATEST])
    keys = pa.table({"id": actuals["prediction_id"].take(order), "position": order})
    last = keys.group_by("id", use_threads=False).aggregate([("position", "last")])
    return actuals.take(last["position_last"])


def _micros(rows: pa.Table) -> pa.ChunkedArray:
    return rows["event_time"].cast(pa.int64())
