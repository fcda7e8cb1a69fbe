"""Pushes beside the batches, so that a slow Arize does not hold up the tables."""

from __future__ import annotations

import threading

from pipelines.logs import log
from pipelines.metrics import UNKNOWN, Counts, merge
from pipelines.push import Push

PAUSE_SECONDS = 15.0
"""After a delivery that left all it found. A space that is down is asked when its breaker says."""
FINISH_SECONDS = 60.0


class Pusher:
    """A thread that delivers the outbox when there is something new, and what is left by and by.

    Args:
        push: used by this thread only.

    Attributes:
        undelivered: rows that Arize had not acknowledged after the latest delivery.
    """

    def __init__(self, push: Push) -> None:
        self.undelivered = 0
        self._push = push
        self._counts: Counts = {}
        self._due = threading.Event()
        self._last = threading.Event()
        self._due.set()  # what an earlier run has left
        self._thread = threading.Thread(target=self._run, daemon=True, name="weighbridge-push")
        self._thread.start()

    @property
    def counts(self) -> Counts:
        """Rows pushed so far, by table."""
        return self._counts

    def notify(self) -> None:
        """Say that something was committed."""
        self._due.set()

    def finish(self) -> None:
        """Deliver what is there, and end; what takes too long is left to the next run."""
        self._last.set()
        self._due.set()
        self._thread.join(FINISH_SECONDS)

    def _run(self) -> None:
        while not self._last.is_set():
            self._due.wait()
            self._due.clear()
            if self._deliver():
                if self.undelivered:  # committed meanwhile: no outage
                    self._due.set()
            else:
                self._last.wait(PAUSE_SECONDS)
                self._due.set()
        if self._due.is_set():
            self._deliver()

    def _deliver(self) -> bool:
        """Whether there is nothing to wait for: all was sent, or some of it was."""
        try:
            pushed = self._push.deliver(wait=False)
            self.undelivered = self._push.pending_rows()
        except Exception as error:  # the outbox keeps everything
            log.warning("pushing failed with %s; trying again", type(error).__name__)
            return False
        found = {table: {"rows_pushed": rows} for table, rows in pushed.items()}
        found[UNKNOWN] = {"pushes_denied": int(self._push.denied)}
        self._counts = merge([self._counts, found])
        return bool(pushed) or not self.undelivered
