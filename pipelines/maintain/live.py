"""The files that a table holds now."""

from __future__ import annotations

from typing import NamedTuple

from pyiceberg.manifest import DataFile, ManifestContent
from pyiceberg.table import Table

from pipelines.files import DAY
from pipelines.manifests import bound, manifests_of


class LiveFile(NamedTuple):
    """A data file of a table's current snapshot.

    Attributes:
        file: as its manifest describes it.
        sequence: of the snapshot that added it.
        low: earliest event time, microseconds since 1970.
        high: latest event time.
    """

    file: DataFile
    sequence: int
    low: int
    high: int

    @property
    def location(self) -> str:
        """Where it is."""
        return self.file.file_path

    @property
    def bytes(self) -> int:
        """Its size."""
        return self.file.file_size_in_bytes

    @property
    def day(self) -> int:
        """Its day, counted from 1970; a file never holds two."""
        return self.low // DAY


def live_files(table: Table) -> list[LiveFile]:
    """Data files of the current snapshot."""
    field = table.schema().find_field("event_time").field_id
    return [
        LiveFile(
            entry.data_file,
            entry.sequence_number or 0,
            bound(entry.data_file.lower_bounds[field]),
            bound(entry.data_file.upper_bounds[field]),
        )
        for manifest in manifests_of(table)
        if manifest.content == ManifestContent.DATA
        for entry in manifest.fetch_manifest_entry(table.io)
    ]


def has_deletes(table: Table) -> bool:
    """Whether another program deletes rows by delete files, which only a reader applies."""
    return any(manifest.content == ManifestContent.DELETES for manifest in manifests_of(table))
