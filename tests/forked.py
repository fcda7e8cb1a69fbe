"""Processes of their own for tests, which fork from one that has imported everything."""

from __future__ import annotations

import os
import runpy
import signal
import sys
from collections.abc import Callable, Mapping
from multiprocessing import forkserver, get_context
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from support import PACKAGES

FORKS = get_context("forkserver")
FORKS.set_forkserver_preload(
    ["arize", "google.pubsub_v1", "pandas", "pipelines.console", "pipelines.render", "pipelines"]
    + [f"pipelines.{name}" for name in ("cli", "main", "subscription")]
)


def call(*arguments: str, cwd: Path | None = None, **env: str) -> tuple[int, str, str]:
    """Exit status, standard output and standard error of `weighbridge` with these arguments.

    Importing what a run needs would take two seconds of CPU each time.
    """
    clean = {k: v for k, v in os.environ.items() if not k.startswith("ARIZE_")}
    clean |= {"COLUMNS": "120", "PYTHONPATH": str(PACKAGES), **env}
    return in_fork(_command, *arguments, cwd=cwd, env=clean)


def killed_at(step: str, *arguments: str) -> None:
    """A run, or a replay, that kills itself with -9 at a step of `kill_child.py`."""
    child = Path(__file__).with_name("kill_child.py")
    status, _, err = in_fork(_script, child, step, *arguments)
    assert status == -signal.SIGKILL, err[-2000:]


def in_fork(
    function: Callable[..., object],
    *arguments: Any,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
) -> tuple[int, str, str]:
    """Exit status and output of a process that calls a function of a test's module."""
    _start()
    with TemporaryDirectory() as folder:
        out, err = Path(folder, "out"), Path(folder, "err")
        place = (cwd or Path.cwd(), dict(os.environ if env is None else env), out, err)
        alive, theirs = FORKS.Pipe(duplex=False)
        process = FORKS.Process(target=_run, args=(function, arguments, *place, theirs))
        process.start()
        theirs.close()
        process.join()
        # What it forked has the pipe, too, and maybe a lock: all of that must be gone.
        assert alive.poll(60), "a process that it has started is still there"
        assert process.exitcode is not None
        return process.exitcode, out.read_text(), err.read_text()


def _start() -> None:
    # Consoles take their width from here when they are imported, and from a call's own if not.
    columns = os.environ.pop("COLUMNS", None)
    try:
        forkserver.ensure_running()
    finally:
        if columns is not None:
            os.environ["COLUMNS"] = columns


def _run(
    function: Callable[..., object],
    arguments: tuple[Any, ...],
    cwd: Path,
    env: Mapping[str, str],
    out: Path,
    err: Path,
    alive: object,
) -> None:
    os.environ.clear()
    os.environ.update(env)
    os.chdir(cwd)
    for number, path in ((1, out), (2, err)):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT), number)
    function(*arguments)


def _command(*arguments: str) -> None:
    from pipelines.cli import main

    sys.argv = ["weighbridge", *arguments]
    main()


def _script(path: Path, *arguments: str) -> None:
    sys.argv = [str(path), *arguments]
    runpy.run_path(str(path), run_name="__main__")
