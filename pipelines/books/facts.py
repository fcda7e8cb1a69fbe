"""What belongs to the books and needs no counting of ids: pushes, costs, freshness and volume."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np
import pyarrow.parquet as pq
from pyiceberg.manifest import ManifestEntryStatus
from pyiceberg.table import Table
from pyiceberg.table.snapshots import Operation

from extractors import Extractors
from pipelines import ledger
from pipelines.books.ids import Numbers
from pipelines.books.read import IDS, Held, read, some_of
from pipelines.books.seen import HOUR, micros
from pipelines.destination import Destination
from pipelines.maintain.duplicates import duplicates as removed_rows
from pipelines.manifests import manifests_of
from pipelines.outbox import Outbox
from pipelines.spans import Span
from pipelines.tables import Tables
from pipelines.waiting import rows_of, waiting

DAYS = 7
"""So many days back the same hour is compared."""
MOST_COMMITS = 30


@dataclass
class Pushed:
    """Rows of a model on their way to Arize.

    Attributes:
        outcomes: rows of uploads of a time: delivered, refused, undelivered.
        waiting: rows in the outbox now.
    """

    outcomes: Counter[str] = field(default_factory=Counter)
    waiting: int = 0


@dataclass
class Cost:
    """What an owner's models have cost in a time.

    Attributes:
        models: their ids.
        envelopes: extracted, each time that they were.
        message_bytes: as they were received.
        rows: in tables.
        bytes: of their data files.
        cpu_us: microseconds of CPU in extractors and in checking their rows.
    """

    models: set[str] = field(default_factory=set)
    envelopes: int = 0
    message_bytes: int = 0
    rows: int = 0
    bytes: int = 0
    cpu_us: int = 0


@dataclass(frozen=True)
class Fresh:
    """How fresh a table is. Delays in seconds: the median, and what 99 of 100 keep.

    Attributes:
        last_event: microseconds since 1970, UTC.
        to_publish: from event to publish time, of rows published in the time.
        to_commit: from event to commit, of rows of the last commits that the table still knows;
            None in BigQuery, whose tables do not say when which of their rows were loaded.
        hour: the last full hour, in hours since 1970.
        volume: envelopes of events in that hour.
        before: the same of each of the days before, the latest first.
    """

    last_event: int | None
    to_publish: tuple[float, float] | None
    to_commit: tuple[float, float] | None
    hour: int
    volume: int
    before: list[int]


def pushed(tables: Destination, held: Iterable[Held], since: int, until: int) -> dict[str, Pushed]:
    """What became of rows that go to Arize, by model."""
    columns = some_of(ledger.DELIVERIES_SCHEMA, "model_id", "outcome", "rows")
    found: dict[str, Pushed] = {}
    rows = read(tables, ledger.DELIVERIES, columns, Span("event_time", since, until))
    for row in rows.group_by(["model_id", "outcome"]).aggregate([("rows", "sum")]).to_pylist():
        one = found.setdefault(row["model_id"], Pushed())
        one.outcomes[row["outcome"]] += row["rows_sum"] or 0
    models = {one.table: one.model for one in held}
    for table, entries in waiting(tables, Outbox(tables.home), models).items():
        found.setdefault(models[table], Pushed()).waiting += rows_of([entries])
    return found


def duplicates(
    tables: Destination, held: Iterable[Held], since: int, until: int
) -> dict[str, dict[int, int]]:
    """Rows that compaction has removed as they were there twice, by model and hour of event."""
    found: dict[str, Counter[int]] = {}
    if not isinstance(tables, Tables):  # nothing of ours compacts them
        return {}
    for one in held:
        for hour, rows in removed_rows(tables.load(one.table)).items():
            if since // HOUR <= hour <= until // HOUR:
                found.setdefault(one.model, Counter())[hour] += rows
    return {model: dict(sorted(hours.items())) for model, hours in found.items()}


def costs(
    tables: Destination, held: Iterable[Held], extractors: Extractors, since: int, until: int
) -> dict[str, Cost]:
    """What was spent, by owner ("": nobody is named)."""
    owners = {model: one.settings.owner for (model, _), one in extractors.items()}
    found: dict[str, Cost] = {}
    numbers = ("envelopes", "message_bytes", "cpu_us")
    columns = some_of(ledger.COSTS_SCHEMA, "model_id", *numbers)
    rows = read(tables, ledger.COSTS, columns, Span("event_time", since, until))
    sums = rows.group_by(["model_id"]).aggregate([(name, "sum") for name in numbers])
    for row in sums.to_pylist():
        one = found.setdefault(owners.get(row["model_id"], ""), Cost())
        one.models.add(row["model_id"])
        one.envelopes += row["envelopes_sum"]
        one.message_bytes += row["message_bytes_sum"]
        one.cpu_us += row["cpu_us_sum"]
    for item in held:
        one = found.setdefault(owners.get(item.model, ""), Cost())
        one.models.add(item.model)
        one.rows += item.rows
        one.bytes += item.bytes
    return found


def freshness(tables: Destination, held: Iterable[Held], until: int) -> dict[str, Fresh]:
    """How fresh each table is, by its full name."""
    with ThreadPoolExecutor(tables.at_once) as pool:
        found = pool.map(lambda one: (one.table, _fresh(tables, one, until // HOUR - 1)), held)
        return dict(found)


def _fresh(tables: Destination, one: Held, hour: int) -> Fresh:
    volume, *before = _volumes(tables, one.table, hour)
    delays = _commit_delays(tables.load(one.table)) if isinstance(tables, Tables) else ()
    to_commit = _quantiles(np.concatenate([_NONE, *delays]))
    return Fresh(one.last_event, _quantiles(one.delays), to_commit, hour, volume, before)


_NONE: Numbers = np.zeros(0, np.int64)


def _quantiles(delays: Numbers) -> tuple[float, float] | None:
    if not len(delays):
        return None
    median, most = np.quantile(delays, (0.5, 0.99)) / 1e6
    return float(median), float(most)


def _volumes(tables: Destination, name: str, hour: int) -> list[int]:
    """Distinct envelopes of events in an hour, and in the same one of the days before."""
    hours = [hour - 24 * day for day in range(DAYS + 1)]
    spans = [Span("event_time", each * HOUR, (each + 1) * HOUR) for each in hours]
    rows = read(tables, name, some_of(IDS, "envelope_id", "event_time"), *spans)
    counted = rows.append_column("hour", [micros(rows["event_time"]) // HOUR])
    groups = counted.group_by("hour").aggregate([("envelope_id", "count_distinct")])
    counts = dict(zip(groups["hour"].to_pylist(), groups["envelope_id_count_distinct"].to_pylist()))
    return [counts.get(each, 0) for each in hours]


def _commit_delays(table: Table) -> Iterator[Numbers]:
    """Microseconds from event to commit of rows of the last commits; not of files written anew."""
    commits = {
        snapshot.snapshot_id: snapshot.timestamp_ms * 1000
        for snapshot in table.metadata.snapshots[-MOST_COMMITS:]
        if snapshot.summary is None or snapshot.summary.operation is Operation.APPEND
    }
    for manifest in manifests_of(table):
        for entry in manifest.fetch_manifest_entry(table.io):
            moment = commits.get(entry.snapshot_id or -1)
            if moment is not None and entry.status is not ManifestEntryStatus.DELETED:
                with table.io.new_input(entry.data_file.file_path).open() as stream:
                    rows = pq.read_table(stream, columns=["event_time"])
                yield moment - micros(rows["event_time"])
