"""Drops days that are older than rows are to be kept: from the metadata, no file is read."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta

from pyiceberg.exceptions import CommitFailedException
from pyiceberg.table.snapshots import Operation

from extractors import Extractors
from pipelines.files import DAY
from pipelines.maintain.live import LiveFile
from pipelines.snapshots import Change, FilesGoneError, add_snapshot
from pipelines.tables import Tables, tables_of

_EPOCH = datetime.fromisoformat("1970-01-01T00:00:00+00:00")


def retentions(extractors: Extractors) -> Mapping[str, timedelta]:
    """How long rows are kept, by full name of table, where a model's settings say so."""
    return {
        name: item.settings.retention
        for item in extractors.values()
        if item.settings.retention is not None
        for name in tables_of(item)
    }


def expired(files: list[LiveFile], retention: timedelta, now: datetime) -> list[LiveFile]:
    """Files of days that ended longer ago than rows are kept."""
    limit = (now - retention - _EPOCH) // timedelta(microseconds=1)
    return [file for file in files if (file.high // DAY + 1) * DAY <= limit]


def drop(tables: Tables, name: str, files: list[LiveFile]) -> bool:
    """Take files out of a table; false if another process was faster, and is to be asked again."""
    change = Change(Operation.DELETE, removed={file.location for file in files})
    with tables.store.locked(f"locks/{name}"):
        try:
            add_snapshot(tables.load(name), change)
        except (CommitFailedException, FilesGoneError):
            return False
    return True
