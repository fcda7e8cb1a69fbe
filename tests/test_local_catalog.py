"""The catalog of a home folder: nothing that others do to a table is missed."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pyarrow as pa
import pytest
from pyiceberg.exceptions import CommitFailedException, NoSuchTableError
from pyiceberg.table.update import AssertRefSnapshotId, SetPropertiesUpdate
from sqlalchemy import Engine, event

from pipelines import local_catalog
from pipelines.tables import Tables

NAME = "models.a"
ROWS = pa.table({"x": [1, 2]})


def _catalogs(home: Path) -> tuple[Tables, Tables]:
    ours, theirs = Tables(home), Tables(home)
    ours.catalog.create_namespace("models")
    ours.catalog.create_table(NAME, ROWS.schema)
    return ours, theirs


@pytest.mark.parametrize("made", ["iceberg_tables", "iceberg_namespace_properties"])
def test_two_first_runs_at_once_make_one_catalog(tmp_path: Path, made: str) -> None:
    """What another process makes between our look and our making is no fault."""
    met = []

    def make_it_first(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        if statement.strip().startswith(f"CREATE TABLE {made} ") and not met:
            met.append(statement)
            with closing(sqlite3.connect(tmp_path / "tables" / "catalog.db")) as other:
                other.execute(statement)

    event.listen(Engine, "before_cursor_execute", make_it_first)
    try:
        Tables(tmp_path).prepare([])
    finally:
        event.remove(Engine, "before_cursor_execute", make_it_first)
    assert met
    assert "weighbridge.deliveries" in Tables(tmp_path).names("weighbridge")


def test_what_another_process_commits_is_seen(tmp_path: Path) -> None:
    ours, theirs = _catalogs(tmp_path)
    assert ours.load(NAME).current_snapshot() is None
    theirs.load(NAME).append(ROWS)
    assert ours.load(NAME).scan().to_arrow().num_rows == 2
    ours.load(NAME).append(ROWS)
    assert theirs.load(NAME).scan().to_arrow().num_rows == 4
    assert ours.load(NAME).metadata == theirs.load(NAME).metadata


def test_metadata_kept_from_a_commit_is_what_was_written(tmp_path: Path) -> None:
    ours, _ = _catalogs(tmp_path)
    ours.load(NAME).append(ROWS)
    assert ours.load(NAME).metadata is ours.load(NAME).metadata  # not read again
    assert ours.load(NAME).metadata == Tables(tmp_path).load(NAME).metadata


def test_a_commit_on_a_stale_table_is_refused(tmp_path: Path) -> None:
    ours, theirs = _catalogs(tmp_path)
    stale = ours.load(NAME)
    theirs.load(NAME).append(ROWS)
    empty = AssertRefSnapshotId(ref="main", snapshot_id=None)
    with pytest.raises(CommitFailedException):
        ours.catalog.commit_table(stale, (empty,), (SetPropertiesUpdate(updates={"a": "b"}),))
    assert ours.load(NAME).scan().to_arrow().num_rows == 2


def test_a_table_that_is_gone_or_made_anew_is_not_remembered(tmp_path: Path) -> None:
    ours, theirs = _catalogs(tmp_path)
    old = ours.load(NAME).metadata.table_uuid
    theirs.catalog.drop_table(NAME)
    with pytest.raises(NoSuchTableError):
        ours.load(NAME)
    theirs.catalog.create_table(NAME, pa.schema([("y", pa.int64())]))
    assert ours.load(NAME).metadata.table_uuid != old
    assert ours.load(NAME).schema().column_names == ["y"]


def test_a_table_handed_out_is_not_changed_by_another(tmp_path: Path) -> None:
    ours, _ = _catalogs(tmp_path)
    one, other = ours.load(NAME), ours.load(NAME)
    one.append(ROWS)
    assert other.current_snapshot() is None
    assert other.refresh().current_snapshot() == one.current_snapshot()


def test_no_more_is_kept_than_fits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local_catalog, "KEPT", 1)
    ours, theirs = _catalogs(tmp_path)
    ours.catalog.create_table("models.b", ROWS.schema)
    for _ in range(2):
        theirs.load("models.b").append(ROWS)
        assert ours.load(NAME).current_snapshot() is None
        assert ours.load("models.b").metadata == theirs.load("models.b").metadata


def test_a_type_of_catalog_in_the_environment_is_that_of_a_catalog_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYICEBERG_CATALOG__WEIGHBRIDGE__TYPE", "rest")
    assert isinstance(Tables(tmp_path).catalog, local_catalog.LocalCatalog)
