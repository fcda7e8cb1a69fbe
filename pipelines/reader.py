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
from pyiceberg.expressions import AlwaysTrue, BooleanExpression
from pyiceberg.io.pyarrow import schema_to_pyarrow
from pyiceberg.table import Table

from pipelines.conform import conformed
from pipelines.tables import MODEL, MODELS, Tables
from schemas import ConfigurationError
from weighbridge.wire import Kind

Home = str | Path | Tables
"""The home folder, or its tables."""


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
    versions = _versions(home if isinstance(home, Tables) else Tables(Path(home)), model, kind)
    schema = _schema(versions)
    if columns is not None:
        missing = [name for name in columns if name not in schema.names]
        if missing:
            raise ConfigurationError(
                f"{model} ({kind}) has no column {', '.join(missing)}; it has "
                f"{', '.join(schema.names)}"
            )
        schema = pa.schema([schema.field(name) for name in columns])
    return pa.RecordBatchReader.from_batches(
        schema, _batches(versions, schema, _between(since, until))
    )


def versions_of(tables: Tables, first: str, model: str) -> list[Table]:
    """The tables of a model, the latest version first.

    Args:
        tables: all tables.
        first: full name of that of version 1, which may be missing.
        model: the model id.
    """
    numbered = {}
    for name in tables.names():
        found = re.fullmatch(re.escape(first) + r"(?:_v([1-9]\d*))?", name)
        if found:
            table = tables.load(name)
            # `a_v2` may be version 2 of `a`, and the table of a model `a-v2`.
            if not found[1] or table.properties.get(MODEL) == model:
                numbered[int(found[1] or 1)] = table
    return [numbered[number] for number in sorted(numbered, reverse=True)]


def _versions(tables: Tables, model: str, kind: Kind) -> list[Table]:
    first = MODELS + "." + model.replace("-", "_") + ("_actuals" if kind == "actual" else "")
    found = versions_of(tables, first, model)
    if not found:
        raise ConfigurationError(f"there is no table {first} in {tables.home}")
    return found


def _schema(versions: list[Table]) -> pa.Schema:
    fields: dict[str, pa.Field] = {}
    for table in versions:
        for item in schema_to_pyarrow(table.schema(), include_field_ids=False):
            fields.setdefault(item.name, item.with_nullable(True).remove_metadata())
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
    versions: list[Table], schema: pa.Schema, between: str | BooleanExpression
) -> Iterator[pa.RecordBatch]:
    ids = pa.array([], pa.large_string())  # of the rows so far, where there may be others
    for position, table in enumerate(versions):
        has = {item.name for item in table.schema().fields}
        wanted = [name for name in schema.names if name in has]
        more = ["row_id"] if len(versions) > 1 and "row_id" not in wanted else []
        batches = table.scan(between, selected_fields=(*wanted, *more)).to_arrow_batch_reader()
        seen = [ids]
        for rows in in_blocks(batches, len(ids)):
            if len(ids):
                rows = rows.filter(pc.invert(pc.is_in(rows["row_id"], value_set=ids)))
            if position + 1 < len(versions):
                seen += rows["row_id"].cast(pa.large_string()).chunks
            yield from conformed(rows, schema).to_batches()
        ids = pa.concat_arrays(seen)


def _between(since: datetime | None, until: datetime | None) -> str | BooleanExpression:
    bounds = [(">=", since), ("<", until)]
    parts = [f"event_time {sign} '{_text(moment)}'" for sign, moment in bounds if moment]
    return " and ".join(parts) or AlwaysTrue()


def _text(moment: datetime) -> str:
    if moment.tzinfo is None:
        raise ConfigurationError(
            f"{moment} has no time zone; write e.g. {moment.replace(tzinfo=UTC)!r}"
        )
    return moment.astimezone(UTC).isoformat()
