"""Which dead letters and parked messages are done: small files of their identities beside them.

Nothing is moved or rewritten, so that a kill loses nothing: what was not marked is run again, and
is in the tables already. A replay notes what came out of its pipeline, wherever that runs; what
went in and did not come out again has become rows, or was skipped, or failed for another cause.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from hashlib import blake2b

from pipelines.identity import IDENTITY_BYTES
from pipelines.store import Store
from weighbridge.archive import Message

DONE, REPLAYS, AGAIN = "done", "replays", "again"
SUFFIX = ".ids"


def note_produced(store: Store, replay: str, messages: Mapping[bytes, Message]) -> None:
    """Note messages, by identity, that a replay gave out again. Harmless when repeated."""
    _write(store, f"{REPLAYS}/{replay}", messages)
    again = [key for key, item in messages.items() if "failure_first" in item.attributes]
    _write(store, f"{REPLAYS}/{replay}/{AGAIN}", again)


def produced(store: Store, replay: str) -> set[bytes]:
    """All that a replay has noted; below `AGAIN`, what had failed for another cause before."""
    return _read(store, f"{REPLAYS}/{replay}")


def forget_produced(store: Store, replay: str) -> None:
    """Remove a replay's notes."""
    for name in store.names(f"{REPLAYS}/{replay}", SUFFIX):
        store.remove(name)


def mark_done(store: Store, folder: str, identities: Iterable[bytes]) -> None:
    """Mark messages of a folder as done."""
    _write(store, f"{folder}/{DONE}", identities)


def done(store: Store, folder: str) -> set[bytes]:
    """The messages of a folder that are done."""
    return _read(store, f"{folder}/{DONE}")


def _write(store: Store, folder: str, identities: Iterable[bytes]) -> None:
    data = b"".join(sorted(identities))
    if data:
        store.write(f"{folder}/{blake2b(data, digest_size=16).hexdigest()}{SUFFIX}", data)


def _read(store: Store, folder: str) -> set[bytes]:
    found: set[bytes] = set()
    for name in store.names(folder, SUFFIX):
        data = store.read(name)
        steps = range(0, len(data), IDENTITY_BYTES)
        found.update(data[i : i + IDENTITY_BYTES] for i in steps)
    return found
