"""Takes rows out of a table for good: out of its files, its snapshots and the outbox."""

from __future__ import annotations

import pyarrow as pa
from pyiceberg.exceptions import CommitFailedException
from pyiceberg.table import Table
from pyiceberg.table.snapshots import Operation

from extractors import Extractor
from pipelines.address import folder_of, local_path, location_of
from pipelines.catalog import UNSETTLED, wait_to_retry
from pipelines.commit import ATTEMPTS
from pipelines.erase.done import Erased, tell_ledger
from pipelines.erased import ErasedRows, note_erased
from pipelines.files import DATA, FileRef, open_file, place_of, write_days
from pipelines.maintain.live import has_deletes, live_files
from pipelines.maintain.sweep import kept_paths, named_by
from pipelines.maintain.upkeep import lock_of
from pipelines.outbox import Outbox
from pipelines.snapshots import Change, FilesGoneError, add_snapshot, forget_snapshots
from pipelines.store import Store
from pipelines.tables import Tables
from schemas.errors import ConfigurationError

ORPHAN_SECONDS = 24 * 3600.0
"""A younger file that nothing names may be about to be committed."""
_DATA = ".parquet"


def erase_rows(tables: Tables, name: str, extractor: Extractor, rows: pa.Table) -> Erased:
    """Take rows out of a table, and delete all files that held them.

    What was erased before and is still on the disk goes, too. Killed half-way, it is to be
    called again: what is noted as erased stays so.

    Args:
        tables: where the table is.
        name: its full name.
        extractor: whose it is.
        rows: what `find_rows` found.

    Raises:
        ConfigurationError: another program's delete files stand in the way.
        CommitFailedException: other writers were faster `ATTEMPTS` times in a row.
    """
    if has_deletes(tables.load(name)):
        raise ConfigurationError(
            f"{name} has delete files of another program; rewrite its data files with that program"
        )
    outbox, done = Outbox(tables.home), Erased(name, rows.num_rows)
    # Compaction, the push and commits would carry on with what they have read.
    with (
        tables.store.locked(lock_of(name)),
        outbox.store.locked("deliver"),
        tables.store.locked(f"locks/{name}"),
    ):
        note_erased(tables.store, name, rows)
        erased = ErasedRows.of(tables.store, name)
        if not erased.keys:
            return done
        table = tables.load(name)
        before = set(named_by(table))
        tell_ledger(tables, extractor, rows)
        done.unsent = _empty_outbox(outbox, table, erased)
        done.files = _replace(tables, name, erased)
        before |= set(named_by(tables.load(name)))  # manifests say what was removed, with bounds
        _forget(tables, name)
        _delete(tables, name, before, erased, done)
    return done


def _replace(tables: Tables, name: str, erased: ErasedRows) -> int:
    """Commit the files of a table without the rows; how many there were."""
    for attempt in range(ATTEMPTS):
        table = tables.load(name)
        live = live_files(table)
        gone, written = set(), set()
        for file in live:
            if erased.between(file.low, file.high):
                path = local_path(file.location)
                kept = _kept(table, path, erased)
                if kept is not None:
                    gone.add(file.location)
                    refs = write_days(place_of(table), DATA, kept, 0)
                    written |= {location_of(ref.path) for ref in refs}
        if not gone:
            return 0
        added = sorted(written.difference(file.location for file in live))
        try:
            add_snapshot(table, Change(Operation.OVERWRITE, added, gone))
        except (*UNSETTLED, FilesGoneError) as error:
            wait_to_retry(error, attempt)
            continue
        return len(gone)
    raise CommitFailedException(f"{name}: {ATTEMPTS} conflicts in a row")


def _forget(tables: Tables, name: str) -> None:
    """Leave one snapshot, and no bounds of what was removed in its manifests."""
    for attempt in range(ATTEMPTS):
        try:
            add_snapshot(tables.load(name), Change(Operation.REPLACE, merged=True))
            forget_snapshots(tables.load(name), keep=1)
            return
        except UNSETTLED as error:
            wait_to_retry(error, attempt)
    raise CommitFailedException(f"{name}: {ATTEMPTS} conflicts in a row")


def _empty_outbox(outbox: Outbox, table: Table, erased: ErasedRows) -> int:
    """Let what waits for Arize wait without the rows; how many they were."""
    count, name = 0, ".".join(table.name())
    for entry in sorted(outbox.entries()):
        owner, files = outbox.read(entry)
        if owner != name:
            continue
        left: list[FileRef] = []
        for ref in files:
            near = erased.between(ref.min_time, ref.max_time)
            kept = _kept(table, ref.path, erased) if near else None
            if kept is None:
                left.append(ref)
            else:
                count += ref.rows - kept.num_rows
                left += write_days(place_of(table), DATA, kept, ref.checked)
        if not left:
            outbox.remove(entry)
        elif left != list(files):
            outbox.write(entry, name, tuple(left))
    return count


def _kept(table: Table, path: str, erased: ErasedRows) -> pa.Table | None:
    """The other rows of a file; None if it holds none that was erased."""
    with open_file(table.io, path) as file:
        return erased.left_of(file)


def _delete(tables: Tables, name: str, before: set[str], erased: ErasedRows, done: Erased) -> None:
    """Delete what the table names no more, and what was never committed and holds such rows."""
    table = tables.load(name)
    store = Store(folder_of(local_path(table.location())))
    found = store.names("", _DATA)
    used = set(kept_paths(tables)) | {local_path(location) for location in named_by(table)}
    freed = {local_path(location) for location in before} - used
    for path in sorted(freed):
        item = path.removeprefix(f"{store.folder}/")
        if store.exists(item):
            store.remove(item)
            done.deleted += 1
    for item in found:
        path = store.path(item)
        if path in freed or _kept(table, path, erased) is None:
            continue
        if path not in used and store.age(item) > ORPHAN_SECONDS:
            store.remove(item)
            done.deleted += 1
        else:
            done.left += 1
