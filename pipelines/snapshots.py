"""One new snapshot of a table: files that come and go, properties, old snapshots forgotten.

PyIceberg's own transaction copies all metadata some twenty times for each snapshot that it adds.
This builds the same updates from PyIceberg's public parts, and hands them to the catalog once.
"""

from __future__ import annotations

import math
import time
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from contextlib import suppress
from datetime import timedelta
from typing import Final, NamedTuple
from uuid import uuid4

from pyiceberg.exceptions import CommitFailedException
from pyiceberg.manifest import (
    DataFile,
    ManifestContent,
    ManifestEntry,
    ManifestEntryStatus,
    ManifestFile,
    write_manifest,
    write_manifest_list,
)
from pyiceberg.table import Table, TableProperties
from pyiceberg.table.refs import MAIN_BRANCH, SnapshotRefType
from pyiceberg.table.snapshots import (
    Operation,
    Snapshot,
    SnapshotSummaryCollector,
    Summary,
    update_snapshot_summaries,
)
from pyiceberg.table.update import (
    AddSnapshotUpdate,
    AssertRefSnapshotId,
    AssertTableUUID,
    RemoveSnapshotsUpdate,
    SetPropertiesUpdate,
    SetSnapshotRefUpdate,
    TableUpdate,
)

from pipelines.described import describe
from pipelines.manifests import manifests_of

KEPT_SNAPSHOTS = 20
"""Metadata is read, copied and written with every commit, and is mostly its snapshots."""
MERGED_MANIFESTS = 20
"""So many manifests of about one size become one: each entry is rewritten once for each size."""
MANIFEST_FILES = 5000
"""The most files that one manifest lists."""
_CODEC: Final = "deflate"


class FilesGoneError(Exception):
    """Files that a change removes are not in the table any more."""


class Change(NamedTuple):
    """What a new snapshot changes.

    Attributes:
        operation: what readers of changes are told.
        added: locations of Parquet files.
        removed: live files of the table, by location.
        properties: set with the snapshot, or not at all.
        merged: whether manifests are written anew, in the order of their files' days; nothing
            in them then tells of files that were removed before.
    """

    operation: Operation
    added: Collection[str] = ()
    removed: Collection[str] = ()
    properties: Mapping[str, str] = {}
    merged: bool = False


def add_snapshot(table: Table, change: Change, keep: int = KEPT_SNAPSHOTS) -> None:
    """Commit a change on top of the snapshot that the table was loaded with.

    Args:
        table: loaded just now; stale afterwards.
        change: what is changed.
        keep: how many snapshots the table has at most afterwards.

    Raises:
        CommitFailedException: another commit came first; nothing was changed.
        FilesGoneError: a file to be removed is not in the table.
        ValueError: a file that does not fit the table's columns or partitions.
    """
    _Commit(table, change).run(keep)


def forget_snapshots(
    table: Table, keep: int = KEPT_SNAPSHOTS, older: timedelta | None = None
) -> int:
    """Forget all but the newest snapshots, without a new one; how many went.

    Args:
        table: loaded just now; stale afterwards.
        keep: how many snapshots the table has at most afterwards.
        older: of these, forget those that are as old, too, but for the current one.

    Raises:
        CommitFailedException: another commit came first.
    """
    old = _old(table, keep)
    if older is not None:
        limit = (time.time() - older.total_seconds()) * 1000
        aged = {item.snapshot_id for item in table.metadata.snapshots if item.timestamp_ms <= limit}
        old = [id_ for id_ in _old(table, 1) if id_ in aged or id_ in old]
    if old:
        _send(table, (RemoveSnapshotsUpdate(snapshot_ids=old),), old)
    return len(old)


