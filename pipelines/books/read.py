"""Reads the ledger's columns from the tables, and no more of them than a time needs."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import pyarrow as pa
import pyarrow.compute as pc
from pyiceberg.exceptions import NoSuchTableError
from pyiceberg.table import Table

from pipelines import ledger
from pipelines.books.balance import Bookkeeper
from pipelines.books.beats import Beats, Counts
from pipelines.books.ids import Numbers, Publishers
from pipelines.books.seen import Fate, Sightings, micros
from pipelines.tables import MODELS, Tables

CLOCKS = timedelta(minutes=10)
"""By so much clocks may differ: of a service, and of the broker that gives publish times."""
EARLIER = timedelta(hours=2)
"""Heartbeats of so long before are read, too: counting begins with the last one before."""
IDS = ("envelope_id", "event_time", "ingest_time")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass
class Held:
    """What the table of a model and kind holds of a time.

    Attributes:
        table: full name.
        rows: of the envelopes.
        bytes: of their data files; a share, where files hold more than the time.
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


def read_entries(tables: Tables, since: int, until: int) -> Entries:
    """Read what was published in a time.

    Envelopes are found however late they came: numbers tell what belongs together, not times.

    Args:
        tables: where to look.
        since: microseconds since 1970, UTC.
        until: likewise.
    """
    beats = Beats(read(tables, ledger.HEARTBEATS, _from(since, EARLIER), ledger.HEARTBEATS_SCHEMA))
    publishers = Publishers(beats.publishers)
    sightings = Sightings(publishers, since, until)
    starts = [beat.time for name in publishers.names for beat in beats.before(name, since, 2)]
    after = _from(min([since, *starts]), CLOCKS)
    held = []
    for name in tables.names(MODELS):
        found = _read_model(name, tables.load(name), after)
        if found is not None:
            one, ids = found
            sightings.add(Fate.TABLE, ids, one.model)
            held.append(one)
    whole = _add_others(tables, sightings, after)
    return Entries(beats, Bookkeeper(beats, sightings.seen(), publishers.names, whole), held)


def read(tables: Tables, name: str, wanted: str, schema: pa.Schema, *columns: str) -> pa.Table:
    """Rows of a platform table, in its present schema; none if it is not there yet."""
    names = columns or tuple(schema.names)
    empty = pa.schema([schema.field(column) for column in names]).empty_table()
    try:
        table = tables.load(name)
    except NoSuchTableError:
        return empty
    has = {item.name for item in table.schema().fields}
    held = [column for column in names if column in has]
    rows = table.scan(wanted, selected_fields=tuple(held)).to_arrow()
    for column in set(names) - has:
        rows = rows.append_column(column, pa.nulls(rows.num_rows, schema.field(column).type))
    return rows.select(list(names))


def _read_model(name: str, table: Table, after: str) -> tuple[Held, pa.Table] | None:
    if table.current_snapshot() is None:
        return None
    first = table.scan(limit=1, selected_fields=("model_id",)).to_arrow()
    model = first["model_id"][0].as_py() if first.num_rows else None
    if not model:
        return None
    scan = table.scan(after, selected_fields=IDS)
    files = [task.file for task in scan.plan_files()]
    ids = scan.to_arrow()
    events, ingested = micros(ids["event_time"]), micros(ids["ingest_time"])
    size = sum(file.file_size_in_bytes for file in files)
    share = ids.num_rows / max(1, sum(file.record_count for file in files))
    last = int(events.max()) if len(events) else None
    return Held(name, model, ids.num_rows, int(size * share), last, ingested - events), ids


def _add_others(tables: Tables, sightings: Sightings, after: str) -> dict[str, Counts]:
    for fate, name, schema, why in (
        (Fate.SKIPPED, ledger.SKIPPED, ledger.SKIPPED_SCHEMA, "reason"),
        (Fate.PARKED, ledger.PARKED, ledger.PARKED_SCHEMA, "reason"),
        (Fate.DEAD_LETTER, ledger.FAILURES, ledger.FAILURES_SCHEMA, "stage"),
    ):
        more = ("failed_envelope_id", "publisher_id", "envelopes")
        columns = [*IDS, "model_id", *(each for each in (why, *more) if each in schema.names)]
        rows = read(tables, name, after, schema, *columns)
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


def between(column: str, start: int, end: int) -> str:
    """Rows whose time is in a range, as scans take it. Microseconds since 1970, UTC."""
    return f"{column} >= '{_text(start)}' and {column} < '{_text(end)}'"


def _from(time: int, slack: timedelta) -> str:
    return f"ingest_time >= '{_text(time - slack // timedelta(microseconds=1))}'"


def _text(time: int) -> str:
    return (_EPOCH + timedelta(microseconds=max(0, time))).isoformat()
