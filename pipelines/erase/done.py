"""What became of the rows of a table that are erased, and how the ledger learns of them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pyarrow as pa

from extractors import Extractor
from pipelines.destination import Destination
from pipelines.ledger import SKIPPED, SKIPPED_SCHEMA
from pipelines.outbox import Outbox


@dataclass
class Erased:
    """What became of a table.

    Attributes:
        rows: that it held.
        files: that were written anew without them.
        unsent: rows taken out of the outbox.
        deleted: files that are gone from the disk.
        left: data files with such rows that are still on the disk.
    """

    table: str
    rows: int = 0
    files: int = 0
    unsent: int = 0
    deleted: int = 0
    left: int = 0


def tell_ledger(tables: Destination, extractor: Extractor, rows: pa.Table) -> None:
    """Envelopes that were erased are no envelopes that are missing."""
    skipped = pa.Table.from_pylist(list(_skipped(extractor, rows)), SKIPPED_SCHEMA)
    if skipped.num_rows:
        files = tables.write_files(SKIPPED, skipped).files
        tables.commit(SKIPPED, files, Outbox(None))


def _skipped(extractor: Extractor, rows: pa.Table) -> Iterator[dict[str, object]]:
    columns = ["envelope_id", "event_time", "ingest_time", "model_version"]
    seen: set[str] = set()
    for row in rows.select(columns).to_pylist():
        if row["envelope_id"] not in seen:
            seen.add(row["envelope_id"])
            yield {
                **row,
                "row_id": f"{row['envelope_id']}:0",
                "model_id": extractor.model_id,
                "kind": extractor.kind,
                "reason": "erased",
                "status": None,
            }
