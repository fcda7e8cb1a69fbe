"""Runs one batch after another of what arrives, until it is told to stop."""

from __future__ import annotations

import signal
import threading
import time
import traceback
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pipelines.batch import BatchRunner
from pipelines.batches import cut
from pipelines.display import Display, Status
from pipelines.intake import Intake
from pipelines.journal import Batch, Journal
from pipelines.logs import log
from pipelines.metrics import UNKNOWN, Counts, merge
from pipelines.options import RunOptions
from pipelines.pusher import Pusher
from pipelines.retention import prune
from pipelines.room import want_of_room
from pipelines.store import Store
from pipelines.workers import WorkerFailed, WorkersGone
from schemas import ConfigurationError, Stage

MIN_WAIT_SECONDS, MAX_WAIT_SECONDS = 5.0, 600.0
"""Before a batch that failed is tried again: doubled each time."""
STATUS_SECONDS = 5.0
RATE_SECONDS = 30.0
PRUNE_SECONDS = 60.0
_SIGNALS = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def only_follower(home: Path) -> Iterator[None]:
    """Keep other followers out of a home.

    Raises:
        ConfigurationError: there is one.
    """
    with Store(home).try_locked("follow") as ours:
        if not ours:
            raise ConfigurationError(
                f"another `weighbridge run` follows into {home}; stop it, or give this one "
                "a --home of its own"
            )
        yield


class Follower:
    """Runs what an intake records.

    Args:
        batches: runs them.
        journal: what was received, and what became of it.
        intake: receives.
        pusher: pushes what was committed, if anything is pushed.
        options: intervals and limits.
        display: is told how it goes.
    """

    def __init__(
        self,
        batches: BatchRunner,
        journal: Journal,
        intake: Intake,
        pusher: Pusher | None,
        options: RunOptions,
        display: Display,
    ) -> None:
        self._batches = batches
        self._journal = journal
        self._intake = intake
        self._pusher = pusher
        self._options = options
        self._display = display
        self._stop = threading.Event()
        self._counts: Counts = {}
        self._files = 0
        self._lag = 0.0
        self._failing = 0
        self._recent: deque[tuple[float, int]] = deque([(time.monotonic(), 0)])
        self._told = self._pruned = 0.0

    def run(self) -> tuple[int, Counts]:
        """Follow until a signal comes or nothing does; files that were run, and counts.

        Raises:
            ConfigurationError: the source refuses us.
            WorkersGone: no batch can be run any more.
        """
        with self._signals():
            for batch in self._journal.in_hand():
                self._attempt(batch)
            while not self._stop.is_set() and not self._idle():
                started = time.monotonic()
                self._run_waiting()
                self._run_due(time.time())
                self._keep_house()
                self._wait(started + self._options.commit_interval)
            self._intake.close()
            self._run_waiting()
            if not self._stop.is_set():
                self._run_due(float("inf"))
        if self._pusher is not None:
            self._pusher.finish()
            self._counts = merge([self._counts, self._pusher.counts])
        self._display.status(self._status())
        if self._intake.refused is not None:
            raise self._intake.refused
        return self._files, self._counts

    @property
    def failing(self) -> list[Batch]:
        """Batches that could not be run."""
        return self._journal.in_hand()

    def stop(self) -> None:
        """End after what is in hand."""
        self._stop.set()
        self._intake.arrived.set()

    def _run_waiting(self) -> None:
        self._intake.arrived.clear()
        for part in cut(self._journal.waiting()):
            self._attempt(self._journal.begin(part))

    def _run_due(self, now: float) -> None:
        in_hand = self._journal.in_hand() if self._failing else []
        for batch in in_hand:
            if batch.retry_at <= now:
                self._attempt(batch)

    def _attempt(self, batch: Batch) -> None:
        try:
            counted = self._batches.run(_present(batch))
        except WorkersGone:  # each batch would fail; the next start goes on with this one
            raise
        except Exception as error:
            wait = min(MAX_WAIT_SECONDS, MIN_WAIT_SECONDS * 2**batch.failures)
            self._journal.failed(batch, wait)
            self._failing = len(self._journal.in_hand())
            names = ", ".join(file.path for file in batch.files)
            log.error("batch failed, again in %.0f s: %s\n%s", wait, names, _described(error))
            return
        self._journal.done(batch)
        if self._failing:
            self._failing = len(self._journal.in_hand())
        self._files += len(batch.files)
        self._counts = merge([self._counts, counted])
        self._recent.append((time.monotonic(), self._envelopes()))
        if batch.files:  # none is left of a batch whose files were all replaced
            self._lag = time.time() - min(file.published for file in batch.files) / 1e9
        if self._pusher is not None and any("rows_written" in n for n in counted.values()):
            self._pusher.notify()
        self._tell()

    def _wait(self, due: float) -> None:
        """Until the next batch is due and there is something for it, or there is other work."""
        while not self._stop.is_set():
            now = time.monotonic()
            if now < due:
                self._stop.wait(due - now)
            elif self._intake.arrived.wait(min(1.0, self._options.commit_interval)):
                return
            else:
                self._tell()
                return

    def _idle(self) -> bool:
        if self._intake.refused is not None:
            return True
        limit = self._options.exit_when_idle
        if limit is None or self._journal.waiting():
            return False
        return time.monotonic() - self._intake.last_arrival >= limit

    def _keep_house(self) -> None:
        now = time.monotonic()
        if self._options.input_subscription and now - self._pruned >= PRUNE_SECONDS:
            self._pruned = now
            options = self._options
            prune(self._journal, options.archive, options.archive_age, options.archive_bytes)

    def _tell(self) -> None:
        if time.monotonic() - self._told >= STATUS_SECONDS:
            self._told = time.monotonic()
            self._display.status(self._status())

    def _status(self) -> Status:
        now = time.monotonic()
        while len(self._recent) > 1 and self._recent[1][0] < now - RATE_SECONDS:
            self._recent.popleft()
        (first, before), envelopes = self._recent[0], self._envelopes()
        failures = sum(
            names.get(f"failures_{stage}", 0) for names in self._counts.values() for stage in Stage
        )
        return Status(
            envelopes,
            (envelopes - before) / max(now - first, 1e-3),
            self._lag,
            failures,
            self._pusher.undelivered if self._pusher is not None else 0,
            self._failing,
        )

    def _envelopes(self) -> int:
        parked = self._counts.get(UNKNOWN, {}).get("envelopes_parked", 0)
        return parked + sum(names.get("envelopes_decoded", 0) for names in self._counts.values())

    @contextmanager
    def _signals(self) -> Iterator[None]:
        """SIGINT and SIGTERM end it after the batch in hand; a second one at once."""

        def handle(number: int, frame: Any) -> None:
            if self._stop.is_set():
                raise KeyboardInterrupt
            self._display.say("stopping after the batch in hand; once more to stop at once")
            self.stop()

        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.signal(number, handle) for number in _SIGNALS}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def _present(batch: Batch) -> Sequence[Any]:
    present = [file for file in batch.files if Path(file.path).exists()]
    for file in batch.files:
        if file not in present:
            log.warning("%s is gone, and left out", file.path)
    return present


def _described(error: Exception) -> str:
    want = want_of_room(error)
    if want is not None:
        return want.what
    if isinstance(error, (WorkerFailed, ConfigurationError)):
        return str(error)
    # Texts of foreign errors may quote payloads; classes, places and source lines do not.
    places = "".join(traceback.format_tb(error.__traceback__))
    return f"{type(error).__name__}\n{places}"
