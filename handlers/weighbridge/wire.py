"""The packed message: many envelopes of one model in one columnar Avro record."""

from __future__ import annotations

import io
import json
from importlib.resources import files
from typing import Any, Final, Literal, TypeAlias

import fastavro
import zstandard

from weighbridge.bodies import unzstd
from weighbridge.encode import writer
from weighbridge.errors import DecodeError

BATCH_CONTENT: Final = "weighbridge.batch.v1"
HEARTBEAT_CONTENT: Final = "weighbridge.heartbeat.v1"
MAX_BATCH_BYTES: Final = 64 << 20
"""Reading may take nine times as much, as each byte of a hostile batch may be an item of a list."""
CUT_REQUEST, CUT_RESPONSE, CUT_CONTEXT = 1, 2, 4
MAX_SEQUENCE: Final = (1 << 63) - 1
"""Avro's largest long."""
ARRAYS: Final = (
    "sequence_offset",
    "event_time",
    "status",
    "latency_us",
    "headers",
    "attributes",
    "request",
    "response",
    "context",
    "cut",
)

Kind: TypeAlias = Literal["prediction", "actual"]
Batch: TypeAlias = dict[str, Any]
"""An `EnvelopeBatch` as envelope.avsc describes it, one key a field."""


def _schema(name: str) -> Any:
    return fastavro.parse_schema(json.loads(files("weighbridge").joinpath(name).read_text()))


_BATCH = _schema("envelope.avsc")
_HEARTBEAT = _schema("heartbeat.avsc")
_write_batch = writer(_BATCH)


def pack(batch: Batch, *, compress: bool = True) -> tuple[dict[str, str], bytes]:
    """One batch as the attributes and the data of a Pub/Sub message."""
    data = _write_batch(batch)
    attributes = {
        "content": BATCH_CONTENT,
        "encoding": "avro+zstd" if compress else "avro",
        "model_id": batch["model_id"],
        "batch_id": batch["batch_id"],
        "publisher_id": batch["publisher_id"],
        "first_sequence": str(batch["first_sequence"]),
        "envelope_count": str(len(batch["event_time"])),
    }
    # Level 1: 2 us an envelope for a fifth of the bytes; higher levels cost more than they save.
    return attributes, zstandard.ZstdCompressor(level=1).compress(data) if compress else data


def unpack(attributes: dict[str, str], data: bytes, limit: int = MAX_BATCH_BYTES) -> Batch:
    """The batch of a packed message.

    Args:
        attributes: the message's; `encoding` and `model_id` are looked at.
        data: the message's bytes.
        limit: the most bytes that the batch may unpack to.

    Raises:
        DecodeError: not such a batch, too large, arrays of unequal length, another model's, or
            numbers that no publisher gives out.
    """
    batch: Batch = _read(_BATCH, attributes, data, limit)
    if len({len(batch[name]) for name in ARRAYS}) != 1:
        raise DecodeError("the batch's arrays differ in length")
    first, offsets = batch["first_sequence"], batch["sequence_offset"]
    if offsets and (first + min(offsets) < 0 or first + max(offsets) > MAX_SEQUENCE):
        raise DecodeError("sequence numbers are below 0 or beyond 64 bits")
    if batch["kind"] not in ("prediction", "actual"):
        raise DecodeError('kind is neither "prediction" nor "actual"')
    if attributes.get("model_id", batch["model_id"]) != batch["model_id"]:
        raise DecodeError("the batch's model_id differs from the message's attribute")
    return batch


def unpack_heartbeat(attributes: dict[str, str], data: bytes) -> dict[str, Any]:
    """The counts of a heartbeat message, as heartbeat.avsc describes them.

    Raises:
        DecodeError: not such a message.
    """
    heartbeat: dict[str, Any] = _read(_HEARTBEAT, attributes, data, MAX_BATCH_BYTES)
    return heartbeat


def pack_heartbeat(heartbeat: dict[str, Any], final: bool = False) -> tuple[dict[str, str], bytes]:
    """The inverse of `unpack_heartbeat`: attributes and data of a message.

    Args:
        heartbeat: the counts.
        final: whether its publisher captures nothing more, and holds nothing in memory.
    """
    out = io.BytesIO()
    fastavro.schemaless_writer(out, _HEARTBEAT, heartbeat)
    attributes = {
        "content": HEARTBEAT_CONTENT,
        "encoding": "avro",
        "publisher_id": heartbeat["publisher_id"],
    }
    if final:
        attributes["final"] = "true"
    return attributes, out.getvalue()


def _read(schema: Any, attributes: dict[str, str], data: bytes, limit: int) -> Any:
    encoding = attributes.get("encoding", "")
    if encoding not in ("avro", "avro+zstd"):
        raise DecodeError('attribute encoding is neither "avro" nor "avro+zstd"')
    try:
        raw = unzstd(data, limit) if encoding == "avro+zstd" else data
        stream = io.BytesIO(raw)
        record = fastavro.schemaless_reader(stream, schema, None)
    except DecodeError:
        raise
    except Exception as error:  # fastavro raises whatever broken bytes lead it into
        raise DecodeError(f"data is not valid {encoding}", error=type(error).__name__) from None
    if stream.tell() != len(raw):
        raise DecodeError("data goes on behind the batch")
    return record
