"""Rows of envelopes replaced in a table, by one statement: all of them, or none."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from functools import partial
from uuid import uuid4

import google.cloud.bigquery as bigquery
from google.api_core import exceptions as google

from pipelines.bigquery.access import at_work
from pipelines.bigquery.load import begin_load, job_id_of, run_once
from pipelines.files import DAY, FileRef

WAITING = "_replacing_"
"""In the name of the table that new rows wait in, behind that of the table they are for."""
_LABEL = "weighbridge_replacing"
KEPT = timedelta(days=1)
"""The table that new rows wait in drops itself, where nobody has lived to drop it."""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def replace_rows(
    client: bigquery.Client,
    table: bigquery.Table,
    token: str,
    files: Sequence[FileRef],
    announce: Callable[[str], None],
) -> None:
    """Put rows into a table in the place of those that it has of their envelopes on these days.

    Repeated, it replaces them by the same. So each call has a job of its own: its id cannot say
    whether something else was put in their place since.

    Args:
        client: for the table's project.
        table: as BigQuery describes it now.
        token: of the files.
        files: of all rows of the envelopes, staged.
        announce: is told the id of the job before it is begun.

    Raises:
        RetriableError, PermissionError, FileNotFoundError, ValueError: as of `run_once`.
    """
    own = uuid4().hex[:8]
    waiting = bigquery.Table(f"{_full(table)}{WAITING}{own}", table.schema)
    waiting.labels = {_LABEL: own}
    waiting.expires = datetime.now(UTC) + KEPT
    with at_work(f"table {waiting.table_id}"):
        waiting = client.create_table(waiting)
    try:
        uris = [ref.path for ref in files]
        load = partial(begin_load, client, waiting, uris)
        run_once(client, job_id_of(waiting, token), table.location, load, lambda: None)
        entry = f"{job_id_of(table, token)}-{own}"
        merge = partial(_begin, client, table, waiting, files)
        run_once(client, entry, table.location, merge, lambda: announce(entry))
    finally:
        with at_work(f"table {waiting.table_id}"):
            client.delete_table(waiting, not_found_ok=True)


def drop_waiting(client: bigquery.Client, table: bigquery.Table) -> None:
    """Drop the tables whose rows are about to replace others: these calls fail."""
    with at_work(f"tables {table.table_id}{WAITING}*"):
        for item in client.list_tables(f"{table.project}.{table.dataset_id}"):
            if item.table_id.startswith(f"{table.table_id}{WAITING}"):
                with suppress(google.NotFound):  # its own call has dropped it
                    if _LABEL in client.get_table(item).labels:  # a model may have such a name
                        client.delete_table(item, not_found_ok=True)


def _full(table: bigquery.Table) -> str:
    return f"{table.project}.{table.dataset_id}.{table.table_id}"


def _begin(
    client: bigquery.Client,
    table: bigquery.Table,
    waiting: bigquery.Table,
    files: Sequence[FileRef],
    name: str,
) -> bigquery.QueryJob:
    days = (min(ref.min_time for ref in files), max(ref.max_time for ref in files) + DAY)
    since, until = (_EPOCH + timedelta(microseconds=time // DAY * DAY) for time in days)
    config = bigquery.QueryJobConfig(
        query_parameters=[
            bigquery.ScalarQueryParameter("since", "TIMESTAMP", since),
            bigquery.ScalarQueryParameter("until", "TIMESTAMP", until),
        ]
    )
    statement = _merge(table, waiting)
    # A second request with the id must fail: no retries of the client's with another one.
    return client.query(
        statement, job_id=name, job_config=config, location=table.location, job_retry=None
    )


def _merge(table: bigquery.Table, waiting: bigquery.Table) -> str:
    """New rows go in, and one more of each envelope stands for the old ones that go."""
    columns = [f"`{column.name}`" for column in table.schema]
    rows = f"`{_full(waiting)}`"
    return (
        f"MERGE `{_full(table)}` AS held USING (\n"
        f"  SELECT CAST(NULL AS STRING) AS weighbridge_replaced, * FROM {rows} WHERE TRUE\n"
        "  QUALIFY ROW_NUMBER() OVER (PARTITION BY row_id, event_time) = 1\n"
        "  UNION ALL\n"
        f"  SELECT envelope_id AS weighbridge_replaced, * FROM {rows} WHERE TRUE\n"
        "  QUALIFY ROW_NUMBER() OVER (PARTITION BY envelope_id) = 1\n"
        ") AS fresh\n"
        "ON held.envelope_id = fresh.weighbridge_replaced\n"
        "  AND held.event_time >= @since AND held.event_time < @until\n"
        "WHEN MATCHED THEN DELETE\n"
        "WHEN NOT MATCHED AND fresh.weighbridge_replaced IS NULL THEN\n"
        f"  INSERT ({', '.join(columns)})\n"
        f"  VALUES ({', '.join(f'fresh.{column}' for column in columns)})"
    )
