"""One table after another: drop old days, compact, merge manifests, forget snapshots, sweep."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime, timedelta

from pyiceberg.exceptions import CommitFailedException
from pyiceberg.table import Table
from pyiceberg.table.snapshots import Operation

from pipelines.files import DAY
from pipelines.maintain.compact import compact, groups
from pipelines.maintain.live import has_deletes, live_files
from pipelines.maintain.retain import drop, expired
from pipelines.maintain.sweep import sweep
from pipelines.manifests import manifests_of
from pipelines.snapshots import Change, add_snapshot, forget_snapshots
from pipelines.tables import Tables

MANIFESTS = 8
"""So many may stay, and one more for each `FILES_OF_MANIFEST` files."""
FILES_OF_MANIFEST = 500
SNAPSHOT_AGE = timedelta(days=1)
_FOLDER = "upkeep"
_EPOCH = datetime.fromtimestamp(0, UTC)
Clock = Callable[[], datetime]


@dataclass
class Done:
    """What was done to a table, or with `dry_run` would be; files and bytes are those of its rows.

    Attributes:
        duplicates: rows removed that were there twice.
        days: dropped as they are older than rows are to be kept.
        swept: files deleted that nothing named.
        compacted: whether another program's delete files leave compaction to that program.
    """

    table: str
    files_before: int = 0
    bytes_before: int = 0
    files: int = 0
    bytes: int = 0
    duplicates: int = 0
    days: int = 0
    swept: int = 0
    compacted: bool = True


@dataclass
class Memory:
    """What the last maintenance of a table left behind for the next one.

    Attributes:
        at: when it ended, in seconds since 1970.
        files: data files that it left.
        marks: see `pipelines.maintain.sweep.Swept`.
    """

    at: float = 0.0
    files: int = 0
    marks: dict[str, float] = field(default_factory=dict)


class Upkeep:
    """Maintains tables. Two at once are harmless, and do the work twice.

    Args:
        tables: the tables.
        retention: how long rows are kept, by full name of table.
        clock: gives the time.
    """

    def __init__(
        self,
        tables: Tables,
        retention: Mapping[str, timedelta],
        clock: Clock = lambda: datetime.now(UTC),
    ) -> None:
        self._tables = tables
        self._retention = retention
        self._clock = clock

    def run(self, name: str, dry_run: bool = False) -> Done:
        """Do all that a table needs."""
        done = Done(name)
        if dry_run:
            self._plan(done)
        else:
            for _ in self.steps(done):
                pass
        return done

    def steps(self, done: Done) -> Iterator[None]:
        """The same in parts of some seconds; what a part has done stays done."""
        name = done.table
        done.files_before, done.bytes_before = self._count(name)
        yield from self._drop(done)
        yield from self._compact(done)
        self._tidy(name)
        yield
        swept = sweep(self._tables, name, recall(self._tables, name).marks)
        done.swept = swept.files
        done.files, done.bytes = self._count(name)
        remember(self._tables, name, Memory(time.time(), done.files, swept.marks))

    def _drop(self, done: Done) -> Iterator[None]:
        retention = self._retention.get(done.table)
        while retention is not None:
            files = live_files(self._tables.load(done.table))
            old = expired(files, retention, self._clock())
            if not old:
                return
            if drop(self._tables, done.table, old):
                done.days += len({file.day for file in old})
            yield

    def _compact(self, done: Done) -> Iterator[None]:
        table = self._tables.load(done.table)
        done.compacted = not has_deletes(table)
        if not done.compacted:
            return
        files = live_files(table)
        live = {file.location for file in files}
        for group in groups(files, self._today()):
            found = compact(self._tables, done.table, group, live)
            done.duplicates += found.duplicates if found else 0
            yield

    def _tidy(self, name: str) -> None:
        """Merge manifests and forget snapshots; a lost race leaves it to the next time."""
        with self._tables.store.locked(f"locks/{name}"):
            table = self._tables.load(name)
            try:
                if _scattered(table):
                    add_snapshot(table, Change(Operation.REPLACE, merged=True))
                    table = self._tables.load(name)
                # Else a table without commits would keep what it has dropped.
                forget_snapshots(table, older=SNAPSHOT_AGE)
            except CommitFailedException:
                return

    def _plan(self, done: Done) -> None:
        table = self._tables.load(done.table)
        files = live_files(table)
        done.files_before, done.bytes_before = len(files), sum(file.bytes for file in files)
        retention = self._retention.get(done.table)
        old = [] if retention is None else expired(files, retention, self._clock())
        gone = {file.location for file in old}
        done.days = len({file.day for file in old})
        done.compacted = not has_deletes(table)
        kept = [file for file in files if file.location not in gone]
        found = list(groups(kept, self._today())) if done.compacted else []
        done.files = len(kept) - sum(len(group) - 1 for group in found)
        done.bytes = sum(file.bytes for file in kept)  # what compaction saves is not known before
        marks = recall(self._tables, done.table).marks
        done.swept = sweep(self._tables, done.table, marks, dry_run=True).files

    def _count(self, name: str) -> tuple[int, int]:
        files = live_files(self._tables.load(name))
        return len(files), sum(file.bytes for file in files)

    def _today(self) -> int:
        return ((self._clock() - _EPOCH) // timedelta(microseconds=1)) // DAY


def lock_of(name: str) -> str:
    """The lock in a home of who maintains a table."""
    return f"{_FOLDER}/{name}"


def recall(tables: Tables, name: str) -> Memory:
    """What the last maintenance of a table left behind."""
    try:
        return Memory(**json.loads(tables.store.read(_memory(name))))
    except FileNotFoundError:
        return Memory()


def remember(tables: Tables, name: str, memory: Memory) -> None:
    """Leave something behind for the next maintenance."""
    tables.store.write(_memory(name), json.dumps(asdict(memory)).encode())


def stored_files(table: Table) -> int:
    """Data files of a table by the summary of its snapshot: a look at the metadata only."""
    snapshot = table.current_snapshot()
    summary = snapshot.summary if snapshot else None
    return int((summary and summary["total-data-files"]) or 0)


def _scattered(table: Table) -> bool:
    return len(manifests_of(table)) > MANIFESTS + stored_files(table) // FILES_OF_MANIFEST


def _memory(name: str) -> str:
    return f"{_FOLDER}/{name}.json"
