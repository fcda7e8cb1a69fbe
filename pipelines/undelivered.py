"""Which data files of a table were never sent to Arize."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import PurePath

from pyiceberg.table import Table

from pipelines.address import local_path
from pipelines.files import FileRef, sequence

DAY_MICROS = 86_400_000_000


@dataclass
class Undelivered:
    """What a table holds beyond what was delivered or waits in the outbox.

    Attributes:
        files: those that were never sent.
        unclear: files of days on which other files were delivered that are gone: they may have been
            compacted into these.
        rows: how many rows were never sent, of both.
    """

    files: list[FileRef] = field(default_factory=list)
    unclear: list[FileRef] = field(default_factory=list)
    rows: int = 0


def undelivered(live: Iterable[FileRef], settled: Iterable[FileRef]) -> Undelivered:
    """Compare files by name, and where these were compacted, rows by day.

    A data file never crosses a day, and its name follows from its content.

    Args:
        live: the files of the table.
        settled: files that were delivered, or wait in the outbox.
    """
    known = {_name(ref): ref for ref in settled}
    names: set[str] = set()
    unknown: dict[int, list[FileRef]] = defaultdict(list)
    for ref in live:
        names.add(_name(ref))
        if _name(ref) not in known:
            unknown[ref.min_time // DAY_MICROS].append(ref)
    gone: dict[int, int] = defaultdict(int)
    for name, ref in known.items():
        if name not in names:
            gone[ref.min_time // DAY_MICROS] += ref.rows
    found = Undelivered()
    for day, files in sorted(unknown.items()):
        rows = sum(ref.rows for ref in files)
        if gone[day] >= rows:
            continue  # compacted, without copies of rows maybe
        (found.unclear if gone[day] else found.files).extend(files)
        found.rows += rows - gone[day]
    return found


def live_files(table: Table) -> Iterator[FileRef]:
    """The data files of a table as it is now."""
    if table.current_snapshot() is None:
        return
    column, checked = table.schema().find_field("event_time").field_id, sequence(table)
    for task in table.scan().plan_files():
        file = task.file
        low, high = (
            int.from_bytes(bounds[column], "little", signed=True)
            for bounds in (file.lower_bounds, file.upper_bounds)
        )
        path = local_path(file.file_path)
        yield FileRef(path, file.record_count, low, high, checked)


def _name(ref: FileRef) -> str:
    return PurePath(ref.path).name
