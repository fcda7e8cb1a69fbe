"""Which rows of a table were erased, so that old input does not bring them back.

Kept are an event time and a hash of each row's id; neither ids nor values.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import blake2b

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipelines.row_groups import time_bounds
from pipelines.store import Store
from schemas.arrow import TIME

_FOLDER, _SUFFIX = "erased", ".rows"
_DIGEST_BYTES = 16
_ENTRY = np.dtype([("time", "<i8"), ("digest", f"V{_DIGEST_BYTES}")])
_KEY = ["event_time", "row_id"]


@dataclass(frozen=True)
class ErasedRows:
    """The erased rows of a table.

    Attributes:
        keys: event time, 8 bytes, and digest of the row's id, for each.
        times: their event times, sorted, microseconds since 1970.
    """

    keys: frozenset[bytes]
    times: np.ndarray[tuple[int], np.dtype[np.int64]]

    @classmethod
    def of(cls, store: Store, name: str) -> ErasedRows:
        """What was erased of a table.

        Args:
            store: where tables are.
            name: its full name.
        """
        data = b"".join(store.read(item) for item in store.names(f"{_FOLDER}/{name}", _SUFFIX))
        entries = np.frombuffer(data, _ENTRY)
        return cls(frozenset(_cut(data)), np.unique(entries["time"].astype(np.int64)))

    def among(self, rows: pa.Table) -> pa.Array:
        """Which of the rows were erased, as booleans."""
        times = rows["event_time"].cast(TIME).cast(pa.int64()).to_numpy()
        found = np.isin(times, self.times)
        for position in np.flatnonzero(found):
            row_id = rows["row_id"][int(position)].as_py()
            found[position] = _key(int(times[position]), row_id) in self.keys
        return pa.array(found)

    def between(self, low: int, high: int) -> bool:
        """Whether there may be one from an event time to another, both included."""
        position = int(np.searchsorted(self.times, low))
        return position < len(self.times) and int(self.times[position]) <= high

    def without(self, rows: pa.Table) -> pa.Table:
        """The rows that were not erased."""
        return rows.filter(pc.invert(self.among(rows))) if self.keys else rows

    def left_of(self, file: pq.ParquetFile) -> pa.Table | None:
        """The other rows of a data file; None if it holds none that was erased."""
        return self.without(file.read()) if self.in_file(file) else None

    def in_file(self, file: pq.ParquetFile) -> bool:
        """Whether a data file holds one."""
        for group in range(file.metadata.num_row_groups if self.keys else 0):
            bounds = time_bounds(file, group)
            if bounds is None or self.between(*bounds):
                rows = file.read_row_group(group, columns=_KEY, use_threads=False)
                if self.among(rows).true_count:
                    return True
        return False


NOTHING = ErasedRows(frozenset(), np.array([], np.int64))


def note_erased(store: Store, name: str, rows: pa.Table) -> None:
    """Note rows, before they are taken out of a table. Harmless when repeated."""
    times = rows["event_time"].cast(TIME).cast(pa.int64()).to_pylist()
    data = b"".join(sorted(set(map(_key, times, rows["row_id"].to_pylist()))))
    if data:
        digest = blake2b(data, digest_size=_DIGEST_BYTES).hexdigest()
        store.write(f"{_FOLDER}/{name}/{digest}{_SUFFIX}", data)


def _key(time: int, row_id: str) -> bytes:
    digest = blake2b(row_id.encode(), digest_size=_DIGEST_BYTES).digest()
    return time.to_bytes(8, "little", signed=True) + digest


def _cut(data: bytes) -> Iterator[bytes]:
    for start in range(0, len(data), _ENTRY.itemsize):
        yield data[start : start + _ENTRY.itemsize]
