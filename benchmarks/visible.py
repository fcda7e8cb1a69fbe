"""When rows became visible: what readers of the tables could have seen, and since when."""

from __future__ import annotations

import json
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from pipelines.address import local_path
from pipelines.tables import MODELS, Tables

_LOOK_SECONDS = 0.02


@dataclass(frozen=True)
class Seen:
    """Rows of one data file. Times in seconds since 1970."""

    when: float
    event_times: np.ndarray[tuple[int], np.dtype[np.float64]]


class Watch:
    """Looks at the catalog all the time, and notes which version of each table is there when.

    It reads no more than that while it runs, so as to take little of the processor from the one
    that it watches. Files are looked up by their sequence numbers afterwards.
    """

    def __init__(self, home: Path) -> None:
        self._home = home
        self._stop = threading.Event()
        self._versions: dict[str, list[tuple[float, int]]] = {}
        self._rows: dict[str, int] = {}
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    @property
    def rows(self) -> int:
        """Rows that are visible by now."""
        return sum(list(self._rows.values()))

    def close(self) -> None:
        """Look no more."""
        self._stop.set()
        self._thread.join()

    def seen(self) -> Iterator[Seen]:
        """Each data file that is there at the end, with when it was seen first."""
        tables = Tables(self._home)
        for name, versions in self._versions.items():
            table = tables.load(f"{MODELS}.{name}")
            snapshot = table.current_snapshot()
            for manifest in snapshot.manifests(table.io) if snapshot else ():
                for entry in manifest.fetch_manifest_entry(table.io):
                    number = entry.sequence_number or 0
                    when = next(when for when, version in versions if version >= number)
                    path = local_path(entry.data_file.file_path)
                    column = pq.read_table(path, columns=["event_time"], partitioning=None)[0]
                    yield Seen(when, column.cast("int64").to_numpy() / 1e6)

    def _run(self) -> None:
        catalog = self._home / "tables" / "catalog.db"
        known: dict[str, str] = {}
        while not self._stop.wait(_LOOK_SECONDS):
            if not catalog.exists():
                continue
            now = time.time()
            for name, location in _locations(catalog):
                if known.get(name) != location:
                    known[name] = location
                    self._note(name, Path(local_path(location)), now)

    def _note(self, name: str, path: Path, now: float) -> None:
        try:
            metadata = json.loads(path.read_bytes())
        except FileNotFoundError:
            return  # replaced meanwhile; the next look finds the newer one
        self._versions.setdefault(name, []).append((now, metadata["last-sequence-number"]))
        for snapshot in metadata.get("snapshots", ()):
            if snapshot["snapshot-id"] == metadata.get("current-snapshot-id"):
                self._rows[name] = int(snapshot["summary"]["total-records"])


def _locations(catalog: Path) -> list[tuple[str, str]]:
    query = "SELECT table_name, metadata_location FROM iceberg_tables WHERE table_namespace = ?"
    try:
        with closing(sqlite3.connect(f"file:{catalog}?mode=ro", uri=True, timeout=5)) as database:
            return database.execute(query, (MODELS,)).fetchall()
    except sqlite3.OperationalError:
        return []  # not made yet
