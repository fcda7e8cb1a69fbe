"""Removes received files that are in the tables, by age and by size; never what is not."""

from __future__ import annotations

import time
from pathlib import Path

from pipelines.batches import InputFile
from pipelines.journal import Journal


def prune(journal: Journal, folder: Path, max_age: float, max_bytes: int) -> int:
    """Remove the oldest files below a folder whose batch is done; how many.

    Args:
        journal: what was received.
        folder: files elsewhere belong to others.
        max_age: seconds that a file is kept.
        max_bytes: of all files kept. Those that are not done count, but stay.
    """
    done = journal.finished_files(folder)
    kept = sum(file.bytes for file in done) + journal.waiting_bytes()
    oldest = time.time_ns() - int(max_age * 1e9)
    removed = []
    for file in sorted(done, key=_written):
        if file.written >= oldest and kept <= max_bytes:
            break
        Path(file.path).unlink(missing_ok=True)
        kept -= file.bytes
        removed.append(file)
    if removed:
        journal.forget(removed)
    for day in folder.glob("day=*"):
        if not any(day.iterdir()) and day.name != f"day={time.strftime('%Y-%m-%d', time.gmtime())}":
            day.rmdir()
    return len(removed)


def _written(file: InputFile) -> int:
    return file.written
