"""Dead letters and parked messages as archive files; a rerun does not multiply them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from hashlib import blake2b
from pathlib import Path
from typing import Any

import apache_beam as beam

from pipelines.held import HeldMessages
from pipelines.store import Store
from pipelines.windows import every
from weighbridge.archive import (
    SUFFIX,
    Message,
    decode_message,
    encode_archive,
    encode_message,
)

FAILURES, PARKED = "failures", "parked"
SHARDS = 4
MAX_FILE_BYTES = 32 << 20
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class WriteMessages(beam.PTransform[Any, Any]):
    """Writes messages to archive files below a folder of the home, leaving out those it holds.

    In: `Message`. Out: number of messages added, per file. Files lie in `day=<publish day>`, and
    are named by their content.

    Args:
        home: the home folder.
        folder: the folder in it.
        interval: on a stream, seconds that messages are gathered for.
    """

    def __init__(self, home: Path, folder: str, interval: float | None = None) -> None:
        super().__init__()
        self._interval = interval
        self._home = home
        self._folder = folder

    def expand(self, messages: Any) -> Any:
        """Group by day and shard, then write each group."""
        keyed = messages | "KeyByDay" >> beam.Map(_keyed).with_output_types(tuple[str, bytes])
        if self._interval is not None:
            keyed = keyed | "WriteInterval" >> every(self._interval)
        return (
            keyed
            | "GroupByDay" >> beam.GroupByKey()
            | "WriteGroup" >> beam.ParDo(_WriteGroupFn(self._home, self._folder))
        )


class _WriteGroupFn(beam.DoFn):
    def __init__(self, home: Path, folder: str) -> None:
        self._home = home
        self._folder = folder

    def process(self, group: tuple[str, Iterable[bytes]]) -> Iterator[int]:
        key, encoded = group
        day = key.partition("/")[0]
        folder = f"{self._folder}/day={day}"
        store = Store(self._home)
        with store.locked(folder):
            held = HeldMessages(store, folder, identity)
            fresh: dict[bytes, Message] = {}
            for data in encoded:
                message = decode_message(data)
                fresh.setdefault(identity(message), message)
            added = [fresh[name] for name in sorted(fresh) if name not in held.identities]
            for messages in _cut(added):
                data = encode_archive(messages, codec="deflate")
                name = f"{blake2b(data, digest_size=16).hexdigest()}{SUFFIX}"
                store.write(f"{folder}/{name}", data)
                held.add(name, messages)
                yield len(messages)


def identity(message: Message) -> bytes:
    """What makes two stored messages one: the same bytes of the same message, the same cause."""
    digest = blake2b(digest_size=16)
    fingerprint = message.attributes.get("failure_fingerprint", "")
    model_id = message.attributes.get("model_id", "")
    parts = (message.message_id, model_id, fingerprint)
    for part in (*(part.encode() for part in parts), message.data):
        digest.update(len(part).to_bytes(8, "little") + part)
    return digest.digest()


def _keyed(message: Message) -> tuple[str, bytes]:
    moment = _EPOCH + timedelta(microseconds=message.publish_time or 0)
    shard = identity(message)[0] % SHARDS
    return f"{moment:%Y-%m-%d}/{shard}", encode_message(message)


def _cut(messages: list[Message]) -> Iterator[list[Message]]:
    part: list[Message] = []
    size = 0
    for message in messages:
        if part and size + len(message.data) > MAX_FILE_BYTES:
            yield part
            part, size = [], 0
        part.append(message)
        size += len(message.data)
    if part:
        yield part
