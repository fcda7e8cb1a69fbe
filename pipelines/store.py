"""Durable writes: what is written is complete or absent, also after a power cut."""

from __future__ import annotations

import io
import time
from collections.abc import Iterator
from contextlib import contextmanager
from fcntl import LOCK_EX, LOCK_NB, flock
from pathlib import Path

from pipelines.address import Address, Folder
from weighbridge.durable import sync_folder, write_durably


class Store:
    """Objects below one folder. Every object is named by its content or has one writer.

    Of an address it is an `ObjectStore`. Pickles as its folder.

    Attributes:
        folder: where they are.
        root: the same, where it is on this machine.
    """

    folder: Folder
    root: Path

    def __new__(cls, root: Folder) -> Store:
        """The one for folders of this kind."""
        if isinstance(root, Address):
            from pipelines.objects import ObjectStore

            return super().__new__(ObjectStore)
        return super().__new__(cls)

    def __init__(self, root: Folder) -> None:
        if isinstance(root, Path):
            self.folder = self.root = root.resolve()

    def __reduce__(self) -> tuple[type[Store], tuple[Folder]]:
        return Store, (self.folder,)

    def write(self, name: str, data: bytes | memoryview) -> None:
        """Write an object; one that exists is replaced, so that its age starts again."""
        write_durably(self.root / name, data)

    def append(self, name: str, data: bytes) -> None:
        """Add to an object that may be lost or cut short, by one process at a time."""
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(path, "ab") as stream:
            stream.write(data)

    def path(self, name: str) -> str:
        """Where the object is, for readers of files."""
        return str(self.root / name)

    def scratch(self, name: str) -> Path:
        """A folder of this machine for what its processes tell each other, and nobody keeps."""
        return self.root / name

    def read(self, name: str) -> bytes:
        """The object's bytes.

        Raises:
            FileNotFoundError: it is not there (any more).
        """
        return (self.root / name).read_bytes()

    def remove(self, name: str) -> None:
        """Remove an object, if it is there."""
        path = self.root / name
        path.unlink(missing_ok=True)
        if path.parent.exists():
            sync_folder(path.parent)

    def exists(self, name: str) -> bool:
        """Whether the object is there."""
        return (self.root / name).exists()

    def names(self, folder: str, suffix: str) -> list[str]:
        """Names of the complete objects below a folder, in order."""
        return sorted(
            str(path.relative_to(self.root))
            for path in (self.root / folder).rglob(f"*{suffix}")
            if not path.name.startswith(".")
        )

    def unfinished(self) -> list[str]:
        """Names of files that are being written, or that a killed process has left half-written."""
        return [str(path.relative_to(self.root)) for path in self.root.rglob(".*.tmp")]

    def age(self, name: str) -> float:
        """Seconds since the object was written; 0 if it is not there."""
        try:
            return time.time() - (self.root / name).stat().st_mtime
        except FileNotFoundError:
            return 0.0

    def described(self, name: str) -> tuple[int, int]:
        """Bytes of an object, and when it was written, nanoseconds since 1970.

        Raises:
            FileNotFoundError: it is not there (any more).
        """
        found = (self.root / name).stat()
        return found.st_size, found.st_mtime_ns

    @contextmanager
    def locked(self, name: str) -> Iterator[bool]:
        """Take turns with other processes of this machine. A killed one frees its locks."""
        with self._lock_file(name) as stream:
            flock(stream, LOCK_EX)
            yield True

    @contextmanager
    def try_locked(self, name: str) -> Iterator[bool]:
        """Like `locked`, but gives false at once where another process has the lock."""
        with self._lock_file(name) as stream:
            try:
                flock(stream, LOCK_EX | LOCK_NB)
            except BlockingIOError:
                yield False
            else:
                yield True

    def _lock_file(self, name: str) -> io.TextIOWrapper:
        path = self.root / f".{name}.lock"
        path.parent.mkdir(parents=True, exist_ok=True)
        return open(path, "a")
