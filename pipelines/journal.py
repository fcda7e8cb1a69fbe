"""What a follower has received and what became of it: an SQLite file in the home folder.

A file is recorded before its messages are acknowledged, and belongs to one batch from its first run
on: a batch that was in hand when the process was killed is run again as it was.
"""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from pipelines.batches import InputFile

KEPT_IDS = 1_000_000
"""Batch ids that are remembered; the tables recognise what comes again after as many others."""
_SCHEMA = """
CREATE TABLE IF NOT EXISTS batches (
    id INTEGER PRIMARY KEY AUTOINCREMENT, done INTEGER NOT NULL DEFAULT 0,
    failures INTEGER NOT NULL DEFAULT 0, retry_at REAL NOT NULL DEFAULT 0);
CREATE INDEX IF NOT EXISTS in_hand ON batches (id) WHERE NOT done;
CREATE TABLE IF NOT EXISTS files (
    path TEXT PRIMARY KEY, bytes INTEGER NOT NULL, written INTEGER NOT NULL,
    published INTEGER NOT NULL, batch INTEGER REFERENCES batches (id)) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS files_of ON files (batch, path);
CREATE INDEX IF NOT EXISTS oldest ON files (written);
CREATE TABLE IF NOT EXISTS seen (
    number INTEGER PRIMARY KEY AUTOINCREMENT, batch_id TEXT NOT NULL UNIQUE);
"""
_DONE = "batch IN (SELECT id FROM batches WHERE done)"
_BELOW = "path >= ? AND path < ?"


class Batch(NamedTuple):
    """Files that are run together, and how often that has failed."""

    number: int
    files: list[InputFile]
    failures: int
    retry_at: float
    """Seconds since 1970."""


class Journal:
    """The file `follow.db` of a home. Threads may share it."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._lock = threading.RLock()
        self._db = sqlite3.connect(path, check_same_thread=False, isolation_level=None, timeout=60)
        self._db.execute("PRAGMA journal_mode=WAL")
        self._db.execute("PRAGMA synchronous=FULL")
        self._db.executescript(_SCHEMA)

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    def add(self, files: Iterable[InputFile], batch_ids: Iterable[str] = ()) -> None:
        """Record files that are durable, and the batch ids in them. What is known is left as is.

        A file that was replaced by another of the same name is a new one.
        """
        with self._transaction() as db:
            db.executemany(
                "INSERT INTO files (path, bytes, written, published) VALUES (?, ?, ?, ?) "
                "ON CONFLICT (path) DO UPDATE SET bytes = excluded.bytes, batch = NULL, "
                "written = excluded.written, published = excluded.published "
                "WHERE bytes != excluded.bytes OR written != excluded.written",
                files,
            )
            db.executemany(
                "INSERT OR IGNORE INTO seen (batch_id) VALUES (?)", ((id_,) for id_ in batch_ids)
            )
            db.execute(
                "DELETE FROM seen WHERE number <= (SELECT max(number) FROM seen) - ?", (KEPT_IDS,)
            )

    def seen(self, batch_ids: Sequence[str]) -> set[str]:
        """Those of the ids that were recorded before."""
        with self._lock:
            found: set[str] = set()
            for start in range(0, len(batch_ids), 500):
                part = batch_ids[start : start + 500]
                marks = ",".join("?" * len(part))
                rows = self._db.execute(
                    f"SELECT batch_id FROM seen WHERE batch_id IN ({marks})", part
                )
                found.update(row[0] for row in rows)
            return found

    def files(self) -> dict[str, InputFile]:
        """All recorded files by path."""
        return {file.path: file for file in self._files("true")}

    def waiting(self) -> list[InputFile]:
        """Recorded files that no batch has yet, in the order of their names."""
        return self._files("batch IS NULL ORDER BY path")

    def waiting_bytes(self) -> int:
        """Size of the files that no batch has yet."""
        with self._lock:
            found = self._db.execute("SELECT sum(bytes) FROM files WHERE batch IS NULL").fetchone()
        return found[0] or 0

    def begin(self, files: Sequence[InputFile]) -> Batch:
        """Make a batch of files."""
        with self._transaction() as db:
            number = db.execute("INSERT INTO batches DEFAULT VALUES").lastrowid
            assert number is not None
            self._assign(db, number, files)
        return Batch(number, list(files), 0, 0.0)

    def in_hand(self) -> list[Batch]:
        """Batches that are begun and not done, oldest first."""
        with self._lock:
            rows = self._db.execute(
                "SELECT id, failures, retry_at FROM batches WHERE NOT done ORDER BY id"
            ).fetchall()
        return [
            Batch(number, self._files("batch = ? ORDER BY path", number), failures, retry_at)
            for number, failures, retry_at in rows
        ]

    def done(self, batch: Batch) -> None:
        """Record that a batch is in the tables."""
        with self._transaction() as db:
            db.execute("UPDATE batches SET done = 1 WHERE id = ?", (batch.number,))

    def failed(self, batch: Batch, wait: float) -> None:
        """Put a batch off by some seconds; if it has several files, each becomes a batch."""
        with self._transaction() as db:
            retry_at = time.time() + wait
            parts = [[file] for file in batch.files]
            for part in parts[1:]:
                number = db.execute("INSERT INTO batches DEFAULT VALUES").lastrowid
                assert number is not None
                self._assign(db, number, part)
                db.execute(
                    "UPDATE batches SET failures = 1, retry_at = ? WHERE id = ?", (retry_at, number)
                )
            db.execute(
                "UPDATE batches SET failures = failures + 1, retry_at = ? WHERE id = ?",
                (retry_at, batch.number),
            )

    def bytes_below(self, folder: Path) -> int:
        """Size of the recorded files below a folder."""
        with self._lock:
            found = self._db.execute(
                f"SELECT sum(bytes) FROM files WHERE {_BELOW}", _span(folder)
            ).fetchone()
        return found[0] or 0

    def oldest_done(self, folder: Path, most: int = 1000) -> list[InputFile]:
        """Files below a folder whose batch is done, the oldest first."""
        condition = f"{_DONE} AND {_BELOW} ORDER BY written LIMIT {most}"
        return self._files(condition, *_span(folder))

    def forget(self, files: Iterable[InputFile]) -> None:
        """Drop files that are gone, if they are done, and batches that have none left."""
        with self._transaction() as db:
            db.executemany(
                f"DELETE FROM files WHERE path = ? AND {_DONE}", ((file.path,) for file in files)
            )
            db.execute(
                "DELETE FROM batches WHERE done AND NOT EXISTS "
                "(SELECT 1 FROM files WHERE batch = batches.id)"
            )

    def _files(self, condition: str, *values: object) -> list[InputFile]:
        with self._lock:
            select = "SELECT path, bytes, written, published FROM files"
            rows = self._db.execute(f"{select} WHERE {condition}", values)
            return [InputFile(*row) for row in rows]

    def _assign(self, db: sqlite3.Connection, number: int, files: Sequence[InputFile]) -> None:
        db.executemany(
            "UPDATE files SET batch = ? WHERE path = ?", ((number, file.path) for file in files)
        )

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._lock:
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield self._db
            except BaseException:
                self._db.execute("ROLLBACK")
                raise
            self._db.execute("COMMIT")


def _span(folder: Path) -> tuple[str, str]:
    return f"{folder}/", f"{folder}0"  # 0 comes right behind /
