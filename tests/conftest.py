"""Fixtures that need a process of their own, and a way to wait without guessing how long."""

from __future__ import annotations

import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

settings.register_profile("weighbridge", deadline=None)  # other work on the machine is no failure
settings.load_profile("weighbridge")


def eventually(condition: Callable[[], bool], seconds: float = 10.0) -> None:
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
        """Messages that hold that many envelopes, acknowledged."""
        received: list[Any] = []

        def complete() -> bool:
            answer = self.subscriber.pull(subscription=subscription, max_messages=1000, timeout=10)
            received.extend(one.message for one in answer.received_messages)
            ids = [one.ack_id for one in answer.received_messages]
            if ids:
                self.subscriber.acknowledge(subscription=subscription, ack_ids=ids)
            return sum(int(m.attributes["envelope_count"]) for m in received) >= envelopes

        eventually(complete)
        return received


@pytest.fixture(scope="session")
def emulator() -> Iterator[Emulator]:
    """Google's Pub/Sub emulator on a free port, in a process of its own."""
    import grpc
    from google.pubsub_v1 import PublisherClient, SubscriberClient
    from google.pubsub_v1.services.publisher.transports import PublisherGrpcTransport
    from google.pubsub_v1.services.subscriber.transports import SubscriberGrpcTransport

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    # Small and quick to start: it serves a few hundred messages.
    java = ["java", "-Xmx256m", "-XX:TieredStopAtLevel=1", "-jar", str(_emulator_jar())]
    process = subprocess.Popen(
        [*java, "--host=127.0.0.1", f"--port={port}"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    host = f"127.0.0.1:{port}"
    channel = grpc.insecure_channel(host, options=[("grpc.max_reconnect_backoff_ms", 100)])
    try:
        ready = grpc.channel_ready_future(channel)
        eventually(lambda: ready.done() or process.poll() is not None, 60)
        assert process.poll() is None, f"the emulator ended with {process.returncode}"
        yield Emulator(
            host,
            PublisherClient(transport=PublisherGrpcTransport(channel=channel)),
            SubscriberClient(transport=SubscriberGrpcTransport(channel=channel)),
        )
    finally:
        channel.close()
        process.terminate()
        process.wait(10)


def _emulator_jar() -> Path:
    if shutil.which("java") is None:
        pytest.skip("java is not installed, which the Pub/Sub emulator needs")
    gcloud = shutil.which("gcloud")
    roots = [Path(gcloud).resolve().parents[1]] if gcloud else []
    roots += [at / "google-cloud-sdk" for at in (Path("/usr/lib"), Path("/opt"), Path.home())]
    for root in roots:
        for jar in root.glob("platform/pubsub-emulator/lib/cloud-pubsub-emulator-*-all.jar"):
            return jar
    pytest.skip("the emulator is not installed: gcloud components install pubsub-emulator")
