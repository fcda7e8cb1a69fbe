"""Maintains tables beside the batches, a little at a time."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterable

from extractors import Extractors
from pipelines.destination import Destination
from pipelines.ledger import PLATFORM, SCHEMAS
from pipelines.logs import log
from pipelines.maintain.retain import retentions
from pipelines.maintain.sweep import sweep_unfinished
from pipelines.maintain.upkeep import Done, Upkeep, lock_of, recall, stored_files
from pipelines.metrics import Counts
from pipelines.store import Store
from pipelines.tables import MODELS, Tables, metrics_of, table_of

LOOK_SECONDS = 300.0
"""From look to look at what has to be done: for each table, at its metadata only."""
DAILY_SECONDS = 24 * 3600.0
"""Days end, rows grow too old and files become unneeded without a commit."""
MORE_FILES = 64
"""Files since the last maintenance that make a table worth another one."""
REST = 4.0
"""Rests for each second of work, so that commits and pushes have this process to themselves."""
BUDGET_SECONDS = 10.0
"""At the end of a run over files."""
LOOKS = 100
"""At the end of a run, at so many tables at most: a look takes some milliseconds."""
_FINISH_SECONDS = 10.0


class Keeper:
    """Looks after the tables of a home.

    Args:
        tables: the tables.
        extractors: whose settings say how long rows are kept.
    """

    def __init__(self, tables: Tables, extractors: Extractors) -> None:
        self._tables = tables
        self._upkeep = Upkeep(tables, retentions(extractors))
        self._store = Store(tables.home)

    def look_after(
        self,
        pause: Callable[[float], bool],
        daily: bool = True,
        names: Iterable[str] | None = None,
    ) -> list[Done]:
        """Maintain the tables that are due, unless another process does.

        Args:
            pause: told after each look and part how many seconds it took; true to stop there.
            daily: whether a table is due after a day, too, and not only for its files.
            names: of tables, else all.
        """
        finished: list[Done] = []
        for name in self._all() if names is None else names:
            started = time.monotonic()
            due = self._is_due(name, daily)
            if pause(time.monotonic() - started):
                return finished
            if not due:
                continue
            with self._store.try_locked(lock_of(name)) as ours:
                done, started = Done(name), time.monotonic()
                for _ in self._upkeep.steps(done) if ours else ():
                    if pause(time.monotonic() - started):
                        return finished
                    started = time.monotonic()
            finished += [done] if ours else []
        if finished and daily:
            sweep_unfinished(self._store)
        return finished

    def _all(self) -> list[str]:
        return [*self._tables.names(MODELS), *self._tables.names(PLATFORM)]

    def _is_due(self, name: str, daily: bool) -> bool:
        memory = recall(self._tables, name)
        if daily and time.time() - memory.at >= DAILY_SECONDS:
            return True
        return stored_files(self._tables.load(name)) - memory.files >= MORE_FILES


class KeeperThread:
    """A thread that looks after tables while a follower runs.

    Args:
        keeper: used by this thread only.
    """

    def __init__(self, keeper: Keeper) -> None:
        self._keeper = keeper
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True, name="weighbridge-upkeep")
        self._thread.start()

    def finish(self) -> None:
        """End after the part in hand; what is left is left to the next time."""
        self._stop.set()
        self._thread.join(_FINISH_SECONDS)

    def _run(self) -> None:
        while not self._stop.wait(LOOK_SECONDS):
            try:
                self._keeper.look_after(lambda took: self._stop.wait(REST * took))
            except Exception as error:  # nothing depends on it; it is tried again
                log.warning("maintenance failed with %s; trying again", type(error).__name__)


def keeper_of(tables: Destination, extractors: Extractors) -> Keeper | None:
    """Who looks after the tables; nobody where these look after themselves."""
    return Keeper(tables, extractors) if isinstance(tables, Tables) else None


def after_run(tables: Destination, extractors: Extractors, written: Counts) -> list[str]:
    """A look at tables after a run over files, and some seconds of work where they need it.

    Args:
        tables: the tables.
        extractors: whose settings say how long rows are kept.
        written: what the run has counted; only tables that it wrote to are looked at, and of
            hundreds only some, others each time.

    Returns:
        A line for each table that was changed.
    """
    keeper = keeper_of(tables, extractors)
    if keeper is None:
        return []
    names = [
        name
        for name in (*(table_of(item).name for item in extractors.values()), *SCHEMAS)
        if name in SCHEMAS or written.get(metrics_of(name), {}).get("rows_written")
    ]
    names = random.sample(names, min(LOOKS, len(names)))
    begun = time.monotonic()
    try:
        found = keeper.look_after(
            lambda _: time.monotonic() - begun >= BUDGET_SECONDS, daily=False, names=names
        )
    except Exception as error:  # the run itself is done
        log.warning("maintenance failed with %s", type(error).__name__)
        return []
    return [
        f"compacted {done.table}: {done.files_before:,} files -> {done.files:,}"
        for done in found
        if done.files != done.files_before
    ]
