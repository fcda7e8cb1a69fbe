"""Captures envelopes: never blocks, never raises, holds bounded memory, counts what it drops."""

from __future__ import annotations

import itertools
import os
import secrets
import threading
import time
import weakref
from collections.abc import Iterable, Mapping
from contextlib import suppress
from datetime import datetime
from time import time_ns
from typing import Any, Literal, TypeAlias

from weighbridge.captured import (
    JSON,
    KEPT_HEADERS,
    MODEL,
    SIZE,
    Flat,
    Headers,
    allowed_names,
    flat,
    kept_headers,
)
from weighbridge.counts import Counts, ModelCounts, Stats
from weighbridge.delivery import Delivery
from weighbridge.destinations import open_destination
from weighbridge.exits import at_exit, not_at_exit
from weighbridge.handed import Limit, body_of, context_of, nanos
from weighbridge.log import log_once
from weighbridge.sampling import Sampling, Share
from weighbridge.settings import folder, one_of, refusal, seconds, whole
from weighbridge.spool import Spool
from weighbridge.spooling import Spooler
from weighbridge.telemetry import export_counts
from weighbridge.wire import Kind
from weighbridge.worker import Worker

DELIVERING_SHARE = 0.8
"""Of the time that `close` has; the rest is for writing to the spool what was not delivered."""
MAX_ENVELOPE_BYTES = 8 << 20
"""Pub/Sub takes 10 MB a message; this leaves room for what zstd cannot compress."""
ENVELOPE_BYTES = 440
"""What Python holds of a waiting envelope beside its bytes: `sys.getsizeof` of a `Captured`, of its
numbers and of the heads of five byte strings."""
WhenFull: TypeAlias = Literal["drop_newest", "drop_oldest"]
Oversize: TypeAlias = Literal["cut", "leave_out"]


