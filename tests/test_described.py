"""What manifests say of data files is what PyIceberg says, however often a kind was seen."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyiceberg.io.pyarrow import parquet_file_to_data_file
from pyiceberg.manifest import DataFile
from pyiceberg.table import Table
from support import NOW

from pipelines import described
from pipelines.address import location_of
from pipelines.described import describe
from pipelines.files import write_files
from pipelines.tables import Tables
from schemas.arrow import TIME

NAME = "models.things"
SCHEMA = pa.schema(
    [
        ("envelope_id", pa.string()),
        ("row_id", pa.string()),
        ("event_time", TIME),
        ("score", pa.float64()),
        ("count", pa.int64()),
        ("tags", pa.list_(pa.string())),
        ("place", pa.struct([("x", pa.int32()), ("name", pa.string())])),
        ("sums", pa.map_(pa.string(), pa.int64())),
    ]
)


def files(table: Table, count: int, schema: pa.Schema = SCHEMA) -> list[str]:
    """Locations of so many files, each of two envelopes and a day of its own."""
    found = [
        {
            "envelope_id": f"e{n}",
            "row_id": f"e{n}:0",
            "event_time": NOW - timedelta(days=n // 2),
            "score": [0.5, float("nan"), None][n % 3],
            "count": 2**40 - n,
            "tags": ["long" * 20, None][: n % 3],
            "place": None if n % 2 else {"x": n, "name": "here"},
            "sums": [("a", n)],
        }
        for n in range(2 * count)
    ]
    refs = write_files(table, pa.Table.from_pylist(found, schema=schema)).files
    return [location_of(ref.path) for ref in refs]


@pytest.fixture
def tables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Tables:
    monkeypatch.setattr(described, "_fitting", {})
    tables = Tables(tmp_path)
    tables.prepare([])
    tables._prepare(NAME, SCHEMA)
    return tables


def parts(file: DataFile) -> list[Any]:
    """All that an entry says; entries themselves are equal where their paths are."""
    return [file[position] for position in range(len(file))]


def as_of_pyiceberg(table: Table, location: str) -> list[Any]:
    """The same, as PyIceberg has it."""
    return parts(parquet_file_to_data_file(table.io, table.metadata, location))


def test_each_file_is_described_as_pyiceberg_does(tables: Tables) -> None:
    table = tables.load(NAME)
    locations = files(table, 3)
    assert len(locations) == 3
    for location in [*locations, locations[0]]:
        assert parts(describe(table, location)) == as_of_pyiceberg(table, location)


def test_the_settings_of_a_table_count(tables: Tables) -> None:
    table = tables.load(NAME)
    (location,) = files(table, 1)
    before = parts(describe(table, location))
    with table.transaction() as transaction:
        transaction.set_properties({"write.metadata.metrics.column.row_id": "counts"})
    assert parts(describe(table, location)) == as_of_pyiceberg(table, location) != before


def test_a_file_that_does_not_fit_is_refused_after_one_that_does(tables: Tables) -> None:
    table = tables.load(NAME)
    (location,) = files(table, 1)
    describe(table, location)
    (wider,) = files(table, 1, SCHEMA.append(pa.field("more", pa.int64())))
    (other,) = files(table, 1, SCHEMA.set(4, pa.field("count", pa.float64())))
    for refused in (wider, other, wider):
        with pytest.raises(ValueError):
            describe(table, refused)


def test_columns_that_a_table_gets_are_known(tables: Tables) -> None:
    table = tables.load(NAME)
    (location,) = files(table, 1)
    describe(table, location)
    more = SCHEMA.append(pa.field("more", pa.int64()))
    with table.update_schema() as update:
        update.union_by_name(more)
    for found in (location, *files(table, 2, more)):
        assert parts(describe(table, found)) == as_of_pyiceberg(table, found)


def test_no_more_kinds_are_kept_than_fit(tables: Tables, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(described, "KEPT", 1)
    table = tables.load(NAME)
    more = SCHEMA.append(pa.field("more", pa.int64()))
    (old,) = files(table, 1)
    with table.update_schema() as update:
        update.union_by_name(more)
    (new,) = files(table, 1, more)
    for location in (old, new, old, old, new):
        assert parts(describe(table, location)) == as_of_pyiceberg(table, location)
        assert len(described._fitting) == 1
