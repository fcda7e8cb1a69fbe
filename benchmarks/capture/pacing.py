"""Calls at a steady rate from threads or tasks, and what each of them took."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from time import perf_counter_ns

from benchmarks.capture.payloads import COUNT, Headers, Payload
from benchmarks.capture.ways import Sink

THREADS = {"1 thread": 1, "8 threads": 8, "32 threads": 32}
TASKS = 16
ASYNCIO = f"asyncio, {TASKS} tasks"
CALLERS = (*THREADS, ASYNCIO)
_TEND_EVERY = 100


@dataclass(frozen=True)
class Window:
    """Microseconds: of the calls of some seconds, and of CPU time for each of them."""

    p50: float
    p99: float
    p999: float
    cpu: float


@dataclass(frozen=True)
class _Pace:
    """When one of several callers calls, in nanoseconds, and with what."""

    start: int
    interval: int
    calls: int
    first: int


def window(
    sink: Sink, payloads: Sequence[Payload], callers: str, rate: int, seconds: float
) -> Window:
    """Call at this rate in all, and wait until what was handed over is gone."""
    count = THREADS.get(callers, TASKS)
    interval = count * 1_000_000_000 // rate
    start = perf_counter_ns() + 20_000_000
    paces = [
        _Pace(start + i * interval // count, interval, int(rate * seconds / count), i * 7)
        for i in range(count)
    ]
    before = time.process_time_ns()
    took = (
        asyncio.run(_tasks(sink, payloads, paces))
        if callers == ASYNCIO
        else _threads(sink, payloads, paces)
    )
    sink.drain()
    cpu = time.process_time_ns() - before
    return Window(*percentiles(took), cpu / len(took) / 1000)


def percentiles(nanos: Sequence[int]) -> tuple[float, float, float]:
    """The median, 99 % and 99.9 %, in microseconds."""
    ordered = sorted(nanos)
    middle, late, last = (ordered[int(len(ordered) * share)] for share in (0.5, 0.99, 0.999))
    return middle / 1000, late / 1000, last / 1000


def _threads(sink: Sink, payloads: Sequence[Payload], paces: Sequence[_Pace]) -> list[int]:
    took: list[list[int]] = [[] for _ in paces]
    threads = [
        threading.Thread(target=_call_paced, args=(sink, payloads, pace, out))
        for pace, out in zip(paces, took)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return [one for each in took for one in each]


def _call_paced(sink: Sink, payloads: Sequence[Payload], pace: _Pace, took: list[int]) -> None:
    call, clock, sleep = sink.call, perf_counter_ns, time.sleep
    for k in range(pace.calls):
        pause = pace.start + k * pace.interval - clock()
        if pause > 0:
            sleep(pause / 1e9)
        payload = payloads[(pace.first + k) % COUNT]
        begin = clock()
        call(*payload)
        took.append(clock() - begin)
        if k % _TEND_EVERY == 0:
            sink.tend()


async def _tasks(sink: Sink, payloads: Sequence[Payload], paces: Sequence[_Pace]) -> list[int]:
    took: list[int] = []
    call, clock = sink.call, perf_counter_ns

    async def one(pace: _Pace) -> None:
        for k in range(pace.calls):
            pause = pace.start + k * pace.interval - clock()
            if pause > 0:
                await asyncio.sleep(pause / 1e9)
            payload = payloads[(pace.first + k) % COUNT]
            begin = clock()
            call(*payload)
            took.append(clock() - begin)
            if k % _TEND_EVERY == 0:
                sink.tend()

    await asyncio.gather(*map(one, paces))
    return took


def alternating(
    sink: Sink, payloads: Sequence[Payload], rate: int, seconds: float
) -> tuple[list[int], list[int]]:
    """Nanoseconds of this call, and of an empty one half-way between each two of them."""
    took: list[int] = []
    empty: list[int] = []
    call, clock, sleep = sink.call, perf_counter_ns, time.sleep
    interval = 500_000_000 // rate
    start = clock() + 20_000_000
    for k in range(int(2 * rate * seconds)):
        pause = start + k * interval - clock()
        if pause > 0:
            sleep(pause / 1e9)
        payload = payloads[k // 2 % COUNT]
        if k % 2:
            begin = clock()
            _empty(*payload)
            empty.append(clock() - begin)
            if k % _TEND_EVERY == 1:
                sink.tend()
        else:
            begin = clock()
            call(*payload)
            took.append(clock() - begin)
    return took, empty


def _empty(request: bytes, response: bytes, headers: Headers, key: str) -> None:
    """What a call costs in itself."""
