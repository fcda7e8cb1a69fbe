"""Rows of an Iceberg table, in the columns that are asked for."""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa
from pyiceberg.expressions import AlwaysTrue
from pyiceberg.io.pyarrow import schema_to_pyarrow
from pyiceberg.table import Table

from pipelines.conform import conformed
from pipelines.destination import Counts
from pipelines.spans import Span, where


def scanned(table: Table, schema: pa.Schema, *spans: Span) -> Iterator[pa.RecordBatch]:
    """Rows in any of the spans, batch by batch; without spans all.

    A column that the table lacks is null, and so is what its column cannot hold.
    """
    has = {item.name for item in table.schema().fields}
    wanted = tuple(name for name in schema.names if name in has)
    scan = table.scan(where(spans) or AlwaysTrue(), selected_fields=wanted)
    for batch in scan.to_arrow_batch_reader():
        yield from conformed(pa.Table.from_batches([batch]), schema).to_batches()


def columns_of(table: Table) -> pa.Schema:
    """The columns of a table, without what a scan does not need."""
    fields = schema_to_pyarrow(table.schema(), include_field_ids=False)
    return pa.schema([item.with_nullable(True).remove_metadata() for item in fields])


def size_of(table: Table) -> tuple[int, int]:
    """Rows of a table and bytes of its data files, by the summary of its snapshot."""
    snapshot = table.current_snapshot()
    if snapshot is None or snapshot.summary is None:
        return 0, 0
    rows, size = (snapshot.summary[name] for name in ("total-records", "total-files-size"))
    return int(rows or 0), int(size or 0)


def counts_of(table: Table) -> Counts:
    """What a table is made of, by its manifests."""
    snapshots = len(table.metadata.snapshots)
    if table.current_snapshot() is None:
        return Counts(0, 0, 0, snapshots)
    partitions = table.inspect.partitions()
    rows, files = (sum(partitions[name].to_pylist()) for name in ("record_count", "file_count"))
    return Counts(rows, files, partitions.num_rows, snapshots)


def model_of(table: Table) -> str:
    """The model of a table by its rows, where its properties do not say."""
    for batch in table.scan(limit=1, selected_fields=("model_id",)).to_arrow_batch_reader():
        for model in batch["model_id"].to_pylist():
            return model or ""
    return ""
