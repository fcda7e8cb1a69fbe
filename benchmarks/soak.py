"""How much one process captures for minutes on end, and whether its memory stays where it is.

`python -m benchmarks.soak --minutes 10`: looks for the highest rate at which nothing is dropped,
then holds a part of it. One thread captures; the broker is the Pub/Sub emulator, whose topic has no
subscription, so that it keeps nothing. Ends with 1 if memory grew or counts do not add up.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import cycle, islice
from statistics import median

from rich.console import Console
from rich.table import Table

from benchmarks.capture.children import resident_bytes
from benchmarks.capture.payloads import Payload, described, payloads
from benchmarks.emulator import PROJECT, emulator
from benchmarks.machine import machine
from weighbridge import EnvelopePublisher

SIZE, MODELS = "1 kB", ("ranking", "prices", "fraud")
FIRST_RATE, FASTER, HELD = 6_000, 1.25, 0.5
MAX_QUEUED = 50_000
"""More than the default, as that is less than a second of such rates."""
SEARCH_SECONDS, SAMPLE_SECONDS = 6.0, 5.0
TICK = 0.01
FLAT = 0.05
GATE_RATE, GATE_MINUTES, GATE_ERRORS = 15_000, 30, 1
"""The known gate in this field: requests/s, minutes, errors per 1,000 requests."""


@dataclass(frozen=True)
class Sample:
    """What was seen at one moment, since the start."""

    seconds: float
    resident: int
    served: int
    dropped: int
    waiting: int
    cpu: float


class Load:
    """Captures at a rate, from the calling thread.

    Args:
        publisher: what captures.
        bodies: what is captured in turn.
    """

    def __init__(self, publisher: EnvelopePublisher, bodies: Sequence[Payload]) -> None:
        self._publisher = publisher
        self._bodies = zip(cycle(bodies), cycle(MODELS))
        self._started, self._cpu = time.monotonic(), time.process_time()

    def run(self, rate: float, seconds: float) -> float:
        """Capture for so long. Returns the rate that was reached."""
        capture = self._publisher.capture
        started = now = time.monotonic()
        done = 0
        while now - started < seconds:
            due = int((now - started) * rate) - done
            for (request, response, headers, key), model in islice(self._bodies, due):
                capture(model, request, response, headers=headers, sampling_key=key)
            done += due
            time.sleep(max(0.0, now + TICK - time.monotonic()))
            now = time.monotonic()
        return done / (now - started)

    def sample(self) -> Sample:
        """How things are."""
        stats = self._publisher.stats()
        return Sample(
            time.monotonic() - self._started,
            resident_bytes(os.getpid()),
            stats["served"],
            sum(stats["dropped"].values()),
            stats["queued"],
            time.process_time() - self._cpu,
        )


def highest_rate(bodies: Sequence[Payload], topic: str) -> float:
    """The most captures a second at which nothing is dropped and the queue does not grow."""
    rate, sustained = float(FIRST_RATE), 0.0
    while True:
        publisher = EnvelopePublisher(topic, max_queued=MAX_QUEUED)
        load = Load(publisher, bodies)
        reached = load.run(rate, SEARCH_SECONDS)
        seen = load.sample()
        publisher.close()
        print(f"{rate:,.0f}/s: reached {reached:,.0f}/s, {seen.dropped} dropped", flush=True)
        if seen.dropped or reached < 0.97 * rate or seen.waiting > rate:
            return sustained or rate / 2
        rate, sustained = rate * FASTER, rate


def soak(publisher: EnvelopePublisher, load: Load, rate: float, minutes: float) -> list[Sample]:
    """Hold a rate, and look at it every few seconds."""
    samples = [load.sample()]
    while samples[-1].seconds < 60 * minutes:
        load.run(rate, SAMPLE_SECONDS)
        samples.append(load.sample())
        last = samples[-1]
        print(
            f"{last.seconds:4.0f} s  {last.resident / 1e6:6.1f} MB  {last.served:,} served  "
            f"{last.dropped:,} dropped  {last.waiting:,} waiting",
            flush=True,
        )
    return samples


def by_minute(samples: list[Sample]) -> list[float]:
    """The median of each minute in megabytes: from one moment to the next it follows the queue."""
    minutes: dict[int, list[float]] = {}
    for one in samples[1:-1]:
        minutes.setdefault(int(one.seconds // 60), []).append(one.resident / 1e6)
    return [median(minutes[minute]) for minute in sorted(minutes)]


def judge(samples: list[Sample], publisher: EnvelopePublisher) -> tuple[list[str], float]:
    """What is wrong, and by which share memory grew: the second half beside the first.

    Without the first minute, in which caches and connections are filled.
    """
    seconds = [one.seconds for one in samples]
    warm, half = min(60.0, seconds[-1] / 3), seconds[-1] / 2
    early = median(one.resident for one in samples if warm <= one.seconds < half)
    grown = median(one.resident for one in samples if one.seconds >= half) / early - 1
    stats = publisher.stats()
    wrong = [] if abs(grown) <= FLAT else [f"memory grew by {grown:.1%}"]
    if stats["served"] != stats["published"] + sum(stats["dropped"].values()):
        wrong.append(f"the counts do not add up: {stats}")
    return wrong, grown


def report(samples: list[Sample], publisher: EnvelopePublisher, held: float) -> int:
    """Print it as the section of docs/performance.md. Returns the exit status."""
    wrong, grown = judge(samples, publisher)
    first, last, stats = samples[0], samples[-1], publisher.stats()
    seconds, served = last.seconds - first.seconds, last.served - first.served
    cpu = last.cpu - first.cpu
    errors = 1000 * sum(stats["dropped"].values()) / stats["served"]
    table = Table("", "this run", "the known gate")
    table.add_row("requests/s", f"{served / seconds:,.0f}", f"{GATE_RATE:,}")
    table.add_row("minutes", f"{seconds / 60:.0f}", f"{GATE_MINUTES}")
    table.add_row("lost of 1,000", f"{errors:.3f}", f"{GATE_ERRORS}")
    table.add_row("CPU, cores", f"{cpu / seconds:.2f}", "")
    table.add_row("requests/s a core", f"{served / cpu:,.0f}", "")
    table.add_row("CPU us a request", f"{1e6 * cpu / served:.1f}", "")
    table.add_row(
        "resident, MB, median", f"{median(one.resident for one in samples) / 1e6:.0f}", ""
    )
    table.add_row("grown in 2nd half", f"{grown:.1%}", "")
    console = Console(width=100)
    print(machine(["grpcio", "fastavro", "zstandard"]))
    print(f"One process, {described(SIZE)}, to the Pub/Sub emulator, held {held:,.0f}/s.")
    console.print(table)
    print("resident MB, median of each minute:", *(f"{one:.0f}" for one in by_minute(samples)))
    every = sorted((one.resident, one.waiting) for one in samples[1:])
    told = (f"{resident / 1e6:.0f} with {waiting:,} waiting" for resident, waiting in every)
    least, *_, most = told
    print(f"resident MB, least and most: {least}, {most}")
    print(f"published {stats['published']:,}, dropped {stats['dropped'] or 'nothing'}")
    for line in wrong:
        print(f"WRONG: {line}")
    return 1 if wrong else 0


def main(argv: Sequence[str] | None = None) -> int:
    """Measure. Returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--rate", type=float, help="instead of looking for the highest one")
    asked = parser.parse_args(argv)
    bodies = payloads(SIZE)
    with emulator() as running:
        os.environ["PUBSUB_EMULATOR_HOST"] = running.host
        topic = f"projects/{PROJECT}/topics/soak"
        running.publisher.create_topic(name=topic)
        rate = asked.rate or HELD * highest_rate(bodies, topic)
        publisher = EnvelopePublisher(topic, max_queued=MAX_QUEUED)
        samples = soak(publisher, Load(publisher, bodies), rate, asked.minutes)
        publisher.close()
        return report(samples, publisher, rate)


if __name__ == "__main__":
    sys.exit(main())
