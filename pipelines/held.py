"""Which messages a folder of archive files holds and where, without reading it each time."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import suppress
from io import BytesIO
from pathlib import PurePath

from pipelines.store import Store
from weighbridge.archive import SUFFIX, Message, UnreadableArchive, read_archive

INDEX = ".held"
DIGEST_BYTES = 16


class HeldMessages:
    """Identities of the messages in a folder's files, for one process at a time.

    The index beside the files is a shortcut: a file that it does not name is read, and what it says
    about files that are gone does not count. So it may be lost, or cut short by a kill.

    Args:
        store: the home.
        folder: the folder in it.
        identity: 16 bytes that make two messages one.

    Attributes:
        places: by identity, a message's file and its position in it.
    """

    def __init__(self, store: Store, folder: str, identity: Callable[[Message], bytes]) -> None:
        self._store = store
        self._index = f"{folder}/{INDEX}"
        self._identity = identity
        self.places: dict[bytes, tuple[str, int]] = {}
        indexed = self._read()
        for name in store.names(folder, SUFFIX):
            file = PurePath(name).name
            if file in indexed:
                self._place(file, indexed[file])
            else:
                self.add(file, _messages(store.read(name)))

    def add(self, file: str, messages: Iterable[Message]) -> None:
        """Take note of a file that is complete."""
        digests = [self._identity(message) for message in messages]
        self._place(file, digests)
        self._store.append(self._index, f"{file} {b''.join(digests).hex()}\n".encode())

    def _place(self, file: str, digests: list[bytes]) -> None:
        for position, digest in enumerate(digests):
            self.places.setdefault(digest, (file, position))

    def _read(self) -> dict[str, list[bytes]]:
        found: dict[str, list[bytes]] = {}
        with suppress(FileNotFoundError):
            for line in self._store.read(self._index).decode("ascii").splitlines(keepends=True):
                file, _, text = line.partition(" ")
                with suppress(ValueError):
                    data = bytes.fromhex(text)
                    if line.endswith("\n") and not len(data) % DIGEST_BYTES:
                        steps = range(0, len(data), DIGEST_BYTES)
                        found[file] = [data[i : i + DIGEST_BYTES] for i in steps]
        return found


def _messages(data: bytes) -> list[Message]:
    messages = []
    with suppress(UnreadableArchive):  # what is not readable is written again
        for message in read_archive(BytesIO(data)):
            messages.append(message)
    return messages
