"""Rows on their way through a grouping: small elements, whole envelopes, the earliest time."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from apache_beam.internal import pickler
from apache_beam.transforms.window import GlobalWindow
from support import NOW, micros

from pipelines import shuffle
from pipelines.committer import CommitFiles
from pipelines.files import FileRef
from pipelines.outbox import Outbox
from pipelines.shuffle import ShuffleRows, _WriteFilesFn
from pipelines.tables import RowTable, Tables
from pipelines.unwritten import commit_or_keep
from schemas.arrow import TIME

TABLE = RowTable("models.things")
SCHEMA = pa.schema(
    [
        ("envelope_id", pa.string()),
        ("row_id", pa.string()),
        ("event_time", TIME),
        ("ingest_time", TIME),
        ("text", pa.string()),
    ]
)


@pytest.fixture
def tables(tmp_path: Path) -> Tables:
    tables = Tables(tmp_path)
    tables.prepare([])
    tables._prepare(TABLE.name, SCHEMA)
    return tables


def batch(ids: Iterable[str], minutes_ago: int = 0, size: int = 1) -> pa.RecordBatch:
    published = NOW - timedelta(minutes=minutes_ago)
    return pa.RecordBatch.from_pylist(
        [
            {
                "envelope_id": id_,
                "row_id": f"{id_}:{row}",
                "event_time": NOW,
                "ingest_time": published,
                "text": "x" * size,
            }
            for id_ in ids
            for row in (0, 1, 2)
        ],
        schema=SCHEMA,
    )


def elements(*batches: pa.RecordBatch) -> list[Any]:
    return list(ShuffleRows()(TABLE, list(batches)))


def held(element: Any) -> pa.Table:
    return pa.ipc.open_stream(element.value[1]).read_all()


def test_an_element_has_the_earliest_publish_time_and_no_window() -> None:
    [element] = elements(batch(["a"], 3), batch(["b"], 7), batch(["c"], 5))
    assert element.timestamp.micros == micros(NOW - timedelta(minutes=7))
    assert list(element.windows) == [GlobalWindow()]
    assert element.value[0] == (TABLE.name, 0)
    assert held(element)["envelope_id"].to_pylist() == [id_ for id_ in "abc" for _ in range(3)]


def test_elements_are_small_and_hold_whole_envelopes() -> None:
    ids = [f"e{number}" for number in range(20)]
    found = elements(batch(ids, size=500_000), batch(["late"], 9))
    assert max(len(element.value[1]) for element in found) < 5 << 20
    assert min(element.timestamp.micros for element in found) == micros(NOW - timedelta(minutes=9))
    parts = [set(held(element)["envelope_id"].to_pylist()) for element in found]
    assert sum(held(element).num_rows for element in found) == 63
    assert sum(map(len, parts)) == len(set().union(*parts)) == 21
    assert len({element.value[0] for element in found}) > 1


def test_rows_of_two_versions_of_a_row_class_meet_in_a_group(tables: Tables) -> None:
    older = batch(["a"]).drop_columns(["text"])
    [[key, one], [_, two]] = [
        e.value for part in (older, batch(["a", "b"])) for e in elements(part)
    ]
    write = _WriteFilesFn(tables, frozenset())
    files = [FileRef.from_json(ref) for _, ref in write.process((key, [one, two, one]))]
    assert len(files) == 2
    assert commit_or_keep(tables, TABLE.name, files, Outbox(None)) is not None
    found = tables.load(TABLE.name).scan().to_arrow()["row_id"].to_pylist()
    assert sorted(found) == [f"{id_}:{row}" for id_ in "ab" for row in (0, 1, 2)]


def test_a_large_group_is_written_in_parts(tables: Tables, monkeypatch: pytest.MonkeyPatch) -> None:
    parts = [e.value for ids in ("ab", "bc", "cd") for e in elements(batch(ids, size=10_000))]
    monkeypatch.setattr(shuffle, "MAX_TABLE_BYTES", 2 * len(parts[0][1]) + 100)
    write = _WriteFilesFn(tables, frozenset())
    files = [
        FileRef.from_json(ref) for _, ref in write.process((parts[0][0], [p[1] for p in parts]))
    ]
    assert [ref.rows for ref in files] == [9, 6]
    done = commit_or_keep(tables, TABLE.name, files, Outbox(None))
    assert done is not None
    assert sum(ref.rows for ref in done.files) == 12


def test_an_empty_pane_writes_nothing(tables: Tables) -> None:
    assert list(_WriteFilesFn(tables, frozenset()).process(((TABLE.name, 0), []))) == []


def test_files_of_a_table_that_is_pushed_are_small(
    tables: Tables, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipelines.write.MAX_PUSHED_ROWS", 6)
    [element] = elements(batch("abcd"))
    group = (element.value[0], [element.value[1]])
    for pushed, count in ((frozenset([TABLE.name]), 2), (frozenset[str](), 1)):
        assert len(list(_WriteFilesFn(tables, pushed).process(group))) == count


def test_a_commit_that_a_runner_repeats_hands_on_its_table_again(tables: Tables) -> None:
    [element] = elements(batch("ab"))
    write = pickler.loads(pickler.dumps(_WriteFilesFn(Tables(tables.home), frozenset())))
    files = [ref for _, ref in write.process((element.value[0], [element.value[1]]))]
    commit = CommitFiles(Tables(tables.home), {}, commit_or_keep)._fn
    commit = pickler.loads(pickler.dumps(commit))
    for _ in range(2):
        assert list(commit.process((TABLE.name, files))) == [TABLE.name]
    assert len(tables.load(TABLE.name).history()) == 1
    assert tables.load(TABLE.name).scan().to_arrow().num_rows == 6


def test_one_shard_for_little_traffic_and_several_for_much() -> None:
    little = {e.value[0] for name in "abcdefgh" for e in elements(batch([name]))}
    much = {e.value[0] for name in "abcdefgh" for e in elements(batch([name], size=500_000))}
    assert little == {(TABLE.name, 0)}
    assert 1 < len(much) <= shuffle.SHARDS
