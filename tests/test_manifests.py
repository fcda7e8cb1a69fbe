"""What manifests say is read once a process, and is what they say now."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest
from pyiceberg.table import Table
from support import NOW
from test_commit import NAME, new_tables, rows, write

from pipelines import manifests
from pipelines.address import local_path
from pipelines.commit import commit_files
from pipelines.files import data_files
from pipelines.maintain.upkeep import Upkeep
from pipelines.manifests import listed, manifests_of
from pipelines.outbox import Outbox
from pipelines.tables import Tables

EVER = np.array([0, 2**62])


@pytest.fixture
def tables(tmp_path: Path) -> Tables:
    return new_tables(tmp_path)


def add(tables: Tables, id_: str, days: int = 0) -> None:
    files = write(tables, rows([id_], at=NOW - timedelta(days=days)))
    commit_files(tables, NAME, files, Outbox(None))


def found(table: Table) -> list[str]:
    return sorted(data_files(table, 0, EVER, dense=True))


def read_anew(table: Table) -> list[str]:
    listed.cache.clear()
    manifests._manifests.cache.clear()
    return found(table)


def test_metadata_is_read_once(tables: Tables) -> None:
    add(tables, "a")
    add(tables, "b")
    table = tables.load(NAME)
    before = found(table)
    assert len(before) == 2
    snapshot = table.current_snapshot()
    assert snapshot is not None
    for location in (snapshot.manifest_list, *(m.manifest_path for m in manifests_of(table))):
        Path(local_path(location)).unlink()
    assert found(table) == before
    assert found(Tables(tables.home).load(NAME)) == before
    with pytest.raises(FileNotFoundError):
        read_anew(table)


def test_what_is_kept_never_differs_from_what_is_there(tables: Tables) -> None:
    """Through commits of two writers, merged manifests and compaction."""
    other = Tables(tables.home)
    seen = set()
    for number in range(30):
        add(other if number % 3 else tables, f"e{number}", days=number % 2)
        if number % 10 == 9:
            Upkeep(other, {}).run(NAME)
        table = tables.load(NAME)
        assert (kept := found(table)) == read_anew(table)
        seen.update(kept)
    assert len(found(tables.load(NAME))) < len(seen)  # some were replaced
    assert tables.load(NAME).scan().to_arrow().num_rows == 60


def test_what_is_kept_is_counted_in_data_files(tables: Tables) -> None:
    listed.cache.clear()
    for id_ in "abc":
        add(tables, id_)
    assert len(found(tables.load(NAME))) == 3
    assert listed.cache.currsize == 3
    assert listed.cache.maxsize == manifests.KEPT
