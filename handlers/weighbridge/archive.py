"""The archive file: the one format in which messages lie on disk, whoever wrote them."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from importlib.resources import files
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import fastavro

from weighbridge.codecs import MAX_BLOCK_BYTES, BlockTooLarge, unpack_block
from weighbridge.durable import write_durably

SUFFIX = ".avro"
_SCHEMA = fastavro.parse_schema(
    json.loads(files("weighbridge").joinpath("archive.avsc").read_text())
)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_LAST_MICROS = 253_402_300_799_999_999
"""The end of the year 9999: nothing was published later."""
_BLOCK_BYTES = 1 << 20
_SYNC_BYTES = 16
_HEAD_BYTES = 20
"""Of a block's two leading numbers, at most."""
_SEARCH_BYTES = 64 << 10
_HEADER_BYTES = 1 << 20
_FLAT = {"null", "boolean", "int", "long", "float", "double", "bytes", "string", "enum", "fixed"}


class Message(NamedTuple):
    """One message as Pub/Sub delivered it. `publish_time` is in microseconds since 1970, UTC."""

    data: bytes
    attributes: dict[str, str]
    message_id: str = ""
    publish_time: int | None = None
    ordering_key: str = ""
    subscription_name: str = ""


class UnreadableArchive(Exception):
    """A part of an archive file cannot be read; what stands before and behind it was."""


def is_archive_name(path: str) -> bool:
    """Whether a file of this name may be read: hidden and temporary ones are unfinished."""
    name = os.path.basename(path)
    return not name.startswith(".") and not name.endswith(".tmp")


def encode_message(message: Message) -> bytes:
    """One message as an Avro record without a file around it; the inverse of `decode_message`."""
    out = io.BytesIO()
    fastavro.schemaless_writer(out, _SCHEMA, _record(message))
    return out.getvalue()


def decode_message(data: bytes) -> Message:
    """The message of `encode_message`."""
    return _message(fastavro.schemaless_reader(io.BytesIO(data), _SCHEMA, None), 1)


def encode_archive(messages: Iterable[Message], codec: str = "null") -> bytes:
    """The messages as the bytes of one archive file."""
    out = io.BytesIO()
    fastavro.writer(
        out,
        _SCHEMA,
        map(_record, messages),
        codec=codec,
        sync_interval=_BLOCK_BYTES,
        sync_marker=b"weighbridge-sync",
    )
    return out.getvalue()


def write_archive(path: Path, messages: Iterable[Message]) -> None:
    """Write an archive file that is either complete or absent, also after a power cut."""
    write_durably(path, encode_archive(messages))


def read_archive(stream: BinaryIO) -> Iterator[Message]:
    """Yield every readable message, also those that stand before the damage in a broken block.

    Raises:
        UnreadableArchive: after the last readable message, when a part was not readable.
    """
    header = _header(stream)
    markers = _Markers(stream, header.marker)
    position = header.length
    lost, reason = 0, ""
    while position < markers.end:
        block = _locate(stream, position, markers)
        following = block.next
        try:
            yield from _messages(header, block)
            lost += 0 if block.whole else _SYNC_BYTES
        except BlockTooLarge as error:
            if not block.whole:
                following = markers.find(position) + _SYNC_BYTES
            lost += min(following, markers.end) - position
            reason = reason or type(error).__name__
        except Exception as error:  # fastavro raises whatever the broken bytes lead it into
            following = markers.find(position) + _SYNC_BYTES
            lost += min(following, markers.end) - position
            reason = reason or type(error).__name__
        position = following
    if lost:
        raise UnreadableArchive(f"{lost} bytes of it are damaged ({reason or 'sync marker'})")


class _Markers:
    """Finds sync markers, and looks at each part of the file once for them."""

    def __init__(self, stream: BinaryIO, marker: bytes) -> None:
        self._stream = stream
        self._last = -1
        self.marker = marker
        self.end = stream.seek(0, os.SEEK_END)

    def find(self, position: int) -> int:
        """Where the first one from `position` on stands; the end of the file if there is none."""
        if self._last < position:
            self._last = self._search(position)
        return self._last

    def _search(self, position: int) -> int:
        self._stream.seek(position)
        window = b""
        while chunk := self._stream.read(_SEARCH_BYTES):
            window = window[1 - _SYNC_BYTES :] + chunk
            found = window.find(self.marker)
            if found >= 0:
                return self._stream.tell() - len(window) + found
        return self.end


class _Block(NamedTuple):
    records: int
    data: bytes
    next: int
    """Where the next block starts, if this one can be read to its end."""
    whole: bool
    """Whether the sync marker stands where it should."""


class _Header(NamedTuple):
    length: int
    codec: str
    marker: bytes
    plain: bytes
    """That of a file of the same records whose blocks are not compressed, and times are numbers."""
    per_micro: float
    """Units of the publish times in a microsecond."""


