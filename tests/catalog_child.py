"""Commits lists of files into tables. Arguments: home, URI, warehouse, a name, rounds, tables.

Beside its own envelope each list has one that every other process writes, too.
"""

import random
import sys
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa

from pipelines.catalog import CatalogAddress
from pipelines.outbox import Outbox
from pipelines.tables import Tables

MOMENT = datetime(2026, 1, 31, tzinfo=UTC)
SCHEMA = pa.schema(
    [
        ("envelope_id", pa.string()),
        ("row_id", pa.string()),
        ("event_time", pa.timestamp("us", "UTC")),
    ]
)

if __name__ == "__main__":
    home, uri, warehouse, writer, rounds, *names = sys.argv[1:]
    tables = Tables(Path(home), CatalogAddress(uri, warehouse))
    random.shuffle(names)
    for number in range(int(rounds)):
        rows = [
            {"envelope_id": envelope, "row_id": f"{envelope}:{i}", "event_time": MOMENT}
            for envelope in (f"{writer}-{number}", f"shared-{number}")
            for i in (0, 1)
        ]
        for name in names:
            files = tables.write_files(name, pa.Table.from_pylist(rows, schema=SCHEMA)).files
            tables.commit(name, files, Outbox(Path(home)))
