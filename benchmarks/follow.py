"""Following a subscription: how long rows take to be visible, and how many it keeps up with."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from shutil import rmtree

import numpy as np

from benchmarks.emulator import Emulator, NoEmulator, emulator
from benchmarks.models.clicks import model_id
from benchmarks.traffic import Traffic, Written, batches, write_traffic
from benchmarks.variants import DICTS
from benchmarks.visible import Watch
from weighbridge.archive import read_archive
from weighbridge.wire import pack

PER_SECOND = 1000
MESSAGES_PER_SECOND = 10
_DEADLINE_SECONDS = 300
_PROGRAM = "from pipelines.cli import main; main()"


class NotFollowed(Exception):
    """The follower ended, or did not bring all rows."""


@dataclass(frozen=True)
class Follow:
    """How long to publish, and how much lies there for the rate."""

    seconds: int = 60
    envelopes: int = 240_000


def follow_notes(root: Path, sizes: Follow) -> Iterator[str]:
    """The lines about following, or one that says why there are none."""
    try:
        with emulator() as running:
            for interval in ("5s", "1s"):
                yield _latency_note(root, running, sizes.seconds, interval)
            yield _rate_note(root, running, sizes.envelopes)
    except NoEmulator as error:
        yield f"following: left out, {error}"


def _latency_note(root: Path, running: Emulator, seconds: int, interval: str) -> str:
    topic, subscription = running.make(f"latency-{interval}")
    with _followed(root / "latency", subscription, running.host, interval) as watch:
        # The first message also waits for imports and for tables to be made.
        sent = _publish(running, topic, 1, first=0)
        _wait_for(watch, sent)
        ready = time.time()
        sent += _publish(running, topic, seconds, first=sent)
        _wait_for(watch, sent)
    delays = np.concatenate(
        [seen.when - seen.event_times[seen.event_times > ready] for seen in watch.seen()]
    )
    if len(delays) != PER_SECOND * seconds:
        raise NotFollowed(f"{len(delays):,} rows are visible, not {PER_SECOND * seconds:,}")
    median, late = np.percentile(delays, [50, 95])
    return (
        f"following, {PER_SECOND:,} envelopes/s for {seconds} s, --commit_interval {interval}: "
        f"visible after {median:.2f} s (median), {late:.2f} s (95 %), {delays.max():.2f} s (most)"
    )


def _rate_note(root: Path, running: Emulator, envelopes: int) -> str:
    written = write_traffic(root / "traffic", Traffic("backlog", envelopes))
    topic, subscription = running.make("rate")
    with _followed(root / "rate", subscription, running.host, "1s") as watch:
        sent = _publish(running, topic, 1, first=0)
        _wait_for(watch, sent)
        begin = time.time()
        for part in _parts(written):
            running.publisher.publish(topic=topic, messages=part)
        _wait_for(watch, sent + written.good_rows)
    seconds = max(seen.when for seen in watch.seen()) - begin
    return (
        f"following, {envelopes:,} envelopes at once, --commit_interval 1s: all are visible after "
        f"{seconds:.1f} s, {written.good_rows / seconds:,.0f} envelopes/s"
    )


@contextmanager
def _followed(home: Path, subscription: str, host: str, interval: str) -> Iterator[Watch]:
    """A follower in a process of its own, and a watch on its tables."""
    rmtree(home, ignore_errors=True)
    arguments = ["--input_subscription", subscription, "--home", str(home), "--no_arize"]
    arguments += ["--extractors_package", DICTS, "--commit_interval", interval]
    arguments += ["--exit_when_idle", "30s"]
    log = home.with_suffix(".log")
    with open(log, "w") as stream:
        process = subprocess.Popen(
            [sys.executable, "-c", _PROGRAM, "run", *arguments],
            env={**os.environ, "PUBSUB_EMULATOR_HOST": host},
            stdout=stream,
            stderr=stream,
        )
    watch = Watch(home)
    try:
        yield watch
    finally:
        process.terminate()
        process.wait()
        watch.close()


def _publish(running: Emulator, topic: str, seconds: int, first: int) -> int:
    """Publish evenly, and give the number of envelopes."""
    size = PER_SECOND // MESSAGES_PER_SECOND
    messages = seconds * MESSAGES_PER_SECOND
    traffic = Traffic("latency", messages * size, fewest=size, most=size, seed=first)
    begin = time.monotonic()
    for number, (batch, _) in enumerate(batches(traffic)):
        time.sleep(max(0.0, begin + number / MESSAGES_PER_SECOND - time.monotonic()))
        now = time.time_ns() // 1000
        fields = {
            "model_id": model_id(number % traffic.models),
            "publisher_id": f"latency-{first}-{number}",
            "batch_id": f"latency-{first}-{number}",
            "event_time": [now + i for i in range(size)],
        }
        attributes, data = pack({**batch, **fields})
        running.publisher.publish(topic=topic, messages=[{"data": data, "attributes": attributes}])
    return messages * size


def _parts(written: Written) -> Iterator[list[dict[str, object]]]:
    """The messages of archive files, as requests to publish take them."""
    for path in written.paths:
        with open(path, "rb") as stream:
            yield [{"data": m.data, "attributes": m.attributes} for m in read_archive(stream)]


def _wait_for(watch: Watch, rows: int) -> None:
    deadline = time.monotonic() + _DEADLINE_SECONDS
    while watch.rows < rows:
        if time.monotonic() > deadline:
            raise NotFollowed(f"{watch.rows:,} rows are visible, not {rows:,}")
        time.sleep(0.05)
