"""The highest rate that one process captures and delivers, without a drop."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

from benchmarks.capture.children import Child
from benchmarks.capture.figures import Part, Table
from benchmarks.capture.payloads import COUNT, MODEL, described, payloads

_TICK_SECONDS = 0.002
_SIZE = "1 kB"


@dataclass(frozen=True)
class Climb:
    """From which rate, by which factor, for how many seconds each."""

    first: int = 20_000
    step: float = 1.15
    seconds: float = 4.0


QUICK = Climb(20_000, 2.0, 0.5)


@dataclass(frozen=True)
class Rate:
    """One that was tried: envelopes a second, CPU us for each, and how many were dropped."""

    asked: int
    reached: float
    cpu: float
    dropped: int

    @property
    def sustained(self) -> bool:
        """Whether the caller kept the rate, and nothing was dropped."""
        return self.dropped == 0 and self.reached > 0.98 * self.asked


def measure(climb: Climb, topic: str, host: str, folder: Path, say: Callable[[str], None]) -> Part:
    """The highest rates to a topic and to a folder."""
    table = Table(
        f"{described(_SIZE)}, one process, one thread that calls, {climb.seconds:g} s at each rate",
        ["to", "envelopes/s without a drop", "CPU us/envelope", "envelopes/s of one core"],
    )
    for label, destination in (
        ("Pub/Sub emulator", topic),
        ("folder", str(folder / "captured")),
    ):
        best = _highest(label, destination, host, climb, say)
        table.rows.append(
            [label, f"{best.reached:,.0f}", f"{best.cpu:.1f}", f"{1e6 / best.cpu:,.0f}"]
        )
    return Part([table])


def _highest(
    label: str, destination: str, host: str, climb: Climb, say: Callable[[str], None]
) -> Rate:
    best, asked, failures = Rate(0, 0.0, float("inf"), 0), float(climb.first), 0
    with Child(_capture, destination, emulator=host) as child:
        child.ask((climb.first, 1.0))
        while failures < 2:
            say(f"highest rate: {label}, {asked:,.0f}/s")
            one: Rate = child.ask((int(asked), climb.seconds))
            if one.sustained:
                best, asked, failures = one, asked * climb.step, 0
            else:
                failures += 1
    return best


def _capture(connection: Connection, destination: str) -> None:
    """Whenever asked, capture at a rate for some seconds, and wait until all is delivered."""
    from weighbridge import EnvelopePublisher

    sent = payloads(_SIZE)
    publisher = EnvelopePublisher(destination)
    while (asked := connection.recv()) is not None:
        rate, seconds = asked
        dropped = sum(publisher.stats()["dropped"].values())
        cpu, begin = time.process_time(), time.perf_counter()
        done = 0
        while (passed := time.perf_counter() - begin) < seconds:
            for i in range(done, int(rate * passed)):
                request, response, *_ = sent[i % COUNT]
                publisher.capture(MODEL, request, response)
            done = max(done, int(rate * passed))
            time.sleep(_TICK_SECONDS)
        reached = done / (time.perf_counter() - begin)
        while publisher.stats()["queued"]:
            time.sleep(0.02)
        cpu = (time.process_time() - cpu) / done * 1e6
        dropped = sum(publisher.stats()["dropped"].values()) - dropped
        connection.send(Rate(rate, reached, cpu, dropped))
    publisher.close()
