"""What was committed and Arize has not acknowledged: a small file per commit, written before it."""

from __future__ import annotations

import json
from dataclasses import dataclass

from pipelines.address import Folder
from pipelines.files import FileRef
from pipelines.store import Store
from schemas import ConfigurationError

SUFFIX = ".json"
FOLDER = "pending"
_REQUEUED = "table-"


@dataclass(frozen=True, slots=True)
class Commit:
    """What was committed.

    Attributes:
        token: hash of the files that were asked for, the same when a commit is repeated.
        entry: name of the files that went in: the token, or more where some were written anew.
        table: full name.
        files: the files that went in, none if the token was known already.
    """

    token: str
    entry: str
    table: str
    files: tuple[FileRef, ...]


class Outbox:
    """The folder `push/pending` of a home. Without a home nothing is kept: nothing is pushed."""

    def __init__(self, home: Folder | None) -> None:
        self._store = None if home is None else Store(home / "push")

    @property
    def store(self) -> Store:
        """The folder, for those that push."""
        if self._store is None:
            raise ValueError("an outbox that keeps nothing has no folder")
        return self._store

    def put(self, commit: Commit) -> None:
        """Announce a commit that is about to be made."""
        if self._store is not None:
            self.write(commit.entry, commit.table, commit.files)

    def write(self, entry: str, table: str, files: tuple[FileRef, ...]) -> None:
        """Replace an entry's files, e.g. by those that are still to be sent."""
        content = {"table": table, "files": [ref.to_json() for ref in files]}
        self.store.write(_name(entry), json.dumps(content).encode())

    def remove(self, entry: str) -> None:
        """Forget an entry: delivered, or never committed."""
        if self._store is not None:
            self._store.remove(_name(entry))

    def holds(self, entry: str) -> bool:
        """Whether the entry is there; where nothing is kept, there is nothing to put back."""
        return self._store is None or self._store.exists(_name(entry))

    def entries(self) -> set[str]:
        """Names of all entries."""
        if self._store is None:
            return set()
        names = self._store.names(FOLDER, SUFFIX)
        return {name.removeprefix(f"{FOLDER}/").removesuffix(SUFFIX) for name in names}

    def read(self, entry: str) -> tuple[str, tuple[FileRef, ...]]:
        """Table and files of an entry; ("", ()) if it has gone meanwhile.

        Raises:
            ConfigurationError: somebody else has written the file, or damaged it.
        """
        try:
            content = json.loads(self.store.read(_name(entry)))
            return content["table"], tuple(FileRef.from_json(ref) for ref in content["files"])
        except FileNotFoundError:
            return "", ()
        except (KeyError, TypeError, ValueError):
            raise ConfigurationError(
                f"{self.store.path(_name(entry))} is no entry of the outbox, or is damaged; move "
                "it away, and `weighbridge arize push` sends what a model was never sent"
            ) from None

    def age(self, entry: str) -> float:
        """Seconds since the entry was written."""
        return self.store.age(_name(entry))


def requeued(token: str) -> str:
    """Name of an entry whose files a table held when it was made: no commit makes it count."""
    return f"{_REQUEUED}{token}"


def is_requeued(entry: str) -> bool:
    """Whether `requeued` gave the entry its name."""
    return entry.startswith(_REQUEUED)


def _name(entry: str) -> str:
    return f"{FOLDER}/{entry}{SUFFIX}"
