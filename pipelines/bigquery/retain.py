"""How long BigQuery keeps partitions: what maintenance has to say there."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import google.cloud.bigquery as bigquery
from rich.console import Console

from extractors import Extractors
from pipelines.bigquery.access import at_work
from pipelines.bigquery.tables import BigQueryTables
from pipelines.destination import Destination
from pipelines.ledger import SCHEMAS
from pipelines.maintain.command import keeping, tables_to_maintain
from pipelines.render import grid

_DAY = timedelta(days=1)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Kept:
    """What a table keeps of a day after its end: as it was, and as it is to be. None: for ever.

    Attributes:
        days: of the table that are older than that.
    """

    table: str
    before: timedelta | None
    after: timedelta | None
    days: int


def expire_partitions(
    console: Console,
    tables: Destination,
    extractors: Extractors,
    models: Collection[str],
    retain: timedelta | None,
    dry_run: bool,
) -> None:
    """Set how long partitions are kept, and print a line for each table.

    A table of which nobody says how long is left as it is.

    Args:
        console: to print on.
        tables: where they are.
        extractors: whose settings say how long rows are kept.
        models: whose tables; none for all tables.
        retain: how long rows are kept of models that do not say.
        dry_run: only print what would be done.
    """
    assert isinstance(tables, BigQueryTables)
    names = [
        name
        for name in tables_to_maintain(tables, extractors, models)
        if name in SCHEMAS or tables.model_of(name)  # others keep tables here, too
    ]
    table = grid("table", "kept", "days dropped", numbers=2)
    for kept in _all(tables, names, keeping(names, extractors, retain), dry_run):
        before, after = _text(kept.before), _text(kept.after)
        change = before if before == after else f"{before} -> {after}"
        table.add_row(kept.table, change, f"{kept.days:,}")
    console.print(table)
    if dry_run:
        console.print("nothing was changed")


def _all(
    tables: BigQueryTables, names: list[str], keep: Mapping[str, timedelta], dry_run: bool
) -> Iterator[Kept]:
    for name in names:
        with at_work(tables.dataset.table(name)):
            table = tables.client.get_table(tables.dataset.table(name))
            before = _kept(table)
            after = keep.get(name, before)
            if after is not None and after != before and not dry_run:
                # The time of a partition is the beginning of its day.
                table.time_partitioning.expiration_ms = (after + _DAY) // timedelta(milliseconds=1)
                tables.client.update_table(table, ["time_partitioning"])
        yield Kept(name, before, after, _older(tables, name, after))


def _kept(table: bigquery.Table) -> timedelta | None:
    partitioning = table.time_partitioning
    if partitioning is None or partitioning.expiration_ms is None:
        return None
    return timedelta(milliseconds=partitioning.expiration_ms) - _DAY


def _older(tables: BigQueryTables, name: str, keep: timedelta | None) -> int:
    if keep is None:
        return 0
    limit = (datetime.now(UTC) - keep - _EPOCH) // timedelta(microseconds=1)
    return sum(day.max_time < limit for day in tables.held(name))


def _text(keep: timedelta | None) -> str:
    return "for ever" if keep is None else f"{keep / _DAY:g}d"
