"""The step of a Beam graph that pushes what was committed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import apache_beam as beam
from apache_beam.transforms.periodicsequence import ImpulseSeqGenDoFn
from apache_beam.utils.timestamp import MAX_TIMESTAMP, Timestamp

from pipelines.metrics import UNKNOWN, counter
from pipelines.push import Push
from pipelines.stable import Stabilize
from pipelines.windows import every


class PushToArize(beam.PTransform[Any, Any]):
    """Delivers the outbox once there is something new. In: names of committed tables.

    Behind a reshuffle: neither an outage of Arize nor a retry can undo or repeat a commit. A push
    that fails is no error; what it leaves in the outbox is sent by the next one.

    Args:
        push: what `Push` takes.
        interval: on a stream, seconds after which it delivers also where nothing new is committed.
            Not for the classic DirectRunner, the one that reads Pub/Sub and runs `TestStream`: it
            refuses the splittable step that makes such a clock, and that ends by itself in a drain.
        gathered: on a stream, seconds for which it gathers what is committed before it delivers,
            where commits of the table of deliveries are scarce.
    """

    def __init__(
        self,
        push: Mapping[str, Any],
        interval: float | None = None,
        gathered: float | None = None,
    ) -> None:
        super().__init__()
        self._push = dict(push)
        self._interval = interval
        self._gathered = gathered

    def expand(self, tables: Any) -> Any:
        """One step; it gives nothing."""
        due = tables | "KeyTables" >> beam.Map(_keyed)
        if self._interval is not None:
            ticks = (
                tables.pipeline
                | "Start" >> beam.Impulse()
                | "Schedule" >> beam.Map(_schedule, self._interval)
                | "Tick" >> beam.ParDo(ImpulseSeqGenDoFn())
                | "KeyTicks" >> beam.Map(_keyed)
                | "WindowTicks" >> beam.WindowInto(due.windowing)
            )
            due = (due, ticks) | "FlattenDue" >> beam.Flatten()
        if self._gathered is not None:
            due = (
                due
                | "PushInterval" >> every(self._gathered)
                | "GatherDue" >> beam.GroupByKey()
                | "KeyGathered" >> beam.Map(_keyed)
            )
        # One key: in an outage many pushes would queue up behind the lock, each with a worker.
        return due | "StablePush" >> Stabilize() | "Push" >> beam.ParDo(_PushFn(self._push))


class _PushFn(beam.DoFn):
    def __init__(self, arguments: Mapping[str, Any]) -> None:
        self._arguments = dict(arguments)

    def setup(self) -> None:
        self._push = Push(**self._arguments)

    def start_bundle(self) -> None:
        self._due = False

    def process(self, due: tuple[str, str]) -> None:
        self._due = True

    def finish_bundle(self) -> None:
        if self._due:
            for table, rows in self._push.deliver().items():
                counter(table, "rows_pushed").inc(rows)
            counter(UNKNOWN, "pushes_denied").inc(self._push.denied)


def _keyed(_: Any) -> tuple[str, str]:
    return "", ""


def _schedule(_: bytes, interval: float) -> tuple[Timestamp, Timestamp, float]:
    return Timestamp.now(), MAX_TIMESTAMP, interval
