"""What waits in the outbox: entries of commits that were made, by table."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable

from pyiceberg.exceptions import NoSuchTableError

from pipelines.destination import Destination
from pipelines.files import FileRef
from pipelines.logs import about, log
from pipelines.outbox import Outbox, is_requeued

GRACE_SECONDS = 24 * 3600.0
"""An entry that no table has committed after this time never will be."""
Entries = dict[str, tuple[FileRef, ...]]


def waiting(
    tables: Destination,
    outbox: Outbox,
    only: Collection[str] | None = None,
    forget: bool = False,
) -> dict[str, Entries]:
    """Files by table and entry, oldest entries first, without those that were never committed.

    Args:
        tables: know which commits were made.
        outbox: holds the entries.
        only: full names of tables; by default all.
        forget: whether old ones that were never committed are removed; who only looks may not.
    """
    names = outbox.entries()  # before the tables are asked: none of these comes later
    found: dict[str, Entries] = defaultdict(dict)
    for entry in sorted(names, key=outbox.age, reverse=True):
        table, files = outbox.read(entry)
        if table and (only is None or table in only):
            found[table][entry] = files
    for table, entries in found.items():
        made = _made(tables, table, entries)
        for entry in entries:
            if forget and entry not in made and outbox.age(entry) > GRACE_SECONDS:
                outbox.remove(entry)
        found[table] = {entry: files for entry, files in entries.items() if entry in made}
    return {table: entries for table, entries in found.items() if entries}


def rows_of(entries: Iterable[Entries]) -> int:
    """How many rows these files hold."""
    return sum(ref.rows for found in entries for files in found.values() for ref in files)


def _made(tables: Destination, table: str, entries: Collection[str]) -> set[str]:
    requeued = set(filter(is_requeued, entries))  # of what the table held
    others = set(entries) - requeued
    try:
        return requeued | (tables.committed(table, others) if others else set())
    except (NoSuchTableError, FileNotFoundError):
        log.warning("%s: undelivered rows of a table that is gone", table, extra=about(table))
        return set()
