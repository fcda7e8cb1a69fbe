"""Captures envelopes: never blocks, never raises, holds bounded memory, counts what it drops."""

from __future__ import annotations

import atexit
import itertools
import logging
import os
import secrets
import threading
import time
import weakref
from collections import Counter, deque
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import TypeAlias, TypedDict

from weighbridge.captured import Captured, batch_of
from weighbridge.destinations import (
    PUBLISH_BYTES,
    PUBLISH_MESSAGES,
    Destination,
    RefusedError,
    open_destination,
)
from weighbridge.wire import Kind, pack

PACK_ENVELOPES = 500
PACK_BYTES = 1 << 20
POLL_SECONDS = 0.1
MAX_ENVELOPE_BYTES = 8 << 20
"""Pub/Sub takes 10 MB a message; this leaves room for what zstd cannot compress."""
CAUSES = ("broker", "closed", "encode", "queue_full", "refused", "too_large")
"""Why an envelope is dropped. README.md says what each means."""
_Outgoing: TypeAlias = tuple[dict[str, str], bytes, int]
"""Attributes and data of a message, and how many envelopes it holds."""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_log = logging.getLogger("weighbridge")


class Stats(TypedDict):
    """Counts since the publisher was made; served = published + dropped + queued."""

    served: int
    published: int
    dropped: dict[str, int]
    queued: int


