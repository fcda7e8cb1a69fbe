"""Packs that go to the spool and come back, with what is counted on the way."""

from __future__ import annotations

import time
from pathlib import Path

from weighbridge.log import log_once
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
        """Without their data: what is counted for each file that this process has written."""
        self._files: list[Path] = []
        self._look_at = 0.0
        self.recovered = 0
        """Envelopes of other processes that were sent from the spool."""

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
            except OSError as error:
                log_once("spool", error)
                return False
            else:
                break
        for pack in packs:
            if pack.counts is not None:
                pack.counts.spooled += pack.envelopes
        self._own[path] = [pack._replace(message=({}, b"")) for pack in packs]
        return True

    def next(self) -> tuple[Path, list[Pack]] | None:
        """The oldest file that is to be sent, of this process or of one that has ended."""
        now = time.monotonic()
        if not self._files and (self._own or now >= self._look_at):
            self._files = self._spool.files()[::-1]
            self._look_at = now + LOOK_SECONDS
        while self._files:
            path = self._files.pop()
            try:
                messages = self._spool.read(path)
            except OSError as error:
                log_once("read spooled", error)
                continue
            if messages:
                own = self._own.get(path) or [
                    Pack(message, _count(message[0]), None, now) for message in messages
                ]
                return path, [pack._replace(message=m) for pack, m in zip(own, messages)]
            self._forget(path)
        return None

    def sent(self, path: Path, count: int) -> None:
        """A file's messages with `count` envelopes were taken."""
        known = path in self._own
        for pack in self._forget(path):
            if pack.counts is not None:
                pack.counts.spooled -= pack.envelopes
                pack.counts.published += pack.envelopes
        if not known:
            self.recovered += count

    def back(self, path: Path) -> None:
        """A file's messages are in memory again."""
        for pack in self._forget(path):
            if pack.counts is not None:
                pack.counts.spooled -= pack.envelopes

    def close(self) -> None:
        """Let go of the folders."""
        self._spool.close()

    def forget(self) -> None:
        """In a child process: let go of the parent's folders, which stay locked."""
        self._spool.forget()

    def _forget(self, path: Path) -> list[Pack]:
        try:
            self._spool.remove(path)
        except OSError as error:  # it is sent again, and known by then
            log_once("remove spooled", error)
        return self._own.pop(path, [])

    def _drop(self) -> bool:
        oldest = min(self._own, default=None)
        if oldest is None:
            return False
        for pack in self._forget(oldest):
            if pack.counts is not None:
                pack.counts.spooled -= pack.envelopes
                pack.counts.lost["spool_full"] += pack.envelopes
        self._files = [path for path in self._files if path != oldest]
        return True


def _count(attributes: dict[str, str]) -> int:
    count = attributes.get("envelope_count", "0")
    return int(count) if count.isdecimal() else 0
