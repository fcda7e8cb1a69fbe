"""What the dataset shows of a table: each row once."""

from __future__ import annotations

from collections.abc import Sequence

from pipelines.bigquery.names import Dataset, table_id, view_id


def latest_view(dataset: Dataset, name: str, columns: Sequence[str]) -> str:
    """The statement that makes the view of a table which shows each row once.

    The same row is there twice where the same envelope was loaded with two lists of files. A row is
    known by its id and its event time, so that a filter on the time can leave partitions unread.

    Args:
        dataset: where the table is.
        name: full name of the table.
        columns: all of its columns, named so that the view changes when the table does.
    """
    newest = "ingest_time" if "ingest_time" in columns else "event_time"
    listed = ",\n  ".join(f"`{column}`" for column in columns)
    return (
        f"CREATE OR REPLACE VIEW `{dataset}.{view_id(name)}`\n"
        f"OPTIONS (description = 'Each row of {table_id(name)} once') AS\n"
        f"SELECT\n  {listed}\n"
        f"FROM `{dataset.table(name)}`\n"
        "WHERE TRUE\n"
        "QUALIFY ROW_NUMBER() OVER (\n"
        f"  PARTITION BY row_id, event_time ORDER BY {newest} DESC\n"
        ") = 1"
    )
