"""Where packed messages go: a Pub/Sub topic, or archive files in a folder."""

from __future__ import annotations

import os
import re
import threading
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol, TypeAlias

import weighbridge.log  # noqa: F401
from weighbridge.archive import SUFFIX, Message, write_archive
from weighbridge.settings import folder, text

PUBLISH_SECONDS = 5.0
PUBLISH_BYTES = 9 << 20
PUBLISH_MESSAGES = 1000
"""Pub/Sub takes no more in one call, and 10 MB."""
SHORTEST_SECONDS = 0.1
"""What a call has at least, when the process ends."""
IN_FLIGHT = 4
FOLDER_LINGER_SECONDS = 5.0
_PUBLISH = "/google.pubsub.v1.Publisher/Publish"
_TOPIC = re.compile(r"projects/[^/\s]+/topics/[^/\s]+")
_TOPIC_FORM = "projects/PROJECT/topics/TOPIC"
IMPORT_SECONDS, CALL_SECONDS = 5.0, 0.2
"""For so long a fork waits at most while gRPC is imported, and while calls are under way."""
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

    def ending(self, by: float) -> None:
        """The process ends: `send` can start no thread, and may wait until `by` instead.

        Args:
            by: a moment of the monotonic clock.
        """

    def close(self) -> None:
        """Give up what is under way."""


def open_destination(destination: str | os.PathLike[str]) -> Destination:
    """A topic "projects/P/topics/T", or else a folder.

    Raises:
        ValueError: neither, such as something that looks like a topic or the address of a bucket.
        OSError: the folder cannot be made.
    """
    named = text("destination", destination, f"a folder or {_TOPIC_FORM}")
    if _TOPIC.fullmatch(named):
        return _Topic(named)
    if named.startswith("projects/"):
        raise ValueError(f"{named!r} is no topic: write {_TOPIC_FORM}")
    if "://" in named:  # it would be a folder named `gs:` in the folder where the service runs
        raise ValueError(f"{named!r} is neither a folder of this machine nor {_TOPIC_FORM}")
    return _Folder(folder("destination", named))


class _Taken:
    """What `send` has waited for, and did not raise for, is there."""

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

    def send(self, messages: Sequence[Packed]) -> Sending:
        publisher_id = messages[0][0]["publisher_id"]
        now = time.time_ns() // 1000
        write_packed(self._folder / f"{moment(now)}-{publisher_id}-{self._written}", messages, now)
        self._written += 1
        return _Taken()

    def ending(self, by: float) -> None:
        pass

    def close(self) -> None:
        pass


class _Topic:
    linger = 0.0
    in_flight = IN_FLIGHT

    def __init__(self, topic: str) -> None:
        self._topic = topic
        self._transport: Any = None
        self._ends_at: float | None = None

    def send(self, messages: Sequence[Packed]) -> Sending:
        if self._transport is None:  # in the publisher's thread: nothing of gRPC before a fork
            _gate.enter()
            try:
                _import_grpc()
            finally:
                _gate.leave()
        from google.pubsub_v1.types import PublishRequest, PublishResponse

        if self._transport is None:
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
        metadata = [("x-goog-request-params", f"topic={self._topic}")]
        if self._ends_at is not None:
            self._wait_for(request, metadata, self._ends_at)
            return _Taken()
        _gate.enter()
        try:
            future = self._publish.future(request, timeout=PUBLISH_SECONDS, metadata=metadata)
        except BaseException:
            _gate.leave()
            raise
        future.add_done_callback(_gate.leave)
        return _Call(future)

    def ending(self, by: float) -> None:
        # From 3.12 on Python starts no thread any more, which gRPC's futures need.
        self._ends_at = by

    def _wait_for(self, request: Any, metadata: Any, by: float) -> None:
        import grpc

        left = min(PUBLISH_SECONDS, by - time.monotonic())
        try:
            self._publish(request, timeout=max(left, SHORTEST_SECONDS), metadata=metadata)
        except grpc.RpcError as error:
            failure = _judged(error)
        else:
            return
        raise failure

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()


class _Call:
    def __init__(self, future: Any) -> None:
        self._future = future

    def done(self) -> bool:
        return bool(self._future.done())

    def failure(self) -> Exception | None:
        try:
            error: Exception | None = self._future.exception(timeout=0)
        except Exception as cancelled:  # by close(); futures have several classes for it
            return cancelled
        return None if error is None else _judged(error)


def _judged(error: Exception) -> Exception:
    """The error, or a `RefusedError` with it as cause."""
    import grpc

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


class _Gate:
    """Lets a process fork between what its publishers' threads do with gRPC.

    A child of one that imports it has half of it, whose imports no thread ever finishes. A child of
    one that connects goes on where its parent was, and sends once more what that sends.
    """

    def __init__(self) -> None:
        self._change = threading.Condition()
        self._inside = self._forking = 0
        self._patience = IMPORT_SECONDS

    def enter(self) -> None:
        """Begin something; it waits for a fork that is under way."""
        with self._change:
            self._change.wait_for(lambda: not self._forking, IMPORT_SECONDS)
            self._inside += 1

    def leave(self, _: object = None) -> None:
        """End it."""
        with self._change:
            self._inside -= 1
            self._change.notify_all()

    def imported(self) -> None:
        """From now on there are only calls, which hang when a broker does."""
        self._patience = CALL_SECONDS

    def before_fork(self) -> None:
        with self._change:
            self._forking += 1
            self._change.wait_for(lambda: not self._inside, self._patience)

    def after_in_parent(self) -> None:
        with self._change:
            self._forking -= 1
            self._change.notify_all()

    def after_in_child(self) -> None:
        patience = self._patience
        self.__init__()  # type: ignore[misc]
        self._patience = patience


_gate = _Gate()
if hasattr(os, "register_at_fork"):
    # After `logging`, which `weighbridge.log` imports: what registers last is asked first, and
    # would hold the lock of `logging`, which imports need, while it waits here.
    os.register_at_fork(
        before=_gate.before_fork,
        after_in_parent=_gate.after_in_parent,
        after_in_child=_gate.after_in_child,
    )


def _import_grpc() -> None:
    # And what google.auth leaves until it looks for credentials.
    import google.auth.compute_engine  # noqa: F401
    import grpc
    from google.pubsub_v1.services.publisher.transports import PublisherGrpcTransport

    # One that is not used, as making it imports what is left until then.
    unused: Any = PublisherGrpcTransport(channel=grpc.insecure_channel("localhost"))
    unused.close()
    _gate.imported()


def _transport() -> Any:
    from google.pubsub_v1.services.publisher.transports import PublisherGrpcTransport

    # Of its own connections: a process that forked while its parent used some shares broken ones.
    options = [
        ("grpc.use_local_subchannel_pool", 1),
        ("grpc.max_send_message_length", -1),
        ("grpc.max_receive_message_length", -1),
        # Else it may take two minutes until one that was away is tried again.
        ("grpc.initial_reconnect_backoff_ms", 100),
        ("grpc.min_reconnect_backoff_ms", 5000),
        ("grpc.max_reconnect_backoff_ms", 5000),
    ]
    emulator = os.environ.get("PUBSUB_EMULATOR_HOST")
    if emulator:
        import grpc

        return PublisherGrpcTransport(channel=grpc.insecure_channel(emulator, options=options))

    def channel(host: str, **more: Any) -> Any:
        return PublisherGrpcTransport.create_channel(host, **{**more, "options": options})

    return PublisherGrpcTransport(channel=channel)
