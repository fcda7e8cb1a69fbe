"""Rows of a table in BigQuery, each once, in the columns that are asked for."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import google.cloud.bigquery as bigquery
import pyarrow as pa
import pyarrow.compute as pc
from google.cloud.bigquery_storage import BigQueryReadClient

from pipelines.bigquery.access import at_work
from pipelines.bigquery.filter import Condition, Parameter
from pipelines.bigquery.names import Dataset
from pipelines.conform import conformed
from pipelines.spans import Span, where

_DAY = timedelta(days=1)
_CLOCKS = timedelta(minutes=10)
"""By so much a publish time may be ahead of BigQuery's clock."""
_TABLES = 500
"""Of which partitions are asked for at once: BigQuery takes no more than 1,000."""
_MICROSECOND = timedelta(microseconds=1)


class Query:
    """Asks a dataset, and reads its answers as Arrow.

    Args:
        client: for the dataset's project.
        dataset: what is asked.
        location: where it is.
    """

    def __init__(self, client: bigquery.Client, dataset: Dataset, location: str | None) -> None:
        self._client = client
        self._dataset = dataset
        self._location = location
        self._reader: BigQueryReadClient | None = None

    def run(self, statement: str, parameters: Sequence[Parameter] = ()) -> Any:
        """Run a statement to its end, with the values that it names; gives the client's answer."""
        config = bigquery.QueryJobConfig(query_parameters=list(parameters))
        with at_work(f"query of {self._dataset}"):
            job = self._client.query(statement, job_config=config, location=self._location)
            return job.result()

    def answer(
        self, statement: str, parameters: Sequence[Parameter] = ()
    ) -> Iterator[pa.RecordBatch]:
        """The rows that a statement selects."""
        rows = self.run(statement, parameters)
        with at_work(f"query of {self._dataset}"):
            # Without its client rows come as JSON, page by page: all that the emulator speaks here.
            if self._reader is None and "BIGQUERY_EMULATOR_HOST" not in os.environ:
                self._reader = BigQueryReadClient()
            yield from rows.to_arrow_iterable(bqstorage_client=self._reader)

    def rows(
        self, table: bigquery.Table, schema: pa.Schema, spans: Sequence[Span]
    ) -> Iterator[pa.RecordBatch]:
        """Rows in any of the spans, or all. A column that the table lacks is null."""
        has = {field.name for field in table.schema}
        columns = [name for name in schema.names if name in has]
        wanted = [f"({text})" for text in (where(spans), self._days(table, spans)) if text]
        for batch in self.matching(table, columns, Condition(" AND ".join(wanted) or "TRUE")):
            rows = with_maps(pa.Table.from_batches([batch]), schema)
            yield from conformed(rows, schema).to_batches()

    def matching(
        self, table: bigquery.Table, columns: Iterable[str], wanted: Condition
    ) -> Iterator[pa.RecordBatch]:
        """Rows for which a condition is true, each once, in columns of the table."""
        listed = ", ".join(f"`{name}`" for name in columns)
        statement = (
            f"SELECT {listed} FROM `{self._dataset}.{table.table_id}` WHERE {wanted.text} "
            "QUALIFY ROW_NUMBER() OVER (PARTITION BY row_id, event_time) = 1"
        )
        yield from self.answer(statement, wanted.parameters)

    def _days(self, table: bigquery.Table, spans: Sequence[Span]) -> str:
        """Which partitions can hold rows of these publish times; "" for all.

        A row is loaded after it was published. So what was published lately is in partitions that
        were changed lately, and others are neither read nor paid for.
        """
        starts = [span.start for span in spans if span.column == "ingest_time"]
        if not spans or len(starts) < len(spans) or None in starts:
            return ""
        since = min(start for start in starts if start is not None) - _CLOCKS // _MICROSECOND
        days = [day for day, _ in self.partitions(table.table_id, since)]
        return where(days_of(days)) or "FALSE"

    def partitions(self, table: str, since: int = 0) -> list[tuple[str, int]]:
        """Days of a table, such as "20260131", that were changed since, and their rows."""
        project, dataset = self._dataset
        found = self.answer(
            "SELECT partition_id, total_rows "
            f"FROM `{project}`.{dataset}.INFORMATION_SCHEMA.PARTITIONS "
            f"WHERE table_name = '{table}' "
            f"AND {where([Span('last_modified_time', since)])} ORDER BY partition_id"
        )
        rows = [row for batch in found for row in batch.to_pylist()]
        return [(row["partition_id"], row["total_rows"]) for row in rows if _is_day(row)]

    def counted(self, tables: Sequence[str]) -> dict[str, tuple[int, int]]:
        """Rows and days of tables, by their id; a table that was never filled is not among them."""
        project, dataset = self._dataset
        found: dict[str, tuple[int, int]] = {}
        for start in range(0, len(tables), _TABLES):
            names = list(tables[start : start + _TABLES])
            answer = self.answer(
                "SELECT table_name, SUM(total_rows) AS held, COUNT(*) AS days "
                f"FROM `{project}`.{dataset}.INFORMATION_SCHEMA.PARTITIONS "
                "WHERE table_name IN UNNEST(@names) AND total_rows > 0 GROUP BY table_name",
                [bigquery.ArrayQueryParameter("names", "STRING", names)],
            )
            for row in (row for batch in answer for row in batch.to_pylist()):
                found[row["table_name"]] = (int(row["held"]), int(row["days"]))
        return found


def _is_day(row: dict[str, Any]) -> bool:
    return bool(re.fullmatch(r"\d{8}", row["partition_id"] or ""))  # others hold no event time


def days_of(partitions: Sequence[str]) -> list[Span]:
    """Times of partitions by day, such as "20260131"; those that follow each other as one."""
    found: list[Span] = []
    for text in sorted(set(partitions)):
        start = datetime.strptime(text, "%Y%m%d").replace(tzinfo=UTC)
        first, end = (_micros(moment) for moment in (start, start + _DAY))
        if found and found[-1].end == first:
            first = found.pop().start or 0
        found.append(Span("event_time", first, end))
    return found


def with_maps(rows: pa.Table, schema: pa.Schema) -> pa.Table:
    """The rows, lists of key and value as maps where a schema says so: see `without_maps`."""
    for position, name in enumerate(rows.column_names):
        kind = schema.field(name).type if name in schema.names else None
        if kind is not None and pa.types.is_map(kind):
            chunks = [_mapped(chunk, kind) for chunk in rows[position].chunks]
            rows = rows.set_column(position, name, pa.chunked_array(chunks, kind))
    return rows


def _mapped(pairs: Any, kind: pa.DataType) -> pa.Array:
    items = pairs.flatten()  # BigQuery has no null lists
    lengths = pairs.value_lengths().fill_null(0)
    offsets = pa.concat_arrays([pa.array([0], pa.int32()), pc.cumulative_sum(lengths)])
    keys, values = (items.field(part) for part in ("key", "value"))
    return pa.MapArray.from_arrays(offsets, keys.cast(kind.key_type), values.cast(kind.item_type))


def _micros(moment: datetime) -> int:
    return (moment - datetime(1970, 1, 1, tzinfo=UTC)) // _MICROSECOND
