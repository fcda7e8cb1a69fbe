"""Fixtures that need a process of their own, and a way to wait without guessing how long."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from catalogs import storage_emulator
from deployed import Cloud, cloud_of
from google_emulators import GoogleEmulators, NotInstalled, google_emulators
from hypothesis import settings

from benchmarks.emulator import NoEmulator
from benchmarks.emulator import emulator as started

settings.register_profile("weighbridge", deadline=None)  # other work on the machine is no failure
settings.load_profile("weighbridge")


def eventually(condition: Callable[[], bool], seconds: float = 60.0) -> None:
    """Wait until the condition holds, and fail if it never does."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "the condition never held"
        threading.Event().wait(0.01)


@dataclass
class Emulator:
    """Google's Pub/Sub emulator. `host` is what PUBSUB_EMULATOR_HOST takes."""

    host: str
    publisher: Any
    subscriber: Any
    _made: list[str] = field(default_factory=list)

    def topic(self) -> tuple[str, str]:
        """A new topic, and a subscription that receives everything published to it."""
        name = f"weighbridge-{len(self._made)}"
        self._made.append(name)
        topic, subscription = (
            f"projects/weighbridge/{kind}/{name}" for kind in ("topics", "subscriptions")
        )
        self.publisher.create_topic(name=topic)
        self.subscriber.create_subscription(name=subscription, topic=topic)
        return topic, subscription

    def pull(self, subscription: str, envelopes: int) -> list[Any]:
        """Messages that hold that many envelopes, acknowledged; heartbeats are left out."""
        received: list[Any] = []

        def complete() -> bool:
            answer = self.subscriber.pull(subscription=subscription, max_messages=1000, timeout=10)
            new = (one.message for one in answer.received_messages)
            received.extend(one for one in new if "envelope_count" in one.attributes)
            ids = [one.ack_id for one in answer.received_messages]
            if ids:
                self.subscriber.acknowledge(subscription=subscription, ack_ids=ids)
            return sum(int(m.attributes["envelope_count"]) for m in received) >= envelopes

        eventually(complete)
        return received


@pytest.fixture(scope="session")
def emulator() -> Iterator[Emulator]:
    """Google's Pub/Sub emulator on a free port, in a process of its own."""
    try:
        with started(heap="256m") as running:
            yield Emulator(running.host, running.publisher, running.subscriber)
    except NoEmulator as missing:
        pytest.skip(str(missing))


@pytest.fixture(scope="session")
def gs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A bucket of an emulator of Cloud Storage: one, as a process keeps its connections to it."""
    with storage_emulator(tmp_path_factory.mktemp("gs")) as bucket:
        yield bucket


@pytest.fixture(scope="session")
def google(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GoogleEmulators]:
    """Emulators of BigQuery and Cloud Storage, which Google's libraries use meanwhile."""
    try:
        with google_emulators(tmp_path_factory.mktemp("google")) as running:
            yield running
    except NotInstalled as missing:
        pytest.skip(str(missing))


@pytest.fixture
def cloud(
    google: GoogleEmulators,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Iterator[Cloud]:
    """A fake Dataflow with what is around it, and a folder with settings for it."""
    monkeypatch.chdir(tmp_path)
    # Of the catalogs that other tests left running: a launch names what workers would not have.
    for name in [*os.environ]:
        if name.startswith(("PYICEBERG_CATALOG__", "PG")):
            monkeypatch.delenv(name)
    with cloud_of(google, capsys) as found:
        yield found
