"""Reads the ledger's columns from the tables, and no more of them than a time needs."""

from __future__ import annotations

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import timedelta

import pyarrow as pa
import pyarrow.compute as pc

from pipelines import ledger
from pipelines.books.balance import Bookkeeper
from pipelines.books.beats import Beats, Counts
from pipelines.books.ids import Numbers, Publishers
from pipelines.books.seen import Fate, Sightings, micros
from pipelines.destination import Destination
from pipelines.spans import Span
from schemas.arrow import TIME

CLOCKS = timedelta(minutes=10)
"""By so much clocks may differ: of a service, and of the broker that gives publish times."""
EARLIER = timedelta(hours=2)
"""Heartbeats of so long before are read, too: counting begins with the last one before."""
IDS = pa.schema(
    [("envelope_id", pa.string()), ("event_time", TIME), ("ingest_time", TIME)],
)


@dataclass
class Held:
    """What the table of a model and kind holds of a time.

    Attributes:
        table: full name.
        rows: of the envelopes.
        bytes: of the table; a share, as it holds more than the time.
        last_event: microseconds since 1970, UTC; None without any row.
        delays: microseconds from event to publish time, of each row.
    """

    table: str
    model: str
    rows: int
    bytes: int
    last_event: int | None
    delays: Numbers


@dataclass(frozen=True)
class Entries:
    """What the tables hold of a time.

    Attributes:
        beats: all heartbeats.
        keeper: settles accounts.
        held: by table.
    """

    beats: Beats
    keeper: Bookkeeper
    held: list[Held]


def read_entries(tables: Destination, since: int, until: int) -> Entries:
    """Read what was published in a time.

    Envelopes are found however late they came: numbers tell what belongs together, not times.

    Args:
        tables: where to look.
        since: microseconds since 1970, UTC.
        until: likewise.
    """
    beats = Beats(read(tables, ledger.HEARTBEATS, ledger.HEARTBEATS_SCHEMA, _from(since, EARLIER)))
    publishers = Publishers(beats.publishers)
    sightings = Sightings(publishers, since, until)
    starts = [beat.time for name in publishers.names for beat in beats.before(name, since, 2)]
    after = _from(min([since, *starts]), CLOCKS)
    held = []
    with ThreadPoolExecutor(tables.at_once) as pool:
        for found in pool.map(lambda name: _read_model(tables, name, after), tables.names()):
            if found is not None:
                one, ids = found
                sightings.add(Fate.TABLE, ids, one.model)
                held.append(one)
    whole = _add_others(tables, sightings, after)
    return Entries(beats, Bookkeeper(beats, sightings.seen(), publishers.names, whole), held)


def read(tables: Destination, name: str, schema: pa.Schema, *spans: Span) -> pa.Table:
    """Rows of a table in these columns, of these times; none if it is not there yet."""
    return pa.Table.from_batches(tables.rows(name, schema, *spans), schema)


def some_of(schema: pa.Schema, *columns: str) -> pa.Schema:
    """Those of the columns that are there."""
    return pa.schema([schema.field(name) for name in columns if name in schema.names])


def _read_model(tables: Destination, name: str, after: Span) -> tuple[Held, pa.Table] | None:
    rows, size = tables.size(name)
    model = tables.model_of(name) if rows else ""
    if not model:
        return None
    ids = read(tables, name, IDS, after)
    events, ingested = micros(ids["event_time"]), micros(ids["ingest_time"])
    last = int(events.max()) if len(events) else None
    share = ids.num_rows / rows
    return Held(name, model, ids.num_rows, int(size * share), last, ingested - events), ids


def _add_others(tables: Destination, sightings: Sightings, after: Span) -> dict[str, Counts]:
    for fate, name, schema, why in (
        (Fate.SKIPPED, ledger.SKIPPED, ledger.SKIPPED_SCHEMA, "reason"),
        (Fate.PARKED, ledger.PARKED, ledger.PARKED_SCHEMA, "reason"),
        (Fate.DEAD_LETTER, ledger.FAILURES, ledger.FAILURES_SCHEMA, "stage"),
    ):
        more = ("failed_envelope_id", "publisher_id", "envelopes")
        columns = some_of(schema, *IDS.names, "model_id", why, *more)
        rows = read(tables, name, columns, after)
        if fate is Fate.DEAD_LETTER:
            whole = pc.is_valid(rows["publisher_id"])
            counted = _whole(rows.filter(whole))
            rows = rows.filter(
                pc.and_(pc.invert(whole), pc.not_equal(rows["envelopes"].fill_null(1), 0))
            )
            rows = rows.drop_columns("envelope_id")
            rows = rows.rename_columns({"failed_envelope_id": "envelope_id"})
        reasons = rows[why] if why in rows.column_names else ""
        sightings.add(fate, rows, rows["model_id"], reasons)
    return counted


def _whole(rows: pa.Table) -> dict[str, Counts]:
    """Envelopes in messages that could not be taken apart, by publisher and stage."""
    groups = rows.group_by(["publisher_id", "stage"]).aggregate([("envelopes", "sum")])
    found: dict[str, Counts] = {}
    for row in groups.to_pylist():
        counts = found.setdefault(row["publisher_id"], Counter())
        counts["dead_letters", row["stage"]] += row["envelopes_sum"] or 0
    return found


def _from(time: int, slack: timedelta) -> Span:
    return Span("ingest_time", time - slack // timedelta(microseconds=1))
