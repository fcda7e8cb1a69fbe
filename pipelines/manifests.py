"""What manifests say of data files, read once a process: files of metadata never change.

PyIceberg takes a millisecond to read one, most of it to find out how, and a commit looks into all
that may know its days.
"""

from __future__ import annotations

from threading import RLock
from typing import NamedTuple

from cachetools import LRUCache, cached
from pyiceberg.io import FileIO
from pyiceberg.manifest import ManifestFile
from pyiceberg.table import Table
from pyiceberg.table.snapshots import Snapshot

KEPT = 50_000
"""Data files that are kept, about 400 bytes each; and manifests, which many lists share."""


class Listed(NamedTuple):
    """A live data file of a manifest, with the bounds of its event times."""

    location: str
    sequence_number: int
    low: int
    high: int


def manifests_of(table: Table) -> tuple[ManifestFile, ...]:
    """The manifests of a table's current snapshot."""
    snapshot = table.current_snapshot()
    return _manifests(snapshot, table.io) if snapshot else ()


@cached(LRUCache(KEPT, len), lambda snapshot, io: snapshot.manifest_list, RLock())
def _manifests(snapshot: Snapshot, io: FileIO) -> tuple[ManifestFile, ...]:
    return tuple(snapshot.manifests(io))


@cached(LRUCache(KEPT, len), lambda manifest, field, io: (manifest.manifest_path, field), RLock())
def listed(manifest: ManifestFile, field: int, io: FileIO) -> tuple[Listed, ...]:
    """The live data files of a manifest.

    Args:
        manifest: of data files.
        field: id of the column of event times.
        io: the table's own.
    """
    return tuple(
        Listed(
            entry.data_file.file_path,
            entry.sequence_number or 0,
            bound(entry.data_file.lower_bounds[field]),
            bound(entry.data_file.upper_bounds[field]),
        )
        for entry in manifest.fetch_manifest_entry(io)
    )


def bound(value: bytes) -> int:
    """A number of a manifest, such as a day or an event time."""
    return int.from_bytes(value, "little", signed=True)
