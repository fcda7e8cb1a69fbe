"""Removes received files that are in the tables, by age and by size; never what is not."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from pathlib import Path

from pipelines.journal import Journal


def prune(journal: Journal, folder: Path, max_age: float, max_bytes: int) -> int:
    """Remove the oldest files below a folder whose batch is done; how many.

    Args:
        journal: what was received.
        folder: files elsewhere belong to others.
        max_age: seconds that a file is kept.
        max_bytes: of all files kept. Those that are not done count, but stay.
    """
    kept = journal.bytes_below(folder)
    oldest = time.time_ns() - int(max_age * 1e9)
    removed = []
    for file in journal.oldest_done(folder):
        if file.written >= oldest and kept <= max_bytes:
            break
        Path(file.path).unlink(missing_ok=True)
        kept -= file.bytes
        removed.append(file)
    if removed:
        journal.forget(removed)
        _remove_empty_days(folder)
    return len(removed)


def _remove_empty_days(folder: Path) -> None:
    today = f"day={datetime.now(UTC):%Y-%m-%d}"
    for day in folder.glob("day=*"):
        if day.name < today and not any(day.iterdir()):
            day.rmdir()
