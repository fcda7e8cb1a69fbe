"""Receives beside the batches: what has arrived is on disk and recorded, however long they take."""

from __future__ import annotations

import threading
import time
from typing import Protocol

from pipelines.journal import Journal
from pipelines.logs import log
from pipelines.room import want_of_room
from schemas import ConfigurationError

FETCH_SECONDS = 1.0
PAUSE_SECONDS = 1.0
MAX_WAITING_BYTES = 4 << 30
"""Received and not yet run; more is left where it is."""


class Source(Protocol):
    """Where messages come from."""

    def fetch(self, seconds: float) -> int:
        """Wait for up to that long, record what has come in the journal, and say how much it is."""

    def close(self) -> None:
        """Receive no more."""


class Intake:
    """A thread that fetches until it is closed.

    Attributes:
        arrived: set when something was recorded; for others to clear.
        last_arrival: when, in seconds of `time.monotonic`.
        refused: why the source will never give anything, if so.
    """

    def __init__(self, source: Source, journal: Journal) -> None:
        self.arrived = threading.Event()
        self.last_arrival = time.monotonic()
        self.refused: ConfigurationError | None = None
        self._source = source
        self._journal = journal
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True, name="weighbridge-intake")
        self._thread.start()

    def close(self) -> None:
        """Stop, after what is being recorded."""
        self._closed.set()
        self._source.close()
        self._thread.join()

    def _run(self) -> None:
        while not self._closed.is_set():
            try:
                if self._journal.waiting_bytes() > MAX_WAITING_BYTES:
                    self._closed.wait(PAUSE_SECONDS)
                elif self._source.fetch(FETCH_SECONDS):
                    self.last_arrival = time.monotonic()
                    self.arrived.set()
            except ConfigurationError as error:
                self.refused = error
                self.arrived.set()
                return
            except Exception as error:  # a full disk, a broker that is away: nothing is lost by it
                if not self._closed.is_set():
                    want = want_of_room(error)
                    why = f", as {want.what}" if want else f" with {type(error).__name__}"
                    log.warning("receiving failed%s; trying again", why)
                    self._closed.wait(PAUSE_SECONDS)
