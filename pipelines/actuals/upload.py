"""Late actuals out of a file: each record becomes an envelope, the same one whenever it is sent."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any

from pipelines.actuals.delivery import Delivery
from pipelines.actuals.payload import EventTimes, payload, sampling_key
from pipelines.actuals.records import Record, Records
from weighbridge.destinations import Packed
from weighbridge.sampling import Sampling, Share
from weighbridge.wire import pack

PUBLISHER = "upload"
"""Of all uploads, so that a record has the same id in each of them."""
BATCH_RECORDS = 1000
BATCH_BYTES = 1 << 20
CALL_BATCHES = 16
CALL_BYTES = 6 << 20
"""With one more batch of a record at its limit it is still below what Pub/Sub takes."""
_JSON = "application/json"
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Actuals:
    """What the records of a file say.

    Args:
        model_id: the model whose actuals they are.
        model_version: its version, "" for none.
        times: when each became known.
        sampling_key: the column that they are sampled by, "" for all of them.
    """

    model_id: str
    model_version: str
    times: EventTimes
    sampling_key: str = ""
    share: Share | None = field(init=False)

    def __post_init__(self) -> None:
        share = Sampling().share(self.model_id) if self.sampling_key else None
        object.__setattr__(self, "share", share)


@dataclass
class _Batch:
    sequences: list[int] = field(default_factory=list)
    times: list[int] = field(default_factory=list)
    payloads: list[bytes] = field(default_factory=list)
    bytes: int = 0


def check(records: Records, actuals: Actuals, progress: Progress) -> tuple[int, int]:
    """Read everything, so that nothing is sent of a file that cannot be sent whole.

    Returns:
        How many records there are, and how many of them are kept.

    Raises:
        ConfigurationError: a record that no actual can be made of.
    """
    read = kept = 0
    for record, position in _each(records):
        read += 1
        kept += _actual(record, read, actuals) is not None
        if read % BATCH_RECORDS == 0:
            progress(position, records.total)
    return read, kept


def upload(records: Records, actuals: Actuals, delivery: Delivery, progress: Progress) -> None:
    """Send everything, and wait until all of it was taken.

    Raises:
        UndeliveredError: it was not.
        ConfigurationError: the file has changed since `check`.
    """
    messages: list[Packed] = []
    size = envelopes = 0
    for batch, position in _batches(records, actuals):
        attributes, data = _packed(batch, actuals)
        messages.append((attributes, data))
        size += len(data)
        envelopes += len(batch.times)
        if len(messages) == CALL_BATCHES or size > CALL_BYTES:
            delivery.put(messages, envelopes)
            messages, size, envelopes = [], 0, 0
            progress(position, records.total)
    if messages:
        delivery.put(messages, envelopes)
    delivery.finish()


def _each(records: Records) -> Iterator[tuple[Record, int]]:
    for chunk, position in records.chunks():
        for record in chunk:
            yield record, position


def _actual(record: Record, number: int, actuals: Actuals) -> tuple[int, bytes] | None:
    """Event time and payload, unless it is sampled out."""
    moment = actuals.times.of(record, number)
    data = payload(record, number)
    if actuals.share is not None:
        key = sampling_key(record, actuals.sampling_key, number)
        if key is not None and not actuals.share.keeps(key):
            return None
    return moment, data


def _batches(records: Records, actuals: Actuals) -> Iterator[tuple[_Batch, int]]:
    batch, number, position = _Batch(), 0, 0
    for record, position in _each(records):
        number += 1
        actual = _actual(record, number, actuals)
        if actual is None:
            continue
        moment, data = actual
        full = len(batch.times) == BATCH_RECORDS or batch.bytes + len(data) > BATCH_BYTES
        if batch.times and full:
            yield batch, position
            batch = _Batch()
        batch.sequences.append(_sequence(data, actuals))
        batch.times.append(moment)
        batch.payloads.append(data)
        batch.bytes += len(data)
    if batch.times:
        yield batch, position


def _sequence(data: bytes, actuals: Actuals) -> int:
    """A number that follows from what the record says, and not from where it stands.

    So a file that was corrected, or has grown, adds what is new in it.
    """
    name = f"{actuals.model_id}\n{actuals.model_version}\n".encode()
    return int.from_bytes(blake2b(name + data, digest_size=8).digest()) >> 1


def _packed(batch: _Batch, actuals: Actuals) -> Packed:
    count = len(batch.times)
    # By its content: a follower drops a batch whose id it has had.
    digest = blake2b(repr((batch.sequences, batch.times)).encode(), digest_size=8).hexdigest()
    fields: dict[str, Any] = {
        "batch_id": f"{PUBLISHER}-{actuals.model_id}-{digest}",
        "publisher_id": PUBLISHER,
        "model_id": actuals.model_id,
        "model_version": actuals.model_version,
        "kind": "actual",
        "first_sequence": 0,
        **{f"{part}_type": _JSON for part in ("request", "response", "context")},
        **{f"{part}_encoding": "" for part in ("request", "response", "context")},
        "sequence_offset": batch.sequences,
        "event_time": batch.times,
        "request": batch.payloads,
        "headers": [b"{}"] * count,
        "attributes": [b"{}"] * count,
        "cut": [0] * count,
        **{name: [None] * count for name in ("status", "latency_us", "response", "context")},
    }
    return pack(fields)


def now() -> int:
    """The time in microseconds since 1970."""
    return time.time_ns() // 1000
