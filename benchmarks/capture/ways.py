"""The ways to hand over a request and its response, ours among them."""

from __future__ import annotations

import itertools
import json
import logging
import logging.handlers
import threading
import time
import uuid
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from benchmarks.capture.payloads import MODEL, VERSION, Headers

DRAIN_SECONDS = 20.0
SMALL_BYTES = 1 << 20
Call: TypeAlias = Callable[[bytes, bytes, Headers, str], object]
"""Hands over a request, its response, its headers and a sampling key; most use only the first."""
_SAMPLED = {MODEL: 0.999999}
"""So that nearly all are kept: those that are sampled out cost less."""


@dataclass(frozen=True)
class Place:
    """Where things go: a topic, a folder, and a port that takes any HTTP request."""

    topic: str
    folder: Path
    http_port: int = 0


def _nothing() -> None:
    """Neither does."""


@dataclass(frozen=True)
class Sink:
    """One way, opened.

    Attributes:
        call: this is what is timed.
        drain: waits until nothing is under way, so that all of its CPU time is seen.
        close: ends it as a service would.
        tend: what the service would do besides, untimed.
        outcome: what became of what was handed over, in words.
    """

    call: Call
    drain: Callable[[], object] = _nothing
    close: Callable[[], object] = _nothing
    tend: Callable[[], object] = _nothing
    outcome: Callable[[], str] = str


@dataclass(frozen=True)
class Way:
    """A way that is measured.

    Attributes:
        label: for the table.
        open: makes a `Sink`.
        rate: calls a second when they are paced.
        sizes: payloads that it is measured with.
    """

    label: str
    open: Callable[[Place], Sink]
    rate: int = 2000
    sizes: tuple[str, ...] = ("1 kB", "20 kB")


def _empty(place: Place) -> Sink:
    def call(request: bytes, response: bytes, headers: Headers, key: str) -> None:
        pass

    return Sink(call)


class _Queue:
    """The least that holds envelopes for another thread: a deque within a number of bytes."""

    def __init__(self) -> None:
        self._queue: deque[tuple[int, str, int, bytes, bytes]] = deque()
        self._numbers = itertools.count()
        self._bytes_in = self._bytes_out = 0
        threading.Thread(target=self._empty, daemon=True).start()

    def put(self, model: str, request: bytes, response: bytes) -> None:
        size = len(request) + len(response)
        if self._bytes_in - self._bytes_out + size > 64 << 20:
            return
        self._bytes_in += size
        self._queue.append((next(self._numbers), model, time.time_ns(), request, response))

    def _empty(self) -> None:
        while True:
            time.sleep(0.1)
            for _ in range(len(self._queue)):
                one = self._queue.popleft()
                self._bytes_out += len(one[3]) + len(one[4])


def _deque(place: Place) -> Sink:
    put = _Queue().put

    def call(request: bytes, response: bytes, headers: Headers, key: str) -> None:
        put(MODEL, request, response)

    return Sink(call, drain=lambda: time.sleep(0.2))


def _publisher(place: Place, **settings: Any) -> Any:
    from weighbridge import EnvelopePublisher

    return EnvelopePublisher(place.topic, **settings)


def _ours(publisher: Any, call: Call) -> Sink:
    def drain() -> None:
        _until(lambda: publisher.stats()["queued"] == 0)

    def outcome() -> str:
        stats = publisher.stats()
        dropped = [f"{count:,} dropped ({cause})" for cause, count in stats["dropped"].items()]
        spooled = [f"{stats['spooled']:,} spooled"] if stats["spooled"] else []
        return ", ".join([f"{stats['published']:,} published", *spooled, *dropped])

    return Sink(call, drain, publisher.close, outcome=outcome)


def _plain(place: Place, **settings: Any) -> Sink:
    publisher = _publisher(place, **settings)
    capture = publisher.capture

    def call(request: bytes, response: bytes, headers: Headers, key: str) -> None:
        capture(MODEL, request, response)

    return _ours(publisher, call)


def _small(place: Place) -> Sink:
    return _plain(place, max_queued_bytes=SMALL_BYTES)


def _spooling(place: Place) -> Sink:
    return _plain(place, spool=place.folder / "spool")


def _with_headers(place: Place) -> Sink:
    publisher = _publisher(place)
    capture = publisher.capture

    def call(request: bytes, response: bytes, headers: Headers, key: str) -> None:
        capture(MODEL, request, response, headers=headers)

    return _ours(publisher, call)


def _with_all(place: Place) -> Sink:
    publisher = _publisher(place, sample=_SAMPLED)
    capture = publisher.capture

    def call(request: bytes, response: bytes, headers: Headers, key: str) -> None:
        capture(
            MODEL,
            request,
            response,
            model_version=VERSION,
            latency_us=1234,
            headers=headers,
            sampling_key=key,
        )

    return _ours(publisher, call)