class EnvelopePublisher:
    """Hands raw envelopes to Pub/Sub or to a folder of archive files, from a thread of its own.

    Args:
        destination: "projects/P/topics/T", or a folder.
        max_queued: envelopes that may wait; above it new ones are dropped and counted.
        max_queued_bytes: bytes of payloads, headers and attributes that may wait, likewise.
    """

    def __init__(
        self, destination: str, *, max_queued: int = 20_000, max_queued_bytes: int = 64 << 20
    ) -> None:
        self._to = destination
        self._destination: Destination = open_destination(destination)
        self._max_queued, self._max_queued_bytes = max_queued, max_queued_bytes
        self._closed = False
        self._give_up_at = float("inf")
        self._begin()
        _publishers.add(self)

    def _begin(self) -> None:
        self._publisher_id = secrets.token_hex(8)
        self._sequence = itertools.count()
        self._queue: deque[Captured] = deque()
        # Bytes in are counted by callers, bytes out by the thread: neither needs a lock.
        self._bytes_in = self._bytes_out = 0
        self._served = self._accepted = self._settled = self._published = 0
        # All keys from the start: `+= 1` on a missing one is no single step between threads.
        self._dropped = dict.fromkeys(CAUSES, 0)
        self._thread: threading.Thread | None = None
        self._starting = threading.Lock()
        self._settling = threading.Lock()
        self._wake = threading.Event()
        self._outgoing: list[_Outgoing] = []
        self._oldest = 0.0
        self._gave_up = False

    def _after_fork(self) -> None:
        # The parent keeps what it holds, and its numbers: two envelopes must not have one id.
        self._begin()
        with suppress(OSError):
            self._destination = open_destination(self._to)

    def capture(
        self,
        model_id: str,
        request: bytes,
        response: bytes,
        *,
        context: bytes | None = None,
        model_version: str = "",
        status: int = 200,
        latency_us: int | None = None,
        event_time: datetime | None = None,
        headers: Mapping[str, str] | None = None,
        attributes: Mapping[str, str] | None = None,
        sampling_key: str | None = None,
    ) -> str:
        """Take one request/response pair. Returns its envelope id, also when it is dropped.

        Args:
            model_id: the model that answered, `[a-z0-9][a-z0-9_-]{0,62}`.
            request: the body as it came.
            response: the body as it went.
            context: what the handler used beyond its answer; it never goes to the caller.
            model_version: version of the model that answered.
            status: HTTP status of the answer.
            latency_us: microseconds that the answer took.
            event_time: when the model answered, with time zone; default now.
            headers: request headers worth keeping; credentials and cookies are left out.
            attributes: strings for the extractor.
            sampling_key: what sampling is sticky by; nothing is sampled out yet.
        """
        return self._take(
            model_id, model_version, "prediction", event_time, request, response, context, status,
            latency_us, headers, attributes,
        )  # fmt: skip

    def capture_actual(
        self,
        model_id: str,
        payload: bytes,
        *,
        event_time: datetime | None = None,
        model_version: str = "",
        headers: Mapping[str, str] | None = None,
        attributes: Mapping[str, str] | None = None,
    ) -> str:
        """Take one late actual: what turned out to be true. Returns its envelope id."""
        return self._take(
            model_id, model_version, "actual", event_time, payload, None, None, None, None, headers,
            attributes,
        )  # fmt: skip

    def stats(self) -> Stats:
        """What became of everything captured so far."""
        dropped = {cause: count for cause, count in self._dropped.items() if count}
        return Stats(
            served=self._served,
            published=self._published,
            dropped=dropped,
            queued=self._accepted - self._settled,
        )

    def close(self, timeout: float = 5.0) -> None:
        """Take nothing more, flush for up to `timeout` seconds, count what is left as dropped."""
        self._closed = True
        self._give_up_at = time.monotonic() + timeout
        self._wake.set()
        thread = self._thread
        if thread is not None and not self._gave_up:
            thread.join(timeout)
            atexit.unregister(self.close)
        self._gave_up = True
        self._write_off()

    def _take(
        self,
        model_id: str,
        model_version: str,
        kind: Kind,
        event_time: datetime | None,
        request: bytes,
        response: bytes | None,
        context: bytes | None,
        status: int | None,
        latency_us: int | None,
        headers: Mapping[str, str] | None,
        attributes: Mapping[str, str] | None,
    ) -> str:
        sequence = next(self._sequence)
        self._served += 1
        try:
            if event_time is None:
                micros = time.time_ns() // 1000
            else:
                micros = (event_time - _EPOCH) // timedelta(microseconds=1)
            request = _bytes(request)
            response = None if response is None else _bytes(response)
            context = None if context is None else _bytes(context)
            # Copied, as the service may go on using its own.
            headers, attributes = dict(headers or {}), dict(attributes or {})
            texts = (*headers, *headers.values(), *attributes, *attributes.values())
            size = (
                len(request)
                + len(response or b"")
                + len(context or b"")
                + len("".join((model_id, model_version, *texts)))  # TypeError: one is no str
            )
            if self._closed:
                self._dropped["closed"] += 1
            elif size > MAX_ENVELOPE_BYTES:
                self._dropped["too_large"] += 1
            elif (
                len(self._queue) >= self._max_queued
                or self._bytes_in - self._bytes_out + size > self._max_queued_bytes
            ):
                self._dropped["queue_full"] += 1
            else:
                if self._thread is None:
                    self._start()
                self._accepted += 1
                self._bytes_in += size
                self._queue.append(
                    Captured(
                        sequence,
                        model_id,
                        model_version,
                        kind,
                        micros,
                        request,
                        response,
                        context,
                        status,
                        latency_us,
                        headers,
                        attributes,
                        size,
                    )
                )
                if self._gave_up:  # close() has returned since `_closed` was looked at
                    self._write_off()
        except Exception as error:  # a service must not fail because it is watched
            self._dropped["refused"] += 1
            _log_once("take", error)
        return f"{self._publisher_id}-{sequence}"

    def _start(self) -> None:
        with self._starting:
            if self._thread is None:
                thread = threading.Thread(
                    target=self._run, name="weighbridge-publisher", daemon=True
                )
                thread.start()
                self._thread = thread
                atexit.register(self.close)

    def _run(self) -> None:
        while True:
            closing = self._closed
            self._pack_waiting()
            age = time.monotonic() - self._oldest if self._outgoing else 0.0
            if self._outgoing and (closing or age >= self._destination.linger):
                self._deliver()
            if closing and not self._queue:
                return
            self._wake.wait(POLL_SECONDS)

    def _pack_waiting(self) -> None:
        waiting: dict[tuple[str, ...], list[Captured]] = {}
        sizes: Counter[tuple[str, ...]] = Counter()
        # What arrives meanwhile waits for the next poll: chasing the tail sends tiny packs.
        for _ in range(len(self._queue)):
            try:
                captured = self._queue.popleft()
            except IndexError:  # written off meanwhile
                break
            key = captured.pack_key()
            if sizes[key] + captured.size > PACK_BYTES and key in waiting:
                self._pack(waiting.pop(key))
                sizes[key] = 0
            waiting.setdefault(key, []).append(captured)
            sizes[key] += captured.size
            if len(waiting[key]) == PACK_ENVELOPES:
                self._pack(waiting.pop(key))
                sizes[key] = 0
        for envelopes in waiting.values():
            self._pack(envelopes)

    def _pack(self, envelopes: list[Captured]) -> None:
        try:
            attributes, data = pack(batch_of(self._publisher_id, envelopes))
        except Exception as error:  # a status that is no int, half a surrogate pair, …
            if len(envelopes) > 1:
                half = len(envelopes) // 2
                self._pack(envelopes[:half])
                self._pack(envelopes[half:])
                return
            self._bytes_out += envelopes[0].size
            _log_once("encode", error)
            self._settle(1, "encode")
            return
        self._bytes_out += sum(captured.size for captured in envelopes)
        held = sum(len(data) for _, data, _ in self._outgoing)
        if len(self._outgoing) == PUBLISH_MESSAGES or held + len(data) > PUBLISH_BYTES:
            self._deliver()
        if not self._outgoing:
            self._oldest = time.monotonic()
        self._outgoing.append((attributes, data, len(envelopes)))

    def _deliver(self) -> None:
        outgoing, self._outgoing = self._outgoing, []
        if outgoing:
            self._send(outgoing)

    def _send(self, outgoing: list[_Outgoing]) -> None:
        count = sum(count for _, _, count in outgoing)
        pause = POLL_SECONDS
        while not self._gave_up:
            try:
                self._destination.publish([(attributes, data) for attributes, data, _ in outgoing])
            except RefusedError as error:
                if len(outgoing) > 1:  # one bad message must not take others with it
                    half = len(outgoing) // 2
                    self._send(outgoing[:half])
                    self._send(outgoing[half:])
                else:
                    _log_once("publish", error.__cause__ or error)
                    self._settle(count, "broker")
                return
            except Exception as error:  # the thread must outlive whatever a broker does
                _log_once("publish", error)
                if time.monotonic() + pause > self._give_up_at:
                    self._settle(count, "broker")
                    return
                # close() wakes it: then every moment of its time-out counts.
                pause = POLL_SECONDS if self._wake.wait(pause) else min(pause * 2, 5.0)
                self._wake.clear()
            else:
                self._settle(count)
                return

    def _settle(self, count: int, cause: str = "") -> None:
        """Count envelopes as published, or as dropped; close() may have given them up by now."""
        with self._settling:
            if self._gave_up:
                return
            self._settled += count
            if cause:
                self._dropped[cause] += count
            else:
                self._published += count

    def _write_off(self) -> None:
        with self._settling:
            self._queue.clear()
            left = self._accepted - self._settled
            self._settled += left
            self._dropped["broker"] += left


def _bytes(body: bytes) -> bytes:
    """The body itself; a copy of what can still change. TypeError for a str."""
    return body if type(body) is bytes else memoryview(body).tobytes()


_logged: dict[str, float] = {}


def _log_once(step: str, error: BaseException) -> None:
    """One line a minute and step. Never the error's text, which may quote a payload."""
    now = time.monotonic()
    if now - _logged.get(step, -60.0) >= 60.0:
        _logged[step] = now
        with suppress(Exception):  # a service's log handler may raise
            _log.warning("weighbridge could not %s envelopes: %s", step, type(error).__name__)


_publishers: weakref.WeakSet[EnvelopePublisher] = weakref.WeakSet()


def _after_fork() -> None:
    for publisher in list(_publishers):
        publisher._after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
