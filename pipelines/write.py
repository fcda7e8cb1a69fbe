"""The bounded way to write rows: the step that extracts them writes their files itself."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pyarrow as pa
from apache_beam.typehints import KV

from pipelines.destination import Destination
from pipelines.metrics import counter
from pipelines.tables import RowTable, is_of_model
from pipelines.unwritten import REFUSALS

MAX_TABLE_BYTES = 128 << 20
MAX_BYTES = 256 << 20
"""Bytes of Arrow that one bundle holds, per table and in all: in memory one bundle is all input."""
MAX_PUSHED_ROWS = 50_000
"""A crash while pushing repeats at most one file."""


class WriteFiles:
    """Writes record batches as data files. Gives (table name, file reference as JSON).

    Harmless when repeated: files are named by their content, and one that no commit names is an
    orphan for the sweep.
    """

    element_type: Any = KV[str, str]
    max_table_bytes = MAX_TABLE_BYTES
    max_bytes = MAX_BYTES

    def __init__(self, tables: Destination) -> None:
        self._tables = tables

    def __call__(self, table: RowTable, batches: list[pa.RecordBatch]) -> Iterator[tuple[str, str]]:
        """Write the rows of envelopes that the table does not have."""
        written = self._tables.write_files(
            table.name,
            pa.Table.from_batches(batches),
            max_rows=MAX_PUSHED_ROWS if table.pushed else None,
        )
        if written.known:
            counter(table.metrics, "envelopes_known").inc(written.known)
        for ref in written.files:
            yield table.name, ref.to_json()


class WriteAnyway(WriteFiles):
    """Like `WriteFiles`, for a stream: also where the table refuses to be looked at.

    The rows cannot wait until somebody repairs the table. Its commit is refused, and kept.
    """

    def __init__(self, tables: Destination) -> None:
        super().__init__(tables)
        self._unchecked = WriteFiles(tables.unchecked())

    def __call__(self, table: RowTable, batches: list[pa.RecordBatch]) -> Iterator[tuple[str, str]]:
        """Write the rows of envelopes that the table does not have, or all."""
        try:
            yield from super().__call__(table, batches)
        except REFUSALS:
            yield from self._unchecked(table, batches)


class WriteAll(WriteFiles):
    """Like `WriteFiles`, but all rows of a model, also of envelopes that its table has."""

    def __init__(self, tables: Destination) -> None:
        super().__init__(tables)
        self._unchecked = WriteFiles(tables.unchecked())

    def __call__(self, table: RowTable, batches: list[pa.RecordBatch]) -> Iterator[tuple[str, str]]:
        """Write the rows."""
        write = self._unchecked if is_of_model(table.name) else super().__call__
        yield from write(table, batches)
