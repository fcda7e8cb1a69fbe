"""A Flink cluster on this machine, with Beam's job server, for pipelines in this Python."""

from __future__ import annotations

import json
import os
import shlex
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deploy.flink.downloads import flink_jars, job_server_jar

_ROOT = Path(__file__).parents[2]
_HOST = "127.0.0.1"
_START_SECONDS = 120.0
# The modules of Java that Flink reaches into, as its own start scripts open them.
_OPENED = {
    "java.lang": "java.base",
    "java.net": "java.base",
    "java.nio": "java.base",
    "java.text": "java.base",
    "java.time": "java.base",
    "java.util": "java.base",
    "java.util.concurrent": "java.base",
    "sun.nio.ch": "java.base",
}
_JAVA = ["java", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC"]
_JAVA += [f"--add-opens={module}/{name}=ALL-UNNAMED" for name, module in _OPENED.items()]


@dataclass(frozen=True)
class Ports:
    """Where each part listens; 0 is a free one."""

    rest: int = 8081
    jobs: int = 8099


@dataclass(frozen=True)
class Cluster:
    """One that runs.

    Attributes:
        rest: address of Flink's REST API.
        arguments: what `weighbridge run` takes to run on it.
        logs: folder of what its processes say.
    """

    rest: str
    arguments: tuple[str, ...]
    logs: Path

    def ask(self, path: str) -> dict[str, Any]:
        """What the REST API answers."""
        with urllib.request.urlopen(f"{self.rest}/{path}", timeout=5) as answer:
            found: dict[str, Any] = json.load(answer)
            return found


@contextmanager
def flink_cluster(
    folder: Path, ports: Ports, task_managers: int = 2, python_path: Sequence[str | Path] = ()
) -> Iterator[Cluster]:
    """Start all of it, wait until it can take jobs, and end it.

    Args:
        folder: for settings, logs and what Flink spills.
        ports: where it listens.
        task_managers: how many, with one slot each. Some 500 MB of memory each.
        python_path: folders of modules that the workers import, such as a package of extractors.

    Raises:
        NotAvailable: something that it needs is missing.
        RuntimeError: a process of it has ended, or does not answer.
    """
    server, jars = job_server_jar(), flink_jars()
    rest, jobs = (port or _free_port() for port in (ports.rest, ports.jobs))
    _write_settings(folder, rest, task_managers)
    arguments = (
        "--runner=PortableRunner",
        f"--job_endpoint={_HOST}:{jobs}",
        "--environment_type=PROCESS",
        f"--environment_config={json.dumps({'command': str(_worker(folder, python_path))})}",
        f"--parallelism={task_managers}",
    )
    cluster = Cluster(f"http://{_HOST}:{rest}", arguments, folder)
    flink = [*_JAVA, f"-Dlog4j.configurationFile={folder}/log4j.properties", "-cp", f"{jars}/*"]
    settings = ["--configDir", str(folder)]
    entry = "org.apache.flink.runtime.entrypoint.StandaloneSessionClusterEntrypoint"
    runner = "org.apache.flink.runtime.taskexecutor.TaskManagerRunner"
    with ExitStack() as running:

        def start(name: str, command: list[str]) -> _Started:
            return running.enter_context(_process(folder / f"{name}.log", command))

        # Before its task managers: one that finds no job manager waits ten seconds.
        manager = start("job-manager", [*flink, entry, *settings, "--executionMode", "cluster"])
        manager.wait(lambda: _count(cluster, "taskmanagers") == 0)
        for number in range(task_managers):
            worker = start(f"task-manager-{number}", [*flink, runner, *settings])
        worker.wait(lambda: _count(cluster, "taskmanagers") == task_managers)
        at = [
            f"--job-host={_HOST}",
            f"--job-port={jobs}",
            "--artifact-port=0",
            "--expansion-port=0",
        ]
        master = [f"--flink-master={_HOST}:{rest}", f"--artifacts-dir={folder}/artifacts"]
        start("job-server", [*_JAVA, "-jar", str(server), *master, *at]).wait(
            lambda: _listens(jobs)
        )
        yield cluster


@dataclass(frozen=True)
class _Started:
    process: subprocess.Popen[bytes]
    log: Path

    def wait(self, condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + _START_SECONDS
        while not condition():
            gone = self.process.poll() is not None
            if gone or time.monotonic() > deadline:
                said = self.log.read_text(errors="replace")[-2000:]
                what = "has ended" if gone else f"is not ready after {_START_SECONDS:.0f} s"
                raise RuntimeError(f"{self.log.stem} {what}:\n{said}")
            threading.Event().wait(0.1)


def _write_settings(folder: Path, rest: int, task_managers: int) -> None:
    """The sizes of memory that Flink's own start scripts would work out, for small jobs."""
    spill = folder / "tmp"
    spill.mkdir(parents=True, exist_ok=True)
    settings = {
        "jobmanager.rpc.address": _HOST,
        "jobmanager.rpc.port": _free_port(),
        "rest.address": _HOST,
        "rest.bind-address": _HOST,
        "rest.port": rest,
        "io.tmp.dirs": spill,
        "parallelism.default": task_managers,
        "taskmanager.host": _HOST,
        "taskmanager.bind-host": _HOST,
        "taskmanager.numberOfTaskSlots": 1,
        "taskmanager.cpu.cores": 1,
        "taskmanager.memory.framework.heap.size": "128m",
        "taskmanager.memory.framework.off-heap.size": "128m",
        "taskmanager.memory.task.heap.size": "384m",
        "taskmanager.memory.task.off-heap.size": "0m",
        "taskmanager.memory.network.min": "64m",
        "taskmanager.memory.network.max": "64m",
        "taskmanager.memory.managed.size": "128m",
        "taskmanager.memory.jvm-metaspace.size": "256m",
        "taskmanager.memory.jvm-overhead.min": "192m",
        "taskmanager.memory.jvm-overhead.max": "192m",
    }
    lines = (f"{name}: {value}\n" for name, value in settings.items())
    (folder / "config.yaml").write_text("".join(lines))
    (folder / "log4j.properties").write_text(
        "rootLogger.level = INFO\nrootLogger.appenderRef.out.ref = out\n"
        "appender.out.name = out\nappender.out.type = CONSOLE\n"
        "appender.out.layout.type = PatternLayout\n"
        "appender.out.layout.pattern = %d %-5p %c{1} - %m%n\n"
    )


def _worker(folder: Path, python_path: Sequence[str | Path]) -> Path:
    """The program that a task manager starts: a path, without arguments.

    Not a pool of workers that both would share: each task manager counts its workers from 1, and
    the pool then ends the worker of another one.
    """
    program = folder / "worker"
    path = os.pathsep.join(map(str, (_ROOT, *python_path)))
    words = ["env", f"PYTHONPATH={path}", sys.executable, "-m", "deploy.flink.worker"]
    program.write_text(f'#!/bin/sh\nexec {shlex.join(words)} "$@"\n')
    program.chmod(0o755)
    return program


@contextmanager
def _process(log: Path, command: list[str]) -> Iterator[_Started]:
    with open(log, "wb") as out:
        # Not in our group: Ctrl-C is for us, and we end them in order.
        process = subprocess.Popen(command, stdout=out, stderr=out, start_new_session=True)
    try:
        yield _Started(process, log)
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _count(cluster: Cluster, what: str) -> int | None:
    with suppress(OSError):
        return len(cluster.ask(what)[what])
    return None


def _listens(port: int) -> bool:
    with suppress(OSError):
        socket.create_connection((_HOST, port), 1).close()
        return True
    return False


def _free_port() -> int:
    with socket.socket() as free:
        free.bind((_HOST, 0))
        port: int = free.getsockname()[1]
        return port
