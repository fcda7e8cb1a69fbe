"""Code in C that does not return: its process is ended once, and leaves word of whose code it was.

A thread can end the process as long as the code lets other threads run. Where it does not, a timer
of the interpreter's own does it, which needs no lock; what then remains to be said is said by the
next process.
"""

from __future__ import annotations

import faulthandler
import mmap
import os
import sys
from contextlib import suppress
from fcntl import LOCK_EX, LOCK_NB, flock
from pathlib import Path

from pipelines.quarantine import FOLDER, records, set_aside_for_good
from pipelines.store import Store
from schemas.guard import GRACE_SECONDS

REARM_TICKS = 10
_SLOT_BYTES = 128
_NOBODY = bytes(_SLOT_BYTES)
_WORDS = f"{FOLDER}/.at_work"


class AtWork:
    """Tells, also after the death of this process, whose code it is in.

    Args:
        store: the home.
        longest: seconds that the slowest extractor may take for one envelope.
    """

    def __init__(self, store: Store, longest: float) -> None:
        self._store = store
        self._seconds = longest + 2 * GRACE_SECONDS
        self._ticks = 0
        name = f"{os.getpid()}-{id(self):x}"
        self._path = store.scratch(_WORDS) / name
        self._path.parent.mkdir(parents=True, exist_ok=True)
        made = self._path.with_name(f".{name}")
        made.write_bytes(_NOBODY)
        self._file = open(made, "r+b")  # noqa: SIM115
        flock(self._file, LOCK_EX)  # until the process ends, however it does
        made.rename(self._path)
        self._dump = open(self._path, "ab")  # noqa: SIM115
        self._slot = mmap.mmap(self._file.fileno(), _SLOT_BYTES)
        self.tick()  # the first call may already be one that keeps other threads out

    def enter(self, slot: bytes) -> None:
        """Take note of whose code is called next; `slot` is what `slot_of` gave."""
        self._slot[:] = slot

    def leave(self) -> None:
        """No code is called."""
        self._slot[:] = _NOBODY

    def tick(self) -> None:
        """To be called while threads can run, ten times a second."""
        if self._ticks % REARM_TICKS == 0:
            faulthandler.dump_traceback_later(self._seconds, exit=True, file=self._dump)
        self._ticks += 1

    def end_process(self, limit: float) -> None:
        """End this process, as a call did not return; the caller is another thread than the call's.

        Args:
            limit: of the call, seconds.
        """
        named = _named(bytes(self._slot))
        if named is not None:
            set_aside_for_good(self._store, *named, _cause(f"its limit of {limit:g} s"))
        self._path.unlink(missing_ok=True)
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(1)

    def close(self) -> None:
        """It is over, and nothing is left."""
        faulthandler.cancel_dump_traceback_later()
        self._slot.close()
        self._file.close()
        self._dump.close()
        self._path.unlink(missing_ok=True)


def slot_of(table: str, extractor_version: str) -> bytes:
    """What `AtWork.enter` takes."""
    return f"{table} {extractor_version}".encode().ljust(_SLOT_BYTES, b"\0")


def bury(store: Store) -> None:
    """Quarantine what took down processes that could not say so themselves."""
    words: dict[str, list[tuple[Path, bytes]]] = {}
    for path in store.scratch(_WORDS).glob("[!.]*"):
        with suppress(FileNotFoundError, BlockingIOError), open(path, "rb") as stream:
            flock(stream, LOCK_EX | LOCK_NB)  # or its process lives
            words.setdefault(path.name.partition("-")[0], []).append((path, stream.read()))
    for found in words.values():
        # Of several threads nobody can tell which one kept the others out.
        if any(len(data) > _SLOT_BYTES for _, data in found):
            for named in filter(None, (_named(data[:_SLOT_BYTES]) for _, data in found)):
                set_aside_for_good(store, *named, _cause("the longest limit"))
        for path, _ in found:
            path.unlink(missing_ok=True)


def stuck(store: Store) -> set[tuple[str, str]]:
    """Tables and versions of extractors that took down a process."""
    bury(store)
    found = (record for record in records(store) if record.probe_at is None)
    return {(record.table, record.extractor_version) for record in found}


def _cause(limit: str) -> str:
    return f"did not return within {limit} from code in C, which cannot be ended"


def _named(slot: bytes) -> tuple[str, str] | None:
    table, _, version = slot.rstrip(b"\0").decode(errors="replace").partition(" ")
    return (table, version) if table else None
