"""What a table holds, by day, and rows of its days as staged files: how they get to Arize later.

A table does not know the files that it was loaded from. So days take their place.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipelines.bigquery.rows import Query, days_of
from pipelines.files import DATA, DAY, FileRef
from pipelines.reader import in_blocks
from pipelines.spans import Span
from pipelines.undelivered import Undelivered

FILE_ROWS = 250_000
"""Rows that are held in memory, and put into a file."""
Write = Callable[[pa.Table], Iterable[FileRef]]


def held_days(query: Query, table: str, root: str) -> list[FileRef]:
    """The days of a table, each as if it were a file of all of its rows, copies too.

    Args:
        query: asks the dataset.
        table: id of the table.
        root: folder of its staged files.
    """
    found = []
    for day, rows in query.partitions(table):
        [span] = days_of([day])
        start = span.start or 0
        path = f"{root}/{DATA}/event_day={day[:4]}-{day[4:6]}-{day[6:]}"
        found.append(FileRef(path, rows, start, start + DAY - 1, 0))
    return found


def as_files(
    found: Undelivered,
    settled: Collection[FileRef],
    rows: Callable[[Span], Iterator[pa.RecordBatch]],
    open_file: Callable[[str], Any],
    write: Write,
) -> Undelivered:
    """Files of what was never sent, in the place of days.

    Of a day of which other rows were sent these are left out, by their ids in the files that were
    sent; where such a file is gone the day stays unclear.

    Args:
        found: days.
        settled: files that were delivered, or wait in the outbox.
        rows: gives the rows of a time, each once.
        open_file: opens a file.
        write: stages rows.
    """
    clear, unclear = Undelivered(), []
    for day in (*found.files, *found.unclear):
        try:
            ids = _ids([ref for ref in settled if _of(ref, day)], open_file)
        except OSError:
            unclear.append(day)
            continue
        for block in in_blocks(rows(Span("event_time", day.min_time, day.max_time + 1)), FILE_ROWS):
            fresh = block.filter(pc.invert(pc.is_in(block["row_id"], value_set=ids)))
            if fresh.num_rows:
                clear.files += write(fresh)
    sent = sum(ref.rows for ref in settled for day in unclear if _of(ref, day))
    clear.unclear = unclear
    clear.rows = sum(ref.rows for ref in (*clear.files, *unclear)) - sent
    return clear


def _of(ref: FileRef, day: FileRef) -> bool:
    return day.min_time <= ref.min_time <= day.max_time


def _ids(files: Iterable[FileRef], open_file: Callable[[str], Any]) -> pa.Array:
    found = [pa.array([], pa.string())]
    for ref in files:
        with pq.ParquetFile(open_file(ref.path)) as file:
            column = file.read(columns=["row_id"])["row_id"].cast(pa.string())
            found += column.chunks
    return pa.concat_arrays(found)
