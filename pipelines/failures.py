"""Dead letters and parked messages as archive files; a rerun does not multiply them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from hashlib import blake2b
from typing import Any

import apache_beam as beam
from apache_beam.typehints import KV

from pipelines.address import Folder
from pipelines.extract import Emit
from pipelines.held import HeldMessages
from pipelines.identity import identity
from pipelines.ledger import record_batch
from pipelines.marks import note_produced
from pipelines.store import Store
from pipelines.stored import DESCRIBE, FAILURES, PARKED, TABLES
from pipelines.tables import RowTable
from pipelines.windows import every
from weighbridge.archive import (
    SUFFIX,
    Message,
    decode_message,
    encode_archive,
    encode_message,
)

__all__ = ["FAILURES", "PARKED", "WriteMessages"]
SHARDS = 4
MAX_FILE_BYTES = 32 << 20
"""Bytes of a file's messages; no more than that, and a message, is held in memory."""
MAX_ROWS = 50_000
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class WriteMessages(beam.PTransform[Any, Any]):
    """Writes messages to archive files below a folder of the home, leaving out those it holds.

    In: `Message`. Out: what `emit` gives for the rows of the folder's table, also for messages that
    were held before: a run that was killed between file and commit is made whole by the next. Files
    lie in `day=<publish day>`, and are named by their content.

    Args:
        home: the home folder.
        folder: the folder in it, `failures` or `parked`.
        emit: writes rows.
        interval: on a stream, seconds that messages are gathered for.
        replay: of a replay, its name; what comes out of it is noted (`pipelines.marks`).
    """

    def __init__(
        self, home: Folder, folder: str, emit: Emit, interval: float | None = None, replay: str = ""
    ) -> None:
        super().__init__()
        self._interval = interval
        # A stream has several bundles in hand; a bounded run shall leave few files.
        self._shards = SHARDS if interval is not None else 1
        self._fn = _WriteGroupFn(home, folder, emit, replay)
        self._element_type = emit.element_type

    def expand(self, messages: Any) -> Any:
        """Group by day and shard, then write each group."""
        keyed = messages | "KeyByDay" >> beam.Map(_keyed, self._shards).with_output_types(
            KV[str, bytes]
        )
        if self._interval is not None:
            keyed = keyed | "WriteInterval" >> every(self._interval)
        return (
            keyed
            | "GroupByDay" >> beam.GroupByKey()
            | "WriteGroup" >> beam.ParDo(self._fn).with_output_types(self._element_type)
        )


class _WriteGroupFn(beam.DoFn):
    def __init__(self, home: Folder, folder: str, emit: Emit, replay: str) -> None:
        self._home = home
        self._folder = folder
        self._emit = emit
        self._replay = replay

    def process(self, group: tuple[str, Iterable[bytes]]) -> Iterator[Any]:
        key, encoded = group
        folder = f"{self._folder}/day={key.partition('/')[0]}"
        store = Store(self._home)
        for messages in _parts(map(decode_message, encoded)):
            with store.locked(folder):
                held = HeldMessages(store, folder, identity)
                self._write(store, folder, held, messages)
            if self._replay:
                note_produced(store, self._replay, messages)
            yield from self._rows(folder, held, messages)

    def _write(
        self, store: Store, folder: str, held: HeldMessages, messages: dict[bytes, Message]
    ) -> None:
        added = [messages[name] for name in sorted(messages) if name not in held.places]
        if added:
            data = encode_archive(added, codec="deflate")
            name = f"{blake2b(data, digest_size=16).hexdigest()}{SUFFIX}"
            store.write(f"{folder}/{name}", data)
            held.add(name, added)

    def _rows(
        self, folder: str, held: HeldMessages, messages: dict[bytes, Message]
    ) -> Iterator[Any]:
        table = TABLES[self._folder]
        rows: list[tuple[Any, ...]] = []
        for name in sorted(messages):
            file, position = held.places[name]
            rows += DESCRIBE[self._folder](messages[name], f"{folder}/{file}", position)
            if len(rows) >= MAX_ROWS:
                yield from self._emit(RowTable(table), [record_batch(table, rows)])
                rows = []
        if rows:
            yield from self._emit(RowTable(table), [record_batch(table, rows)])


def _keyed(message: Message, shards: int) -> tuple[str, bytes]:
    moment = _EPOCH + timedelta(microseconds=message.publish_time or 0)
    shard = identity(message)[0] % shards
    return f"{moment:%Y-%m-%d}/{shard}", encode_message(message)


def _parts(messages: Iterable[Message]) -> Iterator[dict[bytes, Message]]:
    """The messages by identity, in parts that fit into a file."""
    part: dict[bytes, Message] = {}
    size = 0
    for message in messages:
        if part and size + len(message.data) > MAX_FILE_BYTES:
            yield part
            part, size = {}, 0
        part.setdefault(identity(message), message)
        size += len(message.data)
    if part:
        yield part
