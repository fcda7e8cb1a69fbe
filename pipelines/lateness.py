"""Tells the actuals that Arize joins to nothing any more, by when it received their predictions."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pyiceberg.exceptions import NoSuchTableError

from pipelines.destination import Destination
from pipelines.files import data_files
from pipelines.ledger import DELIVERIES
from pipelines.outbox import Outbox
from pipelines.tables import Tables

LOOKED_AT = 5_000_000
"""Predictions whose ids are compared with a batch of actuals, before the look-back and in it. An
actual whose prediction is not among them is sent: Arize leaves out what it cannot join."""
_KNOWN_FOR = timedelta(hours=1)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Lateness:
    """Knows what was delivered when; for Iceberg tables, as others cost money to look into.

    An actual is too late if its prediction was received longer ago than the look-back: so if the
    actual itself is older than every prediction received since, or if its prediction is found among
    older ones only.

    Args:
        tables: what holds predictions and deliveries.
        outbox: names predictions that are still to be received.
    """

    def __init__(self, tables: Destination, outbox: Outbox) -> None:
        self._tables = tables
        self._outbox = outbox
        self._since: dict[str, tuple[datetime, datetime]] = {}
        self._just_sent: dict[str, tuple[datetime, datetime]] = {}
        self._lock = threading.Lock()

    def without_late(
        self, rows: pa.Table, predictions: str, now: datetime, look_back: timedelta
    ) -> pa.Table:
        """The actuals that are not known to be too late.

        Args:
            rows: actuals, with `prediction_id` and `event_time`.
            predictions: full name of the table of their predictions.
            now: the time.
            look_back: how long Arize joins.
        """
        if not isinstance(self._tables, Tables) or not rows.num_rows:
            return rows
        since = self._received_since(predictions, now, look_back)
        early = pc.less(rows["event_time"], pa.scalar(since, rows["event_time"].type))
        kept = rows.filter(pc.invert(early))
        if not kept.num_rows:
            return kept
        late = self._late_ids(pc.unique(kept["prediction_id"]), predictions, since)
        if not len(late):
            return kept
        return kept.filter(pc.invert(pc.is_in(kept["prediction_id"], value_set=late)))

    def note_sent(self, predictions: str, first_event_time: datetime, now: datetime) -> None:
        """Take note of predictions that Arize has just received: `deliveries` has them later."""
        with self._lock:
            _, oldest = self._just_sent.get(predictions, (now, first_event_time))
            self._just_sent[predictions] = now, min(oldest, first_event_time)

    def _received_since(self, predictions: str, now: datetime, look_back: timedelta) -> datetime:
        """Event time such that what is older was received before the look-back, or never."""
        with self._lock:
            known = self._since.get(predictions)
            if known is None or now - known[0] > _KNOWN_FOR:
                oldest = self._oldest_delivered(predictions, now - look_back)
                known = self._since[predictions] = (now, oldest)
            sent_at, just_sent = self._just_sent.get(predictions, (now, now))
            if now - sent_at > 2 * _KNOWN_FOR:
                del self._just_sent[predictions]  # deliveries were read since
                just_sent = now
        pending = [
            ref.min_time
            for table, refs in map(self._outbox.read, self._outbox.entries())
            if table == predictions
            for ref in refs
        ]
        waiting = _EPOCH + timedelta(microseconds=min(pending)) if pending else now
        return min(known[1], waiting, just_sent, now - look_back)

    def _oldest_delivered(self, predictions: str, after: datetime) -> datetime:
        assert isinstance(self._tables, Tables)
        recent = f"event_time >= '{after.isoformat()}' and table_name = '{predictions}'"
        times = self._tables.load(DELIVERIES).scan(recent, ("first_event_time",)).to_arrow()
        oldest = pc.min(times["first_event_time"]).as_py()
        return min(after, oldest) if oldest is not None else after

    def _late_ids(self, ids: pa.Array, predictions: str, since: datetime) -> pa.Array:
        """Those whose predictions are all older than that."""
        limit = (since - _EPOCH) // timedelta(microseconds=1)
        old = ids.slice(0, 0)
        for found in self._ids(predictions, 0, limit - 1):
            if found is None or not len(ids):
                break
            known = pc.is_in(ids, value_set=found)
            old = pa.concat_arrays([old, ids.filter(known)])
            ids = ids.filter(pc.invert(known))
        if not len(old):
            return old
        for found in self._ids(predictions, limit, 2**62):
            if found is None:
                return old.slice(0, 0)  # what is left unread may hold them once more
            old = old.filter(pc.invert(pc.is_in(old, value_set=found)))
        return old

    def _ids(self, predictions: str, low: int, high: int) -> Iterator[pa.Array | None]:
        """Prediction ids by file, newest day first; None where more are left unread."""
        assert isinstance(self._tables, Tables)
        try:
            table = self._tables.load(predictions)
        except NoSuchTableError:
            return
        seen = 0
        for path in sorted(data_files(table, 0, np.array([low, high]), dense=True), reverse=True):
            if seen > LOOKED_AT:
                yield None
                return
            with pq.ParquetFile(self._tables.open(path)) as file:
                rows = file.read(columns=["prediction_id", "event_time"])
            times = rows["event_time"].cast(pa.int64())
            inside = pc.and_(pc.greater_equal(times, low), pc.less_equal(times, high))
            seen += rows.num_rows
            yield rows["prediction_id"].filter(inside).combine_chunks().cast(pa.string())
