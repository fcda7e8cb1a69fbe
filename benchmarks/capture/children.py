"""Processes that measure, one for each way: none sees another's threads, memory or caches."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable
from contextlib import suppress
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from types import TracebackType
from typing import Any, Self

_END_SECONDS = 5


class Child:
    """A process that answers: it runs `body(connection, *arguments)`.

    Args:
        body: a function of a module; it may end when `connection.recv()` gives None.
        arguments: what can be pickled.
        emulator: what PUBSUB_EMULATOR_HOST is to be in it.
    """

    def __init__(self, body: Callable[..., None], *arguments: Any, emulator: str = "") -> None:
        context = get_context("spawn")
        self._ours, theirs = context.Pipe()
        self._process = context.Process(
            target=_run, args=(body, theirs, emulator, arguments), daemon=True
        )
        self._process.start()
        theirs.close()

    @property
    def pid(self) -> int:
        """Its process id."""
        assert self._process.pid is not None
        return self._process.pid

    def ask(self, question: Any) -> Any:
        """Its answer to a question."""
        self._ours.send(question)
        return self.answer()

    def answer(self) -> Any:
        """What it says next.

        Raises:
            EOFError: it has ended without a word.
        """
        return self._ours.recv()

    def says(self, seconds: float) -> bool:
        """Whether it says something within this time."""
        return self._ours.poll(seconds)

    def send(self, question: Any) -> None:
        """Ask without waiting for the answer."""
        self._ours.send(question)

    def kill(self) -> None:
        """End it at once."""
        self._process.kill()
        self._process.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with suppress(OSError):  # it has ended
            self._ours.send(None)
        self._process.join(_END_SECONDS)
        self.kill()


def _run(
    body: Callable[..., None], connection: Connection, emulator: str, arguments: tuple[Any, ...]
) -> None:
    logging.disable(logging.CRITICAL)
    if emulator:
        os.environ["PUBSUB_EMULATOR_HOST"] = emulator
    body(connection, *arguments)


def cpu_ns(pid: int) -> int:
    """CPU time of a process, with that of threads that have ended, more finely than by ticks."""
    clock: int = ~pid << 3 | 2  # what clock_getcpuclockid() gives on Linux
    return time.clock_gettime_ns(clock)


def resident_bytes(pid: int) -> int:
    """What it holds in memory."""
    return _status(pid, "VmRSS") * 1024


def threads(pid: int) -> int:
    """How many threads it has, those of C libraries with them."""
    return _status(pid, "Threads")


def _status(pid: int, wanted: str) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        name, _, value = line.partition(":")
        if name == wanted:
            return int(value.split()[0])
    raise KeyError(wanted)
