"""The platform's own tables: deliveries, heartbeats, and envelopes that did not become rows."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any
from uuid import uuid4

import pyarrow as pa

from pipelines.decode import MAX_TIME, MIN_TIME, Decoded
from schemas.arrow import TIME

PLATFORM = "weighbridge"
DELIVERIES, SKIPPED, HEARTBEATS, FAILURES, PARKED, COSTS = (
    f"{PLATFORM}.{name}"
    for name in ("deliveries", "skipped", "heartbeats", "failures", "parked", "costs")
)


def _field(name: str, kind: pa.DataType, doc: str = "") -> pa.Field:
    return pa.field(name, kind, metadata={"doc": doc} if doc else None)


DELIVERIES_SCHEMA = pa.schema(
    [
        # Named as in a model's table, so that one writer serves all tables.
        _field("envelope_id", pa.string(), "id of the upload"),
        _field("row_id", pa.string(), "the row, where a single one was refused"),
        _field("event_time", TIME, "when Arize answered"),
        _field("table_name", pa.string()),
        _field("model_id", pa.string()),
        _field("model_version", pa.string()),
        _field("arize_space", pa.string(), "name of the space, not its id"),
        _field("outcome", pa.string(), "delivered | undelivered | refused"),
        _field("rows", pa.int64(), "that were acknowledged; 1 where one was refused"),
        _field("rows_outside_lookback", pa.int64(), "not sent: too old, too new"),
        _field("rows_sampled_out", pa.int64(), "not sent: arize_sample_rate"),
        _field("rows_too_late", pa.int64(), "not sent: actuals that Arize joins no more"),
        _field("attempts", pa.int64()),
        _field(
            "possible_duplicates",
            pa.int64(),
            "rows of attempts that may have been taken although no answer said so",
        ),
        _field("error", pa.string()),
        _field("first_event_time", TIME),
        _field("last_event_time", TIME),
        _field(
            "files",
            pa.list_(pa.string()),
            "data files that are settled with it, as JSON: path, rows, first and last event time",
        ),
        _field("environment", pa.string(), "production | training | validation"),
        _field("batch_id", pa.string(), "of a validation set"),
    ]
)
SKIPPED_SCHEMA = pa.schema(
    [
        _field("envelope_id", pa.string()),
        _field("row_id", pa.string(), "<envelope_id>:0"),
        _field("event_time", TIME),
        _field("ingest_time", TIME, "when it was published"),
        _field("model_id", pa.string()),
        _field("kind", pa.string(), "prediction | actual"),
        _field("model_version", pa.string()),
        _field("reason", pa.string(), "status: of an answer that is no success | no_rows | erased"),
        _field("status", pa.int64(), "of the answer"),
    ]
)
HEARTBEATS_SCHEMA = pa.schema(
    [
        _field("envelope_id", pa.string(), "<publisher_id>@<time>"),
        _field("row_id", pa.string(), "<envelope_id>:<index>, one for each model"),
        _field("event_time", TIME, "when the publisher counted"),
        _field("ingest_time", TIME, "when it was published"),
        _field("publisher_id", pa.string()),
        _field("sequence", pa.int64(), "sequence numbers given out since the publisher started"),
        _field("model_id", pa.string(), "null if the publisher has served no model yet"),
        _field("served", pa.int64(), "envelopes since the publisher started, as all counts"),
        _field("sampled_out", pa.int64()),
        _field("dropped", pa.map_(pa.string(), pa.int64()), "by cause"),
        _field("spooled", pa.int64(), "in the spool at that moment"),
        _field("published", pa.int64()),
        _field("final", pa.bool_(), "the publisher closed, and captures nothing more"),
    ]
)
FAILURES_SCHEMA = pa.schema(
    [
        _field("envelope_id", pa.string(), "id of the dead letter: 32 hex digits"),
        _field("row_id", pa.string(), "<envelope_id>:0"),
        _field("event_time", TIME, "of the envelope that failed, else when it was published"),
        _field("ingest_time", TIME, "when it was published"),
        _field(
            "failed_envelope_id",
            pa.string(),
            "id of the envelope that failed, or of a message that could not be taken apart",
        ),
        _field("model_id", pa.string(), "null if the message names none that can be"),
        _field("stage", pa.string(), "decode | route | extract | validate"),
        _field("error", pa.string(), "class of the error"),
        _field("message", pa.string(), "what was wrong and where, without input values"),
        _field("fingerprint", pa.string(), "the same cause of the same model has the same one"),
        _field("extractor_version", pa.string()),
        _field(
            "publisher_id", pa.string(), "of a message of envelopes that could not be taken apart"
        ),
        _field("envelopes", pa.int64(), "in it: 1, or what such a message says of itself"),
        _field("first", pa.string(), "the first dead letter of an envelope that failed again"),
        _field("file", pa.string(), "below the home; it holds the original bytes"),
        _field("position", pa.int64(), "of the message in the file, from 0"),
    ]
)
PARKED_SCHEMA = pa.schema(
    [
        _field("envelope_id", pa.string()),
        _field("row_id", pa.string(), "<envelope_id>:0"),
        _field("event_time", TIME),
        _field("ingest_time", TIME, "when it was published"),
        _field("model_id", pa.string()),
        _field("kind", pa.string(), "prediction | actual"),
        _field("model_version", pa.string()),
        _field("file", pa.string(), "below the home; it holds the original bytes"),
        _field("position", pa.int64(), "of the message in the file, from 0"),
    ]
)
COSTS_SCHEMA = pa.schema(
    [
        _field("envelope_id", pa.string(), "32 hex digits, of what one worker extracted at a time"),
        _field("row_id", pa.string(), "<envelope_id>:<index>, one for each model and kind"),
        _field("event_time", TIME, "when it was extracted"),
        _field("ingest_time", TIME, "the same"),
        _field("model_id", pa.string()),
        _field("kind", pa.string(), "prediction | actual"),
        _field("extractor_version", pa.string()),
        _field("envelopes", pa.int64(), "extracted, also those that were known or failed"),
        _field("message_bytes", pa.int64(), "of their messages, as they were received"),
        _field(
            "cpu_us", pa.int64(), "microseconds of CPU in the extractor and in checking its rows"
        ),
    ]
)
SCHEMAS = {
    DELIVERIES: DELIVERIES_SCHEMA,
    SKIPPED: SKIPPED_SCHEMA,
    HEARTBEATS: HEARTBEATS_SCHEMA,
    FAILURES: FAILURES_SCHEMA,
    PARKED: PARKED_SCHEMA,
    COSTS: COSTS_SCHEMA,
}


def skipped_row(decoded: Decoded, position: int, reason: str) -> tuple[Any, ...]:
    """A row of `skipped`; an event time that no table can hold becomes the publish time."""
    envelope_id, time = decoded.ids[position], decoded.times[position]
    published = decoded.message.publish_time
    moment = time if MIN_TIME <= time <= MAX_TIME else published or 0
    return (
        envelope_id,
        f"{envelope_id}:0",
        moment,
        moment if published is None else published,
        decoded.model_id,
        decoded.kind,
        decoded.model_version,
        reason,
        decoded.statuses[position],
    )


def heartbeat_rows(
    heartbeat: Mapping[str, Any], published: int | None, final: bool = False
) -> Iterator[tuple[Any, ...]]:
    """Rows of `heartbeats`, one for each model that the publisher has served."""
    time, publisher = heartbeat["time"], heartbeat["publisher_id"]
    key = f"{publisher}@{time}"
    head = (time, time if published is None else published, publisher, heartbeat["sequence"])
    if not heartbeat["models"]:
        yield (key, f"{key}:0", *head, *[None] * 6, final)
    for index, model in enumerate(heartbeat["models"]):
        yield (
            key,
            f"{key}:{index}",
            *head,
            model["model_id"],
            model["served"],
            model["sampled_out"],
            sorted(model["dropped"].items()),
            model["spooled"],
            model["published"],
            final,
        )


def cost_rows(
    moment: int, spent: Iterable[tuple[str, str, str, int, int, int]]
) -> Iterator[tuple[Any, ...]]:
    """Rows of `costs`.

    Args:
        moment: microseconds since 1970, UTC.
        spent: model id, kind, extractor version, envelopes, bytes of messages, nanoseconds of CPU.
    """
    key = uuid4().hex
    for index, (*about, envelopes, size, nanos) in enumerate(spent):
        yield (key, f"{key}:{index}", moment, moment, *about, envelopes, size, nanos // 1000)


def record_batch(table: str, rows: list[tuple[Any, ...]]) -> pa.RecordBatch:
    """Rows of one of these tables as Arrow. Times in microseconds since 1970, UTC."""
    schema = SCHEMAS[table]
    columns = zip(schema, zip(*rows))
    return pa.RecordBatch.from_arrays(
        [
            pa.array(values, pa.int64()).view(TIME)
            if field.type == TIME
            else pa.array(values, field.type)
            for field, values in columns
        ],
        schema=schema,
    )
