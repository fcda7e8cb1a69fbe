"""Rows of envelopes replaced in one transaction per table: all of them, or none."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyiceberg.table import Table

from pipelines.address import local_path
from pipelines.commit import Plan, commit_once
from pipelines.erased import ErasedRows
from pipelines.files import (
    DATA,
    FileRef,
    data_locations,
    open_file,
    place_of,
    rows_of_others,
    write_days,
)
from pipelines.outbox import Commit, Outbox

if TYPE_CHECKING:
    from pipelines.tables import Tables

_DAY = 86_400_000_000


def replace_rows(tables: Tables, name: str, files: Iterable[FileRef], outbox: Outbox) -> Commit:
    """Put rows into a table in the place of all that it holds of their envelopes.

    Rows of other envelopes stay, and those in the same files are written anew. Readers see either
    all old rows or all new ones. Repeated, it changes nothing: files that are in the table already,
    with nothing else of their envelopes, are left there.

    Args and errors as of `commit_once`, with files of all rows of the envelopes.
    """

    def plan(table: Table, asked: list[FileRef]) -> Plan:
        return _plan(table, asked, ErasedRows.of(tables.store, name))

    # Other rows may have been put in their place since: the ring does not say that they are there.
    return commit_once(tables, name, files, outbox, plan, anew=True)


def _plan(table: Table, asked: list[FileRef], erased: ErasedRows) -> Plan:
    """Day by day, so that no more ids than those of a day are in memory."""
    days = defaultdict(list)
    for ref in asked:
        days[ref.min_time // _DAY].append(ref)
    all_new: list[FileRef] = []
    kept: list[FileRef] = []
    gone: list[str] = []
    place = place_of(table)
    for _, refs in sorted(days.items()):
        new = _apart(table, refs, erased)
        if not new:
            continue
        ids = pc.unique(pa.chunked_array([_ids(table, ref) for ref in new]).combine_chunks())
        times = np.unique(np.concatenate([_times(table, ref) for ref in new]))
        paths = {ref.path for ref in new}
        for location in data_locations(table, 0, times):
            path = local_path(location)
            if path in paths:
                new = [ref for ref in new if ref.path != path]  # it is where it should be
                continue
            with open_file(table.io, path) as file:
                rows = file.read()
            others = rows_of_others(rows, ids)
            if others.num_rows < rows.num_rows:
                gone.append(location)
                kept.extend(write_days(place, DATA, others, 0))
        all_new += new
    return Plan(all_new, kept, gone)


def _apart(table: Table, refs: list[FileRef], erased: ErasedRows) -> list[FileRef]:
    """Files that share no envelope, one that came twice is taken from the first; none erased."""
    seen = pa.array([], pa.string())
    result: list[FileRef] = []
    for ref in refs:
        ids = pc.unique(_ids(table, ref))
        again = pc.any(pc.is_in(ids, value_set=seen)).as_py()
        if again or erased.between(ref.min_time, ref.max_time):
            with open_file(table.io, ref.path) as file:
                rows = erased.without(rows_of_others(file.read(), seen))
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
