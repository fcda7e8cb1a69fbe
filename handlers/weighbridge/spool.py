"""What could not be sent yet, in files: bounded, and there for the next process after a crash."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from weighbridge.archive import SUFFIX, UnreadableArchive, is_archive_name, read_archive
from weighbridge.destinations import Packed, moment, write_packed
from weighbridge.log import log_once

DAMAGED = ".damaged"
_LOCK = ".lock"


class SpoolFullError(Exception):
    """There is no room for these messages within the limit."""


class Spool:
    """A folder of a process's own in the spool, and those that dead processes left behind.

    A process holds a lock on its folder. One without is taken over by whoever looks next, so that
    each file is sent by one process at a time; one that dies in between sends it again.

    Args:
        root: the folder that all processes share.
        publisher_id: names the own folder.
        limit: bytes of all files below `root`.

    Raises:
        OSError: a folder cannot be made.
    """

    def __init__(self, root: Path, publisher_id: str, limit: int) -> None:
        self._root, self._limit = root, limit
        self._own = root / publisher_id
        self._locks: dict[Path, int] = {}
        self._damaged: set[Path] = set()
        self._written = 0

    def add(self, messages: Sequence[Packed]) -> Path:
        """Write messages as one file, within the bounds of one call of a destination.

        Raises:
            SpoolFullError: there is no room.
            OSError: it cannot be written.
        """
        size = sum(len(data) for _, data in messages)
        if size + self.size() > self._limit:
            raise SpoolFullError
        if self._own not in self._locks or not (self._own / _LOCK).exists():
            self._make_own()
        self._written += 1
        path = self._own / f"{moment(time.time_ns() // 1000)}-{self._written}"
        try:
            return write_packed(path, messages, None)
        except BaseException:
            with suppress(OSError):  # it may be there, and only syncing the folder have failed
                path.with_name(path.name + SUFFIX).unlink()
            raise

    def size(self) -> int:
        """Bytes of all files of all processes."""
        total = 0
        for folder in self._folders():
            with suppress(OSError), os.scandir(folder) as entries:  # it may go at any moment
                for entry in entries:
                    with suppress(OSError):
                        total += entry.stat().st_size
        return total

    def files(self) -> list[Path]:
        """Files to send, oldest first: the own ones, and those of processes that have ended."""
        for folder in self._folders():
            if folder not in self._locks and self._take(folder):
                for path in folder.glob(".*.tmp"):  # of one that was killed while it wrote
                    path.unlink(missing_ok=True)
        found: list[Path] = []
        for folder in list(self._locks):
            try:
                files = [path for path in folder.iterdir() if _is_spooled(path)]
            except OSError:  # someone has removed it
                os.close(self._locks.pop(folder))
                continue
            found += files
            if not files and folder != self._own:
                with suppress(OSError):
                    self._release(folder)
        return sorted(found, key=lambda path: path.name)

    def read(self, path: Path) -> list[Packed]:
        """The messages of a file, or of one that is damaged those that can be read.

        Raises:
            OSError: it cannot be read.
        """
        found: list[Packed] = []
        with open(path, "rb") as stream:
            try:
                found += ((m.attributes, m.data) for m in read_archive(stream))
            except UnreadableArchive as error:
                log_once("read all spooled", error)
                self._damaged.add(path)
        return found

    def remove(self, path: Path) -> None:
        """Remove a file whose messages were sent, and its folder if that was a dead process's.

        One that is damaged is set aside instead.

        Raises:
            OSError: that is not possible.
        """
        if path in self._damaged:
            os.replace(path, path.with_name(path.name + DAMAGED))
            self._damaged.discard(path)
        else:
            path.unlink(missing_ok=True)
        folder = path.parent
        with suppress(OSError):  # of what is already gone
            if folder != self._own and [entry.name for entry in folder.iterdir()] == [_LOCK]:
                self._release(folder)

    def close(self) -> None:
        """Let go of all folders; empty ones are removed."""
        for folder in list(self._locks):
            with suppress(OSError):
                self._release(folder)

    def forget(self) -> None:
        """In a child process: the parent's folders are its own."""
        for descriptor in self._locks.values():
            os.close(descriptor)  # without unlocking, which would be the parent's lock, too
        self._locks.clear()

    def _folders(self) -> Iterator[Path]:
        with suppress(OSError):
            for folder in self._root.iterdir():
                if not folder.name.startswith(".") and folder.is_dir():
                    yield folder

    def _make_own(self) -> None:
        # Under a name that nobody looks at until it is locked: it would be taken over.
        new = self._root / f".{self._own.name}"
        if self._own in self._locks:  # it was removed
            os.close(self._locks.pop(self._own))
        if self._own.exists() and self._take(self._own):
            return
        new.mkdir(parents=True, exist_ok=True)
        if not self._take(new):
            raise OSError(f"{new} cannot be locked")
        descriptor = self._locks.pop(new)
        try:
            os.rename(new, self._own)
        except OSError:
            os.close(descriptor)
            raise
        self._locks[self._own] = descriptor

    def _take(self, folder: Path) -> bool:
        import fcntl  # not on Windows, where there is no spool

        try:
            descriptor = os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT, 0o666)
        except OSError:
            return False
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # Its last owner may have removed the folder between the two calls.
            if not os.path.samestat(os.fstat(descriptor), os.stat(folder / _LOCK)):
                raise FileNotFoundError(folder)
        except OSError:
            os.close(descriptor)
            return False
        self._locks[folder] = descriptor
        return True

    def _release(self, folder: Path) -> None:
        descriptor = self._locks.pop(folder)
        try:
            if [entry.name for entry in folder.iterdir()] == [_LOCK]:
                (folder / _LOCK).unlink()
                folder.rmdir()
        finally:
            os.close(descriptor)


def _is_spooled(path: Path) -> bool:
    return path.suffix == SUFFIX and is_archive_name(path.name)
