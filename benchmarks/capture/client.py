"""A client that keeps a service busy, with as little work as Python allows."""

from __future__ import annotations

import asyncio
from functools import partial
from multiprocessing.connection import Connection
from time import perf_counter_ns
from typing import Any

from benchmarks.capture.pacing import percentiles
from benchmarks.capture.payloads import HEADERS, payloads

CONNECTIONS = 16
_END_SECONDS = 10


class _Caller(asyncio.Protocol):
    """Sends the next request once the last one is answered, until it is told to end."""

    def __init__(self, requests: list[bytes], first: int, took: list[int]) -> None:
        self._requests, self._next, self._took = requests, first, took
        self._received = b""
        self._begin = 0
        self.going = True
        self.ended = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        self._send()

    def data_received(self, data: bytes) -> None:
        received = self._received = self._received + data
        end = received.find(b"\r\n\r\n")
        if end < 0:
            return
        at = received.index(b"content-length:") + 15
        if len(received) < end + 4 + int(received[at : received.index(b"\r\n", at)]):
            return
        assert received.startswith(b"HTTP/1.1 200"), received[:100]
        self._took.append(perf_counter_ns() - self._begin)
        self._received = b""
        if self.going:
            self._send()
        else:
            self._transport.close()

    def connection_lost(self, error: Exception | None) -> None:
        self.ended.set_result(error)

    def _send(self) -> None:
        self._begin = perf_counter_ns()
        self._transport.write(self._requests[self._next])
        self._next = (self._next + 1) % len(self._requests)


def call(connection: Connection, size: str) -> None:
    """Whenever asked, load a port for some seconds, and say calls and percentiles."""
    import uvloop

    requests = []
    for body, *_ in payloads(size):
        lines = [b"POST /predict HTTP/1.1", b"content-length: %d" % len(body)]
        lines += [b"%s: %s" % pair for pair in HEADERS if pair[0] != b"content-length"]
        requests.append(b"\r\n".join([*lines, b"", body]))
    while (asked := connection.recv()) is not None:
        port, seconds = asked
        connection.send(uvloop.run(_load(port, seconds, requests)))


async def _load(
    port: int, seconds: float, requests: list[bytes]
) -> tuple[int, tuple[float, float, float]]:
    loop = asyncio.get_running_loop()
    took: list[int] = []
    callers = [_Caller(requests, i * 31, took) for i in range(CONNECTIONS)]
    for one in callers:
        await loop.create_connection(partial(_same, one), "127.0.0.1", port)
    await asyncio.sleep(seconds)
    for one in callers:
        one.going = False
    for one in callers:
        async with asyncio.timeout(_END_SECONDS):
            error = await one.ended
        if error is not None:
            raise error
    return len(took), percentiles(took)


def _same(caller: _Caller) -> _Caller:
    return caller
