"""The publisher's thread: takes envelopes from the queue, packs them and sees them delivered."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable

from weighbridge.captured import (
    CONTEXT,
    MODEL,
    SIZE,
    Captured,
    PackKey,
    batch_of,
    described,
    with_json,
)
from weighbridge.counts import Counts
from weighbridge.delivery import Delivery
from weighbridge.drops import DropLog
from weighbridge.log import log_once
from weighbridge.packs import Pack
from weighbridge.settings import refusal
from weighbridge.wire import pack, pack_heartbeat

PACK_ENVELOPES = 500
PACK_BYTES = 1 << 20
POLL_SECONDS = 0.1
"""Waking the thread for each envelope would cost five times as much as all the rest."""
CLOSING_POLL_SECONDS = 0.005


class _Open:
    """A pack that may still get more."""

    __slots__ = ("attributes", "envelopes", "headers", "since", "size")

    def __init__(self, since: float) -> None:
        self.envelopes: list[Captured] = []
        # As JSON, one of each envelope.
        self.headers: list[bytes] = []
        self.attributes: list[bytes] = []
        self.size = 0
        self.since = since

    def part(self, start: int, stop: int) -> _Open:
        """Some of its envelopes."""
        some = _Open(self.since)
        for name in ("envelopes", "headers", "attributes"):
            setattr(some, name, getattr(self, name)[start:stop])
        return some


class Worker:
    """What the thread does. Callers only append to `queue` and read `freed`.

    Args:
        publisher_id: goes with each batch.
        counts: what it counts in.
        open_delivery: makes what sends packs, in the thread.
        linger: seconds for which a pack waits for more of its model.
        beat_seconds: between heartbeats; 0: none.
        max_body_bytes: of a context.
        unused_ids: how many envelope ids were given out and not used.
    """

    def __init__(
        self,
        publisher_id: str,
        counts: Counts,
        open_delivery: Callable[[], Delivery],
        linger: float,
        beat_seconds: float,
        max_body_bytes: int,
        unused_ids: Callable[[], int],
    ) -> None:
        self.queue: deque[Captured] = deque()
        self.freed = 0
        """Bytes that were taken from the queue and are no longer held, since the start."""
        self.closing = False
        self.ends_process = False
        """Whether it closes as the last thing that the process does."""
        self.delivery: Delivery | None = None
        self._publisher_id, self._counts, self._open_delivery = publisher_id, counts, open_delivery
        self._linger, self._beat_seconds = linger, beat_seconds
        self._max_body_bytes, self._unused_ids = max_body_bytes, unused_ids
        self._give_up_at = float("inf")
        self._wake = threading.Event()
        self._open: dict[PackKey, _Open] = {}
        self._taken = 0
        self._beat_at = time.monotonic() + beat_seconds
        self._said_goodbye = beat_seconds == 0
        self._drops = DropLog(counts)

    def close(self, give_up_at: float) -> None:
        """Have it end, at this moment of the monotonic clock at the latest."""
        self._give_up_at = min(self._give_up_at, give_up_at)
        self.closing = True
        self._wake.set()

    def forget(self) -> None:
        """In a child process: let go of what belongs to the parent."""
        if self.delivery is not None:
            self.delivery.forget()

    def run(self) -> None:
        """Work until `close`; what then cannot be delivered in time is spooled, or dropped."""
        while not self._is_over():
            if self.closing:
                time.sleep(CLOSING_POLL_SECONDS)
            else:
                self._wake.wait(POLL_SECONDS)
        delivery = self.delivery
        if delivery is not None:
            try:
                delivery.take_back()
                if not delivery.idle and delivery.spool() and self._beat_seconds:
                    self._beat(delivery, final=True)
                    delivery.spool()
            except Exception as error:  # what is left must be counted all the same
                log_once("handle", error)
            delivery.give_up()
        for waiting in self._open.values():
            for captured in waiting.envelopes:
                self._counts.known(captured[MODEL]).dropped_late("broker")
        self._drops.close()

    def _is_over(self) -> bool:
        closing = self.closing
        try:
            delivery = self.delivery
            if delivery is None:
                delivery = self.delivery = self._open_delivery()
            if closing and self.ends_process:
                delivery.ending(self._give_up_at)
            self._take(delivery)
            self._pack_open(delivery, closing)
            delivery.step(urgent=closing)
            self.freed = self._taken - delivery.held
            now = time.monotonic()
            if self._beat_seconds and now >= self._beat_at and not self._said_goodbye:
                self._beat_at = now + self._beat_seconds
                self._beat(delivery)
            self._drops.look(now)
            if closing and delivery.idle and not self.queue:
                if self._said_goodbye:
                    return True
                self._said_goodbye = True
                self._beat(delivery, final=True)
        except Exception as error:  # of a full disk, of memory, of what nobody thought of
            log_once("handle", error)
        return closing and time.monotonic() >= self._give_up_at

    def _take(self, delivery: Delivery) -> None:
        now = time.monotonic()
        # What arrives meanwhile waits for the next look: chasing the tail makes tiny packs.
        for _ in range(len(self.queue)):
            try:
                captured = self.queue.popleft()
            except IndexError:  # dropped by a caller who had no room
                return
            size = captured[SIZE]
            try:
                context = captured[CONTEXT]
                if context is not None and type(context) is not bytes:
                    # Now, as packs are bounded by the bytes that it turns out to have.
                    captured = with_json(captured, self._max_body_bytes)
                    size += len(captured[CONTEXT] or b"")
                key, headers, attributes = described(captured)
                waiting = self._open.get(key)
            except Exception as error:  # a header that is a list, …
                self._unpackable(captured, error)
                continue
            if waiting is not None and waiting.size + size > PACK_BYTES:
                self._pack(delivery, key, self._open.pop(key))
                waiting = None
            if waiting is None:
                waiting = self._open[key] = _Open(now)
            waiting.envelopes.append(captured)
            waiting.headers.append(headers)
            waiting.attributes.append(attributes)
            waiting.size += size
            if len(waiting.envelopes) == PACK_ENVELOPES:
                self._pack(delivery, key, self._open.pop(key))

    def _pack_open(self, delivery: Delivery, urgent: bool) -> None:
        now = time.monotonic()
        for key, waiting in list(self._open.items()):
            if urgent or now - waiting.since >= self._linger:
                self._pack(delivery, key, self._open.pop(key))

    def _pack(self, delivery: Delivery, key: PackKey, closed: _Open) -> None:
        envelopes = closed.envelopes
        try:
            batch = batch_of(self._publisher_id, key, envelopes, closed.headers, closed.attributes)
            message = pack(batch)
        except Exception as error:  # a status that is no int, half a surrogate pair, …
            if len(envelopes) > 1:
                half = len(envelopes) // 2
                self._pack(delivery, key, closed.part(0, half))
                self._pack(delivery, key, closed.part(half, len(envelopes)))
                return
            self._unpackable(envelopes[0], error)
            return
        counts = self._counts.known(key[0])
        delivery.add(Pack(message, len(envelopes), counts, time.monotonic()))
        self._taken += sum(captured[SIZE] for captured in envelopes)
        self.freed = self._taken - delivery.held
        time.sleep(0)  # the service's threads come first

    def _unpackable(self, captured: Captured, error: Exception) -> None:
        model_id, version, status, latency = (captured[n] for n in (MODEL, 2, 7, 8))
        named = refusal(model_id=model_id, model_version=version, status=status, latency_us=latency)
        log_once("encode", error, named)
        self._counts.known(captured[MODEL]).lost["encode"] += 1
        self._taken += captured[SIZE]

    def _beat(self, delivery: Delivery, final: bool = False) -> None:
        counts = self._counts.heartbeat(self._publisher_id, self._unused_ids())
        delivery.beat(pack_heartbeat(counts, final))
