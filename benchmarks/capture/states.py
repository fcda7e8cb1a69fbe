"""What capture costs, takes and loses while the broker is healthy, hangs, is gone or is slow."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

from benchmarks.capture import broker
from benchmarks.capture.children import Child, resident_bytes, threads
from benchmarks.capture.figures import Aim, Part, Table, micros, quiet
from benchmarks.capture.paced import MOST_P50, MOST_P999
from benchmarks.capture.pacing import alternating, percentiles
from benchmarks.capture.payloads import described, payloads
from benchmarks.capture.ways import OURS, PUBLISH, SMALL, SMALL_BYTES, STATE_WAYS, Place
from benchmarks.emulator import Emulator

RATE = 1000
SLOW_SECONDS = 2.0
MOST_THREADS = 3
STATES = {
    "healthy": "healthy",
    "hung": "hangs (SIGSTOP)",
    "dead": "gone (port closed)",
    "slow": f"{SLOW_SECONDS:.0f} s a call",
}
_WATCH_SECONDS = 0.1
_SIZE = "1 kB"


@dataclass(frozen=True)
class Trial:
    """How many windows of how many seconds each way has to endure."""

    windows: int = 6
    seconds: float = 2.0
    ways: tuple[str, ...] = tuple(STATE_WAYS)


QUICK = Trial(1, 0.5, (OURS, PUBLISH))


@dataclass(frozen=True)
class Endured:
    """What was seen of one way in one state."""

    p50: float
    p999: float
    threads: int
    python_threads: int
    grown: int
    outcome: str
    close_seconds: float


@dataclass(frozen=True)
class _Broker:
    """One that is healthy or slow, and what brings the trouble."""

    host: str
    topic: str
    disturb: Callable[[], object]


def measure(
    trial: Trial, running: Emulator, topic: str, folder: Path, say: Callable[[str], None]
) -> Part:
    """Each way in each state, in a process of its own."""
    table = Table(
        f"{described(_SIZE)}, {RATE:,} calls a second of 1 thread for "
        f"{trial.windows * trial.seconds:g} s: us less an empty call's, quiet windows",
        [
            "broker",
            "",
            "p50",
            "p99.9",
            "threads, Python's",
            "MB",
            "became of it",
            "close, s",
        ],
        texts=2,
    )
    ours: list[Endured] = []
    bounded: dict[str, int] = {}
    for state, label in STATES.items():
        for name in trial.ways:
            way = STATE_WAYS[name]
            say(f"broker: {state}, {way.label}")
            place = folder / f"{state}-{name}"
            place.mkdir()
            with _broker(state, running, topic) as against:
                one = _endure(name, against, Place(against.topic, place), trial)
            if name != PUBLISH:
                ours.append(one)
            if name == SMALL and (state == "healthy" or "queue_full" in one.outcome):
                bounded[state] = one.grown
            table.rows.append(
                [
                    label,
                    way.label,
                    micros(one.p50),
                    micros(one.p999),
                    f"{one.threads:,}, {one.python_threads:,}",
                    f"{one.grown / 1e6:.0f}",
                    one.outcome,
                    f"{one.close_seconds:.2f}",
                ]
            )
    return Part([table], _aims(ours, bounded))


@contextmanager
def _broker(state: str, running: Emulator, topic: str) -> Iterator[_Broker]:
    if state == "healthy":
        yield _Broker(running.host, topic, lambda: None)
    elif state == "hung":
        try:
            yield _Broker(running.host, topic, lambda: os.kill(running.pid, signal.SIGSTOP))
        finally:
            os.kill(running.pid, signal.SIGCONT)
    else:
        with Child(broker.serve, SLOW_SECONDS if state == "slow" else 0.0) as child:
            disturb = child.kill if state == "dead" else lambda: None
            yield _Broker(child.answer(), topic, disturb)
            child.kill()


def _endure(name: str, against: _Broker, place: Place, trial: Trial) -> Endured:
    with Child(_call, name, place, trial, emulator=against.host) as child:
        child.answer()
        threads_before = threads(child.pid)
        child.ask("publish one")
        against.disturb()
        resident_before = resident_bytes(child.pid)
        child.send("go")
        most_threads, most_bytes = 0, 0
        while not child.says(_WATCH_SECONDS):
            most_threads = max(most_threads, threads(child.pid))
            most_bytes = max(most_bytes, resident_bytes(child.pid))
        times, python_threads = child.answer()
        close_seconds, outcome = child.answer()
        child.kill()
    p50, p999, empty_p50, empty_p999 = map(quiet, zip(*times))
    return Endured(
        p50 - empty_p50,
        p999 - empty_p999,
        most_threads - threads_before,
        python_threads,
        most_bytes - resident_before,
        outcome,
        close_seconds,
    )


def _call(connection: Connection, name: str, place: Place, trial: Trial) -> None:
    sent = payloads(_SIZE)
    connection.send("started")
    connection.recv()
    sink = STATE_WAYS[name].open(place)
    sink.call(*sent[0])
    sink.drain()
    connection.send("published one")
    connection.recv()
    times = []
    python_threads = 0
    for _ in range(trial.windows):
        took, empty = alternating(sink, sent, RATE, trial.seconds)
        (p50, _, p999), (empty_p50, _, empty_p999) = percentiles(took), percentiles(empty)
        times.append((p50, p999, empty_p50, empty_p999))
        python_threads = max(python_threads, threading.active_count() - 1)
    connection.send((times, python_threads))
    begin = time.perf_counter()
    sink.close()
    connection.send((time.perf_counter() - begin, sink.outcome()))
    connection.recv()


def _aims(ours: list[Endured], bounded: dict[str, int]) -> list[Aim]:
    p50, p999 = max(one.p50 for one in ours), max(one.p999 for one in ours)
    most = max(one.python_threads for one in ours)
    return [
        Aim(
            f"every broker state: p50 at most {MOST_P50:.0f} us",
            f"{micros(p50)} us",
            p50 <= MOST_P50,
        ),
        Aim(
            f"every broker state: p99.9 at most {MOST_P999:.0f} us",
            f"{micros(p999)} us",
            p999 <= MOST_P999,
        ),
        Aim(
            f"at most {MOST_THREADS} threads of Python's",
            f"{most}, {max(one.threads for one in ours)} with those of gRPC's library",
            most <= MOST_THREADS,
        ),
        *_memory_aims(bounded),
    ]


def _memory_aims(bounded: dict[str, int]) -> Iterator[Aim]:
    """Of a budget so small that it was filled, beside what a healthy broker lets a process grow."""
    if len(bounded) > 1:
        more = max(bounded.values()) - bounded["healthy"]
        text = "a budget of 1 MiB that is full: no more memory than that beside a healthy broker's"
        yield Aim(text, f"{more / 1e6:.1f} MB", more <= SMALL_BYTES)
