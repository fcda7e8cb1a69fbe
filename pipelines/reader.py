"""Rows of a model as Arrow: all versions of its table, and predictions with their actuals.

For notebooks and jobs that have this distribution installed; docs/readers.md has other ways.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from pipelines.destination import Destination
from pipelines.spans import Span, between
from pipelines.tables import MODELS, Tables
from schemas import ConfigurationError
from weighbridge.wire import Kind

Home = str | Path | Destination
"""The home folder of Iceberg tables in its own catalog; or tables, wherever they are."""


def read(
    home: Home,
    model: str,
    *,
    kind: Kind = "prediction",
    columns: Sequence[str] | None = None,
    since: datetime | None = None,
    until: datetime | None = None,
) -> pa.Table:
    """Rows of a model, those of all versions of its table.

    Columns are those of the latest version, then what only earlier ones have. Values of earlier
    ones are cast; what cannot be is null. A row that is in more than one is the latest one's.

    Args:
        home: where the tables are.
        model: the model id.
        kind: "prediction" or "actual".
        columns: the columns to read, None for all.
        since: leaves out what is earlier. Aware, as is `until`.
        until: leaves out what is at this event time or later.

    Raises:
        ConfigurationError: there is no such table or column.
    """
    rows: pa.Table = stream(
        home, model, kind=kind, columns=columns, since=since, until=until
    ).read_all()
    return rows


def stream(
    home: Home,
    model: str,
    *,
    kind: Kind = "prediction",
    columns: Sequence[str] | None = None,
    since: datetime | None = None,
    until: datetime | None = None,
) -> pa.RecordBatchReader:
    """As `read`, batch by batch: for more rows than the memory holds, and for DuckDB and Polars."""
    tables = Tables(Path(home)) if isinstance(home, str | Path) else home
    versions = _versions(tables, model, kind)
    schema = _schema(tables, versions)
    if columns is not None:
        missing = [name for name in columns if name not in schema.names]
        if missing:
            raise ConfigurationError(
                f"{model} ({kind}) has no column {', '.join(missing)}; it has "
                f"{', '.join(schema.names)}"
            )
        schema = pa.schema([schema.field(name) for name in columns])
    span = between(_aware(since), _aware(until))
    return pa.RecordBatchReader.from_batches(schema, _batches(tables, versions, schema, span))


def versions_of(tables: Destination, first: str, model: str) -> list[str]:
    """Full names of the tables of a model, the latest version first.

    Args:
        tables: all tables.
        first: full name of that of version 1, which may be missing.
        model: the model id.
    """
    numbered = {}
    for name in tables.names():
        found = re.fullmatch(re.escape(first) + r"(?:_v([1-9]\d*))?", name)
        # `a_v2` may be version 2 of `a`, and the table of a model `a-v2`.
        if found and (not found[1] or tables.model_of(name) == model):
            numbered[int(found[1] or 1)] = name
    return [numbered[number] for number in sorted(numbered, reverse=True)]


def _versions(tables: Destination, model: str, kind: Kind) -> list[str]:
    first = MODELS + "." + model.replace("-", "_") + ("_actuals" if kind == "actual" else "")
    found = versions_of(tables, first, model)
    if not found:
        raise ConfigurationError(f"there is no table {first} in {tables.home}")
    return found


def _schema(tables: Destination, versions: list[str]) -> pa.Schema:
    fields: dict[str, pa.Field] = {}
    for name in versions:
        for item in tables.schema(name):
            fields.setdefault(item.name, item)
    return pa.schema(fields.values())


def in_blocks(batches: Iterable[pa.RecordBatch], rows: int) -> Iterator[pa.Table]:
    """The batches as tables of at least so many rows: to look up many ids costs as much for one."""
    held: list[pa.RecordBatch] = []
    for batch in batches:
        held.append(batch)
        if sum(each.num_rows for each in held) >= rows:
            yield pa.Table.from_batches(held)
            held = []
    if held:
        yield pa.Table.from_batches(held)


def _batches(
    tables: Destination, versions: list[str], schema: pa.Schema, span: Span
) -> Iterator[pa.RecordBatch]:
    ids = pa.array([], pa.large_string())  # of the rows so far, where there may be others
    wanted = schema
    if len(versions) > 1 and "row_id" not in schema.names:
        wanted = schema.append(pa.field("row_id", pa.string()))
    for position, name in enumerate(versions):
        seen = [ids]
        for rows in in_blocks(tables.rows(name, wanted, span), len(ids)):
            if len(ids):
                rows = rows.filter(pc.invert(pc.is_in(rows["row_id"], value_set=ids)))
            if position + 1 < len(versions):
                seen += rows["row_id"].cast(pa.large_string()).chunks
            yield from rows.select(schema.names).to_batches()
        ids = pa.concat_arrays(seen)


def _aware(moment: datetime | None) -> datetime | None:
    if moment is not None and moment.tzinfo is None:
        raise ConfigurationError(
            f"{moment} has no time zone; write e.g. {moment.replace(tzinfo=UTC)!r}"
        )
    return moment
