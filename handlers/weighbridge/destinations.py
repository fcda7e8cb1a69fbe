"""Where packed messages go: a Pub/Sub topic, or archive files in a folder."""

from __future__ import annotations

import os
import re
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

from weighbridge.archive import SUFFIX, Message, write_archive

PUBLISH_SECONDS = 5.0
PUBLISH_BYTES = 9 << 20
PUBLISH_MESSAGES = 1000
"""Pub/Sub takes no more in one call, and 10 MB."""
FOLDER_LINGER_SECONDS = 5.0
_TOPIC = re.compile(r"projects/[^/]+/topics/[^/]+")


class RefusedError(Exception):
    """These messages will never be taken, however often they are sent; its cause says why."""


class Destination(Protocol):
    """Takes messages for good, or raises: `RefusedError` if trying again is of no use."""

    linger: float
    """Seconds for which messages may be collected, so that there are fewer and larger calls."""

    def publish(self, messages: list[tuple[dict[str, str], bytes]]) -> None:
        """Deliver (attributes, data) of each message, within the bounds above."""


def open_destination(destination: str | os.PathLike[str]) -> Destination:
    """A topic "projects/P/topics/T", or else a folder.

    Raises:
        ValueError: something that looks like a topic and is none.
    """
    text = os.fspath(destination)
    if _TOPIC.fullmatch(text):
        return _Topic(text)
    if text.startswith("projects/"):
        raise ValueError(f"{text!r} is no topic: write projects/PROJECT/topics/TOPIC")
    return _Folder(Path(text))


class _Folder:
    linger = FOLDER_LINGER_SECONDS

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._written = 0
        folder.mkdir(parents=True, exist_ok=True)

    def publish(self, messages: list[tuple[dict[str, str], bytes]]) -> None:
        now = time.time_ns() // 1000
        first = messages[0][0]
        # Named by time, so that files are read in the order in which they were written.
        moment = datetime.fromtimestamp(now / 1e6, UTC).strftime("%Y%m%dT%H%M%S.%f")
        name = f"{moment}-{first['publisher_id']}-{self._written}{SUFFIX}"
        write_archive(
            self._folder / name,
            [
                Message(data, attributes, attributes["batch_id"], now)
                for attributes, data in messages
            ],
        )
        self._written += 1


class _Topic:
    linger = 0.0

    def __init__(self, topic: str) -> None:
        self._topic = topic
        self._client: Any = None

    def publish(self, messages: list[tuple[dict[str, str], bytes]]) -> None:
        from google.api_core.exceptions import InvalidArgument

        if self._client is None:  # made in the publisher's thread: nothing of gRPC before a fork
            self._client = _publisher_client()
        try:
            self._client.publish(
                request={
                    "topic": self._topic,
                    "messages": [{"data": data, "attributes": a} for a, data in messages],
                },
                timeout=PUBLISH_SECONDS,
                retry=None,
            )
        except InvalidArgument as error:
            raise RefusedError from error


def _publisher_client() -> Any:
    # The generated client: the batching one starts a thread a batch when a broker hangs.
    from google.pubsub_v1 import PublisherClient

    emulator = os.environ.get("PUBSUB_EMULATOR_HOST")
    if not emulator:
        return PublisherClient()
    import grpc
    from google.pubsub_v1.services.publisher.transports import PublisherGrpcTransport

    channel = grpc.insecure_channel(emulator)
    return PublisherClient(transport=PublisherGrpcTransport(channel=channel))
