"""Models that harm the others are set aside: their envelopes are parked until a sample goes well.

What is known of a model outlives the process, as a follower forks one for each batch: a small file
in the home, written only for models in trouble.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass, replace

from extractors import Extractor
from pipelines.logs import about, log
from pipelines.store import Store

FOLDER = "quarantine"
EVIDENCE, SAMPLE = 100, 20
"""Envelopes after which a model is judged: while it is well, and when it is tried again."""
PATIENCE = 3
"""Or the time that so many time-outs take; when it is tried again, one."""
MAX_WAIT_SECONDS = 86400.0


@dataclass
class Record:
    """What is known of one version of an extractor.

    Attributes:
        cause: why it is quarantined, "" if it is not; without values of the input.
        since: when that began, seconds since 1970.
        probe_at: when a sample is tried; None if never, as it would end the process.
        probes: samples that were tried without success.
        calls: envelopes, of which `failures` failed.
        timed: envelopes that took `seconds`.
    """

    table: str
    extractor_version: str
    cause: str = ""
    since: float = 0.0
    probe_at: float | None = 0.0
    probes: int = 0
    calls: int = 0
    failures: int = 0
    timed: int = 0
    seconds: float = 0.0

    @property
    def name(self) -> str:
        """Of the object that holds it."""
        return f"{FOLDER}/{self.table}.json"


class Quarantine:
    """The records of a home.

    Args:
        store: the home.
        judging: whether models are judged; those that took down a process are set aside anyhow.
        clock: gives seconds since 1970.
    """

    def __init__(self, store: Store, judging: bool, clock: Callable[[], float] = time.time) -> None:
        self._store = store
        self._judging = judging
        self._clock = clock
        self._records = {record.table: record for record in records(store)}

    def ward(self, extractor: Extractor) -> Ward:
        """Who watches over one extractor."""
        record = self._records.get(extractor.table)
        if record is None or record.extractor_version != extractor.version:
            record = Record(extractor.table, extractor.version)  # another version may be mended
        elif record.probe_at is not None and not self._judging:
            record = Record(extractor.table, extractor.version)
        return Ward(extractor, record, self._store, self._judging, self._clock)


class Ward:
    """Watches over one extractor, and says how many envelopes it may be given."""

    def __init__(
        self,
        extractor: Extractor,
        record: Record,
        store: Store,
        judging: bool,
        clock: Callable[[], float],
    ) -> None:
        settings = extractor.settings
        self._record = record
        self._stored = replace(record)
        self._store = store
        self._clock = clock
        self._timeout = settings.timeout.total_seconds()
        # A call at its limit is slow, however short that is.
        self._slow = min(settings.quarantine_time.total_seconds(), 0.9 * self._timeout)
        self._failing = settings.quarantine_failures
        self._wait = settings.quarantine_for.total_seconds()
        self.judging = judging

    @property
    def quarantined(self) -> bool:
        """Whether its envelopes are parked, but for samples."""
        return bool(self._record.cause)

    def admitted(self) -> int | None:
        """How many envelopes it may be given now; None for any number."""
        record = self._record
        if not record.cause:
            return None
        if record.probe_at is None or self._clock() < record.probe_at:
            return 0
        return max(1, SAMPLE - record.calls)

    def took(self, calls: int, failures: int, seconds: float) -> None:
        """Take note of calls that ended."""
        record = self._record
        record.calls += calls
        record.failures += failures
        record.timed += calls
        record.seconds += seconds

    def refused(self, failures: int) -> None:
        """Take note of envelopes whose rows were refused later."""
        self._record.failures += failures

    def judge(self, settled: bool) -> None:
        """Quarantine it or let it back in, if what was noted says so.

        Args:
            settled: whether all of its rows were checked.
        """
        record = self._record
        enough, patience = (SAMPLE, 1) if record.cause else (EVIDENCE, PATIENCE)
        if record.timed >= enough or record.seconds >= patience * self._timeout:
            mean = record.seconds / record.timed
            if mean > self._slow:
                self._set_aside(f"takes {mean:.2g} s an envelope, more than {self._slow:.2g} s")
                return
            if not record.cause:
                record.timed, record.seconds = 0, 0.0
        if settled and record.calls >= enough:
            if self._is_failing():
                share = f"more than {self._failing:g} of its envelopes"
                self._set_aside(f"fails on {share}: {record.failures} of {record.calls}")
            elif record.cause:
                who = record.table
                log.warning("%s is let back in: a sample went well", who, extra=about(who))
                self._forget()
            else:
                record.calls = record.failures = 0

    def save(self) -> None:
        """Keep what the next process must know; nothing of a model that is well."""
        record = self._record
        slow = record.timed and record.seconds / record.timed > self._slow
        if not record.cause and not slow and not self._is_failing():
            if self._stored.calls or self._stored.timed:
                self._store.remove(record.name)
                self._stored = Record(record.table, record.extractor_version)
        elif record != self._stored:
            self._write()

    def _is_failing(self) -> bool:
        return self._record.failures > self._failing * self._record.calls

    def _set_aside(self, cause: str) -> None:
        record, now = self._record, self._clock()
        if record.cause:
            record.probes += 1
        wait = min(MAX_WAIT_SECONDS, self._wait * 2**record.probes)
        record.since = record.since or now
        record.cause, record.probe_at = cause, now + wait
        record.calls = record.failures = record.timed = 0
        record.seconds = 0.0
        self._write()
        log.warning(
            "%s is quarantined: %s. Its envelopes are parked, and a sample is tried in %.0f s",
            record.table,
            cause,
            wait,
            extra=about(record.table),
        )

    def _write(self) -> None:
        write(self._store, self._record)
        self._stored = replace(self._record)

    def _forget(self) -> None:
        record = Record(self._record.table, self._record.extractor_version)
        self._store.remove(record.name)
        self._record, self._stored = record, replace(record)


def set_aside_for_good(store: Store, table: str, extractor_version: str, cause: str) -> None:
    """Quarantine a version of an extractor that takes down the process it runs in."""
    write(store, Record(table, extractor_version, cause, time.time(), None))
    log.error(
        "%s %s. It took down its process, and is quarantined: its envelopes are parked until its "
        "module changes or %s is removed",
        table,
        cause,
        store.path(f"{FOLDER}/{table}.json"),
        extra=about(table),
    )


def write(store: Store, record: Record) -> None:
    """Make a record durable."""
    store.write(record.name, json.dumps(asdict(record), indent=1).encode())


def records(store: Store) -> Iterator[Record]:
    """The records of a home; one that is damaged counts as none."""
    for name in store.names(FOLDER, ".json"):
        with suppress(FileNotFoundError, ValueError, TypeError):
            yield Record(**json.loads(store.read(name)))


def release(store: Store, tables: Collection[str]) -> list[Record]:
    """Let models back in whatever was found; the next process extracts them as if nothing was.

    Args:
        store: the home.
        tables: of the models.

    Returns:
        What was known of those that were quarantined.
    """
    found = [one for one in records(store) if one.cause and one.table in tables]
    for one in found:
        store.remove(one.name)
    return found
