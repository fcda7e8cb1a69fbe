"""What was captured of one call, and how many of them become one batch."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from contextlib import suppress
from typing import Any, Final, TypeAlias

import orjson

from weighbridge.wire import CUT_CONTEXT, Batch, Kind

JSON = "application/json"
KEPT_HEADERS = (
    "content-encoding",
    "content-type",
    "traceparent",
    "user-agent",
    "x-request-id",
)
"""Those that are captured if the service names no others."""
NEVER_CAPTURED = frozenset(
    [
        "api-key",
        "authorization",
        "cookie",
        "proxy-authorization",
        "set-cookie",
        "x-amz-security-token",
        "x-api-key",
        "x-auth-token",
        "x-goog-api-key",
    ]
)
_BETWEEN = b"\n"
"""Stands in no header; and where it does, one is found too many."""
_CONTENT_TYPE = ("content-type", b"content-type")
_CONTENT_ENCODING = ("content-encoding", b"content-encoding")
CONTEXT_BYTES = 1024
"""What an object as context is taken to have until it is encoded."""
Headers: TypeAlias = Mapping[str, str] | Iterable[tuple[bytes, bytes]]
"""By name, or as ASGI has them."""
Flat: TypeAlias = tuple[Any, ...]
"""Names and values in turn: Python keeps such short tuples for reuse, so that its garbage collector
does not count them and interrupts the service for lists and dictionaries of its own only."""
Captured: TypeAlias = tuple[
    int,  # sequence
    str,  # model_id
    str,  # model_version
    Kind,
    str,  # response_type
    str,  # response_encoding
    int,  # event_time, nanoseconds since 1970, UTC
    int | None,  # status
    int | None,  # latency_us
    Flat,  # headers, those that are kept
    Flat,  # attributes
    bytes | None,  # request
    bytes | None,  # response
    Any,  # context: bytes, None, or what is to be JSON
    int,  # cut, bits
    int,  # size, what the budget counts
]
"""One envelope on its way: a bare tuple, as one with names takes four times as long to make."""
MODEL: Final = 1
HEADERS: Final = 9
CONTEXT: Final = 13
CUT: Final = 14
SIZE: Final = 15
PackKey: TypeAlias = tuple[str, ...]


def allowed_names(names: Iterable[str]) -> frozenset[str | bytes]:
    """Header names to keep, as `str` and as `bytes`.

    Raises:
        ValueError: one of them carries credentials.
    """
    lower = {name.lower() for name in names}
    if never := lower & NEVER_CAPTURED:
        raise ValueError(f"headers: {', '.join(sorted(never))} may hold credentials, leave it out")
    return frozenset([*lower, *(name.encode("latin-1") for name in lower)])


def kept_headers(headers: Headers, allowed: Collection[str | bytes]) -> tuple[Flat, int]:
    """The headers whose names are allowed, and how long they are.

    They are copied, as the service may go on using its own.
    """
    kept: list[Any] = []
    size = 0
    if type(headers) is list:  # ASGI's, names in lower case
        for pair in headers:
            if pair[0] in allowed:
                name, value = pair
                size += len(name) + len(value)
                kept += pair
        return tuple(kept), size
    pairs: Any = headers.items() if isinstance(headers, Mapping) else headers
    for name, value in pairs:
        name = name.lower()
        if name in allowed:
            size += len(name) + len(value)
            kept += (name, value)
    return tuple(kept), size


def flat(attributes: Mapping[str, str]) -> tuple[Flat, int]:
    """A copy of attributes, and how long they are; TypeError if one is no text."""
    # By way of a list, as a tuple made from an iterator is none of those that are reused.
    parts = tuple([part for item in attributes.items() for part in item])
    return parts, len("".join(parts))


def pack_key(captured: Captured) -> PackKey:
    """What all envelopes of one pack have in common."""
    content_type = content_encoding = ""
    kept = captured[HEADERS]
    for name, value in zip(kept[::2], kept[1::2]):
        if name in _CONTENT_TYPE:
            content_type = _text(value)
        elif name in _CONTENT_ENCODING:
            content_encoding = _text(value)
    return (*captured[1:6], content_type, content_encoding)


def with_json(captured: Captured, limit: int) -> Captured:
    """The envelope with its context as JSON; without it, and marked, beyond `limit` bytes."""
    data, lost = _json(captured[CONTEXT], limit)
    return (*captured[:CONTEXT], data, captured[CUT] | lost, *captured[SIZE:])


def batch_of(publisher_id: str, key: PackKey, envelopes: list[Captured]) -> Batch:
    """Envelopes of one `pack_key` as one batch.

    Args:
        publisher_id: whose they are.
        key: the `pack_key` of all.
        envelopes: in the order of their capture, with contexts that are bytes.
    """
    columns = list(zip(*envelopes))
    times, statuses, latencies, headers, attributes, requests, responses, contexts, cuts = columns[
        6:SIZE
    ]
    model_id, model_version, kind, response_type, response_encoding, content_type, encoding = key
    sequences = columns[0]
    first = sequences[0]
    return {
        "batch_id": f"{publisher_id}-{first}",
        "publisher_id": publisher_id,
        "model_id": model_id,
        "model_version": model_version,
        "kind": kind,
        "first_sequence": first,
        "request_type": content_type or JSON,
        "request_encoding": encoding,
        "response_type": response_type,
        "response_encoding": response_encoding,
        "context_type": JSON,
        "context_encoding": "",
        "sequence_offset": [sequence - first for sequence in sequences],
        "event_time": [time // 1000 for time in times],
        "status": statuses,
        "latency_us": latencies,
        "headers": [_json_object(parts) if parts else b"{}" for parts in headers],
        "attributes": [_json_object(parts) if parts else b"{}" for parts in attributes],
        "request": requests,
        "response": responses,
        "context": contexts,
        "cut": cuts,
    }


def _json_object(parts: Flat) -> bytes:
    texts: list[str] = []
    with suppress(TypeError):  # some are no bytes
        texts = _BETWEEN.join(parts).decode("latin-1").split("\n")
    if len(texts) != len(parts):
        texts = [_text(part) for part in parts]
    return orjson.dumps(dict(zip(texts[::2], texts[1::2])))


def _text(value: Any) -> str:
    if isinstance(value, bytes):
        return value.decode("latin-1")
    if isinstance(value, str):
        return value
    raise TypeError(type(value).__name__)


def _json(value: Any, limit: int) -> tuple[bytes | None, int]:
    """The value as JSON, and its bit of `cut`."""
    try:
        options = orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_NON_STR_KEYS
        data = orjson.dumps(value, default=_plain, option=options)
    except Exception:  # an object of the service's own raises what it likes
        return None, CUT_CONTEXT
    return (data, 0) if len(data) <= limit else (None, CUT_CONTEXT)


def _plain(value: Any) -> Any:
    """What orjson does not know as what it does."""
    if isinstance(value, (set, frozenset)):
        return list(value)
    if hasattr(value, "model_dump"):
        return value.model_dump(mode="json")
    if hasattr(value, "tolist"):
        return value.tolist()
    raise TypeError(type(value).__name__)
