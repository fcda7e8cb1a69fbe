"""Tells, from inside a process, which of its steps it has entered and left; and dies at one."""

from __future__ import annotations

import os
import signal
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from inspect import getattr_static
from pathlib import Path
from typing import Any

from pyiceberg.catalog.sql import SqlCatalog

from pipelines.arize import Uploader
from pipelines.journal import Journal
from pipelines.outbox import Outbox
from pipelines.store import Store
from pipelines.subscription import Subscription

FRONT, GROUP = "front", "group"
WORKER, FORKER = "worker", "forker"
RECEIVE = ("archive file", "journal", "acknowledgement")
"""Of a subscription; a watched folder has the second."""
BATCH = ("begin", "done")
WRITE = ("data file", "dead letter")
COMMIT = ("outbox entry", "metadata", "catalog")
PUSH = ("upload", "outbox removal")


@dataclass(frozen=True)
class Death:
    """Where a process kills itself.

    Attributes:
        when: "before" or "after".
        step: one of this module's.
        nth: the how manieth time.
        victim: the process in front, all of its group, or, where a worker takes the step, that
            worker, or the process that forks the workers.
    """

    when: str
    step: str
    nth: int
    victim: str


def watch(log: Path, death: Death | None) -> None:
    """Log each step of this process and its forks, and die where that is wanted, once."""
    watched = _Watched(log, death)
    for owner, name, step, matches in _STEPS:
        watched.wrap(owner, name, step, matches)


def _always(*_: Any) -> bool:
    return True


def _is_data(_: Store, name: str, __: Any) -> bool:
    return name.endswith(".parquet")


def _is_letter(_: Store, name: str, __: Any) -> bool:
    return name.startswith(("failures/", "parked/"))


_STEPS: tuple[tuple[type, str, str, Callable[..., bool]], ...] = (
    (Subscription, "_write", "archive file", _always),
    (Journal, "add", "journal", lambda _, files, *__: bool(files)),
    (Subscription, "_acknowledge", "acknowledgement", _always),
    (Journal, "begin", "begin", _always),
    (Journal, "done", "done", _always),
    (Journal, "forget", "removal of old files", _always),
    (Store, "write", "data file", _is_data),
    (Store, "write", "dead letter", _is_letter),
    (Outbox, "put", "outbox entry", _always),
    (SqlCatalog, "_write_metadata", "metadata", _always),
    (SqlCatalog, "commit_table", "catalog", _always),
    (Uploader, "_post", "upload", _always),
    (Outbox, "remove", "outbox removal", _always),
)


class _Watched:
    def __init__(self, log: Path, death: Death | None) -> None:
        self._front = os.getpid()
        self._log = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        self._died = log.with_suffix(".died")
        self._death = death
        self._times: Counter[tuple[str, str]] = Counter()

    def wrap(self, owner: type, name: str, step: str, matches: Callable[..., bool]) -> None:
        original = getattr(owner, name)
        static = isinstance(getattr_static(owner, name), staticmethod)

        @wraps(original)
        def wrapped(*args: Any, **kwargs: Any) -> Any:
            if not matches(*args):
                return original(*args, **kwargs)
            self._pass("before", step)
            try:
                return original(*args, **kwargs)
            finally:
                self._pass("after", step)

        setattr(owner, name, staticmethod(wrapped) if static else wrapped)

    def _pass(self, when: str, step: str) -> None:
        os.write(self._log, f"{time.monotonic():.6f} {os.getpid()} {when} {step}\n".encode())
        self._times[when, step] += 1
        death = self._death
        if death is None or (when, step) != (death.when, death.step):
            return
        if death.victim in (WORKER, FORKER) and os.getpid() == self._front:
            return
        if self._times[when, step] == death.nth and not self._died.exists():
            self._died.touch()
            self._die(death.victim)

    def _die(self, victim: str) -> None:
        if victim == GROUP:
            os.killpg(0, signal.SIGKILL)
        pids = {FRONT: self._front, WORKER: os.getpid(), FORKER: os.getppid()}
        os.kill(pids[victim], signal.SIGKILL)