def _header(stream: BinaryIO) -> _Header:
    """What stands before the blocks of a file whose records may be messages."""
    head = io.BytesIO(stream.read(_HEADER_BYTES))  # what it claims to hold is not read beyond this
    try:
        reader: Any = fastavro.block_reader(head)
        schema = json.loads(reader.metadata["avro.schema"])
        codec, length = reader.metadata.get("avro.codec", "null"), head.tell()
        marker = head.getvalue()[length - _SYNC_BYTES : length]
        types = {field["name"]: field["type"] for field in schema["fields"]}
        # fastavro gives up a whole block for a time that Python's calendar does not have.
        fields = [{"name": name, "type": _bare(kind)} for name, kind in types.items()]
        plain = io.BytesIO()
        fastavro.writer(plain, {**schema, "fields": fields}, [], sync_marker=marker)
    except Exception as error:
        raise UnreadableArchive(f"no Avro file ({type(error).__name__})") from None
    if "data" not in types:
        raise UnreadableArchive("its records are no messages: they have no field data")
    if not all(map(_is_flat, types.values())):
        raise UnreadableArchive("its records are no messages: a field is nested")
    time = json.dumps(types.get("publish_time"))
    per_micro = 0.001 if "-millis" in time else 1000 if "-nanos" in time else 1
    return _Header(length, codec, marker, plain.getvalue(), per_micro)


def _is_flat(kind: Any) -> bool:
    """Whether a value of this type has a bounded depth, and no items without bytes."""
    if isinstance(kind, list):
        return all(map(_is_flat, kind))
    if isinstance(kind, dict):
        return _is_flat(kind["values"] if kind["type"] == "map" else kind["type"])
    return kind in _FLAT


def _bare(kind: Any) -> Any:
    """The type without its logical one."""
    if isinstance(kind, list):
        return list(map(_bare, kind))
    if isinstance(kind, dict):
        return {name: value for name, value in kind.items() if name != "logicalType"}
    return kind


def _locate(stream: BinaryIO, position: int, markers: _Markers) -> _Block:
    stream.seek(position)
    head = io.BytesIO(stream.read(_HEAD_BYTES))
    try:
        count, size = (_long(head) for _ in range(2))
    except (EOFError, IndexError):
        count, size = -1, 0
    if size < 0:
        count, size = -1, 0
    start = position + head.tell()
    whole = start + size + _SYNC_BYTES <= markers.end
    if whole:
        stream.seek(start + size)
        whole = stream.read(_SYNC_BYTES) == markers.marker
    if not whole:  # what stands before the damage can still be read
        size = max(0, min(size, markers.find(position) - start))
    stream.seek(start)
    data = stream.read(min(size, MAX_BLOCK_BYTES + 1))
    return _Block(count, data, start + size + _SYNC_BYTES, whole)


def _messages(header: _Header, block: _Block) -> Iterator[Message]:
    data = unpack_block(header.codec, block.data)
    head = io.BytesIO()
    for number in (block.records, len(data)):
        fastavro.schemaless_writer(head, "long", number)
    parts = (header.plain, head.getvalue(), data, header.marker)
    decoded: Any = next(fastavro.block_reader(io.BytesIO(b"".join(parts))))
    size = len(decoded.bytes_.getbuffer())
    for record in islice(decoded, size):  # of no bytes each they would never end
        yield _message(record, header.per_micro)
    if not 0 <= block.records <= size or decoded.bytes_.read(1):
        raise ValueError("another number of records than there are")


def _long(stream: BinaryIO) -> int:
    return int(fastavro.schemaless_reader(stream, "long", None))  # type: ignore[arg-type]


def _record(message: Message) -> dict[str, Any]:
    # Equal messages give equal bytes, so that a rewrite changes nothing.
    return {
        **message._asdict(),
        "publish_time": message.publish_time or 0,
        "attributes": dict(sorted(message.attributes.items())),
    }


def _message(record: Any, per_micro: float) -> Message:
    attributes = record.get("attributes") or {}
    return Message(
        data=bytes(record.get("data") or b""),
        attributes={str(k): str(v) for k, v in attributes.items() if v is not None},
        message_id=str(record.get("message_id") or ""),
        publish_time=_micros(record.get("publish_time"), per_micro),
        ordering_key=str(record.get("ordering_key") or ""),
        subscription_name=str(record.get("subscription_name") or ""),
    )


def _micros(value: Any, per_micro: float) -> int | None:
    if isinstance(value, datetime):  # as `decode_message` gives it
        value = (value - _EPOCH) // timedelta(microseconds=1)
    elif isinstance(value, int) and per_micro != 1:
        value = value * 1000 if per_micro < 1 else value // 1000
    return value if isinstance(value, int) and 0 < value <= _LAST_MICROS else None
