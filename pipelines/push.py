"""Delivers what was committed to Arize, from the data files, until it is acknowledged."""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from extractors import Extractor, Extractors
from pipelines.address import Folder
from pipelines.arize import ATTEMPTS, ArizeAccess, ArizeUnavailable, Heading, Sent, Uploader
from pipelines.breaker import Breaker
from pipelines.conform import conformed
from pipelines.deliveries import Deliveries, Withheld
from pipelines.destination import Destination
from pipelines.files import FileRef
from pipelines.lateness import Lateness
from pipelines.logs import about, log
from pipelines.outbox import Outbox
from pipelines.sender import ArizeSender
from pipelines.tables import pushed_tables, table_of
from pipelines.waiting import rows_of, waiting
from pipelines.write import MAX_PUSHED_ROWS
from schemas import ConfigurationError


@dataclass(frozen=True)
class _Batch:
    """Files of one table that are sent together, each with the entry that names it."""

    table: str
    files: list[tuple[str, FileRef]]


class Push:
    """Sends what the outbox names, one process of a home at a time.

    To be kept from one delivery to the next: it knows which spaces are down.

    Args:
        home: the home folder.
        tables: what was committed.
        extractors: row classes and settings of the tables.
        access: where Arize is.
        clock: gives the time, for look-backs and for how long a space is left alone.
        pause: waits before another attempt; takes seconds.

    Attributes:
        denied: whether Arize refused the key or a space in the latest delivery.
    """

    def __init__(
        self,
        home: Folder,
        tables: Destination,
        extractors: Extractors,
        access: ArizeAccess,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        pause: Callable[[float], object] = time.sleep,
    ) -> None:
        self._tables = tables
        self._outbox = Outbox(home)
        self._by_table = pushed_tables(extractors)
        self._predictions = {
            item.model_id: table_of(item).name
            for item in extractors.values()
            if item.kind == "prediction"
        }
        self._access = access
        self._uploader = Uploader(access, pause)
        self._clock = clock
        self._deliveries = Deliveries(tables, clock)
        self._breakers: dict[str, Breaker] = {}
        self._senders: dict[str, ArizeSender] = {}
        self._lateness = Lateness(tables, self._outbox)
        self._lock = threading.Lock()
        self.denied = False

    def deliver(self, wait: bool = True, only: Collection[str] | None = None) -> dict[str, int]:
        """Send every committed entry; rows acknowledged, by table.

        An entry is removed after its last file was acknowledged, so that a crash, or hours without
        Arize, leave what is undelivered to the next run.

        Args:
            wait: whether to wait for another process that is delivering, or leave it to that one.
            only: full names of tables; by default all.
        """
        store = self._outbox.store
        with store.locked("deliver") if wait else store.try_locked("deliver") as ours:
            return {} if ours is False else self._deliver(only)

    def _deliver(self, only: Collection[str] | None) -> dict[str, int]:
        self.denied = False
        pushed: dict[str, int] = {}
        self._kept: dict[str, str] = {}
        batches: dict[str, list[_Batch]] = defaultdict(list)
        # Predictions first: an actual is joined to what was received before.
        found = waiting(self._tables, self._outbox, only, forget=True)
        for table, entries in sorted(found.items(), key=self._is_of_actuals):
            extractor = self._by_table.get(table)
            if extractor is None:
                text = "%s: undelivered rows, and no extractor that pushes them"
                log.warning(text, table, extra=about(table))
                continue
            files = [(entry, ref) for entry, refs in entries.items() for ref in refs]
            batches[extractor.settings.arize_space] += _batches(table, files)

        def attempt(batch: _Batch) -> None:
            table = self._by_table[batch.table].table
            try:
                rows = self._attempt(batch)
            except _Down:
                pass  # why is told already
            except (ArizeUnavailable, ConfigurationError) as error:
                self._keep(batch.table, error)
            else:
                with self._lock:
                    pushed[table] = pushed.get(table, 0) + rows
                self._deliveries.write(whole=False)

        with ExitStack() as pools:
            running = []
            for space, parts in batches.items():
                most = min(len(parts), self._access.space(space).uploads_at_once)
                pool = pools.enter_context(ThreadPoolExecutor(most))
                running += [pool.submit(attempt, batch) for batch in parts]
        for table, reason in sorted(self._kept.items()):
            log.warning("%s stays in the outbox: %s", table, reason, extra=about(table))
        self._deliveries.write()
        for each in running:
            each.result()
        return pushed

    def _is_of_actuals(self, found: tuple[str, object]) -> bool:
        extractor = self._by_table.get(found[0])
        return extractor is not None and extractor.kind == "actual"

    def pending_rows(self) -> int:
        """Rows that are committed and not acknowledged."""
        return rows_of(waiting(self._tables, self._outbox).values())

    def _attempt(self, batch: _Batch) -> int:
        """Send a batch if its space is not down; rows acknowledged."""
        extractor = self._by_table[batch.table]
        with self._lock:
            sender = self._senders.get(batch.table)
            if sender is None:
                sender = self._senders[batch.table] = ArizeSender(extractor, self._uploader)
            space = extractor.settings.arize_space
            breaker = self._breakers.get(space)
            if breaker is None:
                breaker = Breaker(lambda: self._clock().timestamp(), ATTEMPTS)
                self._breakers[space] = breaker
        attempts = breaker.enter()  # before the files are read: the first to come goes first
        if not attempts:
            raise _Down
        leave = breaker.left
        try:
            batch, rows = self._read(batch, sender.columns, extractor)
            if not batch.files:
                raise _Down
            leave = breaker.succeeded
            return self._send(batch, extractor, sender, rows, attempts)
        except (ArizeUnavailable, ConfigurationError):
            leave = breaker.failed
            raise
        finally:
            leave()

    def _send(
        self,
        batch: _Batch,
        extractor: Extractor,
        sender: ArizeSender,
        rows: pa.Table,
        attempts: int,
    ) -> int:
        now, settings = self._clock(), extractor.settings
        rows, outside, sampled_out = sender.selected(rows, now)
        withheld = Withheld(outside, sampled_out)
        if extractor.kind == "actual" and extractor.model_id in self._predictions:
            look_back = self._access.space(settings.arize_space).look_back
            predictions = self._predictions[extractor.model_id]
            kept = self._lateness.without_late(rows, predictions, now, look_back)
            withheld.too_late, rows = rows.num_rows - kept.num_rows, kept
        versions = pc.unique(rows["model_version"]).to_pylist() or [""]
        acknowledged = 0
        for version in versions:
            part, sent = rows, Sent()
            if len(versions) > 1:
                part = rows.filter(pc.equal(rows["model_version"], version))
            heading = Heading(
                settings.arize_space, extractor.model_id, extractor.model_type, version
            )
            try:
                if part.num_rows:
                    sender.send(part, version, sent, attempts)
            except (ArizeUnavailable, ConfigurationError) as error:
                # The whole batch is sent again, with what was taken of it.
                sent.possible_duplicates += sent.rows + acknowledged
                sent.rows = 0
                self._deliveries.add(batch.table, heading, part, sent, error=str(error))
                raise
            acknowledged += sent.rows
            # Told once a batch: what was left out of it, and that its files are settled.
            last = version == versions[-1]
            files = [ref for _, ref in batch.files] if last else []
            self._deliveries.add(
                batch.table, heading, part, sent, withheld if last else None, files
            )
        if extractor.kind == "prediction" and rows.num_rows:
            self._lateness.note_sent(batch.table, pc.min(rows["event_time"]).as_py(), now)
        self._acknowledge(batch)
        return acknowledged

    def _acknowledge(self, batch: _Batch) -> None:
        with self._lock:  # two batches may hold files of one entry
            for entry in {entry for entry, _ in batch.files}:
                done = {ref for name, ref in batch.files if name == entry}
                left = tuple(ref for ref in self._outbox.read(entry)[1] if ref not in done)
                if left:
                    self._outbox.write(entry, batch.table, left)
                else:
                    self._outbox.remove(entry)

    def _read(
        self, batch: _Batch, names: list[str], extractor: Extractor
    ) -> tuple[_Batch, pa.Table]:
        """The files of a batch that can be read, and their rows."""
        schema = pa.schema([extractor.shape().schema.field(name) for name in names])
        readable, parts = [], [schema.empty_table()]
        for entry, ref in batch.files:
            try:
                with pq.ParquetFile(self._tables.open(ref.path)) as file:
                    present = set(file.schema_arrow.names)
                    rows = file.read(columns=[name for name in names if name in present])
            except (OSError, pa.ArrowException) as error:
                self._keep(batch.table, error)
                continue
            # The row class had other columns when the file was written, or another table.
            readable.append((entry, ref))
            parts.append(conformed(rows, schema))
        return _Batch(batch.table, readable), pa.concat_tables(
            parts[1:] or parts, promote_options="default"
        )

    def _keep(self, table: str, error: Exception) -> None:
        with self._lock:
            self._kept.setdefault(table, str(error))
            self.denied = self.denied or isinstance(error, ConfigurationError)


class _Down(Exception):
    """The batch was not tried: its space is down, or none of its files can be read."""


def _batches(table: str, files: list[tuple[str, FileRef]]) -> Iterator[_Batch]:
    """Files of up to `MAX_PUSHED_ROWS` rows in all: large calls cost a tenth of small ones."""
    batch: list[tuple[str, FileRef]] = []
    rows = 0
    for item in files:
        if batch and rows + item[1].rows > MAX_PUSHED_ROWS:
            yield _Batch(table, batch)
            batch, rows = [], 0
        batch.append(item)
        rows += item[1].rows
    if batch:
        yield _Batch(table, batch)
