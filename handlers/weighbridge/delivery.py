"""Packs on their way to a destination: waiting, in flight, or in the spool."""

from __future__ import annotations

import random
import time
from collections import deque
from pathlib import Path
from typing import NamedTuple

from weighbridge.destinations import Destination, Packed, RefusedError, Sending
from weighbridge.log import log_once
from weighbridge.packs import Pack, is_full_group, take_group
from weighbridge.spooling import Spooler, log_lost

FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 0.1, 5.0
SPOOL_SECONDS = 5.0
"""For so long packs wait in memory for a destination that fails, before they go to the spool."""
SPOOL_SHARE = 4
"""With this part of the budget waiting, packs go to the spool at once."""


class _Call(NamedTuple):
    packs: list[Pack]
    sending: Sending
    spooled: Path | None


class Delivery:
    """Sends packs, keeps those that fail, and counts what became of each. Never waits.

    Args:
        destination: where to.
        spooler: keeps packs that would wait for long; None: they wait in memory.
        budget: bytes that may wait.
        drop_oldest: whether, without room, the oldest packs give way; else they stay, and the
            publisher takes nothing new.
    """

    def __init__(
        self, destination: Destination, spooler: Spooler | None, budget: int, drop_oldest: bool
    ) -> None:
        self._destination, self._spooler = destination, spooler
        self._budget, self._drop_oldest = budget, drop_oldest
        self._waiting: deque[Pack] = deque()
        self._again: deque[list[Pack]] = deque()
        """Packs of calls that failed, sent as they are."""
        self._in_flight: list[_Call] = []
        self._pause = self._retry_at = self._spool_at = 0.0
        self._urgent = False
        self.held = 0
        """Bytes of the packs in memory."""

    def add(self, pack: Pack) -> None:
        """Take one more."""
        self._waiting.append(pack)
        self.held += pack.size
        while self._drop_oldest and self.held > self._budget // 2:
            if self._again:  # they are older
                for failed in self._again.popleft():
                    self._drop(failed, "queue_full")
            elif len(self._waiting) > 1:
                self._drop(self._waiting.popleft(), "queue_full")
            else:
                return

    def beat(self, heartbeat: Packed) -> None:
        """Send a heartbeat with the next call; one that waits is older, and does not go."""
        for pack in [pack for pack in self._waiting if not pack.envelopes]:
            self._waiting.remove(pack)
            self.held -= pack.size
        self._waiting.append(Pack(heartbeat, 0, None, time.monotonic()))
        self.held += len(heartbeat[1])

    @property
    def recovered(self) -> int:
        """Envelopes of earlier processes that were sent from the spool."""
        return 0 if self._spooler is None else self._spooler.recovered

    @property
    def idle(self) -> bool:
        """Whether everything in memory is settled."""
        return not (self._waiting or self._again or self._in_flight)

    def step(self, urgent: bool = False) -> None:
        """See what became of calls, begin new ones, and spool what waits for long.

        Args:
            urgent: not to wait until there is more to send.
        """
        now = time.monotonic()
        self._collect(now)
        if urgent and not self._urgent:
            self._urgent = True
            self._pause = self._retry_at = 0.0  # it is tried once more, however long it has failed
        # While it fails, one call at a time finds out whether it still does.
        most = 1 if self._pause else self._destination.in_flight
        while len(self._in_flight) < most and now >= self._retry_at:
            group = self._next(now, urgent)
            if group:
                self._begin(group, None, now)
            elif not self._begin_spooled(now, urgent):
                break
        if now >= self._spool_at and self._is_long(now) and not self.spool():
            self._spool_at = now + LONGEST_PAUSE_SECONDS

    def spool(self) -> bool:
        """Move what waits to the spool; False if there is none, or not all of it has room."""
        while self._spooler is not None:
            group = self._next(0.0, urgent=True)
            if not group:
                return True
            if not self._spooler.keep(group):
                self._again.appendleft(group)
                return False
            self._settle(group)
        return False

    def take_back(self) -> None:
        """Give up calls under way, so that `spool` finds what they hold; it may arrive twice."""
        if self._spooler is not None:
            self._again += (call.packs for call in self._in_flight if not call.spooled)
            self._in_flight.clear()

    def ending(self, by: float) -> None:
        """The process ends at this moment of the monotonic clock: start no threads, rather wait."""
        self._destination.ending(by)

    def give_up(self) -> None:
        """Count all that is left in memory as dropped, and let go of everything."""
        left = [*self._waiting, *(pack for group in self._again for pack in group)]
        left += (pack for call in self._in_flight if not call.spooled for pack in call.packs)
        self._waiting.clear()
        self._again.clear()
        self._in_flight.clear()
        for pack in left:
            self._drop(pack, "broker")
        self.close()

    def close(self) -> None:
        """Let go of the destination and of the spool."""
        self._destination.close()
        if self._spooler is not None:
            self._spooler.close()

    def forget(self) -> None:
        """In a child process: let go of what belongs to the parent."""
        if self._spooler is not None:
            self._spooler.forget()

    def _collect(self, now: float) -> None:
        under_way, self._in_flight = self._in_flight, []
        for call in under_way:
            if not call.sending.done():
                self._in_flight.append(call)
            elif (error := call.sending.failure()) is not None:
                self._failed(call.packs, call.spooled, error, now)
            else:
                self._pause = self._retry_at = 0.0
                self._delivered(call)

    def _next(self, now: float, urgent: bool) -> list[Pack]:
        """Packs for one call; none if there are none, or more of them are worth waiting for."""
        if self._again:
            return self._again.popleft()
        waiting, linger = self._waiting, self._destination.linger
        if not waiting:
            return []
        if urgent or now - waiting[0].since >= linger or is_full_group(waiting, self.held):
            return take_group(waiting)
        return []

    def _begin(self, packs: list[Pack], spooled: Path | None, now: float) -> None:
        try:
            sending = self._destination.send([pack.message for pack in packs])
        except Exception as error:  # the thread must outlive whatever a destination does
            self._failed(packs, spooled, error, now)
            return
        self._in_flight.append(_Call(packs, sending, spooled))
        self._collect(now)  # a folder has done it by now

    def _begin_spooled(self, now: float, urgent: bool) -> bool:
        """Begin to send a file of the spool, once nothing newer waits."""
        if self._spooler is None or urgent or self._waiting:
            return False
        if any(call.spooled for call in self._in_flight):
            return False
        spooled = self._spooler.next()
        if spooled is None:
            return False
        path, packs = spooled
        self._begin(packs, path, now)
        return True

    def _delivered(self, call: _Call) -> None:
        if call.spooled is not None and self._spooler is not None:
            self._spooler.sent(call.spooled, call.packs)
            return
        self._settle(call.packs)
        for pack in call.packs:
            if pack.counts is not None:
                pack.counts.published += pack.envelopes

    def _failed(
        self, packs: list[Pack], spooled: Path | None, error: Exception, now: float
    ) -> None:
        log_once("publish", error.__cause__ or error)
        if spooled is not None and self._spooler is not None:
            self._spooler.failed()
        if isinstance(error, RefusedError):
            self._refused(packs, spooled)
            return
        if now >= self._retry_at:  # not for each of the calls that fail together
            self._pause = min(max(2 * self._pause, FIRST_PAUSE_SECONDS), LONGEST_PAUSE_SECONDS)
            # Jitter, as all processes see a destination fail at the same moment.
            self._retry_at = now + self._pause * random.uniform(0.5, 1.0)
        if spooled is None:
            self._again.append(packs)

    def _refused(self, packs: list[Pack], spooled: Path | None) -> None:
        if spooled is not None and self._spooler is not None:
            self._spooler.back(spooled, packs)
            self.held += sum(pack.size for pack in packs)
        if len(packs) == 1:
            self._drop(packs[0], "broker")
            return
        half = len(packs) // 2  # one bad message must not take others with it
        self._again += (packs[:half], packs[half:])

    def _settle(self, packs: list[Pack]) -> None:
        self.held -= sum(pack.size for pack in packs)

    def _drop(self, pack: Pack, cause: str) -> None:
        self._settle([pack])
        if pack.counts is not None:
            pack.counts.lost[cause] += pack.envelopes
            if self._spooler is not None and pack.counts is self._spooler.left:
                log_lost(pack.envelopes, cause)

    def _is_long(self, now: float) -> bool:
        if self.held > self._budget // SPOOL_SHARE:
            return True
        packs = (pack for group in (self._waiting, *self._again) for pack in group)
        # A heartbeat alone waits: the next one says all that it does.
        oldest = min((pack.since for pack in packs if pack.envelopes), default=now)
        return self._pause > 0 and now - oldest > SPOOL_SECONDS
