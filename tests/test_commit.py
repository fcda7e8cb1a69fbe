"""Files, commits and the ring: once, whoever repeats what, and in whatever order."""

from __future__ import annotations

import json
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support import NOW

from pipelines import commit as commits
from pipelines import snapshots
from pipelines.commit import RING, commit_files, read_ring
from pipelines.files import FileRef, write_files
from pipelines.outbox import Outbox
from pipelines.snapshots import forget_snapshots
from pipelines.tables import Tables
from schemas.arrow import TIME

NAME = "models.things"
SCHEMA = pa.schema(
    [
        ("envelope_id", pa.string()),
        ("row_id", pa.string()),
        ("event_time", TIME),
        ("label", pa.string()),
    ]
)


@pytest.fixture
def tables(tmp_path: Path) -> Tables:
    return new_tables(tmp_path)


def new_tables(home: Path) -> Tables:
    tables = Tables(home)
    tables.prepare([])
    tables._prepare(NAME, SCHEMA)
    return tables


def rows(ids: Iterable[str], per_envelope: int = 2, at: datetime = NOW) -> pa.Table:
    return pa.Table.from_pylist(
        [
            {"envelope_id": id_, "row_id": f"{id_}:{i}", "event_time": at, "label": f"l{i}"}
            for id_ in ids
            for i in range(per_envelope)
        ],
        schema=SCHEMA,
    )


def write(tables: Tables, table: pa.Table, **limits: int) -> list[FileRef]:
    return write_files(tables.load(NAME), table, **limits).files


def held(tables: Tables) -> list[str]:
    return sorted(tables.load(NAME).scan().to_arrow()["row_id"].to_pylist())


def test_the_same_files_are_committed_once(tables: Tables, tmp_path: Path) -> None:
    outbox = Outbox(tmp_path)
    files = write(tables, rows(["a", "b"]))
    first = commit_files(tables, NAME, files, outbox)
    again = commit_files(tables, NAME, reversed(files), outbox)
    assert (first.token, first.entry) == (again.token, again.entry)
    assert again.files == ()
    assert held(tables) == ["a:0", "a:1", "b:0", "b:1"]
    assert outbox.entries() == {first.entry}


def test_columns_with_others_within_may_stand_before_the_time(tmp_path: Path) -> None:
    """Parquet numbers those within, too."""
    tables = Tables(tmp_path)
    tables.prepare([])
    scores = pa.array([[{"class_name": "a", "score": 1.0}]] * 2)
    columns = {"scores": scores, **{name: rows(["a"])[name] for name in SCHEMA.names}}
    nested = pa.table(columns)
    tables._prepare(NAME, nested.schema)
    commit_files(tables, NAME, write(tables, nested), Outbox(None))
    assert write(tables, nested) == []


def test_known_envelopes_are_left_out_when_files_are_written(tables: Tables) -> None:
    commit_files(tables, NAME, write(tables, rows(["a", "b"])), Outbox(None))
    written = write_files(tables.load(NAME), rows(["b", "c", "a"]))
    assert written.known == 2
    assert [ref.rows for ref in written.files] == [2]
    commit_files(tables, NAME, written.files, Outbox(None))
    assert held(tables) == ["a:0", "a:1", "b:0", "b:1", "c:0", "c:1"]


def test_files_that_overlap_by_the_time_of_their_commit_are_written_anew(
    tables: Tables, tmp_path: Path
) -> None:
    outbox = Outbox(tmp_path)
    mine = write(tables, rows(["a", "b"]))
    commit_files(tables, NAME, write(tables, rows(["b", "c"])), Outbox(None))
    done = commit_files(tables, NAME, mine, outbox)
    assert done.entry.partition(".")[0] == done.token != done.entry
    assert held(tables) == ["a:0", "a:1", "b:0", "b:1", "c:0", "c:1"]
    # The list that was asked for is the one a retry repeats.
    assert commit_files(tables, NAME, mine, outbox).files == ()
    assert outbox.entries() == {done.entry}


def test_two_files_of_one_commit_that_share_an_envelope(tables: Tables) -> None:
    files = [*write(tables, rows(["a", "b"])), *write(tables, rows(["b", "c"]))]
    commit_files(tables, NAME, files, Outbox(None))
    assert held(tables) == ["a:0", "a:1", "b:0", "b:1", "c:0", "c:1"]


def test_a_list_without_anything_new_commits_nothing(tables: Tables, tmp_path: Path) -> None:
    outbox = Outbox(tmp_path)
    mine = write(tables, rows(["a"]))
    commit_files(tables, NAME, write(tables, rows(["a", "b"])), Outbox(None))
    snapshot = tables.load(NAME).current_snapshot()
    done = commit_files(tables, NAME, mine, outbox)
    assert (done.entry, done.files, outbox.entries()) == ("", (), set())
    assert tables.load(NAME).current_snapshot() == snapshot


