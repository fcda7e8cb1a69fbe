"""Puts data files that a table holds into the outbox, which is how they get to Arize."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import date, timedelta

from pipelines.arrivals import settled_files
from pipelines.commit import token_of
from pipelines.destination import Destination
from pipelines.files import FileRef
from pipelines.outbox import Outbox, requeued
from pipelines.undelivered import DAY_MICROS, Undelivered, undelivered

FILES_AN_ENTRY = 100
"""An entry is written anew for each batch of its files that was sent."""
_EPOCH = date(1970, 1, 1)


def requeue(
    tables: Destination, name: str, since: date | None, until: date | None, again: bool = False
) -> Undelivered:
    """Queue the files of a table that were never sent, as far as that is known.

    Args:
        tables: where the table is.
        name: its full name.
        since: the first day of event time, UTC; by default the first there is.
        until: the last day; by default the last there is.
        again: queue all files of these days instead, whatever was delivered before.

    Returns:
        What was queued. What is unclear was not.
    """
    outbox = Outbox(tables.home)
    with outbox.store.locked("deliver"):  # else another process settles files meanwhile
        inside = [ref for ref in tables.held(name) if _is_inside(ref, since, until)]
        if again:
            settled = [ref for entry in outbox.entries() for ref in outbox.read(entry)[1]]
            paths = {ref.path for ref in settled}
            files = [ref for ref in inside if ref.path not in paths]
            found = Undelivered(files, [], sum(ref.rows for ref in files))
        else:
            settled = [ref for ref in settled_files(tables, name) if _is_inside(ref, since, until)]
            found = undelivered(inside, settled)
        found = tables.as_files(name, found, settled)
        for part in _parts(sorted(found.files, key=lambda ref: ref.min_time)):
            outbox.write(requeued(token_of(part)), name, tuple(part))
    return found


def _is_inside(ref: FileRef, since: date | None, until: date | None) -> bool:
    day = _EPOCH + timedelta(days=ref.min_time // DAY_MICROS)
    return (since is None or since <= day) and (until is None or day <= until)


def _parts(files: Sequence[FileRef]) -> Iterator[Sequence[FileRef]]:
    for start in range(0, len(files), FILES_AN_ENTRY):
        yield files[start : start + FILES_AN_ENTRY]
