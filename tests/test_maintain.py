"""Maintenance: fewer files and the same rows, whoever commits, pushes or runs again meanwhile."""

from __future__ import annotations

import json
import os
import time
from collections import Counter
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyiceberg.manifest import DataFile
from pyiceberg.table.snapshots import Operation
from support import NOW
from test_commit import NAME, held, new_tables, rows, write

from pipelines.commit import commit_files, read_ring
from pipelines.files import ORDER, ROW_GROUP, FileRef
from pipelines.maintain import compact as compacting
from pipelines.maintain import duplicates as counting
from pipelines.maintain.compact import compact, groups
from pipelines.maintain.live import LiveFile, live_files
from pipelines.maintain.sweep import sweep, sweep_unfinished
from pipelines.maintain.upkeep import Upkeep
from pipelines.outbox import Outbox
from pipelines.snapshots import Change, FilesGoneError, add_snapshot, forget_snapshots
from pipelines.store import Store
from pipelines.tables import Tables

YESTERDAY = NOW - timedelta(days=1)
MONTH = timedelta(days=30)


@pytest.fixture
def tables(tmp_path: Path) -> Tables:
    return new_tables(tmp_path)


def commit(
    tables: Tables, ids: Iterable[str], at: datetime = YESTERDAY, outbox: Outbox | None = None
) -> list[FileRef]:
    files = write(tables, rows(ids, at=at))
    commit_files(tables, NAME, files, outbox or Outbox(None))
    return files


def locations(tables: Tables) -> set[str]:
    return {file.location for file in live_files(tables.load(NAME))}


def doubled(tables: Tables) -> list[FileRef]:
    """Rows that are in the table twice, as of a writer that is not ours."""
    first = commit(tables, ["a", "b"])
    [copy] = write(new_tables(tables.home / "elsewhere"), rows(["b", "c"], at=YESTERDAY))
    change = Change(Operation.APPEND, [f"file://{copy.path}"])
    add_snapshot(tables.load(NAME), change)
    return [*first, copy]


def test_many_small_files_of_a_day_become_one_with_the_same_rows(tables: Tables) -> None:
    for number in range(10):
        commit(tables, [f"e{9 - number}"], YESTERDAY + timedelta(seconds=number))
    before = held(tables)
    done = Upkeep(tables, {}).run(NAME)
    assert (done.files_before, done.files, done.duplicates) == (10, 1, 0)
    assert held(tables) == before
    [file] = live_files(tables.load(NAME))
    table = pq.read_table(file.location.removeprefix("file://"), partitioning=None)
    assert table == table.sort_by(ORDER)
    assert table.schema.field("label").type == pa.string()
    group = pq.ParquetFile(file.location.removeprefix("file://")).metadata.row_group(0)
    assert group.num_rows <= ROW_GROUP
    snapshot = tables.load(NAME).current_snapshot()
    assert snapshot is not None and snapshot.summary is not None
    assert snapshot.summary["total-data-files"] == "1"
    assert snapshot.summary["total-records"] == "20"
    assert len(read_ring(tables.load(NAME))) == 10


def test_a_day_that_still_fills_up_waits_until_it_is_worth_it(tables: Tables) -> None:
    for number in range(compacting.FILES_OF_TODAY - 1):
        commit(tables, [f"e{number}"], NOW)
    assert Upkeep(tables, {}, lambda: NOW).run(NAME).files == compacting.FILES_OF_TODAY - 1
    commit(tables, ["last"], NOW)
    assert Upkeep(tables, {}, lambda: NOW).run(NAME).files == 1


def test_a_few_late_rows_do_not_rewrite_a_day(
    tables: Tables, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compacting, "TINY_BYTES", 1000)
    commit(tables, (f"e{number}" for number in range(30_000)))
    [large] = locations(tables)
    for number in range(3):
        commit(tables, [f"late{number}"])
    done = Upkeep(tables, {}).run(NAME)
    assert (done.files_before, done.files) == (4, 2)
    assert large in locations(tables)


