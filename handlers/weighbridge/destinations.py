"""Where packed messages go: a Pub/Sub topic, or archive files in a folder."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol, TypeAlias

from weighbridge.archive import SUFFIX, Message, write_archive

PUBLISH_SECONDS = 5.0
PUBLISH_BYTES = 9 << 20
PUBLISH_MESSAGES = 1000
"""Pub/Sub takes no more in one call, and 10 MB."""
IN_FLIGHT = 4
FOLDER_LINGER_SECONDS = 5.0
_PUBLISH = "/google.pubsub.v1.Publisher/Publish"
_TOPIC = re.compile(r"projects/[^/]+/topics/[^/]+")
Packed: TypeAlias = tuple[dict[str, str], bytes]
"""Attributes and data of a message."""


class RefusedError(Exception):
    """These messages will never be taken, however often they are sent; its cause says why."""


class Sending(Protocol):
    """Messages on their way."""

    def done(self) -> bool:
        """Whether they were taken, or will not be."""

    def failure(self) -> Exception | None:
        """Once it is done: why they were not taken. `RefusedError` if trying again is of no use."""


class Destination(Protocol):
    """Takes messages for good.

    Attributes:
        linger: seconds for which messages are collected, so that there are fewer and larger calls.
        in_flight: calls that may be under way at once.
    """

    linger: float
    in_flight: int

    def send(self, messages: Sequence[Packed]) -> Sending:
        """Begin to deliver messages, at most `PUBLISH_MESSAGES` with `PUBLISH_BYTES`.

        Raises:
            Exception: they cannot be sent now.
        """

    def close(self) -> None:
        """Give up what is under way."""


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


class _Taken:
    """Of a folder: what `send` did not raise for is there."""

    def done(self) -> bool:
        return True

    def failure(self) -> None:
        return None


class _Folder:
    linger = FOLDER_LINGER_SECONDS
    in_flight = 1

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._written = 0
        folder.mkdir(parents=True, exist_ok=True)

    def send(self, messages: Sequence[Packed]) -> Sending:
        publisher_id = messages[0][0]["publisher_id"]
        now = time.time_ns() // 1000
        write_packed(self._folder / f"{moment(now)}-{publisher_id}-{self._written}", messages, now)
        self._written += 1
        return _Taken()

    def close(self) -> None:
        pass


class _Topic:
    linger = 0.0
    in_flight = IN_FLIGHT

    def __init__(self, topic: str) -> None:
        self._topic = topic
        self._transport: Any = None

    def send(self, messages: Sequence[Packed]) -> Sending:
        from google.pubsub_v1.types import PublishRequest, PublishResponse

        if self._transport is None:  # in the publisher's thread: nothing of gRPC before a fork
            self._transport = _transport()
            # The bare call: the batching client starts a thread a batch when a broker hangs.
            self._publish = self._transport.grpc_channel.unary_unary(
                _PUBLISH,
                request_serializer=PublishRequest.serialize,
                response_deserializer=PublishResponse.deserialize,
            )
        request = PublishRequest(
            topic=self._topic,
            messages=[{"data": data, "attributes": attributes} for attributes, data in messages],
        )
        future = self._publish.future(
            request,
            timeout=PUBLISH_SECONDS,
            metadata=[("x-goog-request-params", f"topic={self._topic}")],
        )
        return _Call(future)

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()


class _Call:
    def __init__(self, future: Any) -> None:
        self._future = future

    def done(self) -> bool:
        return bool(self._future.done())

    def failure(self) -> Exception | None:
        import grpc

        try:
            error: Exception | None = self._future.exception(timeout=0)
        except Exception as cancelled:  # by close(); futures have several classes for it
            return cancelled
        if isinstance(error, grpc.RpcError) and error.code() == grpc.StatusCode.INVALID_ARGUMENT:
            refused = RefusedError()
            refused.__cause__ = error
            return refused
        return error


def moment(micros: int) -> str:
    """A time for file names, so that files are read in the order in which they were written."""
    return datetime.fromtimestamp(micros / 1e6, UTC).strftime("%Y%m%dT%H%M%S.%f")


def write_packed(path: Path, messages: Sequence[Packed], publish_time: int | None) -> Path:
    """Messages as an archive file; `path` is its name without suffix.

    Raises:
        OSError: it could not be written.
    """
    path = path.with_name(path.name + SUFFIX)
    write_archive(
        path,
        [
            Message(data, attributes, attributes.get("batch_id", ""), publish_time)
            for attributes, data in messages
        ],
    )
    return path


def _transport() -> Any:
    from google.pubsub_v1.services.publisher.transports import PublisherGrpcTransport

    # Of its own connections: a process that forked while its parent used some shares broken ones.
    options = [
        ("grpc.use_local_subchannel_pool", 1),
        ("grpc.max_send_message_length", -1),
        ("grpc.max_receive_message_length", -1),
    ]
    emulator = os.environ.get("PUBSUB_EMULATOR_HOST")
    if emulator:
        import grpc

        return PublisherGrpcTransport(channel=grpc.insecure_channel(emulator, options=options))

    def channel(host: str, **more: Any) -> Any:
        return PublisherGrpcTransport.create_channel(host, **{**more, "options": options})

    return PublisherGrpcTransport(channel=channel)
