"""The archive file: the one format in which messages lie on disk, whoever wrote them."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from importlib.resources import files
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import fastavro

SUFFIX = ".avro"
_SCHEMA = fastavro.parse_schema(
    json.loads(files("weighbridge").joinpath("archive.avsc").read_text())
)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_BLOCK_BYTES = 1 << 20
_SYNC_BYTES = 16


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


def encode_archive(messages: Iterable[Message], codec: str = "null") -> bytes:
    """The messages as the bytes of one archive file."""
    out = io.BytesIO()
    records = (
        {**message._asdict(), "publish_time": message.publish_time or 0} for message in messages
    )
    # A fixed marker: the same messages give the same bytes, so that a rewrite changes nothing.
    fastavro.writer(
        out,
        _SCHEMA,
        records,
        codec=codec,
        sync_interval=_BLOCK_BYTES,
        sync_marker=b"weighbridge-sync",
    )
    return out.getvalue()


def write_archive(path: Path, messages: Iterable[Message]) -> None:
    """Write an archive file that is either complete or absent, also after a power cut."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with open(temporary, "wb") as stream:
        stream.write(encode_archive(messages))
        stream.flush()
        os.fsync(stream.fileno())
    os.replace(temporary, path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def read_archive(stream: BinaryIO) -> Iterator[Message]:
    """Yield every readable message; blocks that are broken are stepped over by their sync marker.

    Raises:
        UnreadableArchive: after the last readable message, when a part was not readable.
    """
    lost = 0
    reason = ""
    start = 0
    header = b""
    while True:
        try:
            blocks = _open_at(stream, header, start)
            if not header:
                header = _header(stream)
                start = len(header)
            for block in blocks:
                for record in block:
                    yield _message(record)
                start = stream.tell()
            break
        except Exception as error:  # fastavro raises whatever the broken bytes lead it into
            if not header:
                raise UnreadableArchive(f"no Avro file ({type(error).__name__})") from None
            reason = reason or type(error).__name__
            stream.seek(start)
            rest = stream.read()
            found = rest.find(header[-_SYNC_BYTES:])
            lost += len(rest) if found < 0 else found
            if found < 0:
                break
            start += found + _SYNC_BYTES
    if lost:
        raise UnreadableArchive(f"{lost} bytes of it could not be read ({reason})")


def _open_at(stream: BinaryIO, header: bytes, start: int) -> Iterator[Any]:
    if not header:
        return iter(fastavro.block_reader(stream))
    stream.seek(0)
    reader = fastavro.block_reader(stream)
    stream.seek(start)
    return iter(reader)


def _header(stream: BinaryIO) -> bytes:
    """The bytes through the first sync marker; the stream stands just behind it, and stays."""
    end = stream.tell()
    stream.seek(0)
    return stream.read(end)


def _message(record: Any) -> Message:
    attributes = record.get("attributes") or {}
    return Message(
        data=bytes(record.get("data") or b""),
        attributes={str(k): str(v) for k, v in attributes.items() if v is not None},
        message_id=str(record.get("message_id") or ""),
        publish_time=_micros(record.get("publish_time")),
        ordering_key=str(record.get("ordering_key") or ""),
        subscription_name=str(record.get("subscription_name") or ""),
    )


def _micros(value: Any) -> int | None:
    if isinstance(value, datetime):
        aware = value if value.tzinfo else value.replace(tzinfo=UTC)
        value = (aware - _EPOCH) // timedelta(microseconds=1)
    return value if isinstance(value, int) and value > 0 else None