def test_rows_that_are_there_twice_are_removed_and_counted(tables: Tables) -> None:
    doubled(tables)
    assert Counter(held(tables))["b:0"] == 2
    done = Upkeep(tables, {}).run(NAME)
    assert done.duplicates == 2
    assert held(tables) == ["a:0", "a:1", "b:0", "b:1", "c:0", "c:1"]
    assert sum(counting.duplicates(tables.load(NAME)).values()) == 2
    assert Upkeep(tables, {}).run(NAME).duplicates == 0
    assert sum(counting.duplicates(tables.load(NAME)).values()) == 2


def test_what_was_removed_is_counted_for_good(
    tables: Tables, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(counting, "KEPT_HOURS", 2)
    hour = int(YESTERDAY.timestamp()) // 3600
    for hours, ids in enumerate((["a", "b"], ["c"], ["d"])):
        moment = YESTERDAY - timedelta(hours=hours)
        commit(tables, ids, moment)
        [copy] = write(new_tables(tables.home / f"elsewhere{hours}"), rows(ids[:1], at=moment))
        add_snapshot(tables.load(NAME), Change(Operation.APPEND, [f"file://{copy.path}"]))
        Upkeep(tables, {}).run(NAME)
    # Of three hours two are kept; commits and what forgets snapshots leave them alone.
    commit(tables, ["e"])
    forget_snapshots(tables.load(NAME), keep=1)
    assert counting.duplicates(tables.load(NAME)) == {hour: 2, hour - 1: 2}


def test_a_file_that_is_there_as_a_whole_twice(tables: Tables) -> None:
    commit(tables, ["a", "b"])
    [only] = live_files(tables.load(NAME))
    copy = Path(only.location.removeprefix("file://")).with_name("copy.parquet")
    copy.write_bytes(Path(only.location.removeprefix("file://")).read_bytes())
    add_snapshot(tables.load(NAME), Change(Operation.APPEND, [f"file://{copy}"]))
    done = Upkeep(tables, {}).run(NAME)
    assert (done.files, done.duplicates) == (1, 4)
    assert held(tables) == ["a:0", "a:1", "b:0", "b:1"]
    assert locations(tables) == {only.location}


def test_one_id_at_two_times_is_two_envelopes(tables: Tables) -> None:
    commit(tables, ["a"], YESTERDAY)
    commit(tables, ["a"], YESTERDAY + timedelta(seconds=1))
    assert Upkeep(tables, {}).run(NAME).duplicates == 0
    assert held(tables) == ["a:0", "a:0", "a:1", "a:1"]


def test_old_input_adds_nothing_after_compaction_and_expiry(tables: Tables) -> None:
    asked = [commit(tables, [f"e{n}", f"e{n + 1}"]) for n in range(30)]
    Upkeep(tables, {}).run(NAME)
    with tables.load(NAME).transaction() as transaction:
        transaction.set_properties({"weighbridge.tokens": ""})  # as if long forgotten
    before, snapshot = held(tables), tables.load(NAME).current_snapshot()
    for files in asked:
        assert commit_files(tables, NAME, files, Outbox(None)).files == ()
    assert write(tables, rows((f"e{n}" for n in range(31)), at=YESTERDAY)) == []
    assert held(tables) == before
    assert tables.load(NAME).current_snapshot() == snapshot


def test_overlapping_files_committed_on_both_sides_of_a_compaction(tables: Tables) -> None:
    mine = write(tables, rows(["e1", "e2"], at=YESTERDAY))
    theirs = write(tables, rows(["e2", "e3"], at=YESTERDAY))
    commit_files(tables, NAME, mine, Outbox(None))
    commit(tables, ["e0"])
    assert Upkeep(tables, {}).run(NAME).files == 1
    commit_files(tables, NAME, theirs, Outbox(None))
    assert held(tables) == sorted(f"e{n}:{i}" for n in range(4) for i in (0, 1))


def test_a_commit_that_comes_first_is_kept(tables: Tables) -> None:
    for number in range(4):
        commit(tables, [f"e{number}"])
    files = live_files(tables.load(NAME))
    stale = tables.load(NAME)
    commit(tables, ["between"])
    [group] = groups(files, today=10**6)
    assert compact(tables, NAME, group, locations(tables)) is not None
    assert held(tables) == sorted(
        [*(f"e{n}:{i}" for n in range(4) for i in (0, 1)), "between:0", "between:1"]
    )
    # What was replaced once cannot be replaced again.
    assert compact(tables, NAME, group, locations(tables)) is None
    with pytest.raises(FilesGoneError):
        add_snapshot(
            tables.load(NAME), Change(Operation.DELETE, removed=[file.location for file in files])
        )
    assert stale.current_snapshot() != tables.load(NAME).current_snapshot()


def test_rows_of_older_columns_are_compacted_with_newer_ones(tables: Tables) -> None:
    commit(tables, ["old"])
    with tables.load(NAME).update_schema() as update:
        update.union_by_name(pa.schema([("more", pa.list_(pa.float64()))]))
    newer = rows(["new"], at=YESTERDAY)
    newer = newer.append_column("more", pa.array([[1.5], None], pa.list_(pa.float64())))
    commit_files(tables, NAME, write(tables, newer), Outbox(None))
    assert Upkeep(tables, {}).run(NAME).files == 1
    found = tables.load(NAME).scan().to_arrow().sort_by("row_id")
    assert found["row_id"].to_pylist() == ["new:0", "new:1", "old:0", "old:1"]
    assert found["more"].to_pylist() == [[1.5], None, None, None]


def test_days_that_are_older_than_rows_are_kept_go_as_a_whole(tables: Tables) -> None:
    noon = datetime(2026, 3, 10, 12, tzinfo=UTC)
    for days in (0, 1, 2, 3):
        commit(tables, [f"e{days}"], noon - timedelta(days=days))
    upkeep = Upkeep(tables, {NAME: timedelta(days=2)}, lambda: noon)
    planned = upkeep.run(NAME, dry_run=True)
    assert (planned.days, planned.files_before, planned.files) == (1, 4, 3)
    assert len(locations(tables)) == 4
    done = upkeep.run(NAME)
    assert (done.days, done.files) == (1, 3)
    assert held(tables) == sorted(f"e{n}:{i}" for n in range(3) for i in (0, 1))
    assert Upkeep(tables, {}, lambda: noon + timedelta(days=999)).run(NAME).days == 0


def test_manifests_are_merged_and_snapshots_forgotten(tables: Tables) -> None:
    for number in range(25):
        commit(tables, [f"e{number}"], NOW - timedelta(days=number))
    before = held(tables)
    for day in range(30, 40):  # more than commits would merge
        change = Change(Operation.APPEND, [f"file://{_alone(tables, day)}"])
        add_snapshot(tables.load(NAME), change, keep=100)
    table = tables.load(NAME)
    snapshot = table.current_snapshot()
    assert snapshot is not None
    manifests = len(snapshot.manifests(table.io))
    done = Upkeep(tables, {}).run(NAME)
    table = tables.load(NAME)
    snapshot = table.current_snapshot()
    assert snapshot is not None
    assert done.files == 35
    assert len(snapshot.manifests(table.io)) == 1 < manifests
    assert len(table.metadata.snapshots) == 20
    assert set(before) < set(held(tables))


def _alone(tables: Tables, day: int) -> str:
    [ref] = write(tables, rows([f"alone{day}"], at=NOW - timedelta(days=day)))
    return ref.path


def test_a_quiet_table_forgets_the_snapshots_of_what_it_dropped(tables: Tables) -> None:
    dropped = commit(tables, ["a"], NOW - MONTH)
    commit(tables, ["b"], NOW)
    week = timedelta(days=7)
    assert Upkeep(tables, {NAME: week}).run(NAME).days == 1
    assert len(tables.load(NAME).metadata.snapshots) == 3
    forget_snapshots(tables.load(NAME), older=timedelta(0))
    assert len(tables.load(NAME).metadata.snapshots) == 1
    marks = sweep(tables, NAME, {}).marks
    folder = str(tables.store.root.joinpath(*NAME.split("."))) + "/"
    assert dropped[0].path.removeprefix(folder) in marks
    assert held(tables) == ["b:0", "b:1"]


def age(tables: Tables, seconds: float = 1e6) -> None:
    """Make all that lies there old."""
    then = time.time() - seconds
    for path in tables.home.rglob("*"):
        if path.is_file():
            os.utime(path, (then, then))


def test_the_sweep_spares_what_is_young_named_pending_or_refused(tables: Tables) -> None:
    outbox = Outbox(tables.home)
    pending = commit(tables, ["p0"], outbox=outbox)
    commit(tables, ["p1"])
    refused, orphan, young = (write(tables, rows([name]))[0] for name in ("u", "o", "y"))
    content = {"table": NAME, "reason": "x", "files": [refused.to_json()]}
    Store(tables.home).write(f"unwritten/{NAME}/x.json", json.dumps(content).encode())
    assert Upkeep(tables, {}).run(NAME).files == 1
    age(tables)
    Path(young.path).touch()
    first = sweep(tables, NAME, {})
    assert first.files == 0  # seen for the first time
    marks = dict.fromkeys(first.marks, time.time() - 1e5)
    dry = sweep(tables, NAME, marks, dry_run=True)
    assert Path(orphan.path).exists()
    second = sweep(tables, NAME, marks)
    assert second.files == dry.files == 1
    assert not Path(orphan.path).exists()
    for ref in (*pending, refused, young):
        assert Path(ref.path).exists()
    assert held(tables) == ["p0:0", "p0:1", "p1:0", "p1:1"]
    # Delivered, its file is needed no longer.
    for entry in outbox.entries():
        outbox.remove(entry)
    forget_snapshots(tables.load(NAME), keep=1)
    third = sweep(tables, NAME, sweep(tables, NAME, {}, unnamed=1e9).marks, unnamed=0)
    assert third.files >= 1
    assert not Path(pending[0].path).exists()
    assert held(tables) == ["p0:0", "p0:1", "p1:0", "p1:1"]


def test_half_written_files_go_once_they_are_old(tables: Tables) -> None:
    left = tables.home / "push" / "pending" / ".x.json.1.tmp"
    left.parent.mkdir(parents=True)
    left.write_bytes(b"half")
    home = Store(tables.home)
    assert sweep_unfinished(home) == 0
    age(tables)
    assert sweep_unfinished(home, dry_run=True) == 1
    assert left.exists()
    assert sweep_unfinished(home) == 1
    assert not left.exists()


def test_groups_are_bounded_and_of_one_day() -> None:
    def file(number: int, size: int) -> LiveFile:
        data = DataFile.from_args(file_path=str(number), file_size_in_bytes=size)
        low = (20_000 + number % 2) * 86_400_000_000
        return LiveFile(data, 1, low, low)

    found = list(groups([file(n, 5 << 20) for n in range(20)], today=30_000))
    assert [len(group) for group in found] == [3, 3, 3, 3, 3, 3]
    for group in found:
        assert len({one.day for one in group}) == 1
        assert len(group) >= 2 and sum(one.bytes for one in group) <= compacting.GROUP_BYTES
    assert list(groups([file(0, 9 << 20), file(2, 9 << 20)], today=30_000)) == []


@settings(max_examples=12, deadline=None)
@given(
    steps=st.lists(
        st.one_of(
            st.lists(st.integers(0, 9), min_size=1, max_size=5),
            st.just("maintain"),
            st.just("again"),
        ),
        min_size=1,
        max_size=12,
    )
)
def test_any_order_of_commits_and_maintenance_holds_each_row_once(
    tmp_path_factory: pytest.TempPathFactory, steps: list[list[int] | str]
) -> None:
    tables = new_tables(tmp_path_factory.mktemp("home"))
    outbox = Outbox(tables.home)
    asked: list[list[FileRef]] = []
    wanted: set[int] = set()
    for step in steps:
        if step == "maintain":
            Upkeep(tables, {}).run(NAME)
        elif step == "again":
            for files in asked:
                commit_files(tables, NAME, files, outbox)
        else:
            assert not isinstance(step, str)
            asked.append(write(tables, rows((f"e{n}" for n in set(step)), at=YESTERDAY)))
            wanted |= set(step)
    for files in asked:
        commit_files(tables, NAME, files, outbox)
    Upkeep(tables, {}).run(NAME)
    assert held(tables) == sorted(f"e{n}:{i}" for n in wanted for i in (0, 1))
    # Whatever was compacted, what is pending can be read.
    pushed = Counter(
        id_
        for entry in outbox.entries()
        for ref in outbox.read(entry)[1]
        for id_ in pq.read_table(ref.path, partitioning=None)["row_id"].to_pylist()
    )
    assert pushed == Counter(held(tables))
