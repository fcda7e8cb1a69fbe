"""A subscription whose deliveries and clocks a test sets, and what it delivers."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import apache_beam as beam
from apache_beam.coders import VarIntCoder
from apache_beam.options.pipeline_options import PipelineOptions, StandardOptions
from apache_beam.testing.test_stream import TestStream
from apache_beam.transforms.window import TimestampedValue
from apache_beam.utils.timestamp import Timestamp
from support import NOW, Home, packed, scored

from extractors import load_extractors
from pipelines.metrics import Counts, counts
from pipelines.options import RunOptions, parse_run
from pipelines.stream import build_stream
from weighbridge.archive import Message

INTERVAL = 60.0
START = NOW.replace(second=0) - timedelta(hours=1)


def published(*messages: Message) -> list[TimestampedValue]:
    return [TimestampedValue(m, Timestamp(micros=m.publish_time)) for m in messages]


class Messages(beam.PTransform[Any, Any]):
    """What a `TestStream` of their numbers delivers. A runner in Java reads no tuples of Python."""

    def __init__(self, subscription: Subscription) -> None:
        super().__init__()
        self._stream = subscription.stream
        self._messages = subscription.messages

    def expand(self, pipeline: Any) -> Any:
        return pipeline | "Deliver" >> self._stream | "Find" >> beam.Map(_nth, self._messages)


def _nth(number: int, messages: list[Message]) -> Message:
    return messages[number]


class Subscription:
    """What a subscription delivers, and how time goes by, on the runner's own clocks.

    Args:
        ticks: whether the runner's clock of processing time can be set; Flink's cannot.
    """

    def __init__(self, ticks: bool = True) -> None:
        self.messages: list[Message] = []
        self.stream = TestStream(VarIntCoder()).with_output_types(int)
        self.stream.advance_watermark_to(START.timestamp())
        self._ticks = ticks

    def deliver(self, *messages: Message) -> Subscription:
        """Messages that come in one bundle."""
        numbers = range(len(self.messages), len(self.messages) + len(messages))
        moments = [one.timestamp for one in published(*messages)]
        self.stream.add_elements(map(TimestampedValue, numbers, moments))
        self.messages += messages
        return self

    def each(self, messages: Iterable[Message]) -> Subscription:
        """Messages that come in a bundle each."""
        for message in messages:
            self.deliver(message)
        return self

    def wait(self, seconds: float = INTERVAL + 1, *, past: datetime | None = None) -> Subscription:
        """Let time go by, and everything published before `past` be known to have come."""
        if past is not None:
            self.stream.advance_watermark_to(past.timestamp())
        if self._ticks:
            self.stream.advance_processing_time(seconds)
        return self

    def follow(
        self,
        home: Home,
        *more: str,
        damage: Callable[[Any], object] = str,
        engine: Sequence[str] = ("--runner=BundleBasedDirectRunner",),
    ) -> Counts:
        """Run the graph until the subscription is drained, after some `damage` to the tables."""
        options = options_of(home, *(more or ("--no_arize",)))
        extractors = load_extractors(home.package)
        tables = options.open()
        tables.prepare(extractors.values())
        damage(tables)
        self.wait().stream.advance_watermark_to_infinity()
        for _ in range(3):  # on a busy machine a step may come after the clock's next leap
            self.wait()
        beam_options = PipelineOptions(list(engine))
        beam_options.view_as(StandardOptions).streaming = True
        pipeline = beam.Pipeline(options=beam_options)
        build_stream(pipeline | "Messages" >> Messages(self), extractors, options)
        result = pipeline.run()
        result.wait_until_finish()
        return counts(result)


def options_of(home: Home, *more: str, interval: float = INTERVAL) -> RunOptions:
    return replace(parse_run(home.arguments(*more)), commit_interval=interval)


def one(number: int, moment: datetime = START, **fields: Any) -> Message:
    body = scored(0.5, 0.25, prefix=f"c{number}")
    return packed("scores", [body], first=number, at=moment, **fields)


def ids(numbers: Iterable[int]) -> list[str]:
    return sorted(f"pub-{number}:{row}" for number in numbers for row in (0, 1))


def minute(number: float) -> datetime:
    return START + timedelta(minutes=number)
