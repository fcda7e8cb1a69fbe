"""What was captured of one call, and how many of them become one batch."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
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
TOKEN = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
"""A name of a header: RFC 9110, 5.6.2."""
_BETWEEN, _BETWEEN_TEXT = b"\n", "\n"
"""Stands in no header; and where it does, one is found too many."""
CONTEXT_BYTES = 1024
"""What an object as context is taken to have until it is encoded."""
Headers: TypeAlias = Mapping[str, str] | Iterable[tuple[bytes, bytes]]
"""By name, or as ASGI has them."""
Flat: TypeAlias = bytes | str | tuple[Any, ...]
"""Names and values in turn, joined by `_BETWEEN`. Python's garbage collector does not count bytes
and text, and so interrupts the service for lists and dictionaries of its own only. A tuple where a
value holds what is put between."""
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
ATTRIBUTES: Final = 10
CONTEXT: Final = 13
CUT: Final = 14
SIZE: Final = 15
PackKey: TypeAlias = tuple[str, ...]
_NOTHING = b"{}"
_REQUEST_ID = "x-request-id"
"""The header by which a caller finds its request; where it is kept it is an attribute as well."""


def allowed_names(names: Iterable[str]) -> frozenset[str | bytes]:
    """Header names to keep, as `str` and as `bytes`.

    Raises:
        ValueError: one of them carries credentials, or is no name.
    """
    if isinstance(names, str) or not isinstance(names, Iterable):
        raise ValueError('headers: give a list of names, such as ["x-channel"]')
    listed = list(names)
    for name in listed:
        if not isinstance(name, str) or not TOKEN.fullmatch(name):
            raise ValueError(f"headers: {name!r} is no name of a header")
    lower = {name.lower() for name in listed}
    if never := lower & NEVER_CAPTURED:
        raise ValueError(f"headers: {', '.join(sorted(never))} may hold credentials, leave it out")
    return frozenset([*lower, *(name.encode("latin-1") for name in lower)])


def kept_headers(headers: Headers, allowed: Collection[str | bytes]) -> tuple[Flat, int]:
    """The headers whose names are allowed, and how long they are.

    They are copied, as the service may go on using its own.
    """
    if type(headers) is list:  # ASGI's, names in lower case
        parts: list[Any] = []
        for name, value in headers:
            if name in allowed:
                parts.append(name)
                parts.append(value)
        try:
            joined = _BETWEEN.join(parts)
        except TypeError:  # some are no bytes
            joined = _BETWEEN * len(parts)
        if joined.count(_BETWEEN) < (len(parts) or 1):
            return joined, len(joined)
    pairs: Any = headers.items() if isinstance(headers, Mapping) else headers
    kept: list[Any] = []
    for name, value in pairs:
        name = name.lower()
        if name in allowed:
            kept += (name, value)
    return tuple(kept), sum(map(len, kept))


def flat(attributes: Mapping[str, str]) -> tuple[Flat, int]:
    """A copy of attributes, and how long they are; TypeError if one is no text."""
    parts = [part for item in attributes.items() for part in item]
    joined = _BETWEEN_TEXT.join(parts)
    if joined.count(_BETWEEN_TEXT) < len(parts):
        return joined, len(joined)
    return tuple(parts), len(joined)


def described(captured: Captured) -> tuple[PackKey, bytes, bytes]:
    """What all envelopes of one pack have in common; its headers and its attributes as JSON."""
    if not (captured[HEADERS] or captured[ATTRIBUTES]):
        return (*captured[1:6], "", ""), _NOTHING, _NOTHING
    pairs = _pairs(captured[HEADERS])
    attributes = _pairs(captured[ATTRIBUTES])
    if (request_id := pairs.get(_REQUEST_ID)) is not None:
        attributes.setdefault(_REQUEST_ID, request_id)
    key = (*captured[1:6], pairs.get("content-type", ""), pairs.get("content-encoding", ""))
    return key, _json_object(pairs), _json_object(attributes)


def with_json(captured: Captured, limit: int) -> Captured:
    """The envelope with its context as JSON; without it, and marked, beyond `limit` bytes."""
    data, lost = _json(captured[CONTEXT], limit)
    return (*captured[:CONTEXT], data, captured[CUT] | lost, *captured[SIZE:])


def batch_of(
    publisher_id: str,
    key: PackKey,
    envelopes: list[Captured],
    headers: list[bytes],
    attributes: list[bytes],
) -> Batch:
    """Envelopes of one key as one batch.

    Args:
        publisher_id: whose they are.
        key: what `described` said of all of them.
        envelopes: in the order of their capture, with contexts that are bytes.
        headers: of each, as JSON.
        attributes: of each, as JSON.
    """
    columns = list(zip(*envelopes))
    times, statuses, latencies, _, _, requests, responses, contexts, cuts = columns[6:SIZE]
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
        "headers": headers,
        "attributes": attributes,
        "request": requests,
        "response": responses,
        "context": contexts,
        "cut": cuts,
    }


def _json_object(pairs: dict[str, str]) -> bytes:
    return orjson.dumps(pairs) if pairs else _NOTHING


def _pairs(joined: Flat) -> dict[str, str]:
    if not joined:
        return {}
    if type(joined) is tuple:
        texts = [_text(part) for part in joined]
    else:
        text = joined if type(joined) is str else joined.decode("latin-1")  # type: ignore[union-attr]
        texts = text.split(_BETWEEN_TEXT)
    return dict(zip(texts[::2], texts[1::2]))


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
