"""Rows of envelopes replaced in one transaction per table: all of them, or none."""

from __future__ import annotations

import random
import time
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyiceberg.exceptions import CommitFailedException
from pyiceberg.table import Table
from pyiceberg.table.snapshots import Operation

from pipelines.address import local_path, location_of
from pipelines.catalog import UNSETTLED, unsettled
from pipelines.commit import ATTEMPTS, RING, RING_LENGTH, next_ring, read_ring, token_of
from pipelines.files import (
    DATA,
    FileRef,
    data_entries,
    open_file,
    place_of,
    rows_of_others,
    write_days,
)
from pipelines.outbox import Commit, Outbox
from pipelines.snapshots import Change, FilesGoneError, add_snapshot

if TYPE_CHECKING:
    from pipelines.tables import Tables

_DAY = 86_400_000_000


class _Replaced(NamedTuple):
    """What becomes of a table: files that go, and files that come."""

    gone: list[str]
    kept: list[FileRef]
    """Rows of other envelopes in the files that go."""
    new: list[FileRef]

    def with_ring(self, tokens: str) -> Change:
        """The snapshot that makes it so."""
        added = [location_of(ref.path) for ref in (*self.kept, *self.new)]
        return Change(Operation.OVERWRITE, added, self.gone, {RING: tokens})


def replace_rows(tables: Tables, name: str, files: Iterable[FileRef], outbox: Outbox) -> Commit:
    """Put rows into a table in the place of all that it holds of their envelopes.

    Rows of other envelopes stay, and those in the same files are written anew. Readers see either
    all old rows or all new ones. Repeated, it changes nothing: its token is in the ring, and files
    that are in the table already, with nothing else of their envelopes, are left there.

    Args:
        tables: the tables.
        name: full name of the table.
        files: of all rows of the envelopes.
        outbox: is told of the new rows before the transaction.

    Raises:
        CommitFailedException: other writers were faster `ATTEMPTS` times in a row.
    """
    asked = sorted(set(files), key=lambda ref: ref.path)
    token = token_of(asked)
    announced = ""
    with tables.store.locked(f"locks/{name}"):
        for attempt in range(ATTEMPTS):
            table = tables.load(name)
            ring = read_ring(table)
            done = next((entry for entry in ring if entry.partition(".")[0] == token), None)
            if done is not None:
                if announced not in ("", done):
                    outbox.remove(announced)
                return Commit(token, done, name, ())
            change = _change(table, asked)
            same = {ref.path for ref in change.new} == {ref.path for ref in asked}
            entry = token if same else f"{token}.{token_of(change.new)}"
            if announced not in ("", entry):
                outbox.remove(announced)
            if not change.new:
                return Commit(token, "", name, ())
            result = Commit(token, entry, name, tuple(change.new))
            outbox.put(result)
            announced = entry
            try:
                tokens = ",".join(next_ring(ring, entry, outbox, RING_LENGTH))
                add_snapshot(table, change.with_ring(tokens))
            except (*UNSETTLED, FilesGoneError) as error:
                if not unsettled(error):
                    raise
                time.sleep(random.uniform(0, 0.02 * 2 ** min(attempt, 5)))
                continue
            if not outbox.holds(entry):
                outbox.put(result)
            return result
    raise CommitFailedException(f"{name}: {ATTEMPTS} conflicts in a row")


def _change(table: Table, asked: list[FileRef]) -> _Replaced:
    """Day by day, so that no more ids than those of a day are in memory."""
    days = defaultdict(list)
    for ref in asked:
        days[ref.min_time // _DAY].append(ref)
    found = _Replaced([], [], [])
    place = place_of(table)
    for _, refs in sorted(days.items()):
        new = _apart(table, refs)
        ids = pc.unique(pa.chunked_array([_ids(table, ref) for ref in new]).combine_chunks())
        times = np.unique(np.concatenate([_times(table, ref) for ref in new]))
        paths = {ref.path for ref in new}
        for entry in list(data_entries(table, 0, times)):
            path = local_path(entry.file_path)
            if path in paths:
                new = [ref for ref in new if ref.path != path]  # it is where it should be
                continue
            with open_file(table.io, path) as file:
                rows = file.read()
            others = rows_of_others(rows, ids)
            if others.num_rows < rows.num_rows:
                found.gone.append(entry.file_path)
                found.kept.extend(write_days(place, DATA, others, 0))
        found.new.extend(new)
    return found


def _apart(table: Table, refs: list[FileRef]) -> list[FileRef]:
    """Files that share no envelope: one that came twice is taken from the first."""
    seen = pa.array([], pa.string())
    result: list[FileRef] = []
    for ref in refs:
        ids = pc.unique(_ids(table, ref))
        if pc.any(pc.is_in(ids, value_set=seen)).as_py():
            with open_file(table.io, ref.path) as file:
                rows = rows_of_others(file.read(), seen)
            result += write_days(place_of(table), DATA, rows, 0)
        else:
            result.append(replace(ref, checked=0))
        seen = pa.concat_arrays([seen, ids])
    return result


def _ids(table: Table, ref: FileRef) -> pa.Array:
    return _column(table, ref, "envelope_id").cast(pa.string()).combine_chunks()


def _times(table: Table, ref: FileRef) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    column = _column(table, ref, "event_time")
    times: np.ndarray[tuple[int], np.dtype[np.int64]] = column.cast(pa.int64()).to_numpy()
    return times


def _column(table: Table, ref: FileRef, name: str) -> pa.ChunkedArray:
    with open_file(table.io, ref.path) as file:
        return file.read(columns=[name])[0]
