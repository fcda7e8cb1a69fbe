"""Takes rows out of a table in BigQuery for good: out of staged files, the outbox and the table."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta

import numpy as np
import pyarrow as pa
from google.cloud.bigquery import ArrayQueryParameter, ScalarQueryParameter

from extractors import Extractor
from pipelines.bigquery.cleaned import clean, cleaned
from pipelines.bigquery.filter import Condition
from pipelines.bigquery.load import wait_for_loads
from pipelines.bigquery.names import table_id
from pipelines.bigquery.replace import drop_waiting
from pipelines.bigquery.tables import BigQueryTables
from pipelines.destination import Destination
from pipelines.erase.done import Erased, tell_ledger
from pipelines.erased import ErasedRows, note_erased
from pipelines.files import DATA, DAY
from pipelines.outbox import Outbox
from schemas.arrow import TIME

ROWS = 10_000
"""That one statement deletes; the values of a statement may have 10 MB, these have less than 1."""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def delete_rows(tables: Destination, name: str, extractor: Extractor, rows: pa.Table) -> Erased:
    """Take rows out of a table, and out of all staged files that hold them.

    Killed half-way, it is to be called again: until it is done, the rows that are left are found.
    Who commits meanwhile either finds the note, or has staged its files before they are cleaned.

    Args:
        tables: where the table is.
        name: its full name.
        extractor: whose it is.
        rows: what `find_rows` found.
    """
    assert isinstance(tables, BigQueryTables)
    outbox, done = Outbox(tables.home), Erased(name, rows.num_rows)
    with outbox.store.locked("deliver"):  # the push would carry on with what it has read
        note_erased(tables.store, name, rows)
        erased = ErasedRows.of(tables.store, name)
        if not erased.keys:
            return done
        tell_ledger(tables, extractor, rows)
        done.files = _clean_staged(tables, name, erased)
        done.unsent = _empty_outbox(tables, outbox, name, erased)
        # What has read the files before, and is not in the table yet, must not come afterwards.
        drop_waiting(tables.client, tables.table(name))
        wait_for_loads(tables.client, tables.table(name))
        _delete(tables, name, rows)
    return done


def _clean_staged(tables: BigQueryTables, name: str, erased: ErasedRows) -> int:
    """Files of the table that were written anew, of all days of erased rows."""
    count = 0
    for day in np.unique(erased.times // DAY).tolist():
        folder = f"{table_id(name)}/{DATA}/event_day={(_EPOCH + timedelta(days=day)).date()}/"
        for path in tables.staging.paths(folder):
            with suppress(FileNotFoundError):  # the bucket's lifecycle rule was faster
                count += clean(tables.staging, path, erased).changed
    return count


def _empty_outbox(tables: BigQueryTables, outbox: Outbox, name: str, erased: ErasedRows) -> int:
    """Let what waits for Arize wait without the rows; how many they were."""
    count = 0
    for entry in sorted(outbox.entries()):
        owner, files = outbox.read(entry)
        if owner != name:
            continue
        left = (cleaned(tables.staging, ref, erased) for ref in files)
        kept = tuple(ref for ref in left if ref.rows)
        count += sum(ref.rows for ref in files) - sum(ref.rows for ref in kept)
        if not kept:
            outbox.remove(entry)
        elif kept != files:
            outbox.write(entry, name, kept)
    return count


def _delete(tables: BigQueryTables, name: str, rows: pa.Table) -> None:
    for text, parameters in _conditions(rows):
        tables.query.run(f"DELETE FROM `{tables.dataset.table(name)}` WHERE {text}", parameters)


def _conditions(rows: pa.Table) -> Iterator[Condition]:
    """Rows by id and time, those of near times together: a statement reads days between these."""
    rows = rows.sort_by("event_time")
    for start in range(0, rows.num_rows, ROWS):
        part = rows.slice(start, ROWS)
        micros = part["event_time"].cast(TIME).cast(pa.int64()).to_pylist()
        keys = [f"{time} {row_id}" for time, row_id in zip(micros, part["row_id"].to_pylist())]
        first, last = (_EPOCH + timedelta(microseconds=time) for time in (micros[0], micros[-1]))
        yield Condition(
            "event_time BETWEEN @first AND @last AND "
            "CONCAT(CAST(UNIX_MICROS(event_time) AS STRING), ' ', row_id) IN UNNEST(@keys)",
            (
                ScalarQueryParameter("first", "TIMESTAMP", first),
                ScalarQueryParameter("last", "TIMESTAMP", last),
                ArrayQueryParameter("keys", "STRING", keys),
            ),
        )
