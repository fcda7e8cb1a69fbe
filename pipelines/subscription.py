"""A Pub/Sub subscription as archive files: acknowledged once they are on disk."""

from __future__ import annotations

import os
import queue
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pipelines.batches import InputFile, input_file
from pipelines.journal import Journal
from pipelines.logs import log
from schemas import ConfigurationError
from weighbridge.archive import SUFFIX, Message, read_archive, write_archive
from weighbridge.wire import BATCH_CONTENT

PULL_MESSAGES = 1000
PULL_SECONDS = 30.0
"""A pull waits for messages for as long; one that is given up may cost them an ack deadline."""
LINGER_SECONDS = 1.0
FILE_BYTES = 16 << 20
_ACKNOWLEDGED_AT_ONCE = 1000
_RETRY_SECONDS = 1.0
_SAID_SECONDS = 60.0
"""Between lines that say that pulling still fails."""
_AHEAD = 4


class Subscription:
    """Receives messages and records the files that it makes of them.

    Args:
        name: "projects/P/subscriptions/S".
        folder: where the files are put, below a folder a day.
        journal: what was received so far.

    Raises:
        ConfigurationError: no credentials.
    """

    def __init__(self, name: str, folder: Path, journal: Journal) -> None:
        self._name = name
        self._folder = folder
        self._journal = journal
        self._written = 0
        self._client = _client()
        self._pulled: queue.Queue[list[Any] | Exception] = queue.Queue(_AHEAD)
        self._closed = threading.Event()
        self._recover()
        self._puller = threading.Thread(target=self._pull, daemon=True, name="weighbridge-pull")
        self._puller.start()

    def fetch(self, seconds: float) -> int:
        """Wait for messages for up to that long, and record them; how many came.

        Raises:
            ConfigurationError: the subscription cannot be pulled from, now or later.
            OSError: the file cannot be written; its messages will be delivered again.
        """
        received = list(self._received(seconds))
        if not received:
            return 0
        messages = _distinct(received)
        ids = [id_ for m in messages if (id_ := _batch_id(m))]
        known = self._journal.seen(ids)
        fresh = [m for m in messages if _batch_id(m) not in known]
        if fresh:
            file = self._write(fresh)
            self._journal.add([file], [id_ for id_ in ids if id_ not in known])
        self._acknowledge([one.ack_id for one in received])
        return len(fresh)

    def close(self) -> None:
        """Stop pulling; what was pulled and not recorded is delivered again."""
        self._closed.set()
        self._client.transport.close()

    def _received(self, seconds: float) -> Iterator[Any]:
        deadline, size = time.monotonic() + seconds, 0
        linger = None
        while size < FILE_BYTES:
            with suppress(queue.Empty):
                pulled = self._pulled.get(timeout=max(0.0, (linger or deadline) - time.monotonic()))
                if isinstance(pulled, Exception):
                    raise pulled
                yield from pulled
                size += sum(len(one.message.data) for one in pulled)
                linger = linger or time.monotonic() + LINGER_SECONDS
                continue
            return

    def _write(self, messages: list[Message]) -> InputFile:
        moment = datetime.now(UTC)
        self._written += 1
        name = f"{moment:%Y%m%dT%H%M%S.%f}-{self._written:06}{SUFFIX}"
        path = self._folder / f"day={moment:%Y-%m-%d}" / name
        write_archive(path, messages)
        oldest = min(message.publish_time or 0 for message in messages)
        return input_file(str(path), oldest * 1000)

    def _acknowledge(self, ids: list[str]) -> None:
        for start in range(0, len(ids), _ACKNOWLEDGED_AT_ONCE):
            part = ids[start : start + _ACKNOWLEDGED_AT_ONCE]
            try:
                self._client.acknowledge(subscription=self._name, ack_ids=part, timeout=10.0)
            except Exception as error:  # they come again, and are known then
                log.warning("%s: acknowledging failed with %s", self._name, type(error).__name__)

    def _pull(self) -> None:
        from google.api_core.exceptions import DeadlineExceeded

        say_at = 0.0
        while not self._closed.is_set():
            try:
                answer = self._client.pull(
                    subscription=self._name,
                    max_messages=PULL_MESSAGES,
                    timeout=PULL_SECONDS,
                    retry=None,
                )
                say_at = 0.0
                # The plain protobuf message: its wrapper costs more than all else here.
                received = type(answer).pb(answer).received_messages
                if received:
                    self._pulled.put(list(received))
            except DeadlineExceeded:
                say_at = 0.0  # nothing came
            except Exception as error:
                if self._closed.is_set():
                    return
                refused = _refusal(self._name, error)
                if refused is not None:
                    self._pulled.put(refused)
                    return
                if time.monotonic() >= say_at:
                    say_at = time.monotonic() + _SAID_SECONDS
                    log.warning(
                        "%s: pulling failed with %s; it is tried again each second",
                        self._name,
                        type(error).__name__,
                    )
                self._closed.wait(_RETRY_SECONDS)

    def _recover(self) -> None:
        """Record files that a kill has left between the disk and the journal."""
        paths = sorted(self._folder.glob(f"day=*/*{SUFFIX}"))
        files = [input_file(str(path)) for path in paths if not path.name.startswith(".")]
        recorded = self._journal.files()
        for file in files:
            if file.path in recorded:
                continue
            with open(file.path, "rb") as stream:
                ids = [_batch_id(message) for message in read_archive(stream)]
            self._journal.add([file], filter(None, ids))


