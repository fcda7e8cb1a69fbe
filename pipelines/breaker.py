"""A circuit breaker: what is down is asked once in a while, and by one at a time."""

from __future__ import annotations

import threading
from collections.abc import Callable

MIN_OPEN_SECONDS, MAX_OPEN_SECONDS = 15.0, 300.0
"""Doubled with each failure in a row."""


class Breaker:
    """Guards one Arize space, for all threads and deliveries of a process.

    Closed after a success: all may upload. Open after a failure: nobody may, until a while has
    passed. Then, and at the very start, one upload goes alone, and its outcome decides.

    Args:
        clock: seconds, of any origin.
        attempts: how often one upload may be tried.
    """

    def __init__(self, clock: Callable[[], float], attempts: int) -> None:
        self._clock = clock
        self._attempts = attempts
        self._turn = threading.Condition()
        self._proven = False
        self._trying = False
        self._failures = 0
        self._until = 0.0

    @property
    def open(self) -> bool:
        """Whether nobody may upload now."""
        with self._turn:
            return self._is_open()

    def enter(self) -> int:
        """How often an upload may be tried now: 0 while it is open, once to see whether it heals.

        Waits for the one that goes alone. What enters must leave by `succeeded`, `failed` or
        `left`, unless it got 0.
        """
        with self._turn:
            while self._trying:
                self._turn.wait()
            if self._is_open():
                return 0
            if not self._proven:
                self._trying = True
            return 1 if self._failures else self._attempts

    def succeeded(self) -> None:
        """It was acknowledged, or refused for its content: the space answers."""
        with self._turn:
            self._proven, self._trying, self._failures = True, False, 0
            self._turn.notify_all()

    def left(self) -> None:
        """It did not upload: nothing is known."""
        with self._turn:
            self._trying = False
            self._turn.notify_all()

    def failed(self) -> None:
        """It was not taken."""
        with self._turn:
            if not self._is_open():  # several that were under way count as one failure
                wait = min(MAX_OPEN_SECONDS, MIN_OPEN_SECONDS * 2.0**self._failures)
                self._until = self._clock() + wait
                self._failures += 1
            self._proven = self._trying = False
            self._turn.notify_all()

    def _is_open(self) -> bool:
        return bool(self._failures) and self._clock() < self._until
