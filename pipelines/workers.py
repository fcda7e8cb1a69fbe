"""Work spread over forked processes that live for one piece each."""

from __future__ import annotations

import gc
import os
import pickle
import signal
import sys
import traceback
from collections.abc import Callable, Sequence
from contextlib import suppress
from multiprocessing import Pipe
from multiprocessing.connection import Connection, wait
from types import TracebackType
from typing import Any, Generic, NoReturn, TypeVar

from pipelines.room import NoRoomError, want_of_room

A = TypeVar("A")
R = TypeVar("R")


class WorkerFailed(Exception):
    """A worker raised something or died; its text holds no value of the input."""


class WorkersGone(Exception):
    """No worker can be forked any more: to be started again is all that helps."""


class Workers(Generic[A, R]):
    """Calls a function in processes of their own, so that neither a crash nor a leak stays.

    Python must be forked before it starts a thread, and whoever commits, pulls and pushes starts
    some. So one process is forked first, does nothing, and forks the workers of each call.

    Args:
        function: called with one argument in a fork; its result is pickled.
    """

    def __init__(self, function: Callable[[A], R]) -> None:
        self._function = function

    def __enter__(self) -> Workers[A, R]:
        self._pipe, theirs = Pipe()
        sys.stdout.flush()
        sys.stderr.flush()
        self._pid = os.fork()
        if self._pid == 0:
            self._pipe.close()
            _exit_after(_serve, theirs, self._function)
        theirs.close()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._pipe.close()
        with suppress(ChildProcessError):
            os.waitpid(self._pid, 0)

    def map(self, arguments: Sequence[A]) -> list[R]:
        """The function's results, in order; each argument has a process of its own.

        Raises:
            WorkerFailed: one of them failed. The others were waited for.
            NoRoomError: likewise, as a disk is full.
            WorkersGone: the process that forks them has died.
        """
        try:
            self._pipe.send(list(arguments))
            outcomes = self._pipe.recv()
        except (EOFError, BrokenPipeError, ConnectionResetError):
            raise WorkersGone("the process that forks the workers has died") from None
        results = []
        for data, status in outcomes:
            if data is None:
                raise WorkerFailed(f"a worker died, {_said(status)}")
            good, result = pickle.loads(data)
            if not good:
                raise result
            results.append(result)
        return results


def _serve(parent: Connection, function: Callable[[Any], Any]) -> None:
    # Ctrl-C goes to the whole group; the process in front decides what is still to be done.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    # A collection in a worker would touch, and so copy, every object that it shares with us.
    gc.freeze()
    while True:
        try:
            arguments = parent.recv()
        except (EOFError, ConnectionResetError):
            return
        children = [_start(parent, function, argument) for argument in arguments]
        answers: dict[Connection, bytes | None] = {}
        while len(answers) < len(children):
            open_ones = [pipe for pipe, _ in children if pipe not in answers]
            for ready in wait([*open_ones, parent]):
                if ready is parent:  # gone: it sends nothing while it waits for us
                    for _, pid in children:
                        with suppress(ProcessLookupError):
                            os.kill(pid, signal.SIGKILL)
                    return
                assert isinstance(ready, Connection)
                try:
                    answers[ready] = ready.recv_bytes()
                except (EOFError, ConnectionResetError):
                    answers[ready] = None
        outcomes = [(answers[pipe], os.waitpid(pid, 0)[1]) for pipe, pid in children]
        for pipe, _ in children:
            pipe.close()
        parent.send(outcomes)


def _start(
    parent: Connection, function: Callable[[Any], Any], argument: Any
) -> tuple[Connection, int]:
    ours, theirs = Pipe(duplex=False)
    pid = os.fork()
    if pid == 0:
        parent.close()
        ours.close()
        _exit_after(_work, theirs, function, argument)
    theirs.close()
    return ours, pid


def _work(pipe: Connection, function: Callable[[Any], Any], argument: Any) -> None:
    try:
        answer: tuple[bool, Any] = True, function(argument)
    except Exception as error:
        # Texts of foreign errors may quote payloads; classes, places and source lines do not.
        places = "".join(traceback.format_tb(error.__traceback__))
        want = want_of_room(error)
        failed = WorkerFailed(f"{type(error).__name__} in a worker\n{places}")
        answer = False, NoRoomError(want) if want else failed
    pipe.send_bytes(pickle.dumps(answer))


def _exit_after(function: Callable[..., None], *arguments: Any) -> NoReturn:
    # Without the parent's clean-up: its files and exit handlers are not ours.
    status = 1
    try:
        function(*arguments)
        status = 0
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def _said(status: int) -> str:
    code = os.waitstatus_to_exitcode(status)
    if code >= 0:
        return f"exit status {code}"
    return f"killed by {signal.Signals(-code).name}"
