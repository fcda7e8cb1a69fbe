"""Tables are created and evolved by the launcher, and refuse what they cannot hold."""

from pathlib import Path

import pyarrow as pa
import pytest

from extractors import load_extractors
from pipelines.ledger import SCHEMAS
from pipelines.store import Store
from pipelines.tables import Tables, table_of

BASE = [
    ("envelope_id", pa.string()),
    ("row_id", pa.string()),
    ("event_time", pa.timestamp("us", "UTC")),
]


def schema(**columns: pa.DataType) -> pa.Schema:
    return pa.schema([*BASE, *columns.items()])


def types(tables: Tables, name: str) -> dict[str, str]:
    return {field.name: str(field.field_type) for field in tables.load(name).schema().fields}


@pytest.fixture
def tables(tmp_path: Path) -> Tables:
    tables = Tables(tmp_path)
    tables.prepare([])
    return tables


def test_each_extractor_has_a_table_with_its_descriptions(tmp_path: Path) -> None:
    tables, extractors = Tables(tmp_path), load_extractors("extractors")
    lines = tables.prepare(extractors.values())
    assert [line for line in lines if "models." in line] == [
        f"created table {table_of(entry).name}"
        for entry in sorted(extractors.values(), key=lambda entry: entry.table)
    ]
    stored = tables.load("models.flight_delay")
    assert [field.name for field in stored.spec().fields] == ["event_day"]
    described = {field.name: field.doc for field in stored.schema().fields if field.doc}
    assert described["distance"] == "miles"
    assert stored.properties["weighbridge.model"] == "flight-delay"
    assert stored.properties["commit.retry.num-retries"] == "0"
    assert stored.location().startswith(f"file://{tmp_path}/tables/")
    assert tables.prepare(extractors.values()) == []


def test_tables_pickle_without_their_catalog(tables: Tables) -> None:
    import pickle

    again = pickle.loads(pickle.dumps(Tables(tables.home)))
    assert again.names("weighbridge") == sorted(SCHEMAS)


def test_the_store_writes_whole_files_only(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.write("a/b.json", b"1")
    store.write("a/b.json", b"22")
    (tmp_path / "a" / ".c.json.9.tmp").write_bytes(b"half")
    assert store.names("a", ".json") == ["a/b.json"]
    assert store.read("a/b.json") == b"22"
    assert store.age("a/b.json") < 60
    store.remove("a/b.json")
    store.remove("a/b.json")
    assert not store.exists("a/b.json")
    assert store.age("a/b.json") == 0.0


def test_locks_take_turns(tmp_path: Path) -> None:
    store = Store(tmp_path)
    with store.try_locked("x") as first, store.try_locked("x") as second:
        assert (first, second) == (True, False)
    with store.try_locked("x") as third:
        assert third
