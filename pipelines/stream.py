"""The unbounded graph: follow a subscription, and commit what came every few minutes."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import apache_beam as beam
from apache_beam.io.gcp.pubsub import PubsubMessage, ReadFromPubSub

from extractors import Extractors
from pipelines.committer import CommitFiles
from pipelines.failures import FAILURES, PARKED, WriteMessages
from pipelines.graph import extract_rows, outboxes, push_arguments
from pipelines.options import RunOptions
from pipelines.push_to_arize import PushToArize
from pipelines.shuffle import ShuffleRows, WriteRows
from pipelines.tables import table_of
from pipelines.unwritten import commit_or_keep
from pipelines.windows import every
from pipelines.write import WriteAnyway
from schemas import ConfigurationError
from weighbridge.archive import Message

FAILURES_SECONDS = 60.0
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def build_stream(
    messages: Any,
    extractors: Extractors,
    options: RunOptions,
    push_interval: float | None = None,
) -> None:
    """Add the unbounded graph; it is the same for one model and for a thousand.

    Args:
        messages: a PCollection of `Message` whose timestamps are publish times.
        extractors: what `load_extractors` gave.
        options: those of the run; `commit_interval` is from a table's first file to the commit of
            all that came since.
        push_interval: as of `PushToArize`.
    """
    extracted = messages | "ExtractRows" >> extract_rows(extractors, ShuffleRows(), options)
    pushed = {table_of(item).name for item in extractors.values() if item.pushed}
    tables = options.open()
    write = partial(WriteMessages, options.home, emit=WriteAnyway(tables))
    failures = extracted.failures | "WriteFailures" >> write(FAILURES, interval=FAILURES_SECONDS)
    parked = extracted.parked | "WriteParked" >> write(PARKED, interval=FAILURES_SECONDS)
    rows = extracted.rows | "WriteRows" >> WriteRows(tables, pushed)
    committed = (
        (
            rows | "CommitInterval" >> every(options.commit_interval),
            failures | "FailuresInterval" >> every(options.commit_interval),
            parked | "ParkedInterval" >> every(options.commit_interval),
        )
        | "FlattenFiles" >> beam.Flatten()
        | "CommitFiles" >> CommitFiles(tables, outboxes(extractors, options), commit_or_keep)
    )
    if not options.no_arize:
        arguments = push_arguments(extractors, options)
        gathered = options.commit_interval if options.tables == "bigquery" else None
        committed | "PushToArize" >> PushToArize(arguments, push_interval, gathered)


class ReadSubscription(beam.PTransform[Any, Any]):
    """Reads a Pub/Sub subscription. In: the pipeline. Out: `Message`, at its publish time.

    Neither an id nor a timestamp is taken from the attributes: a stranger's message could break the
    reader with a malformed one.

    Args:
        subscription: such as "projects/P/subscriptions/S".

    Raises:
        ConfigurationError: that is no name of one.
    """

    def __init__(self, subscription: str) -> None:
        super().__init__()
        try:
            self._read = ReadFromPubSub(subscription=subscription, with_attributes=True)
        except ValueError as error:
            raise ConfigurationError(f"--input_subscription: {error}") from None

    def expand(self, pipeline: Any) -> Any:
        """Read, and name the fields as archive files do."""
        return pipeline | "ReadFromPubSub" >> self._read | "NameFields" >> beam.Map(_message)


def _message(received: PubsubMessage) -> Message:
    moment = received.publish_time
    return Message(
        received.data or b"",
        dict(received.attributes or {}),
        received.message_id or "",
        None if moment is None else (moment - _EPOCH) // timedelta(microseconds=1),
        received.ordering_key or "",
    )
