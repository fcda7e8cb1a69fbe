"""Deletes files that nothing names any more. Only this and `erase` ever delete a data file."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from pyiceberg.manifest import ManifestFile
from pyiceberg.table import Table

from pipelines.address import folder_of, local_path
from pipelines.files import FileRef
from pipelines.outbox import Outbox
from pipelines.store import Store
from pipelines.tables import Tables
from pipelines.unwritten import FOLDER, SUFFIX

DATA_SECONDS = 7 * 24 * 3600.0
"""A data file is written before it is committed: by then it is, or its message is lost to Pub/Sub,
which keeps one for 7 days unless told otherwise."""
UNNAMED_SECONDS = 24 * 3600.0
"""How long a file must have been seen to be unnamed: a reader may still be at its snapshot."""

_DATA = ".parquet"
_SUFFIXES = (_DATA, ".avro", ".json")


@dataclass
class Swept:
    """What a sweep did.

    Attributes:
        files: deleted files.
        marks: what nothing names, and when that was seen first, in seconds since 1970.
    """

    files: int = 0
    marks: dict[str, float] = field(default_factory=dict)


def sweep(
    tables: Tables,
    name: str,
    marks: Mapping[str, float],
    *,
    dry_run: bool = False,
    unnamed: float = UNNAMED_SECONDS,
    data_age: float = DATA_SECONDS,
) -> Swept:
    """Delete a table's files that no kept snapshot, no outbox entry and no kept list names.

    The order is the proof: files are listed first, then the outbox and `unwritten/` are read, then
    the table. What is committed meanwhile is found in one of them.

    Args:
        tables: where the table is.
        name: its full name.
        marks: those of the last sweep.
        dry_run: delete nothing, and count.
        unnamed: seconds that a file must have been seen to be unnamed.
        data_age: seconds since a data file was written.
    """
    store, now = Store(folder_of(local_path(tables.load(name).location()))), time.time()
    found = [item for suffix in _SUFFIXES for item in store.names("", suffix)]
    used = set(kept_paths(tables))
    used |= {local_path(location) for location in named_by(tables.load(name))}
    swept = Swept()
    for item in found:
        if store.path(item) in used:
            continue
        since = marks.get(item, now)
        least = data_age if item.endswith(_DATA) else 0.0
        if now - since < unnamed or store.age(item) < least:
            swept.marks[item] = since
            continue
        if not dry_run:
            store.remove(item)
        swept.files += 1
    return swept


def sweep_unfinished(home: Store, age: float = UNNAMED_SECONDS, dry_run: bool = False) -> int:
    """Delete what killed processes were just writing, anywhere in a home; how many files."""
    found = [name for name in home.unfinished() if home.age(name) >= age]
    for name in [] if dry_run else found:
        home.remove(name)
    return len(found)


def kept_paths(tables: Tables) -> Iterator[str]:
    """Data files that wait for Arize, or for a table that refused them."""
    outbox, home = Outbox(tables.home), Store(tables.home)
    for entry in outbox.entries():
        yield from (ref.path for ref in outbox.read(entry)[1])
    for kept in home.names(FOLDER, SUFFIX):
        try:
            content = json.loads(home.read(kept))
        except FileNotFoundError:
            continue  # committed meanwhile
        yield from (FileRef.from_json(ref).path for ref in content["files"])


def named_by(table: Table) -> Iterator[str]:
    """Locations of all files that a table's kept snapshots and metadata name, and of its own."""
    yield table.metadata_location
    yield from (entry.metadata_file for entry in table.metadata.metadata_log)
    for statistics in table.metadata.statistics:
        yield statistics.statistics_path
    manifests: dict[str, ManifestFile] = {}
    for snapshot in table.metadata.snapshots:
        yield snapshot.manifest_list
        manifests |= {found.manifest_path: found for found in snapshot.manifests(table.io)}
    for manifest in manifests.values():
        yield manifest.manifest_path
        for entry in manifest.fetch_manifest_entry(table.io):
            yield entry.data_file.file_path
