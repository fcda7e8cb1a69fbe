"""Google's Pub/Sub emulator, in a process of its own."""

from __future__ import annotations

import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PROJECT = "bench"
_START_SECONDS = 60


class NoEmulator(Exception):
    """It is not installed; the text says what is missing."""


@dataclass(frozen=True)
class Emulator:
    """One that runs. `host` is what PUBSUB_EMULATOR_HOST takes."""

    host: str
    pid: int
    publisher: Any
    subscriber: Any

    def make(self, name: str) -> tuple[str, str]:
        """A new topic, and a subscription of the same name."""
        topic, subscription = (
            f"projects/{PROJECT}/{kind}/{name}" for kind in ("topics", "subscriptions")
        )
        self.publisher.create_topic(name=topic)
        self.subscriber.create_subscription(name=subscription, topic=topic)
        return topic, subscription


@contextmanager
def emulator(heap: str = "1g") -> Iterator[Emulator]:
    """Start it on a free port, and end it.

    Args:
        heap: the most memory of its Java.

    Raises:
        NoEmulator: something that it needs is not installed.
    """
    import grpc
    from google.pubsub_v1 import PublisherClient, SubscriberClient
    from google.pubsub_v1.services.publisher.transports import PublisherGrpcTransport
    from google.pubsub_v1.services.subscriber.transports import SubscriberGrpcTransport

    jar = _jar()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    # Compiled quickly rather than well: it lives for minutes.
    java = ["java", f"-Xmx{heap}", "-XX:TieredStopAtLevel=1", "-jar", str(jar)]
    command = [*java, "--host=127.0.0.1", f"--port={port}"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    host = f"127.0.0.1:{port}"
    channel = grpc.insecure_channel(host, options=[("grpc.max_reconnect_backoff_ms", 100)])
    try:
        grpc.channel_ready_future(channel).result(_START_SECONDS)
        yield Emulator(
            host,
            process.pid,
            PublisherClient(transport=PublisherGrpcTransport(channel=channel)),
            SubscriberClient(transport=SubscriberGrpcTransport(channel=channel)),
        )
    finally:
        channel.close()
        process.terminate()
        process.wait()


def _jar() -> Path:
    if shutil.which("java") is None:
        raise NoEmulator("java is not installed, which the Pub/Sub emulator needs")
    gcloud = shutil.which("gcloud")
    roots = [Path(gcloud).resolve().parents[1]] if gcloud else []
    roots += [at / "google-cloud-sdk" for at in (Path("/usr/lib"), Path("/opt"), Path.home())]
    for root in roots:
        for jar in root.glob("platform/pubsub-emulator/lib/cloud-pubsub-emulator-*-all.jar"):
            return jar
    raise NoEmulator("the emulator is missing: gcloud components install pubsub-emulator")
