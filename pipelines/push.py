"""Delivers what was committed to Arize, from the data files, until it is acknowledged."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import apache_beam as beam
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from apache_beam.transforms.periodicsequence import ImpulseSeqGenDoFn
from apache_beam.transforms.util import ReshufflePerKey
from apache_beam.utils.timestamp import MAX_TIMESTAMP, Timestamp
from pyiceberg.exceptions import NoSuchTableError

from extractors import Extractor, Extractors
from pipelines.arize import ArizeAccess, ArizeSender, ArizeUnavailable, Sent
from pipelines.conform import conformed
from pipelines.destination import Destination
from pipelines.files import FileRef
from pipelines.ledger import DELIVERIES, DELIVERIES_SCHEMA
from pipelines.metrics import UNKNOWN, counter
from pipelines.outbox import Outbox
from pipelines.tables import pushed_tables
from pipelines.windows import every
from pipelines.write import MAX_PUSHED_ROWS
from schemas import ConfigurationError

GRACE_SECONDS = 24 * 3600.0
"""An entry that no table has committed after this time never will be."""
_log = logging.getLogger("weighbridge")


class Push:
    """Sends what the outbox names, one process of a home at a time.

    Args:
        home: the home folder.
        tables: what was committed.
        extractors: row classes and settings of the tables.
        access: where Arize is.
        clock: gives the time, for the look-back.

    Attributes:
        denied: whether Arize refused the key or a space in the latest delivery.
    """

    def __init__(
        self,
        home: Path,
        tables: Destination,
        extractors: Extractors,
        access: ArizeAccess,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._tables = tables
        self._outbox = Outbox(home)
        self._by_table = pushed_tables(extractors)
        self._access = access
        self._clock = clock
        self._deliveries: list[dict[str, Any]] = []
        self.denied = False

    def deliver(self, wait: bool = True) -> dict[str, int]:
        """Send every committed entry; rows acknowledged, by table.

        An entry is removed after its last file was acknowledged, so that a crash, or hours without
        Arize, leave what is undelivered to the next run.

        Args:
            wait: whether to wait for another process that is delivering, or leave it to that one.
        """
        store = self._outbox.store
        with store.locked("deliver") if wait else store.try_locked("deliver") as ours:
            return {} if ours is False else self._deliver()

    def _deliver(self) -> dict[str, int]:
        self._deliveries = []
        pushed: dict[str, int] = defaultdict(int)
        down: set[str] = set()
        for table, entries in self._committed().items():
            extractor = self._by_table.get(table)
            if extractor is None:
                _log.warning("%s: undelivered rows, and no extractor that pushes them", table)
                continue
            space = extractor.settings.arize_space
            if space in down:  # each table would wait for as long again
                continue
            try:
                for rows in self._deliver_table(extractor, table, entries):
                    pushed[extractor.table] += rows
            except (ArizeUnavailable, ConfigurationError, OSError) as error:
                _log.warning("%s stays in the outbox: %s", table, error)
                down.add(space)
                self.denied = self.denied or isinstance(error, ConfigurationError)
        self._record()
        return dict(pushed)

    def pending_rows(self) -> int:
        """Rows that are committed and not acknowledged."""
        return sum(
            ref.rows
            for entries in self._committed().values()
            for entry in entries
            for ref in self._outbox.read(entry)[1]
        )

    def _committed(self) -> dict[str, list[str]]:
        """Entries by table, oldest first; those that were never committed are removed."""
        names = self._outbox.entries()  # before the tables are asked: none of these comes later
        found: dict[str, list[str]] = defaultdict(list)
        for entry in sorted(names, key=self._outbox.age, reverse=True):
            table, _ = self._outbox.read(entry)
            if table:
                found[table].append(entry)
        for table, entries in found.items():
            made = self._made(table, entries)
            for entry in entries:
                if entry not in made and self._outbox.age(entry) > GRACE_SECONDS:
                    self._outbox.remove(entry)
            found[table] = [entry for entry in entries if entry in made]
        return {table: entries for table, entries in found.items() if entries}

    def _made(self, table: str, entries: list[str]) -> set[str]:
        try:
            return self._tables.committed(table, entries)
        except (NoSuchTableError, FileNotFoundError):
            _log.warning("%s: undelivered rows of a table that is gone", table)
            return set()

    def _deliver_table(self, extractor: Extractor, table: str, entries: list[str]) -> Iterator[int]:
        sender = ArizeSender(extractor, self._access)
        for batch in _batches([(e, ref) for e in entries for ref in self._outbox.read(e)[1]]):
            rows = pa.concat_tables(
                [self._read(ref, sender.columns, extractor) for _, ref in batch],
                promote_options="default",
            )
            rows, outside, sampled_out = sender.selected(rows, self._clock())
            acknowledged = 0
            versions = pc.unique(rows["model_version"]).to_pylist()
            for version in versions or [""]:
                part, sent = rows.filter(pc.equal(rows["model_version"], version)), Sent()
                try:
                    if part.num_rows:
                        sender.send(part, version, sent)
                except (ArizeUnavailable, ConfigurationError) as error:
                    # The whole batch is sent again, with what was taken of it.
                    sent.possible_duplicates += sent.rows + acknowledged
                    sent.rows = 0
                    self._note(extractor, table, version, part, sent, 0, 0, str(error))
                    raise
                acknowledged += sent.rows
                self._note(extractor, table, version, part, sent, outside, sampled_out)
                outside = sampled_out = 0  # told once a batch
            self._acknowledge(table, batch)
            yield acknowledged

    def _acknowledge(self, table: str, batch: list[tuple[str, FileRef]]) -> None:
        for entry in {entry for entry, _ in batch}:
            done = {ref for name, ref in batch if name == entry}
            left = tuple(ref for ref in self._outbox.read(entry)[1] if ref not in done)
            if left:
                self._outbox.write(entry, table, left)
            else:
                self._outbox.remove(entry)

    def _note(
        self,
        extractor: Extractor,
        table: str,
        version: str,
        rows: pa.Table,
        sent: Sent,
        outside: int,
        sampled_out: int,
        error: str | None = None,
    ) -> None:
        upload = uuid4().hex
        span = pc.min_max(rows["event_time"]).as_py()
        base = {
            "envelope_id": upload,
            "row_id": upload,
            "event_time": self._clock(),
            "table_name": table,
            "model_id": extractor.model_id,
            "model_version": version,
            "arize_space": extractor.settings.arize_space,
        }
        self._deliveries.append(
            {
                **base,
                "outcome": "delivered" if error is None else "undelivered",
                "rows": sent.rows,
                "rows_outside_lookback": outside,
                "rows_sampled_out": sampled_out,
                "attempts": sent.attempts,
                "possible_duplicates": sent.possible_duplicates,
                "first_event_time": span["min"],
                "last_event_time": span["max"],
                "error": error,
            }
        )
        for row_id, reason in sent.refused:
            refused = {**base, "row_id": row_id, "outcome": "refused", "rows": 1, "error": reason}
            self._deliveries.append(refused)

    def _record(self) -> None:
        """Write what happened to the table `deliveries`, in one commit."""
        if not self._deliveries:
            return
        rows = pa.Table.from_pylist(self._deliveries, schema=DELIVERIES_SCHEMA)
        written = self._tables.write_files(DELIVERIES, rows)
        self._tables.commit(DELIVERIES, written.files, Outbox(None))

    def _read(self, ref: FileRef, names: list[str], extractor: Extractor) -> pa.Table:
        with pq.ParquetFile(self._tables.open(ref.path)) as file:
            present = set(file.schema_arrow.names)
            rows = file.read(columns=[name for name in names if name in present])
        # The row class had other columns when the file was written, or another table.
        wanted = extractor.shape().schema
        return conformed(rows, pa.schema([wanted.field(name) for name in names]))


class PushToArize(beam.PTransform[Any, Any]):
    """Delivers the outbox once there is something new. In: names of committed tables.

    Behind a reshuffle: neither an outage of Arize nor a retry can undo or repeat a commit. A push
    that fails is no error; what it leaves in the outbox is sent by the next one.

    Args:
        push: what `Push` takes.
        interval: on a stream, seconds after which it delivers also where nothing new is committed.
            Not for the classic DirectRunner, the one that reads Pub/Sub and runs `TestStream`: it
            refuses the splittable step that makes such a clock, and that ends by itself in a drain.
        gathered: on a stream, seconds for which it gathers what is committed before it delivers,
            where commits of the table of deliveries are scarce.
    """

    def __init__(
        self,
        push: Mapping[str, Any],
        interval: float | None = None,
        gathered: float | None = None,
    ) -> None:
        super().__init__()
        self._push = dict(push)
        self._interval = interval
        self._gathered = gathered

    def expand(self, tables: Any) -> Any:
        """One step; it gives nothing."""
        due = tables | "KeyTables" >> beam.Map(_keyed)
        if self._interval is not None:
            ticks = (
                tables.pipeline
                | "Start" >> beam.Impulse()
                | "Schedule" >> beam.Map(_schedule, self._interval)
                | "Tick" >> beam.ParDo(ImpulseSeqGenDoFn())
                | "KeyTicks" >> beam.Map(_keyed)
                | "WindowTicks" >> beam.WindowInto(due.windowing)
            )
            due = (due, ticks) | "FlattenDue" >> beam.Flatten()
        if self._gathered is not None:
            due = (
                due
                | "PushInterval" >> every(self._gathered)
                | "GatherDue" >> beam.GroupByKey()
                | "KeyGathered" >> beam.Map(_keyed)
            )
        # One key: in an outage many pushes would queue up behind the lock, each with a worker.
        return due | "StablePush" >> ReshufflePerKey() | "Push" >> beam.ParDo(_PushFn(self._push))


class _PushFn(beam.DoFn):
    def __init__(self, arguments: Mapping[str, Any]) -> None:
        self._arguments = dict(arguments)

    def start_bundle(self) -> None:
        self._due = False

    def process(self, due: tuple[str, str]) -> None:
        self._due = True

    def finish_bundle(self) -> None:
        if self._due:
            push = Push(**self._arguments)
            for table, rows in push.deliver().items():
                counter(table, "rows_pushed").inc(rows)
            counter(UNKNOWN, "pushes_denied").inc(push.denied)


def _keyed(_: Any) -> tuple[str, str]:
    return "", ""


def _schedule(_: bytes, interval: float) -> tuple[Timestamp, Timestamp, float]:
    return Timestamp.now(), MAX_TIMESTAMP, interval


def _batches(files: list[tuple[str, FileRef]]) -> Iterator[list[tuple[str, FileRef]]]:
    """Files of up to `MAX_PUSHED_ROWS` rows in all: large calls cost a tenth of small ones."""
    batch: list[tuple[str, FileRef]] = []
    rows = 0
    for item in files:
        if batch and rows + item[1].rows > MAX_PUSHED_ROWS:
            yield batch
            batch, rows = [], 0
        batch.append(item)
        rows += item[1].rows
    if batch:
        yield batch