def _batch_id(message: Any) -> str:
    """Of a packed message; to others the attribute is one like any other."""
    attributes = message.attributes
    return attributes.get("batch_id", "") if attributes.get("content") == BATCH_CONTENT else ""


def _distinct(received: list[Any]) -> list[Message]:
    """One of each message: some come again before the first is acknowledged."""
    messages: dict[str, Message] = {}
    for one in received:
        message = one.message
        key = _batch_id(message) or f"message {message.message_id}"
        if key not in messages:
            messages[key] = Message(
                message.data,
                dict(message.attributes),
                message.message_id,
                message.publish_time.ToMicroseconds(),
                message.ordering_key,
            )
    return list(messages.values())


def _refusal(name: str, error: Exception) -> ConfigurationError | None:
    from google.api_core import exceptions

    remedies: dict[type[Exception], str] = {
        exceptions.NotFound: "there is none; see `gcloud pubsub subscriptions list`",
        exceptions.PermissionDenied: "this account needs the role roles/pubsub.subscriber on it",
        exceptions.Unauthenticated: "log in with `gcloud auth application-default login`",
        exceptions.InvalidArgument: "it is of a kind that cannot be pulled from",
        exceptions.FailedPrecondition: "it pushes, or exports; make one to pull from",
    }
    for kind, remedy in remedies.items():
        if isinstance(error, kind):
            return ConfigurationError(f"--input_subscription: {name}: {remedy}")
    return None


def _client() -> Any:
    # The generated client: messages stay few, and are acknowledged many at once.
    from google.pubsub_v1 import SubscriberClient

    emulator = os.environ.get("PUBSUB_EMULATOR_HOST")
    if emulator:
        import grpc
        from google.pubsub_v1.services.subscriber.transports import SubscriberGrpcTransport

        options = [("grpc.max_receive_message_length", -1)]
        channel = grpc.insecure_channel(emulator, options=options)
        return SubscriberClient(transport=SubscriberGrpcTransport(channel=channel))
    from google.auth.exceptions import DefaultCredentialsError

    try:
        return SubscriberClient()
    except DefaultCredentialsError:
        raise ConfigurationError(
            "no Google Cloud credentials: log in with `gcloud auth application-default login`, or "
            "set PUBSUB_EMULATOR_HOST for the emulator"
        ) from None