def test_expiry_keeps_tokens_and_rows(tables: Tables, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(snapshots.add_snapshot, "__defaults__", (3,))
    files = []
    for number in range(9):
        files.append(write(tables, rows([f"e{number}"])))
        commit_files(tables, NAME, files[-1], Outbox(None))
    table = tables.load(NAME)
    assert len(table.metadata.snapshots) == 3
    assert len(read_ring(table)) == 9
    assert commit_files(tables, NAME, files[0], Outbox(None)).files == ()
    assert held(tables) == sorted(f"e{n}:{i}" for n in range(9) for i in (0, 1))
    assert forget_snapshots(table, keep=10) == 0
    assert forget_snapshots(table, keep=2) == 1
    assert held(tables) == sorted(f"e{n}:{i}" for n in range(9) for i in (0, 1))


def test_the_ring_forgets_no_token_that_is_undelivered(tables: Tables, tmp_path: Path) -> None:
    outbox = Outbox(tmp_path)
    entries = [
        commit_files(tables, NAME, write(tables, rows([f"e{n}"])), outbox, ring_length=2).entry
        for n in range(5)
    ]
    assert read_ring(tables.load(NAME)) == entries
    for entry in entries:
        outbox.remove(entry)
    last = commit_files(tables, NAME, write(tables, rows(["x"])), outbox, ring_length=2)
    assert read_ring(tables.load(NAME)) == [entries[-1], last.entry]


def test_a_token_that_was_forgotten_is_caught_by_its_envelopes(tables: Tables) -> None:
    files = write(tables, rows(["a"]))
    commit_files(tables, NAME, files, Outbox(None))
    with tables.load(NAME).transaction() as transaction:
        transaction.set_properties({RING: ""})
    assert commit_files(tables, NAME, files, Outbox(None)).files == ()
    assert held(tables) == ["a:0", "a:1"]


def test_an_entry_that_vanished_while_its_writer_slept_is_put_again(
    tables: Tables, tmp_path: Path
) -> None:
    class Cleaned(Outbox):
        """Another process takes the entry for one of a failed commit, once."""

        puts = 0

        def put(self, commit: commits.Commit) -> None:
            self.puts += 1
            if self.puts > 1:
                super().put(commit)

    outbox = Cleaned(tmp_path)
    done = commit_files(tables, NAME, write(tables, rows(["a"])), outbox)
    assert outbox.puts == 2
    assert outbox.entries() == {done.entry}


def test_files_split_by_day_and_size_but_never_within_an_envelope(tables: Tables) -> None:
    days = [datetime(2026, 3, day, tzinfo=UTC) for day in (1, 2, 9)]
    # Ids that contain each other: sorted by row id alone they would interleave.
    parts = [rows(["a", "a:0", "a:1", "b"], 3, day) for day in days]
    for number, part in enumerate(parts):
        ids = pa.array([f"{number}{id_.as_py()}" for id_ in part["envelope_id"]])
        parts[number] = part.set_column(0, SCHEMA.field(0), ids)
    files = write(tables, pa.concat_tables(parts), max_rows=4)
    assert sum(ref.rows for ref in files) == 36
    assert {Path(ref.path).parent.name for ref in files} == {
        f"event_day={day:%Y-%m-%d}" for day in days
    }
    commit_files(tables, NAME, files, Outbox(None))
    seen: set[str] = set()
    for ref in files:
        ids = set(pa.parquet.read_table(ref.path, partitioning=None)["envelope_id"].to_pylist())
        assert not ids & seen
        seen |= ids
    assert len(held(tables)) == 36


def test_a_file_reference_survives_its_journey() -> None:
    ref = FileRef("/x/y.parquet", 3, -5, 7, 2)
    assert FileRef.from_json(ref.to_json()) == ref
    assert json.loads(ref.to_json()) == ["/x/y.parquet", 3, -5, 7, 2]


def test_the_same_rows_give_the_same_file(tables: Tables) -> None:
    one = write(tables, rows(["a", "b"]))
    two = write(tables, rows(["b", "a"]))
    assert one == two
    assert one != write(tables, rows(["a", "c"]))


@settings(max_examples=15, deadline=None)
@given(
    batches=st.lists(st.lists(st.integers(0, 12), min_size=1, max_size=8), min_size=1, max_size=6),
    late=st.sets(st.integers(0, 12)),
)
def test_any_batches_in_any_order_hold_each_row_once(
    tmp_path_factory: pytest.TempPathFactory, batches: list[list[int]], late: set[int]
) -> None:
    tables = new_tables(tmp_path_factory.mktemp("home"))
    asked = []
    for batch in batches:
        part = pa.concat_tables(
            [rows([f"e{n}"], at=NOW - timedelta(days=3) if n in late else NOW) for n in batch]
        )
        asked.append(write(tables, part))
        if len(asked) % 2 == 0:
            for files in asked:
                commit_files(tables, NAME, files, Outbox(None))
    for files in asked:
        commit_files(tables, NAME, files, Outbox(None))
    wanted = {n for batch in batches for n in batch}
    assert held(tables) == sorted(f"e{n}:{i}" for n in wanted for i in (0, 1))


def test_tables_that_are_committed_side_by_side_lose_nothing(tables: Tables) -> None:
    names = [f"models.t{number}" for number in range(12)]
    for name in names:
        tables._prepare(name, SCHEMA)
    ids = {name: [f"{name[7:]}e{number}" for number in range(3)] for name in names}

    def commit(name: str) -> None:
        for id_ in ids[name]:
            files = write_files(tables.load(name), rows([id_])).files
            commit_files(tables, name, files, Outbox(tables.home))

    assert tables.at_once > 1
    with ThreadPoolExecutor(tables.at_once) as pool:
        list(pool.map(commit, names))
    entries = Outbox(tables.home).entries()
    for name in names:
        table = Tables(tables.home).load(name)
        found = table.scan().to_arrow()["row_id"].to_pylist()
        assert sorted(found) == [f"{id_}:{i}" for id_ in ids[name] for i in (0, 1)]
        assert len(read_ring(table)) == 3
        assert entries.issuperset(read_ring(table))
