"""Packs that go to the spool and come back, with what is counted on the way."""

from __future__ import annotations

import time
from collections.abc import Iterable
from pathlib import Path

from weighbridge.counts import OTHERS, ModelCounts
from weighbridge.destinations import Packed
from weighbridge.log import log_once, may_log, warn
from weighbridge.packs import Pack
from weighbridge.spool import Spool, SpoolFullError

LOOK_SECONDS = 5.0
"""How often the spool is looked through for files of processes that have ended."""


class Spooler:
    """Keeps packs in a spool, and gives them back file by file.

    Args:
        spool: where they lie.
        drop_oldest: whether, without room, the oldest file of this process gives way.
    """

    def __init__(self, spool: Spool, drop_oldest: bool) -> None:
        self._spool, self._drop_oldest = spool, drop_oldest
        self._own: dict[Path, list[Pack]] = {}
        """What is counted for each file of this process, without data, oldest first."""
        self._files: list[Path] = []
        self._sending: Path | None = None
        self._done: set[Path] = set()
        """Files that should be gone, and could not be removed."""
        self._look_at = 0.0
        self.left = ModelCounts(OTHERS, None)
        """What became of envelopes that other processes left: no part of this one's counts."""

    @property
    def recovered(self) -> int:
        """Envelopes of other processes that were sent from the spool."""
        return self.left.published

    def keep(self, packs: list[Pack]) -> bool:
        """Write packs to one file. False: it is not possible now, and the log says why."""
        messages = [pack.message for pack in packs]
        while True:
            try:
                path = self._spool.add(messages)
            except SpoolFullError as error:
                log_once("spool", error)
                if not (self._drop_oldest and self._drop()):
                    return False
            except Exception as error:  # whatever it is, the packs must not get lost
                log_once("spool", error)
                return False
            else:
                break
        for pack in packs:
            if pack.counts is not None:
                pack.counts.spooled += pack.envelopes
        self._own[path] = [
            pack._replace(message=({"batch_id": _batch_id(pack.message)}, b"")) for pack in packs
        ]
        return True

    def next(self) -> tuple[Path, list[Pack]] | None:
        """The oldest file that is to be sent, of this process or of one that has ended.

        One of `sent`, `back` and `failed` says afterwards what became of it.
        """
        now = time.monotonic()
        if not self._files and (self._own or now >= self._look_at):
            self._files = self._spool.files()[::-1]
            self._look_at = now + LOOK_SECONDS
            self._count_lost(self._own.keys() - set(self._files))
        while self._files:
            path = self._files.pop()
            if path in self._done:
                self._remove(path)
                continue
            try:
                messages = self._spool.read(path)
            except FileNotFoundError:
                self._count_lost([path])
                continue
            except Exception as error:
                log_once("read spooled", error)
                continue
            packs = self._known(path, messages, now)
            if packs:
                self._sending = path
                return path, packs
            self._remove(path)
        return None

    def sent(self, path: Path, packs: list[Pack]) -> None:
        """The packs of a file were taken."""
        own = self._forget(path)
        for pack in packs:
            if pack.counts is not None:
                pack.counts.spooled -= pack.envelopes if own else 0
                pack.counts.published += pack.envelopes

    def back(self, path: Path, packs: list[Pack]) -> None:
        """The packs of a file are in memory again."""
        if self._forget(path):
            for pack in packs:
                if pack.counts is not None:
                    pack.counts.spooled -= pack.envelopes

    def failed(self) -> None:
        """The packs of the file are to be sent again, some time."""
        self._sending = None

    def close(self) -> None:
        """Let go of the folders."""
        self._spool.close()

    def forget(self) -> None:
        """In a child process: let go of the parent's folders, which stay locked."""
        self._spool.forget()

    def _known(self, path: Path, messages: list[Packed], now: float) -> list[Pack]:
        """What a file holds, with its counts; what it does not hold any more is counted as lost."""
        own = self._own.get(path)
        if own is None:
            found = []
            for message in messages:
                count = _count(message[0])
                found.append(Pack(message, count, self.left if count else None, now))
            return found
        by_id = {_batch_id(message): message for message in messages}
        whole = [pack for pack in own if _batch_id(pack.message) in by_id]
        self._own[path] = whole
        _lost([pack for pack in own if _batch_id(pack.message) not in by_id])
        return [pack._replace(message=by_id[_batch_id(pack.message)]) for pack in whole]

    def _forget(self, path: Path) -> bool:
        """Have a file gone; whether it was one of this process."""
        self._sending = None
        self._remove(path)
        return self._own.pop(path, None) is not None

    def _remove(self, path: Path) -> None:
        try:
            self._spool.remove(path)
        except OSError as error:  # else it would be sent for ever
            log_once("remove spooled", error)
            self._done.add(path)
        else:
            self._done.discard(path)

    def _count_lost(self, paths: Iterable[Path]) -> None:
        for path in paths:
            _lost(self._own.pop(path, []))

    def _drop(self) -> bool:
        oldest = next((path for path in self._own if path != self._sending), None)
        if oldest is None:
            return False
        for pack in self._own[oldest]:
            if pack.counts is not None:
                pack.counts.spooled -= pack.envelopes
                pack.counts.lost["spool_full"] += pack.envelopes
        del self._own[oldest]
        self._files = [path for path in self._files if path != oldest]
        self._remove(oldest)
        return True


def log_lost(envelopes: int, cause: str) -> None:
    """Say that envelopes of other processes were dropped, which no counts do."""
    if may_log("drop left"):
        warn("weighbridge dropped %d envelopes that an earlier process left: %s", envelopes, cause)


def _lost(packs: list[Pack]) -> None:
    for pack in packs:
        if pack.counts is not None:
            pack.counts.spooled -= pack.envelopes
            pack.counts.lost["spool_lost"] += pack.envelopes


def _batch_id(message: Packed) -> str:
    return message[0].get("batch_id", "")


def _count(attributes: dict[str, str]) -> int:
    count = attributes.get("envelope_count", "0")
    return int(count) if count.isdecimal() else 0
