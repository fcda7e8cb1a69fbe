"""Makes few files of many small ones, and one row of two that are the same."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc
from pyiceberg.exceptions import CommitFailedException
from pyiceberg.expressions import AlwaysTrue
from pyiceberg.io.pyarrow import ArrowScan, schema_to_pyarrow
from pyiceberg.table import FileScanTask, Table
from pyiceberg.table.snapshots import Operation

from pipelines.address import location_of
from pipelines.files import DATA, ORDER, place_of, write_days
from pipelines.maintain.duplicates import with_duplicates
from pipelines.maintain.live import LiveFile
from pipelines.snapshots import Change, FilesGoneError, add_snapshot
from pipelines.tables import Tables

SMALL_BYTES = 8 << 20
"""Larger files are read as fast as they can be, and stay."""
GROUP_BYTES = 16 << 20
"""Files that are read together: some 100 MB of Arrow."""
FILES_OF_TODAY = 16
"""A day that still fills up is worth rewriting only so often; one that is over at two files."""
TINY_BYTES = 64 << 10
"""Smaller files cost nothing to rewrite."""
_ATTEMPTS = 50
_SMALL_TYPES = {
    pa.large_string(): pa.string(),
    pa.large_binary(): pa.binary(),
    pa.string_view(): pa.string(),
    pa.binary_view(): pa.binary(),
}


@dataclass(frozen=True)
class Compacted:
    """What became of a group of files; `duplicates` are rows that were left out."""

    files: int
    bytes: int
    duplicates: int


def groups(files: Iterable[LiveFile], today: int) -> Iterator[list[LiveFile]]:
    """Small files of one day that are worth being one.

    A file is rewritten only with others that amount to half of it: with each file that trickles in
    late, a day's rows would otherwise be written once more.

    Args:
        files: of one table.
        today: days since 1970.
    """
    days: dict[int, list[LiveFile]] = defaultdict(list)
    for file in files:
        if file.bytes < SMALL_BYTES:
            days[file.day].append(file)
    for day, found in sorted(days.items()):
        alike = _alike(found)
        if len(alike) >= (FILES_OF_TODAY if day >= today else 2):
            yield from _packed(alike)


def compact(
    tables: Tables, name: str, group: list[LiveFile], live: Collection[str]
) -> Compacted | None:
    """Replace files by new ones with the same rows, each once; None if another was faster.

    Nothing is deleted: the outbox, and readers of older snapshots, still find the old files.

    Args:
        tables: where the table is.
        name: its full name.
        group: what `groups` gave.
        live: locations of all its files.
    """
    table = tables.load(name)
    rows, twice = first_of_each(_read(table, group).sort_by(ORDER))
    refs = list(write_days(place_of(table), DATA, rows, checked=0))
    written = {location_of(ref.path) for ref in refs}
    # Named by their content, new files may be ones that the table has.
    removed = {file.location for file in group} - written
    change = Change(Operation.REPLACE, sorted(written.difference(live)), removed)
    if not removed or not _commit(tables, name, change, twice):
        return None
    size = sum(len(table.io.new_input(place)) for place in written)
    return Compacted(len(written), size, twice.num_rows)


def first_of_each(rows: pa.Table) -> tuple[pa.Table, pa.Table]:
    """Rows in ORDER, parted: those whose row id and event time are of the row before are second."""
    if rows.num_rows < 2:
        return rows, rows.slice(0, 0)
    ids, times = (rows[name].combine_chunks() for name in ("row_id", "event_time"))
    before, after = slice(0, len(ids) - 1), slice(1, len(ids))
    same = pc.and_(pc.equal(ids[after], ids[before]), pc.equal(times[after], times[before]))
    if not pc.any(same).as_py():
        return rows, rows.slice(0, 0)
    twice = pa.concat_arrays([pa.array([False]), same])
    return rows.filter(pc.invert(twice)), rows.filter(twice)


def _commit(tables: Tables, name: str, change: Change, twice: pa.Table) -> bool:
    with tables.store.locked(f"locks/{name}"):
        for _ in range(_ATTEMPTS):
            with suppress(CommitFailedException):
                table = tables.load(name)
                counted = change._replace(properties=with_duplicates(table, twice))
                try:
                    add_snapshot(table, counted)
                except FilesGoneError:
                    return False
                return True
    return False


def _read(table: Table, group: list[LiveFile]) -> pa.Table:
    """Rows of files in the table's schema of now, in the order in which they were committed."""
    scan = ArrowScan(table.metadata, table.io, table.schema(), AlwaysTrue())
    parts = [
        scan.to_table([FileScanTask(file.file)])
        for file in sorted(group, key=lambda file: (file.sequence, file.location))
    ]
    schema = pa.schema([_plain(field) for field in schema_to_pyarrow(table.schema())])
    rows = pa.concat_tables([part.cast(schema) for part in parts])
    if rows.num_rows != sum(file.file.record_count for file in group):
        raise ValueError(f"{'.'.join(table.name())}: files do not hold the rows that they should")
    return rows


def _alike(files: list[LiveFile]) -> list[LiveFile]:
    chosen: list[LiveFile] = []
    total = 0
    for file in sorted(files, key=lambda file: file.bytes):
        if chosen and file.bytes > max(TINY_BYTES, 2 * total):
            break
        chosen.append(file)
        total += file.bytes
    return chosen


def _packed(files: list[LiveFile]) -> Iterator[list[LiveFile]]:
    """Files in parts of about `GROUP_BYTES`, in the order of their times; none stays alone."""
    part: list[LiveFile] = []
    for file in sorted(files, key=lambda file: (file.low, file.location)):
        if len(part) > 1 and sum(other.bytes for other in part) + file.bytes > GROUP_BYTES:
            yield part
            part = []
        part.append(file)
    if len(part) > 1:
        yield part


def _plain(field: pa.Field) -> pa.Field:
    """A field as we write it: small types, which PyIceberg reads as large ones, and no ids."""
    return pa.field(field.name, _plain_type(field.type), field.nullable)


def _plain_type(kind: pa.DataType) -> pa.DataType:
    if pa.types.is_large_list(kind) or pa.types.is_list(kind):
        return pa.list_(_plain(kind.value_field))
    if pa.types.is_struct(kind):
        return pa.struct([_plain(kind.field(i)) for i in range(kind.num_fields)])
    if pa.types.is_map(kind):
        return pa.map_(_plain(kind.key_field), _plain(kind.item_field))
    return _SMALL_TYPES.get(kind, kind)
