"""Rows of the table `deliveries`: what became of each upload."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import uuid4

import pyarrow as pa
import pyarrow.compute as pc

from pipelines.arize import Heading, Sent
from pipelines.destination import Destination
from pipelines.files import FileRef
from pipelines.ledger import DELIVERIES, DELIVERIES_SCHEMA
from pipelines.outbox import Outbox


@dataclass
class Withheld:
    """Rows of a batch that are not sent, by cause; each is told once."""

    outside: int = 0
    sampled_out: int = 0
    too_late: int = 0


class Deliveries:
    """Collects what threads did, and writes it by a commit now and then.

    Args:
        tables: what holds the table.
        clock: gives the time.
        every: seconds from commit to commit while a delivery goes on.
    """

    def __init__(
        self, tables: Destination, clock: Callable[[], datetime], every: float = 300.0
    ) -> None:
        self._tables = tables
        self._clock = clock
        self._every = every
        self._rows: list[dict[str, Any]] = []
        self._written = clock()
        self._lock = threading.Lock()

    def add(
        self,
        table: str,
        heading: Heading,
        rows: pa.Table,
        sent: Sent,
        withheld: Withheld | None = None,
        files: Iterable[FileRef] = (),
        error: str | None = None,
    ) -> None:
        """Note one upload.

        Args:
            table: full name of the table whose rows they are.
            heading: what they were filed under.
            rows: what was to be sent.
            sent: what became of them.
            withheld: what was not to be sent of the same files.
            files: the files that are settled by this.
            error: why rows stay in the outbox.
        """
        upload = uuid4().hex
        withheld = withheld or Withheld()
        span = {"min": None, "max": None}
        if "event_time" in rows.column_names:
            span = pc.min_max(rows["event_time"]).as_py()
        base = {
            "envelope_id": upload,
            "row_id": upload,
            "event_time": self._clock(),
            "table_name": table,
            "model_id": heading.model_id,
            "model_version": heading.model_version,
            "arize_space": heading.space,
            "environment": heading.environment.lower(),
            "batch_id": heading.batch_id or None,
        }
        told = {
            **base,
            "outcome": "delivered" if error is None else "undelivered",
            "rows": sent.rows,
            "rows_outside_lookback": withheld.outside,
            "rows_sampled_out": withheld.sampled_out,
            "rows_too_late": withheld.too_late,
            "attempts": sent.attempts,
            "possible_duplicates": sent.possible_duplicates,
            "first_event_time": span["min"],
            "last_event_time": span["max"],
            "error": error,
            "files": [ref.to_json() for ref in files],
        }
        refused = [
            {**base, "row_id": row_id, "outcome": "refused", "rows": 1, "error": reason}
            for row_id, reason in sent.refused
        ]
        with self._lock:
            self._rows += [told, *refused]

    def write(self, whole: bool = True) -> None:
        """Write what was noted; where that fails it stays noted.

        Args:
            whole: else only if the latest commit is long enough ago.
        """
        now = self._clock()
        with self._lock:
            if not self._rows:
                return
            if not whole and (now - self._written).total_seconds() < self._every:
                return
            noted, self._rows, self._written = self._rows, [], now
        try:
            rows = pa.Table.from_pylist(noted, schema=DELIVERIES_SCHEMA)
            written = self._tables.write_files(DELIVERIES, rows)
            self._tables.commit(DELIVERIES, written.files, Outbox(None))
        except Exception:
            with self._lock:  # else its files would count as never sent, and be sent once more
                self._rows[:0] = noted
            raise
