"""Stored messages that are not done: dead letters and parked ones, with the place of each."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from pipelines import marks
from pipelines.identity import identity
from pipelines.read import read_messages
from pipelines.selection import EVERYTHING, Selection
from pipelines.store import Store
from weighbridge.archive import SUFFIX, Message


class Stored(NamedTuple):
    """A message in a file below the home, at a position, and what identifies it."""

    message: Message
    file: str
    position: int
    identity: bytes


def open_messages(store: Store, folder: str, selection: Selection = EVERYTHING) -> Iterator[Stored]:
    """The messages of a folder that no replay has marked as done, in the order of their files.

    Args:
        store: the home.
        folder: `failures` or `parked`.
        selection: of the messages, those that are wanted.
    """
    done = marks.done(store, folder)
    seen: set[bytes] = set()
    for name in store.names(folder, SUFFIX):
        for position, message in enumerate(read_messages(store.path(name))):
            if not selection.takes(message):
                continue
            key = identity(message)
            if key not in done and key not in seen:
                seen.add(key)
                yield Stored(message, name, position, key)
