"""Where traffic goes: a watched folder or a subscription, while followers come and go."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from types import TracebackType
from uuid import UUID

from conftest import Emulator
from traffic import Sent, Traffic
from truth import Truth

from weighbridge.archive import write_archive

ACKNOWLEDGEMENT_SECONDS = 2
"""What a killed follower did not acknowledge comes again after as long."""
MOST_MESSAGES = 6
LONGEST_PAUSE = 0.2
Publish = Callable[[Sequence[Sent]], list[Sent]]


@dataclass
class Folder:
    """A folder in which archive files appear, in no order."""

    path: Path
    random: Random

    def publish(self, sent: Sequence[Sent]) -> list[Sent]:
        """Put messages into one file, and give them as they are received."""
        name = UUID(int=self.random.getrandbits(128)).hex
        write_archive(self.path / name[:1] / f"{name}.avro", [one.message for one in sent])
        return [one.received_as(one.message.message_id) for one in sent]


class Topic:
    """A topic, with one subscription."""

    def __init__(self, emulator: Emulator, name: str) -> None:
        self._publisher = emulator.publisher
        self.topic = self._topic = f"projects/test/topics/{name}"
        self.subscription = f"projects/test/subscriptions/{name}"
        emulator.publisher.create_topic(name=self._topic, timeout=10)
        emulator.subscriber.create_subscription(
            name=self.subscription,
            topic=self._topic,
            ack_deadline_seconds=ACKNOWLEDGEMENT_SECONDS,
            timeout=10,
        )

    def publish(self, sent: Sequence[Sent]) -> list[Sent]:
        """Publish messages, and give them as they are received."""
        messages = [{"data": s.message.data, "attributes": s.message.attributes} for s in sent]
        given = self._publisher.publish(topic=self._topic, messages=messages, timeout=30)
        return [one.received_as(id_) for one, id_ in zip(sent, given.message_ids, strict=True)]


class Feeder:
    """A thread that publishes traffic until it is left, and notes it in `truth`."""

    def __init__(self, traffic: Traffic, publish: Publish, random: Random) -> None:
        self.truth = Truth()
        self._traffic = traffic
        self._publish = publish
        self._random = random
        self._closed = threading.Event()
        self._error: Exception | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def __enter__(self) -> Feeder:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._closed.set()
        self._thread.join()
        if self._error is not None and error is None:
            raise self._error

    def _run(self) -> None:
        try:
            while not self._closed.is_set():
                count = self._random.randint(1, MOST_MESSAGES)
                self.truth.add(self._publish([self._traffic.next() for _ in range(count)]))
                self._closed.wait(self._random.uniform(0, LONGEST_PAUSE))
        except Exception as error:
            self._error = error