class _Commit:
    def __init__(self, table: Table, change: Change) -> None:
        self._table = table
        self._change = change
        self._metadata = table.metadata
        self._parent = table.current_snapshot()
        self._id = self._metadata.new_snapshot_id()
        self._name = uuid4()
        self._written: list[str] = []

    def run(self, keep: int) -> None:
        try:
            updates = self._updates()
            if old := _old(self._table, keep - 1):
                updates.append(RemoveSnapshotsUpdate(snapshot_ids=old))
            _send(self._table, tuple(updates), old)
        except (CommitFailedException, FilesGoneError):
            _delete(self._table, self._written)
            raise

    def _updates(self) -> list[TableUpdate]:
        added = [describe(self._table, location) for location in self._change.added]
        kept, removed = self._kept()
        manifests = [*([self._manifest(map(self._new, added))] if added else []), *kept]
        snapshot = self._snapshot(manifests, self._summary(added, removed))
        properties = dict(self._change.properties)
        if self._metadata.name_mapping() is None:  # our files name columns and know no ids
            mapping = self._metadata.schema().name_mapping.model_dump_json()
            properties[TableProperties.DEFAULT_NAME_MAPPING] = mapping
        updates: list[TableUpdate] = [
            AddSnapshotUpdate(snapshot=snapshot),
            SetSnapshotRefUpdate(
                ref_name=MAIN_BRANCH,
                type=SnapshotRefType.BRANCH,
                snapshot_id=self._id,
                max_ref_age_ms=None,
                max_snapshot_age_ms=None,
                min_snapshots_to_keep=None,
            ),
        ]
        if properties:
            updates.append(SetPropertiesUpdate(updates=properties))
        return updates

    def _new(self, file: DataFile) -> ManifestEntry:
        return ManifestEntry.from_args(
            status=ManifestEntryStatus.ADDED, snapshot_id=self._id, data_file=file
        )

    def _kept(self) -> tuple[list[ManifestFile], list[DataFile]]:
        """Manifests of what stays, and what goes."""
        found = manifests_of(self._table)
        live = [m for m in found if m.has_added_files() or m.has_existing_files()]
        removed: list[DataFile] = []
        if self._change.removed:
            live = [self._without_removed(manifest, removed) for manifest in live]
            if len(removed) < len(self._change.removed):
                raise FilesGoneError("others have replaced these files")
        return list(self._merged(live)), removed

    def _without_removed(self, manifest: ManifestFile, removed: list[DataFile]) -> ManifestFile:
        if manifest.content != ManifestContent.DATA:
            return manifest
        entries = manifest.fetch_manifest_entry(self._table.io)
        going = {
            entry.data_file.file_path
            for entry in entries
            if entry.data_file.file_path in self._change.removed
        }
        if not going:
            return manifest
        removed += [entry.data_file for entry in entries if entry.data_file.file_path in going]
        return self._manifest(entries, manifest.partition_spec_id, going)

    def _merged(self, manifests: Iterable[ManifestFile]) -> Iterable[ManifestFile]:
        sizes: dict[tuple[int, int], list[ManifestFile]] = defaultdict(list)
        for manifest in manifests:
            files = (manifest.added_files_count or 0) + (manifest.existing_files_count or 0)
            ours = manifest.added_snapshot_id == self._id  # says what is removed, too
            if manifest.content != ManifestContent.DATA or ours or not files:
                yield manifest
            else:
                size = 0 if self._change.merged else int(math.log(files, MERGED_MANIFESTS))
                sizes[manifest.partition_spec_id, size].append(manifest)
        for (spec, _), group in sizes.items():
            # A manifest that says what was removed still has the bounds of its values.
            stale = self._change.merged and any(m.deleted_files_count for m in group)
            few = 2 if self._change.merged else MERGED_MANIFESTS
            if len(group) < few and not stale:
                yield from group
                continue
            entries = [e for m in group for e in m.fetch_manifest_entry(self._table.io)]
            # By day, so that a reader of a day needs few of them.
            entries.sort(key=lambda entry: str(entry.data_file.partition))
            for start in range(0, len(entries), MANIFEST_FILES):
                yield self._manifest(entries[start : start + MANIFEST_FILES], spec)

    def _manifest(
        self,
        entries: Iterable[ManifestEntry],
        spec: int | None = None,
        removed: Collection[str] = (),
    ) -> ManifestFile:
        with write_manifest(
            self._metadata.format_version,
            self._metadata.spec() if spec is None else self._metadata.specs()[spec],
            self._metadata.schema(),
            self._table.io.new_output(self._place(f"{self._name}-m{len(self._written)}.avro")),
            self._id,
            _CODEC,
        ) as writer:
            for entry in entries:
                if spec is None:
                    writer.add(entry)
                elif entry.data_file.file_path in removed:
                    writer.delete(entry)
                else:
                    writer.existing(entry)
        return writer.to_manifest_file()

    def _place(self, name: str) -> str:
        location: str = self._table.location_provider().new_metadata_location(name)
        self._written.append(location)
        return location

    def _summary(self, added: list[DataFile], removed: list[DataFile]) -> Summary:
        collector, schema = SnapshotSummaryCollector(), self._metadata.schema()
        for file in added:
            collector.add_file(file, schema, self._metadata.spec())
        for file in removed:
            collector.remove_file(file, schema, self._metadata.specs()[file.spec_id])
        # PyIceberg sums up totals for all operations but REPLACE, which is put in afterwards.
        totals = update_snapshot_summaries(
            Summary(Operation.OVERWRITE, **collector.build()),
            self._parent.summary if self._parent else None,
        )
        return Summary(self._change.operation, **totals.additional_properties)

    def _snapshot(self, manifests: list[ManifestFile], summary: Summary) -> Snapshot:
        location = self._place(f"snap-{self._id}-0-{self._name}.avro")
        parent = self._parent.snapshot_id if self._parent else None
        number = self._metadata.next_sequence_number()
        with write_manifest_list(
            self._metadata.format_version,
            self._table.io.new_output(location),
            self._id,
            parent,
            number,
            _CODEC,
        ) as writer:
            writer.add_manifests(manifests)
        return Snapshot(
            snapshot_id=self._id,
            parent_snapshot_id=parent,
            manifest_list=location,
            sequence_number=number,
            summary=summary,
            schema_id=self._metadata.current_schema_id,
        )


def _old(table: Table, keep: int) -> list[int]:
    """Ids of all but the newest snapshots; what a branch or tag names stays."""
    named = {ref.snapshot_id for name, ref in table.metadata.refs.items() if name != MAIN_BRANCH}
    newest = sorted(table.metadata.snapshots, key=lambda item: item.sequence_number or 0)
    return [item.snapshot_id for item in newest[:-keep] if item.snapshot_id not in named]


def _send(table: Table, updates: tuple[TableUpdate, ...], forgotten: list[int]) -> None:
    current = table.current_snapshot()
    requirements = (
        AssertTableUUID(uuid=table.metadata.table_uuid),
        AssertRefSnapshotId(ref=MAIN_BRANCH, snapshot_id=current and current.snapshot_id),
    )
    try:
        done = table.catalog.commit_table(table, requirements, updates)
    except ValueError:
        present = {item.snapshot_id for item in table.refresh().metadata.snapshots}
        if present.issuperset(forgotten):
            raise
        raise CommitFailedException("another process has forgotten these snapshots") from None
    before, after = (
        {entry.metadata_file for entry in metadata.metadata_log}
        for metadata in (table.metadata, done.metadata)
    )
    _delete(table, before - after)


def _delete(table: Table, locations: Iterable[str]) -> None:
    for location in locations:
        with suppress(OSError):  # what stays is swept
            table.io.delete(location)
