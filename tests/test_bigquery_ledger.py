"""The ledger over tables in BigQuery says what it says over Iceberg tables."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from conftest import GoogleEmulators
from google_emulators import InBigQuery
from support import NOW, Home, environment, heartbeat, micros, packed, plain, scored
from test_docs import blocks
from test_ledger import NOTHING, captured, counted

from pipelines.bigquery.rows import days_of, with_maps
from pipelines.bigquery.tables import BigQueryTables
from pipelines.cli import _main
from pipelines.ledger import HEARTBEATS, HEARTBEATS_SCHEMA
from pipelines.spans import Span

PAGE = Path(__file__).parents[1] / "docs/ledger.md"


@pytest.fixture
def home(tmp_path: Path, google: GoogleEmulators) -> InBigQuery:
    return InBigQuery(tmp_path, google, "strict")


@pytest.fixture
def tables(home: InBigQuery) -> Iterator[BigQueryTables]:
    with home.tables() as tables:
        yield tables


def asked(home: InBigQuery, capsys: pytest.CaptureFixture[str], *more: str) -> tuple[int, str]:
    capsys.readouterr()
    with environment(**home.google.environment):
        package = ["--extractors_package", home.package]
        code = _main(["ledger", *home.place(), *package, "--grace", "0s", *more])
    return code, capsys.readouterr().out


def told(text: str) -> dict[str, Any]:
    """The answer without what depends on the process or the storage."""
    found: dict[str, Any] = json.loads(text)
    for cost in found["costs"].values():
        del cost["cpu_us"], cost["bytes"]
    for fresh in found["freshness"].values():
        del fresh["to_commit"]
    return found


@pytest.mark.slow
def test_it_is_that_of_iceberg_tables(
    tmp_path: Path, home: InBigQuery, capsys: pytest.CaptureFixture[str]
) -> None:
    captured(home)
    beside = Home(tmp_path / "iceberg", "strict")
    beside.input = home.input
    home.run()
    home.put(plain("scores", scored(0.5), message_id="late", envelope_id="upload-1"), name="more")
    home.run()  # all of it in other lists of files: what was there is there twice
    beside.run()
    assert len(home.row_ids("scores")) > len(home.row_ids("scores_latest")) == 6
    code, text = asked(home, capsys, "--json")
    capsys.readouterr()
    place = ["--home", str(beside.folder), "--extractors_package", beside.package]
    assert _main(["ledger", *place, "--json", "--grace", "0s"]) == code == 0
    ours, theirs = told(text), told(capsys.readouterr().out)
    ours["costs"], theirs["costs"] = ours["costs"][""]["rows"], theirs["costs"][""]["rows"]
    assert ours == theirs
    assert sum(line.get("committed", 0) for line in ours["lines"]) == 5
    assert asked(home, capsys, "--check") == (0, "balances: 1 publisher, 12 envelopes served\n")
    assert "scores" in asked(home, capsys)[1]


def test_what_is_missing_is_named(home: InBigQuery, capsys: pytest.CaptureFixture[str]) -> None:
    home.put(
        packed("scores", [scored(0.5, prefix=f"a{n}") for n in range(3)]),
        heartbeat("pub", [counted("scores", 5)], sequence=5),
    )
    home.run()
    code, text = asked(home, capsys, "--check")
    assert code == 3
    assert "publisher pub: served 5, 2 missing (2 of scores): sequence 3-4;" in text
    assert asked(home, capsys, "--check", "--grace", "1h")[0] == 0


def test_a_dataset_that_is_not_there_is_named(
    home: InBigQuery, capsys: pytest.CaptureFixture[str]
) -> None:
    with environment(**home.google.environment):
        place = home.place()
        place[place.index("--dataset") + 1] = "test-project.nowhere"
        assert _main(["ledger", *place]) == 2
    assert "bq mk --dataset test-project:nowhere" in capsys.readouterr().err


def test_columns_and_times_are_those_asked_for(home: InBigQuery, tables: BigQueryTables) -> None:
    counts = {**NOTHING, "dropped": {"queue_full": 2}}
    days = (0, 1, 2, 40)
    home.put(
        *(
            heartbeat(f"p{day}", [counted("scores", 5, **counts)], sequence=5, time=time)
            for day in days
            for time in [micros(NOW - timedelta(days=day))]
        )
    )
    home.run()
    schema = HEARTBEATS_SCHEMA.append(pa.field("new", pa.float64()))
    found = pa.Table.from_batches(tables.rows(HEARTBEATS, schema), schema).to_pylist()
    assert sorted(row["publisher_id"] for row in found) == ["p0", "p1", "p2", "p40"]
    assert {(tuple(row["dropped"]), row["new"]) for row in found} == {((("queue_full", 2),), None)}

    def ids(*spans: Span) -> list[str]:
        one = pa.schema([("publisher_id", pa.string())])
        batches = tables.rows(HEARTBEATS, one, *spans)
        return sorted(pa.Table.from_batches(batches, one)["publisher_id"].to_pylist())

    now, day = micros(NOW), 86_400_000_000
    assert ids(Span("event_time", now - 2 * day, now)) == ["p1", "p2"]
    assert ids(Span("event_time", now), Span("event_time", None, now - 3 * day)) == ["p0", "p40"]
    assert ids(Span("ingest_time", now)) == ["p0", "p1", "p2", "p40"]
    assert ids(Span("ingest_time", now + 1)) == []
    assert ids(Span("ingest_time", now + day)) == []  # no partition was changed since
    assert list(tables.rows("weighbridge.none", schema)) == []


def test_partitions_that_follow_each_other_are_one_span() -> None:
    day = 86_400_000_000
    assert days_of(["19700103", "19700101", "19700102", "19700105"]) == [
        Span("event_time", 0, 3 * day),
        Span("event_time", 4 * day, 5 * day),
    ]


def test_lists_of_pairs_become_maps() -> None:
    kind = pa.map_(pa.string(), pa.int64())
    pairs = pa.list_(pa.struct([("key", pa.string()), ("value", pa.int64())]))
    values = [[("a", 1)], [], [("b", 2), ("c", None)], [("d", 4)]]
    lists = pa.array([[{"key": k, "value": v} for k, v in each] for each in values], pairs)
    rows = pa.table({"m": pa.chunked_array([lists.slice(1), lists.slice(0, 0)])})
    assert with_maps(rows, pa.schema([("m", kind)]))["m"].to_pylist() == values[1:]


def test_the_query_of_the_page_finds_what_is_missing(home: InBigQuery) -> None:
    captured(home)
    home.put(
        packed("scores", [scored(0.5, prefix=f"a{n}") for n in range(3)]),
        heartbeat("pub", [counted("scores", 5)], sequence=5),
        name="lost",
    )
    home.run()
    [statement] = [block.text for block in blocks(PAGE) if block.language == "sql"]
    statement = statement.replace("shop.", f"{home.dataset.partition('.')[2]}.")
    statement = statement.replace("payment_fraud_actuals", "scores")
    statement = statement.replace("payment_fraud", "scores")
    [row] = map(dict, home.google.client.query(statement).result())
    assert row == {
        "publisher_id": "pub",
        "served": 5,
        "sampled_out": 0,
        "dropped": 0,
        "found": 3,
        "missing": 2,
    }
