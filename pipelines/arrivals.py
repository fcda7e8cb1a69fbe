"""Whether rows arrived in Arize, as the table `deliveries` and the outbox tell, by table."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import pyarrow as pa

from extractors import Extractor
from pipelines.destination import Destination
from pipelines.files import FileRef
from pipelines.ledger import DELIVERIES, DELIVERIES_SCHEMA
from pipelines.outbox import Outbox
from pipelines.tables import table_of
from pipelines.undelivered import undelivered
from pipelines.waiting import rows_of, waiting

_COUNTED = {
    "rows": "delivered",
    "rows_outside_lookback": "outside",
    "rows_sampled_out": "sampled_out",
    "rows_too_late": "too_late",
    "possible_duplicates": "possible_duplicates",
}
_COLUMNS = ("table_name", "outcome", "event_time", "error", "files", "environment", *_COUNTED)
_SCHEMA = pa.schema([DELIVERIES_SCHEMA.field(name) for name in _COLUMNS])


@dataclass
class Arrivals:
    """Rows of one table, by what became of them.

    Attributes:
        committed: rows in the table.
        refused: by Arize's or its SDK's reason.
        waiting: in the outbox, and `waiting_seconds` for how long already.
        never_sent: committed without a push, and never queued since.
        last_error: why rows stayed in the outbox, and when; None once a delivery came after it.
    """

    table: str
    committed: int = 0
    delivered: int = 0
    outside: int = 0
    sampled_out: int = 0
    too_late: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    waiting: int = 0
    waiting_seconds: float = 0.0
    never_sent: int = 0
    possible_duplicates: int = 0
    last_delivery: datetime | None = None
    last_error: tuple[datetime, str] | None = None


def arrivals(tables: Destination, extractors: Iterable[Extractor]) -> list[Arrivals]:
    """What is known of each extractor's table."""
    found = {table_of(item).name: Arrivals(table_of(item).name) for item in extractors}
    settled: dict[str, list[FileRef]] = {name: [] for name in found}
    for row in _deliveries(tables):
        if row["table_name"] in found and row["environment"] in (None, "production"):
            _add(found[row["table_name"]], row)
            settled[row["table_name"]] += map(FileRef.from_json, row["files"] or ())
    outbox = Outbox(tables.home)
    for table, entries in waiting(tables, outbox, found.keys()).items():
        found[table].waiting = rows_of([entries])
        found[table].waiting_seconds = max(map(outbox.age, entries))
        settled[table] += [ref for refs in entries.values() for ref in refs]
    for name, item in found.items():
        live = tables.held(name)
        item.committed = sum(ref.rows for ref in live)
        item.never_sent = undelivered(live, settled[name]).rows
    return list(found.values())


def settled_files(tables: Destination, name: str) -> list[FileRef]:
    """Files of a table that were delivered, or wait in the outbox."""
    rows = _deliveries(tables)
    delivered = [text for row in rows if row["table_name"] == name for text in row["files"] or ()]
    entries = waiting(tables, Outbox(tables.home), {name}).get(name, {})
    return [*map(FileRef.from_json, delivered), *(ref for refs in entries.values() for ref in refs)]


def _deliveries(tables: Destination) -> Iterator[dict[str, Any]]:
    for batch in tables.rows(DELIVERIES, _SCHEMA):
        yield from batch.to_pylist()


def _add(item: Arrivals, row: dict[str, Any]) -> None:
    time = row["event_time"]
    if row["outcome"] == "refused":
        item.refused[row["error"]] += row["rows"]
        return
    for column, name in _COUNTED.items():
        setattr(item, name, getattr(item, name) + (row[column] or 0))
    if row["outcome"] == "undelivered":
        if item.last_error is None or time > item.last_error[0]:
            item.last_error = (time, row["error"])
    elif item.last_delivery is None or time > item.last_delivery:
        item.last_delivery = time
