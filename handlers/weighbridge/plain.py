"""The plain JSON message: one envelope as any language can write it."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime, timedelta
from hashlib import blake2b
from typing import Any

import orjson

from weighbridge.archive import Message
from weighbridge.bodies import parse_json, parse_lenient
from weighbridge.envelope import Envelope, Origin
from weighbridge.errors import DecodeError
from weighbridge.wire import Kind

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
RFC3339 = re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(\.\d+)?([Zz]|[+-]\d\d:[0-5]\d)", re.ASCII)
_MIN_MICROS, _MAX_MICROS = (
    (moment.replace(tzinfo=UTC) - _EPOCH) // timedelta(microseconds=1)
    for moment in (datetime.min, datetime.max)
)
_LONG_NUMBER = re.compile(rb"\d{19}")
_HEADER = "header-"
_RESERVED = ("failure_", "parked_")
_OWN = frozenset(
    ["model_id", "kind", "model_version", "envelope_id", "event_time", "status", "latency_us"]
)
_SHAPES: dict[frozenset[str], Kind] = {
    frozenset({"request", "response"}): "prediction",
    frozenset({"request", "response", "context"}): "prediction",
    frozenset({"actual"}): "actual",
}


def read_plain(message: Message, model_id: str, max_bytes: int) -> Envelope:
    """The envelope of a message without `content` attribute.

    Raises:
        DecodeError: the data or an attribute is not what the contract says (docs/wire.md).
    """
    attributes = message.attributes
    body, lenient = _body(message.data)
    kind = _SHAPES.get(frozenset(body))
    if kind is None:
        raise DecodeError('data has not just "request", "response" (and "context"), or "actual"')
    if attributes.get("kind", kind) != kind:
        raise DecodeError(f"attribute kind is not {kind}, as the data is")
    return Envelope(
        Origin(
            model_id,
            kind,
            attributes.get("model_version", ""),
            message.publish_time,
            max_bytes=max_bytes,
        ),
        plain_id(message),
        _event_time(message),
        _compact(body["actual" if kind == "actual" else "request"], lenient),
        _compact(body["response"], lenient) if kind == "prediction" else None,
        _compact(body["context"], lenient) if "context" in body else None,
        _decimal(attributes, "status"),
        _decimal(attributes, "latency_us"),
        {k[len(_HEADER) :].lower(): v for k, v in attributes.items() if k.startswith(_HEADER)},
        {
            k: v
            for k, v in attributes.items()
            if k not in _OWN and not k.startswith((_HEADER, *_RESERVED))
        },
    )


def plain_id(message: Message) -> str:
    """The envelope id: as given, else the message id, else (an archive without ids) a hash."""
    given = message.attributes.get("envelope_id") or message.message_id
    if given:
        return given
    # Equal bodies of two calls are two envelopes, as long as anything else tells them apart.
    rest = json.dumps([sorted(message.attributes.items()), message.publish_time])
    return blake2b(message.data + rest.encode(), digest_size=16).hexdigest()


def parse_rfc3339(text: str) -> int:
    """A time with offset in microseconds since 1970, UTC; digits beyond those are cut off.

    Raises:
        ValueError: another format, no offset, or no such time in the years 1 to 9999 of UTC.
    """
    if not RFC3339.fullmatch(text):
        raise ValueError("not RFC 3339 with offset")
    leap = text[17:19] == "60"  # valid text, which Python does not know
    moment = datetime.fromisoformat(f"{text[:17]}59{text[19:]}".upper() if leap else text.upper())
    since = (moment - _EPOCH) // timedelta(microseconds=1) + 1_000_000 * leap
    if not _MIN_MICROS <= since <= _MAX_MICROS or (leap and since // 1_000_000 % 86_400):
        raise ValueError("no such time")
    return since


def format_rfc3339(micros: int) -> str:
    """The inverse of `parse_rfc3339`."""
    return (_EPOCH + timedelta(microseconds=micros)).isoformat().replace("+00:00", "Z")


def _body(data: bytes) -> tuple[dict[str, Any], bool]:
    """The parsed data, and whether it needs the lenient encoder to stay what it is."""
    # orjson turns integers beyond 64 bits into floats.
    lenient = bool(_LONG_NUMBER.search(data))
    if lenient:
        value = parse_lenient(data)
    else:
        value, lenient = parse_json(data)
    if not isinstance(value, dict):
        raise DecodeError("data is JSON, but not an object")
    return value, lenient


def _compact(value: Any, lenient: bool) -> bytes:
    try:
        if not lenient:
            return orjson.dumps(value)
        # In ASCII, as half a surrogate pair has no UTF-8.
        return json.dumps(value, separators=(",", ":")).encode()
    except (TypeError, RecursionError):  # both write less deeply nested values than they read
        raise DecodeError("data is JSON that is nested too deeply") from None


def _event_time(message: Message) -> int:
    text = message.attributes.get("event_time")
    if text is None:
        if message.publish_time is None:
            raise DecodeError("neither attribute event_time nor a publish time")
        return message.publish_time
    try:
        return parse_rfc3339(text)
    except ValueError:
        raise DecodeError("attribute event_time is not RFC 3339 with offset") from None


def _decimal(attributes: dict[str, str], name: str) -> int | None:
    text = attributes.get(name)
    if text is None:
        return None
    if not (text.isascii() and text.isdigit() and len(text) < 19):
        raise DecodeError(f"attribute {name} is not a decimal number")
    return int(text)
