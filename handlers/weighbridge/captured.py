"""What was captured of one call, and how many of them become one batch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import orjson

from weighbridge.wire import Batch, Kind

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


class Captured(NamedTuple):
    """One envelope on its way. `event_time` is in microseconds since 1970, UTC."""

    sequence: int
    model_id: str
    model_version: str
    kind: Kind
    event_time: int
    request: bytes
    response: bytes | None
    context: bytes | None
    status: int | None
    latency_us: int | None
    headers: dict[str, str]
    attributes: dict[str, str]
    size: int

    def header(self, name: str, default: str) -> str:
        """A request header, whatever the case of its name."""
        for key, value in self.headers.items():
            if key.lower() == name:
                return value
        return default

    def pack_key(self) -> tuple[str, ...]:
        """What all envelopes of one pack have in common."""
        return (
            self.model_id,
            self.model_version,
            self.kind,
            self.header("content-type", ""),
            self.header("content-encoding", ""),
        )


def batch_of(publisher_id: str, envelopes: list[Captured]) -> Batch:
    """Envelopes of one `pack_key` as one batch."""
    first = envelopes[0]
    return {
        "batch_id": f"{publisher_id}-{first.sequence}",
        "publisher_id": publisher_id,
        "model_id": first.model_id,
        "model_version": first.model_version,
        "kind": first.kind,
        "first_sequence": first.sequence,
        "request_type": first.header("content-type", "application/json"),
        "request_encoding": first.header("content-encoding", ""),
        "response_type": "application/json",
        "response_encoding": "",
        "context_type": "application/json",
        "context_encoding": "",
        "sequence_offset": [captured.sequence - first.sequence for captured in envelopes],
        "event_time": [captured.event_time for captured in envelopes],
        "status": [captured.status for captured in envelopes],
        "latency_us": [captured.latency_us for captured in envelopes],
        "headers": [_headers(captured.headers) for captured in envelopes],
        "attributes": [orjson.dumps(captured.attributes) for captured in envelopes],
        "request": [captured.request for captured in envelopes],
        "response": [captured.response for captured in envelopes],
        "context": [captured.context for captured in envelopes],
        "cut": [0] * len(envelopes),
    }


def _headers(headers: Mapping[str, str]) -> bytes:
    kept = {name.lower(): value for name, value in headers.items()}
    return orjson.dumps({name: kept[name] for name in kept if name not in NEVER_CAPTURED})