class EnvelopePublisher:
    """Hands raw envelopes to Pub/Sub or to a folder of archive files, from a thread of its own.

    Nothing is started before the first capture, and all of it anew after a fork. Each process has
    a budget of its own.

    Args:
        destination: "projects/P/topics/T", or a folder.
        max_queued: envelopes that may wait to be packed; above it envelopes are dropped.
        max_queued_bytes: bytes that may wait in memory, packed or not.
        when_full: which envelopes are dropped without room: "drop_newest" or "drop_oldest".
        max_body_bytes: the most bytes of a request, of a response, and of a context.
        oversize: what becomes of larger ones, "cut" or "leave_out"; a context is left out. Either
            way the envelope is marked, and becomes a dead letter of the pipeline.
        headers: names of request headers that are kept.
        sample: shares of models that are kept, by model id, "*" for all others; without it, the
            environment variable `WEIGHBRIDGE_SAMPLE` says them, such as "flight-delay=0.1,*=1".
        spool: a folder for what cannot be sent for some seconds; processes can share it. What a
            killed process left there is sent by the next one.
        spool_bytes: the most bytes of all files in it.
        linger: seconds for which envelopes of a model are collected.
        heartbeat: seconds between messages that tell what was counted; 0 for none.

    Raises:
        ValueError: an argument that cannot be meant so.
        OSError: the folder or the spool cannot be made.
    """

    def __init__(
        self,
        destination: str | os.PathLike[str],
        *,
        max_queued: int = 20_000,
        max_queued_bytes: int = 64 << 20,
        when_full: WhenFull = "drop_newest",
        max_body_bytes: int = 2 << 20,
        oversize: Oversize = "cut",
        headers: Iterable[str] = KEPT_HEADERS,
        sample: Mapping[str, float] | None = None,
        spool: str | os.PathLike[str] | None = None,
        spool_bytes: int = 1 << 30,
        linger: float = 0.5,
        heartbeat: float = 60.0,
    ) -> None:
        one_of("when_full", when_full, ("drop_newest", "drop_oldest"))
        one_of("oversize", oversize, ("cut", "leave_out"))
        whole("max_queued", max_queued)
        whole("max_queued_bytes", max_queued_bytes)
        whole("max_body_bytes", max_body_bytes)
        whole("spool_bytes", spool_bytes)
        seconds("linger", linger)
        seconds("heartbeat", heartbeat)
        self.max_body_bytes = max_body_bytes
        self._to = destination
        self._max_queued, self._max_queued_bytes = max_queued, max_queued_bytes
        self._drop_oldest = when_full == "drop_oldest"
        self._limit = Limit(max_body_bytes, oversize == "leave_out")
        self._headers = allowed_names(headers)
        self._sampling = Sampling(sample)
        self._spool_bytes, self._linger, self._heartbeat = spool_bytes, linger, heartbeat
        self._destination = open_destination(destination)
        self._spool = None if spool is None else folder("spool", spool)
        self._closed = False
        self._begin()
        _publishers.add(self)
        export_counts(self)

    def _begin(self) -> None:
        self.publisher_id = secrets.token_hex(8)
        self._prefix = f"{self.publisher_id}-"
        self._numbers = itertools.count()
        self._unused_ids = 0
        self._counts = Counts(self._sampling)
        self._known = self._counts.models
        # Bytes in are counted by callers, bytes out by the thread: neither needs a lock.
        self._bytes_in = 0
        self._worker = Worker(
            self.publisher_id,
            self._counts,
            self._open_delivery,
            self._linger,
            self._heartbeat,
            self.max_body_bytes,
            lambda: self._unused_ids,
        )
        self._queue = self._worker.queue
        self._thread: threading.Thread | None = None
        # What each capture looks at: no room before the thread runs, nor after close().
        self._most = -1
        self._starting = threading.Lock()
        self._over = False

    def capture(
        self,
        model_id: str,
        request: bytes | None,
        response: bytes | None,
        *,
        context: Any = None,
        model_version: str = "",
        status: int | None = 200,
        latency_us: int | None = None,
        event_time: datetime | None = None,
        headers: Headers | None = None,
        attributes: Mapping[str, str] | None = None,
        sampling_key: str | None = None,
        response_type: str = JSON,
        response_encoding: str = "",
        cut: int = 0,
        envelope_id: str | None = None,
    ) -> str:
        """Take one request/response pair. Returns its envelope id, also when it is dropped.

        Args:
            model_id: the model that answered, `[a-z0-9][a-z0-9_-]{0,62}`.
            request: the body as it came; None if there was none.
            response: the body as it went; None if there was none.
            context: what the handler used beyond its answer: JSON as bytes, or an object that is
                handed over for good and becomes JSON in the thread. It never goes to the caller.
            model_version: version of the model that answered.
            status: HTTP status of the answer.
            latency_us: microseconds that the answer took.
            event_time: when the model answered, with time zone; default now.
            headers: the request's, by name or as ASGI has them; only those that the publisher
                keeps go with the envelope. Content-Type and Content-Encoding say how the request
                is to be read.
            attributes: strings for the extractor.
            sampling_key: what sampling is sticky by; default the envelope id.
            response_type: content type of the response.
            response_encoding: its content encoding, such as "gzip".
            cut: bits of what the caller has cut already: `weighbridge.wire.CUT_REQUEST` and so on.
            envelope_id: one that `reserve` gave.
        """
        number = self.number_of(envelope_id)
        self.take(
            number, model_id, model_version, "prediction", response_type, response_encoding,
            event_time, status, latency_us, headers, attributes, request, response, context, cut,
            sampling_key,
        )  # fmt: skip
        return f"{self._prefix}{number}"

    def capture_actual(
        self,
        model_id: str,
        payload: bytes,
        *,
        event_time: datetime | None = None,
        model_version: str = "",
        headers: Headers | None = None,
        attributes: Mapping[str, str] | None = None,
        sampling_key: str | None = None,
    ) -> str:
        """Take one late actual: what turned out to be true. Returns its envelope id.

        It is kept, unless it has the `sampling_key` of a prediction that is sampled out.
        """
        number = next(self._numbers)
        self.take(
            number, model_id, model_version, "actual", JSON, "", event_time, None, None, headers,
            attributes, payload, None, None, 0, sampling_key,
        )  # fmt: skip
        return f"{self._prefix}{number}"

    def reserve(self) -> str:
        """An envelope id for a capture to come, for an answer that names it."""
        self._unused_ids += 1
        return f"{self._prefix}{next(self._numbers)}"

    def number_of(self, envelope_id: str | None) -> int:
        """The number of a reserved id; a new one without an id, or with one from before a fork."""
        if envelope_id is None:
            return next(self._numbers)
        try:
            if envelope_id.startswith(self._prefix):
                number = int(envelope_id[len(self._prefix) :])
                self._unused_ids -= 1
                return number
        except (AttributeError, TypeError, ValueError) as error:  # it is no id at all
            log_once("take", error)
        return next(self._numbers)

    def take(
        self,
        number: int,
        model_id: str,
        model_version: str,
        kind: Kind,
        response_type: str,
        response_encoding: str,
        event_time: datetime | None,
        status: int | None,
        latency_us: int | None,
        headers: Headers | None,
        attributes: Mapping[str, str] | None,
        request: bytes | None,
        response: bytes | None,
        context: Any,
        cut: int,
        sampling_key: str | None,
    ) -> None:
        """What `capture` does with its arguments, for those that have a number already."""
        counts = self._counts.others
        try:
            counts = self._known.get(model_id) or self._counts.known(model_id)
            if counts.share is not None and not self._keeps(
                counts.share, number, kind, sampling_key
            ):
                counts.sampled_out += 1
                return
            now = time_ns() if event_time is None else nanos(event_time)
            size = len(model_version)
            if type(request) is bytes and type(response) is bytes and context is None:
                size += len(request) + len(response)
            else:
                request, response = body_of(request), body_of(response)
                context, bulk = context_of(context)
                size += len(request or b"") + len(response or b"") + bulk
            if size > self.max_body_bytes:
                request, response, context, cut, size = self._limit.applied(
                    request, response, context, cut
                )
            size += ENVELOPE_BYTES
            kept: Flat = ()
            if headers:
                kept, more = kept_headers(headers, self._headers)
                size += more
            named: Flat = ()
            if attributes:
                named, more = flat(attributes)
                size += more
            queue = self._queue
            if (
                len(queue) >= self._most
                or self._bytes_in - self._worker.freed + size > self._max_queued_bytes
                or size > MAX_ENVELOPE_BYTES
            ) and not self._has_room(counts, size):
                return
            counts.accepted += 1
            self._bytes_in += size
            queue.append(
                (
                    number, model_id, model_version, kind, response_type, response_encoding, now,
                    status, latency_us, kept, named, request, response, context, cut, size,
                )
            )  # fmt: skip
            if self._over:  # close() has returned since there was room
                self._drain("closed")
        except Exception as error:  # a service must not fail because it is watched
            counts.turned_away["refused"] += 1
            log_once(
                "take",
                error,
                refusal(
                    model_id=model_id, model_version=model_version, event_time=event_time,
                    headers=headers, attributes=attributes, request=request, response=response,
                    sampling_key=sampling_key,
                ),
            )  # fmt: skip

    def stats(self) -> Stats:
        """What became of everything captured so far in this process."""
        delivery = self._worker.delivery
        return self._counts.stats(0 if delivery is None else delivery.recovered)

    def close(self, timeout: float = 5.0) -> None:
        """Take nothing more, flush for up to `timeout` seconds, spool or drop what is left."""
        self._closed, self._most = True, -1
        self._worker.close(time.monotonic() + timeout * DELIVERING_SHARE)
        thread = self._thread
        if thread is not None and not self._over:
            thread.join(timeout)
            if thread.is_alive():  # it hangs on a disk: what it counts from now on is not seen
                self._drain("broker")
                self._counts = self._counts.written_off("broker")
                self._known = self._counts.models
            not_at_exit(self)
        self._over = True
        self._drain("closed")

    def close_at_exit(self) -> None:
        """Close it as the last thing that this process does."""
        self._worker.ends_process = True
        self.close()

    def _keeps(self, share: Share, number: int, kind: Kind, sampling_key: str | None) -> bool:
        if sampling_key is not None:
            return share.keeps(sampling_key)
        # An actual may belong to any prediction.
        return kind == "actual" or share.keeps(f"{self._prefix}{number}")

    def _has_room(self, counts: ModelCounts, size: int) -> bool:
        """What `take` does not see at a glance: whether there is room, or is now."""
        if self._closed:
            counts.turned_away["closed"] += 1
            return False
        if size > MAX_ENVELOPE_BYTES:
            counts.turned_away["too_large"] += 1
            return False
        if self._thread is None:
            self._start()
        while not self._fits(size):
            oldest = self._queue.popleft() if self._drop_oldest and self._queue else None
            if oldest is None:
                counts.turned_away["queue_full"] += 1
                return False
            self._bytes_in -= oldest[SIZE]
            self._counts.known(oldest[MODEL]).dropped_late("queue_full")
        return True

    def _fits(self, size: int) -> bool:
        return (
            len(self._queue) < self._max_queued
            and self._bytes_in - self._worker.freed + size <= self._max_queued_bytes
        )

    def _start(self) -> None:
        # Not waiting for it: a signal's handler may capture while what it interrupts is in here.
        if not self._starting.acquire(blocking=False):
            return
        try:
            if self._thread is None:
                thread = threading.Thread(
                    target=self._worker.run, name="weighbridge-publisher", daemon=True
                )
                thread.start()
                self._thread = thread
                self._most = self._max_queued
                at_exit(self)
        finally:
            self._starting.release()

    def _open_delivery(self) -> Delivery:
        spooler = None
        if self._spool is not None:
            spool = Spool(self._spool, self.publisher_id, self._spool_bytes)
            spooler = Spooler(spool, self._drop_oldest)
        return Delivery(self._destination, spooler, self._max_queued_bytes, self._drop_oldest)

    def _drain(self, cause: str) -> None:
        """Count what the thread has not taken as dropped."""
        while True:
            try:
                late = self._queue.popleft()
            except IndexError:
                return
            self._counts.known(late[MODEL]).dropped_late(cause)

    def _after_fork(self) -> None:
        # The parent keeps what it holds, and its numbers: two envelopes must not have one id.
        self._worker.forget()
        with suppress(OSError):
            self._destination = open_destination(self._to)  # its connections are the parent's
        self._begin()


_publishers: weakref.WeakSet[EnvelopePublisher] = weakref.WeakSet()


def _after_fork() -> None:
    for publisher in list(_publishers):
        with suppress(Exception):  # the child must live, watched or not
            publisher._after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
