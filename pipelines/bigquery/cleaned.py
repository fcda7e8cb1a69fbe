"""Staged files without rows that were erased. They keep their names, which are tokens' parts.

A load job's id follows from the names of its files. So what was loaded with an erased row is not
loaded, and not sent, once more without it.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from typing import NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from pipelines.bigquery.staging import Staging
from pipelines.erased import ErasedRows
from pipelines.files import FileRef, encoded


class CleanPlace(NamedTuple):
    """A `Place` for files: each has the name of all its rows, and holds those not erased."""

    staging: Staging
    erased: ErasedRows

    def path(self, name: str) -> str:
        """Where an object is."""
        return self.staging.path(name)

    def write(self, name: str, data: bytes | memoryview) -> None:
        """Write a Parquet file."""
        if not self.erased.keys:
            self.staging.write(name, data)
            return
        with pq.ParquetFile(pa.BufferReader(data)) as file:
            kept = self.erased.left_of(file)
        self.staging.write(name, data if kept is None else encoded(kept))


def cleaned(staging: Staging, ref: FileRef, erased: ErasedRows) -> FileRef:
    """A file that holds no erased row any more; with no rows left it is a file without rows.

    Of a file that is gone nothing is known: who needs it says so.
    """
    with suppress(FileNotFoundError):
        if erased.between(ref.min_time, ref.max_time):
            return replace(ref, rows=clean(staging, ref.path, erased).rows)
    return ref


class Cleaned(NamedTuple):
    """How many rows a file holds, and whether it was written anew."""

    rows: int
    changed: bool


def clean(staging: Staging, path: str, erased: ErasedRows) -> Cleaned:
    """Take erased rows out of a file. Harmless when repeated, or done by two at once.

    Raises:
        FileNotFoundError: it is gone.
    """
    with pq.ParquetFile(staging.open(path)) as file:
        kept = erased.left_of(file)
        if kept is None:
            return Cleaned(file.metadata.num_rows, False)
    staging.write(path.removeprefix(f"{staging.root}/"), encoded(kept))
    return Cleaned(kept.num_rows, True)
