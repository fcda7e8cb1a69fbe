"""The unbounded way to write rows: batches of many small bundles share a file."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import Any
from zlib import crc32

import apache_beam as beam
import pyarrow as pa
import pyarrow.compute as pc
from apache_beam.transforms.window import GlobalWindow
from apache_beam.typehints import KV
from apache_beam.utils.timestamp import Timestamp
from apache_beam.utils.windowed_value import WindowedValue

from pipelines.destination import Destination
from pipelines.files import split
from pipelines.tables import RowTable
from pipelines.windows import publish_windows
from pipelines.write import MAX_TABLE_BYTES, WriteAnyway

MAX_ELEMENT_BYTES = 4 << 20
MAX_BYTES = 32 << 20
"""Bytes of Arrow that one bundle holds; a worker has many bundles in hand."""
SPREAD_BYTES = 1 << 20
SHARDS = 8
_EVERYWHERE = (GlobalWindow(),)


class ShuffleRows:
    """Gives ((table name, shard), rows as an Arrow stream), stamped with the earliest publish time.

    With their schema, 1.3 kB for 20 columns: rows on their way outlive an update of the pipeline,
    and would be misread by the schema of another row class. An envelope stays in one element.
    """

    element_type: Any = KV[tuple[str, int], bytes]
    max_table_bytes = MAX_ELEMENT_BYTES
    max_bytes = MAX_BYTES

    def __call__(self, table: RowTable, batches: list[pa.RecordBatch]) -> Iterator[Any]:
        """Elements of about 4 MB: a service in between refuses very large ones."""
        for rows in split(pa.Table.from_batches(batches), None, MAX_ELEMENT_BYTES):
            published = Timestamp(micros=pc.min(rows["ingest_time"]).value)
            # A value given at the end of a bundle has no window but the global one.
            yield WindowedValue(((table.name, _shard(rows)), _encode(rows)), published, _EVERYWHERE)


class WriteRows(beam.PTransform[Any, Any]):
    """Gathers rows by table and minute of publish time, and writes them as data files.

    In: what `ShuffleRows` gives. Out: (table name, file reference as JSON).

    Args:
        tables: the tables.
        pushed: names of the tables whose rows go on to Arize.
    """

    def __init__(self, tables: Destination, pushed: Iterable[str]) -> None:
        super().__init__()
        self._tables = tables
        self._pushed = frozenset(pushed)

    def expand(self, rows: Any) -> Any:
        """Window, group, write."""
        return (
            rows
            | "WindowRows" >> publish_windows()
            | "GroupRows" >> beam.GroupByKey()
            | "WriteFiles"
            >> beam.ParDo(_WriteFilesFn(self._tables, self._pushed)).with_output_types(KV[str, str])
        )


class _WriteFilesFn(beam.DoFn):
    def __init__(self, tables: Destination, pushed: frozenset[str]) -> None:
        self._write = WriteAnyway(tables)
        self._pushed = pushed

    def process(self, group: tuple[tuple[str, int], Iterable[bytes]]) -> Iterator[tuple[str, str]]:
        (name, _), elements = group
        table = RowTable(name, name in self._pushed)
        for batches in _gathered(elements):
            yield from self._write(table, batches)


def _gathered(elements: Iterable[bytes]) -> Iterator[list[pa.RecordBatch]]:
    """Batches of one schema each, and of no more bytes than fit well into memory and a file."""
    by_schema: dict[pa.Schema, list[pa.RecordBatch]] = defaultdict(list)
    size = 0
    for element in elements:
        if size + len(element) > MAX_TABLE_BYTES:
            yield from by_schema.values()
            by_schema.clear()
            size = 0
        rows = pa.ipc.open_stream(element)
        by_schema[rows.schema] += rows
        size += len(element)
    yield from by_schema.values()


def _shard(rows: pa.Table) -> int:
    """Little traffic makes one file a window, and much is written by several workers."""
    if rows.nbytes < SPREAD_BYTES:
        return 0
    return crc32(rows["envelope_id"][0].as_py().encode()) % SHARDS


def _encode(rows: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, rows.schema) as writer:
        writer.write_table(rows)
    data: bytes = sink.getvalue().to_pybytes()
    return data
