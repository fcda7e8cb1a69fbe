"""What is captured: bodies, headers and keys, other ones with each call."""

from __future__ import annotations

import random
from typing import TypeAlias

import orjson

from benchmarks.bodies import request_and_response

MODEL = "ranking"
VERSION = "2025-10-01.3"
COUNT = 512
"""So many, that neither caches nor zstd see the same one again soon."""
ITEMS = {"1 kB": (4, 2), "20 kB": (169, 67)}
"""Items of the request, and how many of them the response names."""
HEADERS = [
    (b"host", b"ranking.internal:8080"),
    (b"user-agent", b"feed/1.4 python-httpx/0.28"),
    (b"accept", b"application/json"),
    (b"accept-encoding", b"gzip, deflate, br"),
    (b"content-type", b"application/json"),
    (b"content-length", b"871"),
    (b"traceparent", b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"),
    (b"x-request-id", b"4bf92f3577b34da6a3ce929d0e0e4736"),
]
"""As an ASGI server hands them over; four of them are kept by default."""


Headers: TypeAlias = list[tuple[bytes, bytes]]
Payload: TypeAlias = tuple[bytes, bytes, Headers, str]
"""Request, response, the request's headers, and what sampling is sticky by."""


def payloads(size: str) -> list[Payload]:
    """`COUNT` payloads of "1 kB" or "20 kB", always the same."""
    rng = random.Random(5)
    items, answers = ITEMS[size]
    made: list[Payload] = []
    for _ in range(COUNT):
        request, full = request_and_response(rng, MODEL, items, bad=False)
        response = orjson.loads(full)
        response["predictions"] = response["predictions"][:answers]
        key = f"u{rng.randrange(10**8):08}"
        # Each request brings names and values of its own, whose hashes are not known yet.
        headers = [(bytearray(name), bytearray(value)) for name, value in HEADERS]
        own = [(bytes(name), bytes(value)) for name, value in headers]
        made.append((request, orjson.dumps(response), own, key))
    return made


def described(size: str) -> str:
    """The size in words, with the mean bytes of request and response."""
    made = payloads(size)
    request, response = (sum(len(one[part]) for one in made) / COUNT for part in (0, 1))
    return f"{size} ({request:,.0f} + {response:,.0f} bytes)"
