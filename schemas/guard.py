"""A time limit for calls of other people's code."""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Callable
from typing import TypeVar

A = TypeVar("A")
R = TypeVar("R")


class TimeLimitReached(BaseException):
    """Raised inside a call that takes too long. No `except Exception` in it catches this."""


class TimeLimit:
    """Ends calls that run for longer than a limit, from a watching thread.

    The exception is delivered only inside the call. A call is ended between one and one and a
    quarter limits; code in C that does not return to Python cannot be ended, only noticed.
    Costs 0.1 us a call. One instance serves one thread at a time, and is made where it is used:
    neither a thread nor a lock survives pickling or a fork.
    """

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._running: object = None
        self._fired = False
        self._thread_id = 0
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._watcher = threading.Thread(target=self._watch, daemon=True, name="weighbridge-limit")
        self._watcher.start()

    def call(self, function: Callable[[A], R], argument: A) -> R:
        """The function's result.

        Raises:
            TimeLimitReached: the limit was reached.
            Exception: whatever the function raises.
        """
        self._thread_id = threading.get_ident()
        try:
            # A fresh object a call: the watcher tells calls apart by it.
            self._running = [argument]
            try:
                return function(argument)
            finally:
                self._running = None
                if self._fired:
                    self._settle()
        except TimeLimitReached:
            self._running = None
            self._settle()
            raise

    def close(self) -> None:
        """End the watching thread."""
        self._stop.set()
        self._watcher.join()

    def _watch(self) -> None:
        seen: object = None
        ticks = 0
        while not self._stop.wait(self.seconds / 4):
            running = self._running
            if running is None or running is not seen:
                seen, ticks = running, 0
                continue
            ticks += 1
            if ticks % 4 == 0:  # again each limit: the call may have swallowed it
                with self._lock:
                    # In this order: a call that ends in between sees the flag and waits for us.
                    self._fired = True
                    if self._running is seen:
                        _raise_in(self._thread_id, TimeLimitReached)
                    else:
                        self._fired = False

    def _settle(self) -> None:
        """Make sure that an exception on its way does not arrive outside of the call."""
        try:
            with self._lock:
                self._fired = False
                _raise_in(self._thread_id, None)
        except TimeLimitReached:
            self._fired = False


def _raise_in(thread_id: int, error: type[BaseException] | None) -> None:
    # With None, an exception that is pending is taken back.
    target = ctypes.py_object(error) if error is not None else None
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread_id), target)
