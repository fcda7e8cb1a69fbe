"""Runs the demo's service under uvicorn and calls it the way that 2013's flights would have."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from os import PathLike
from typing import NamedTuple

import uvicorn
from starlette.applications import Starlette

from pipelines.demo.calls import Call, plan_calls
from pipelines.demo.client import Connection
from pipelines.demo.flights import FlightData
from pipelines.demo.service import CHANNEL_HEADER, EVENT_TIME_HEADER, create_app
from pipelines.demo.training import Models
from weighbridge import KEPT_HEADERS, EnvelopePublisher

CONNECTIONS = 16
QUEUED = 50_000
KEPT = (*KEPT_HEADERS, CHANNEL_HEADER)
CLOSE_SECONDS = 60.0

Progress = Callable[[int, int], None]


class Captured(NamedTuple):
    """What the traffic came to."""

    requests: int
    envelopes: int
    requests_by_path: dict[str, int]
    seconds: float


def capture(
    data: FlightData,
    models: Models,
    destination: str | PathLike[str],
    progress: Progress = lambda done, total: None,
) -> Captured:
    """Make all calls of the traffic over HTTP, and have the service capture them.

    Args:
        data: the flights.
        models: what the service answers with.
        destination: the topic or folder that the service publishes to.
        progress: called with the numbers of requests made and of all.

    Raises:
        RuntimeError: a request failed, or an envelope was dropped.
    """
    calls = plan_calls(data)
    publisher = EnvelopePublisher(destination, max_queued=QUEUED, headers=KEPT)
    started = time.perf_counter()
    try:
        with _serve(create_app(publisher, models, data.weather)) as port:
            asyncio.run(_drive(calls, port, publisher, progress))
    finally:
        publisher.close(timeout=CLOSE_SECONDS)
    expected, stats = sum(call.envelopes for call in calls), publisher.stats()
    if stats["dropped"] or stats["published"] != expected:
        raise RuntimeError(f"the service should have published {expected} envelopes: {stats}")
    by_path = Counter(call.path for call in calls)
    return Captured(len(calls), expected, dict(by_path), time.perf_counter() - started)


@contextmanager
def _serve(app: Starlette) -> Iterator[int]:
    # With the protocol named, asyncio turns Nagle's algorithm off; else each answer takes 40 ms.
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP) as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        server = uvicorn.Server(
            uvicorn.Config(app, log_level="warning", access_log=False, lifespan="off")
        )
        thread = threading.Thread(target=server.run, args=([listening],), name="demo-service")
        thread.start()
        try:
            # It listens already: calls wait until the server is up.
            yield listening.getsockname()[1]
        finally:
            server.should_exit = True
            thread.join()


async def _drive(
    calls: list[Call], port: int, publisher: EnvelopePublisher, progress: Progress
) -> None:
    waiting = iter(calls)
    done = 0

    async def call_one_by_one() -> None:
        nonlocal done
        async with Connection("127.0.0.1", port) as connection:
            for call in waiting:
                await _leave_room(publisher)
                headers = {EVENT_TIME_HEADER: call.at.isoformat()}
                if call.channel:
                    headers[CHANNEL_HEADER] = call.channel
                await connection.post(call.path, headers, call.body())
                done += 1
                progress(done, len(calls))

    await asyncio.gather(*(call_one_by_one() for _ in range(CONNECTIONS)))


async def _leave_room(publisher: EnvelopePublisher) -> None:
    # A publisher never waits, it drops. A demo that must be complete has to wait in its stead.
    while publisher.stats()["queued"] > QUEUED * 0.8:
        await asyncio.sleep(0.05)