def _publish(place: Place) -> Sink:
    from google.cloud.pubsub_v1 import PublisherClient

    client = PublisherClient()
    publish = client.publish
    topic = place.topic
    futures: deque[Any] = deque()
    acknowledged = failed = 0

    def call(request: bytes, response: bytes, headers: Headers, key: str) -> None:
        # The least that keeps the two apart; a real service would encode more.
        data = len(request).to_bytes(4, "big") + request + response
        futures.append(publish(topic, data, model_id=MODEL))

    def tend() -> None:
        nonlocal acknowledged, failed
        while futures and futures[0].done():
            if futures.popleft().exception() is None:
                acknowledged += 1
            else:
                failed += 1

    def drain() -> None:
        def gone() -> bool:
            tend()
            return not futures

        _until(gone)

    def outcome() -> str:
        tend()
        parts = [f"{acknowledged:,} published", f"{failed:,} failed" if failed else ""]
        parts += [f"{len(futures):,} unknown" if futures else ""]
        return ", ".join(filter(None, parts))

    return Sink(call, drain, client.stop, tend, outcome)


def _file_log(place: Place) -> Sink:
    logger = logging.Logger("predictions", logging.INFO)
    handler = logging.handlers.RotatingFileHandler(
        place.folder / "predictions.log", maxBytes=64 << 20, backupCount=1
    )
    handler.setFormatter(logging.Formatter("%(message)s"))
    logger.addHandler(handler)

    def call(request: bytes, response: bytes, headers: Headers, key: str) -> None:
        line = {
            "request_id": str(uuid.uuid4()),
            "timestamp": time.time(),
            "model": MODEL,
            "request": request.decode(),
            "response": response.decode(),
        }
        logger.info(json.dumps(line))

    return Sink(call, close=handler.close)


def _open_telemetry(place: Place) -> Sink:
    from opentelemetry.sdk._logs import LoggerProvider, LogRecordProcessor
    from opentelemetry.sdk._logs.export import (
        BatchLogRecordProcessor,
        LogRecordExporter,
        LogRecordExportResult,
    )

    class Nowhere(LogRecordExporter):
        def export(self, batch: Any) -> LogRecordExportResult:
            return LogRecordExportResult.SUCCESS

        def shutdown(self) -> None:
            pass

        def force_flush(self, timeout_millis: int = 30000) -> bool:
            return True

    processor: LogRecordProcessor = BatchLogRecordProcessor(Nowhere())
    provider = LoggerProvider()
    provider.add_log_record_processor(processor)
    emit = provider.get_logger("predictions").emit

    def call(request: bytes, response: bytes, headers: Headers, key: str) -> None:
        body = {"request": request, "response": response}
        emit(timestamp=time.time_ns(), body=body, attributes={"model_id": MODEL})

    return Sink(call, processor.force_flush, provider.shutdown)


def _log_stream(place: Place) -> Sink:
    import orjson
    from arize import ArizeClient
    from arize.ml.types import Environments, ModelTypes

    client = ArizeClient(
        api_key="none", api_scheme="http", api_host="127.0.0.1", api_port=place.http_port
    )
    log_stream = client.ml.log_stream
    futures: deque[Any] = deque()

    def call(request: bytes, response: bytes, headers: Headers, key: str) -> None:
        asked, answered = orjson.loads(request), orjson.loads(response)
        user = {name: value for name, value in asked["user"].items() if value is not None}
        answer = answered["predictions"][0]
        sent = log_stream(
            space_id="none",
            model_name=MODEL,
            model_type=ModelTypes.SCORE_CATEGORICAL,
            environment=Environments.PRODUCTION,
            model_version=VERSION,
            prediction_id=asked["request_id"],
            prediction_label=(answer["label"], answer["score"]),
            features=user,
        )
        futures.append(sent)

    def tend() -> None:
        while futures and futures[0].done():
            futures.popleft().result().raise_for_status()

    def drain() -> None:
        def gone() -> bool:
            tend()
            return not futures

        _until(gone)

    return Sink(call, drain, tend=tend)


def _until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + DRAIN_SECONDS
    while not true():
        if time.monotonic() > deadline:
            raise TimeoutError(f"not all was delivered within {DRAIN_SECONDS:.0f} s")
        time.sleep(0.02)


EMPTY, FLOOR, OURS, HEADERS, ALL = "empty", "deque", "ours", "ours-headers", "ours-all"
SMALL, SPOOL, PUBLISH, FILE = "ours-small", "ours-spool", "publish", "file"
WAYS = {
    EMPTY: Way("an empty call", _empty),
    FLOOR: Way("bare deque", _deque),
    OURS: Way("ours", _plain),
    HEADERS: Way("ours, 8 headers", _with_headers),
    ALL: Way("ours, headers, sampling by key", _with_all),
    "otel": Way("OpenTelemetry, batched log records", _open_telemetry),
    FILE: Way("JSON line to a rotating file", _file_log),
    PUBLISH: Way("Pub/Sub client, publish()", _publish),
    "arize": Way("Arize log_stream, 200/s", _log_stream, rate=200, sizes=("1 kB",)),
}
STATE_WAYS = {
    OURS: WAYS[OURS],
    SMALL: Way("ours, 1 MiB budget", _small),
    SPOOL: Way("ours, with a spool", _spooling),
    PUBLISH: WAYS[PUBLISH],
}
