"""Limits of time and memory for calls of other people's code."""

from __future__ import annotations

import ctypes
import resource
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple, TypeVar

A = TypeVar("A")
R = TypeVar("R")
TICK_SECONDS = 0.1
"""How often the watching thread looks: a call is ended up to two ticks after its limit."""


GRACE_SECONDS = 5.0
"""How long a call may go on after it was told to end; then it is in code that cannot be ended."""
GROWTH_BYTES = 1 << 30
"""How much one call may add to the most memory that the process ever had."""
_MAXRSS_BYTES = 1 if sys.platform == "darwin" else 1024


class TimeLimitReached(BaseException):
    """Raised inside a call that takes too long. No `except Exception` in it catches this."""


class MemoryLimitReached(BaseException):
    """Raised inside a call that takes too much memory."""


class Raised(NamedTuple):
    """What a call raised, instead of a result."""

    error: BaseException


class TimeLimit:
    """Ends calls that take longer than they may, or too much memory, from a watching thread.

    The exception is delivered only inside the call. Code in C that does not return to Python
    cannot be ended; whoever made us is told. One instance serves one thread at a time, and is made
    where it is used: neither a thread nor a lock survives pickling or a fork.

    Args:
        on_tick: called by the watching thread every `TICK_SECONDS`.
        on_stuck: called by it when a call goes on for `GRACE_SECONDS` after its limit, with that
            limit in seconds.

    Attributes:
        ticks: grows every `TICK_SECONDS`: a look at it is cheaper than one at the clock.
    """

    def __init__(
        self,
        on_tick: Callable[[], None] | None = None,
        on_stuck: Callable[[float], None] | None = None,
    ) -> None:
        self.ticks = 0
        self._on_tick = on_tick
        self._on_stuck = on_stuck
        self._running: tuple[object, float] | None = None
        self._fired = False
        self._thread_id = 0
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._watcher = threading.Thread(target=self._watch, daemon=True, name="weighbridge-limit")
        self._watcher.start()

    def each(
        self, function: Callable[[A], R], arguments: Iterable[A], seconds: float
    ) -> Iterator[R | Raised]:
        """For each argument the function's result, or what it raised.

        Many calls in one generator, as what surrounds a call costs as much as a small one.

        Args:
            function: called once for each argument.
            arguments: taken one by one, outside of the limit.
            seconds: for each call; one that takes longer has raised `TimeLimitReached`, and one
                that takes `GROWTH_BYTES` of memory `MemoryLimitReached`.
        """
        self._thread_id = threading.get_ident()
        for argument in arguments:
            outcome: R | Raised
            try:
                # A fresh tuple a call: the watcher tells calls apart by it, and no clock is read.
                self._running = (argument, seconds)
                try:
                    outcome = function(argument)
                finally:
                    self._running = None
                    if self._fired:
                        self._settle()
            except (TimeLimitReached, MemoryLimitReached) as error:
                self._running = None
                self._settle()
                outcome = Raised(error)
            except BaseException as error:  # whatever other people's code does, also sys.exit
                outcome = Raised(error)
            yield outcome

    def close(self) -> None:
        """End the watching thread."""
        self._stop.set()
        self._watcher.join()

    def _watch(self) -> None:
        seen: tuple[object, float] | None = None
        began = since = 0.0
        peak = most = _peak_bytes()
        while not self._stop.wait(TICK_SECONDS):
            self.ticks += 1
            if self._on_tick is not None:
                self._on_tick()
            running, now, before = self._running, time.monotonic(), peak
            peak = _peak_bytes()
            if running is None or running is not seen:
                seen, began, since, most = running, now, now, before + GROWTH_BYTES
                continue
            if now - since >= running[1]:
                since = now  # again after another limit: the call may have swallowed it
                self._end(running, TimeLimitReached)
            elif peak > most:
                most = peak + GROWTH_BYTES
                self._end(running, MemoryLimitReached)
            stuck = now - began >= running[1] + GRACE_SECONDS and self._running is running
            if stuck and self._on_stuck is not None:
                self._on_stuck(running[1])

    def _end(self, running: tuple[object, float], error: type[BaseException]) -> None:
        with self._lock:
            # In this order: a call that ends in between sees the flag and waits for us.
            self._fired = True
            if self._running is running:
                _raise_in(self._thread_id, error)
            else:
                self._fired = False

    def _settle(self) -> None:
        """Make sure that an exception on its way does not arrive outside of the call."""
        try:
            with self._lock:
                self._fired = False
                _raise_in(self._thread_id, None)
        except (TimeLimitReached, MemoryLimitReached):
            self._fired = False


def _peak_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * _MAXRSS_BYTES


def _raise_in(thread_id: int, error: type[BaseException] | None) -> None:
    # With None, an exception that is pending is taken back.
    target = ctypes.py_object(error) if error is not None else None
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread_id), target)
