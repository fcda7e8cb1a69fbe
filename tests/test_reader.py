"""Rows of a model are read over all versions of its table, and predictions with their actuals."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import polars
import pyarrow as pa
import pytest

from pipelines.cli import main
from pipelines.conform import conformed
from pipelines.joined import Labels, count_labels, joined
from pipelines.reader import read, stream
from pipelines.tables import MODEL, Tables
from schemas import ConfigurationError
from schemas.arrow import STAMPED_FIELDS

START = datetime(2026, 1, 1, tzinfo=UTC)
DAY = timedelta(days=1)


def schema(**columns: pa.DataType) -> pa.Schema:
    return pa.schema([*STAMPED_FIELDS, *columns.items()])


@pytest.fixture
def tables(tmp_path: Path) -> Tables:
    tables = Tables(tmp_path)
    tables.prepare([])
    return tables


def put(tables: Tables, table: str, columns: pa.Schema, *rows: dict[str, Any]) -> None:
    """Rows by `id` (of the prediction), `key` (of the envelope) and `day`."""
    name = f"models.{table}"
    tables._prepare(name, columns)
    model = table.partition("_v")[0].removesuffix("_actuals").replace("_", "-")
    stored = tables.load(name)
    if MODEL not in stored.properties:
        with stored.transaction() as change:
            change.set_properties({MODEL: model})
    whole = [
        {
            "envelope_id": row["key"],
            "row_id": f"{row['key']}:0",
            "prediction_id": row.get("id", row["key"]),
            "event_time": START + row.get("day", 0) * DAY,
            "ingest_time": START + row.get("day", 0) * DAY,
            **{name: value for name, value in row.items() if name in columns.names},
        }
        for row in rows
    ]
    # Not by a commit of ours, which would leave out a copy of a row.
    tables.load(name).append(pa.Table.from_pylist(whole, schema=columns))


def values(rows: pa.Table, *names: str) -> list[tuple[Any, ...]]:
    found = [tuple(row[name] for name in names) for row in rows.to_pylist()]
    return sorted(found, key=repr)


def test_times_and_columns_are_pushed_down(tables: Tables) -> None:
    days = [{"key": f"e{day}", "day": day, "amount": day * 1.5} for day in range(5)]
    put(tables, "scores", schema(amount=pa.float64()), *days)
    rows = read(tables.home, "scores", columns=["amount"], since=START + DAY, until=START + 3 * DAY)
    assert rows.column_names == ["amount"]
    assert values(rows, "amount") == [(1.5,), (3.0,)]
    assert read(tables, "scores", until=START).num_rows == 0
    assert "row_id" in read(tables, "scores").column_names


def test_versions_are_read_together_in_the_columns_of_the_latest(tables: Tables) -> None:
    put(
        tables,
        "scores",
        schema(number=pa.string(), gone=pa.int64(), tags=pa.list_(pa.string())),
        {"key": "a", "number": "7", "gone": 1, "tags": ["x"]},
        {"key": "b", "number": "seven", "gone": 2},
        {"key": "c", "number": None},
    )
    put(
        tables,
        "scores_v2",
        schema(number=pa.int64(), new=pa.string()),
        {"key": "d", "number": 8, "new": "n"},
    )
    put(tables, "scores_v3", schema(number=pa.float64()), {"key": "e", "number": 8.5})
    rows = read(tables, "scores")
    assert rows.column_names[-4:] == ["number", "new", "gone", "tags"]
    assert rows.schema.field("number").type == pa.float64()
    assert values(rows, "row_id", "number", "gone", "new") == [
        ("a:0", 7.0, 1, None),
        ("b:0", None, 2, None),
        ("c:0", None, None, None),
        ("d:0", 8.0, None, "n"),
        ("e:0", 8.5, None, None),
    ]
    assert values(read(tables, "scores", columns=["gone"]), "gone") == [
        (1,),
        (2,),
        (None,),
        (None,),
        (None,),
    ]


def test_a_row_that_was_extracted_anew_is_that_of_the_latest_version(tables: Tables) -> None:
    put(tables, "scores", schema(n=pa.string()), *({"key": key, "n": "1"} for key in "abc"))
    put(tables, "scores_v2", schema(n=pa.int64()), *({"key": key, "n": 2} for key in "bcd"))
    assert values(read(tables, "scores"), "row_id", "n") == [
        ("a:0", 1),
        ("b:0", 2),
        ("c:0", 2),
        ("d:0", 2),
    ]
    assert sorted(read(tables, "scores", columns=["n"])["n"].to_pylist()) == [1, 2, 2, 2]


def test_another_model_is_no_version(tables: Tables) -> None:
    put(tables, "scores", schema(), {"key": "a"})
    put(tables, "scores_v2", schema(), {"key": "b"})
    with tables.load("models.scores_v2").transaction() as change:
        change.set_properties({MODEL: "scores-v2"})
    assert values(read(tables, "scores"), "row_id") == [("a:0",)]
    assert values(read(tables, "scores-v2"), "row_id") == [("b:0",)]


def test_batches_are_streamed(tables: Tables) -> None:
    put(tables, "scores", schema(), *({"key": key} for key in "abc"))
    batches = stream(tables, "scores", columns=["row_id"])
    assert isinstance(batches, pa.RecordBatchReader)
    assert sum(batch.num_rows for batch in batches) == 3


def test_duckdb_and_polars_take_the_stream_of_all_versions(tables: Tables) -> None:
    put(tables, "scores", schema(n=pa.string()), *({"key": key, "n": "1"} for key in "ab"))
    put(tables, "scores_v2", schema(n=pa.int64()), *({"key": key, "n": 2} for key in "bc"))
    rows = duckdb.from_arrow(stream(tables, "scores", columns=["n"]))
    assert rows.aggregate("n, count(*)").order("n").fetchall() == [(1, 1), (2, 2)]
    frame = polars.DataFrame(stream(tables, "scores", columns=["n"]))
    assert frame["n"].sum() == 5


def test_what_is_not_there_is_named(tables: Tables) -> None:
    put(tables, "scores", schema(a=pa.int64()), {"key": "a"})
    with pytest.raises(ConfigurationError, match="no table models.scores_actuals in "):
        read(tables, "scores", kind="actual")
    with pytest.raises(
        ConfigurationError, match=r"scores \(prediction\) has no column b, c; it has "
    ):
        read(tables, "scores", columns=["a", "b", "c"])
    with pytest.raises(ConfigurationError, match="has no time zone"):
        read(tables, "scores", since=datetime(2026, 1, 1))


@pytest.mark.parametrize(
    ("values", "kind", "expected"),
    [
        (["7", "seven", None, "7"], pa.int64(), [7, None, None, 7]),
        ([1.0, 1.5], pa.int64(), [1, None]),
        ([1, None], pa.string(), ["1", None]),
        ([[1], None], pa.int64(), [None, None]),
        ([["1"], ["x"]], pa.list_(pa.int64()), [[1], None]),
        ([{"x": 1}], pa.struct([("x", pa.string()), ("y", pa.int64())]), [{"x": "1", "y": None}]),
    ],
)
def test_what_a_type_cannot_hold_is_null(values: Any, kind: pa.DataType, expected: Any) -> None:
    rows = conformed(pa.table({"a": values}), pa.schema([("a", kind), ("b", pa.string())]))
    assert rows.schema.field("a").type == kind
    assert rows["a"].to_pylist() == expected
    assert rows["b"].to_pylist() == [None] * len(expected)


def labelled(tables: Tables) -> None:
    put(
        tables,
        "scores",
        schema(label=pa.string(), tags=pa.list_(pa.string())),
        {"key": "p1", "id": "one", "day": 1, "label": "yes", "tags": ["t"]},
        {"key": "p2", "id": "two", "day": 1, "label": "no"},
        {"key": "p3", "id": "three", "day": 2, "label": "no"},
        {"key": "p4", "id": "three", "day": 3, "label": "yes"},
        {"key": "p5", "id": "five", "day": 4, "label": "yes"},
        {"key": "p6", "id": "six", "day": 4, "label": "yes"},
    )
    put(
        tables,
        "scores_actuals",
        schema(label=pa.string(), why=pa.list_(pa.string())),
        {"key": "a1", "id": "one", "day": 3, "label": "no", "why": ["late"]},
        {"key": "a2", "id": "three", "day": 4, "label": "no"},
        {"key": "a3", "id": "three", "day": 5, "label": "yes"},
        {"key": "a3", "id": "three", "day": 5, "label": "yes"},  # the same row twice
        {"key": "a4", "id": "five", "day": 2, "label": "yes"},
        {"key": "a5", "id": "nobody", "day": 2, "label": "yes"},
        {"key": "a6", "id": "six", "day": 6, "label": "no"},
        {"key": "a6", "id": "six", "day": 6, "label": "no"},
    )


def test_each_prediction_has_its_latest_actual(tables: Tables) -> None:
    labelled(tables)
    rows = joined(tables.home, "scores")
    assert values(rows, "row_id", "label", "actual_row_id", "actual_label", "delay_seconds") == [
        ("p1:0", "yes", "a1:0", "no", 2 * 86400.0),
        ("p2:0", "no", None, None, None),
        ("p3:0", "no", "a3:0", "yes", 3 * 86400.0),
        ("p4:0", "yes", "a3:0", "yes", 2 * 86400.0),
        ("p5:0", "yes", "a4:0", "yes", -2 * 86400.0),
        ("p6:0", "yes", "a6:0", "no", 2 * 86400.0),
    ]
    assert (["t"], ["late"]) in values(rows, "tags", "actual_why")
    assert "actual_prediction_id" not in rows.column_names


def test_a_join_of_a_time_and_of_some_columns(tables: Tables) -> None:
    labelled(tables)
    rows = joined(
        tables,
        "scores",
        columns=["label"],
        actual_columns=["label"],
        since=START + 3 * DAY,
        until=START + 4 * DAY,
    )
    assert rows.column_names == ["label", "actual_label", "delay_seconds"]
    assert rows.to_pylist() == [
        {"label": "yes", "actual_label": "yes", "delay_seconds": 2 * 86400.0}
    ]


def test_names_of_actuals_do_not_meet_those_of_predictions(tables: Tables) -> None:
    own = schema(actual_label=pa.string(), delay_seconds=pa.int64())
    put(tables, "scores", own, {"key": "p", "id": "one", "actual_label": "x", "delay_seconds": 5})
    put(
        tables, "scores_actuals", schema(label=pa.string()), {"key": "a", "id": "one", "label": "y"}
    )
    [row] = joined(tables, "scores").to_pylist()
    assert (row["actual_label"], row["actual_actual_label"]) == ("x", "y")
    assert (row["delay_seconds"], row["actual_delay_seconds"]) == (5, 0.0)


def test_labels_are_counted_by_what_became_of_them(tables: Tables) -> None:
    labelled(tables)
    assert read(tables, "scores", kind="actual").num_rows == 8
    assert count_labels(tables, "scores") == Labels(5, 4, 1, 1, 1)
    within = count_labels(tables.home, "scores", since=START + 5 * DAY, until=START + 6 * DAY)
    assert within == Labels(1, 1, 0, 0, 0)


def test_counts_are_those_of_a_slow_count(tables: Tables) -> None:
    chance = random.Random(7)
    ids = [f"id{n}" for n in range(12)]
    rows: dict[str, list[dict[str, Any]]] = {"scores": [], "scores_actuals": []}
    for name, found in rows.items():
        for n in range(25):
            found.append(
                {"key": f"{name}{n}", "id": chance.choice(ids), "day": chance.randrange(9)}
            )
    rows["scores_actuals"] += rows["scores_actuals"][:5]
    for name, found in rows.items():
        put(tables, name, schema(), *found)
    given = {row["key"]: row for row in rows["scores_actuals"]}.values()
    by_id = {id_: [row["day"] for row in given if row["id"] == id_] for id_ in ids}
    labels = {id_: days for id_, days in by_id.items() if days}
    first = {
        id_: min((r["day"] for r in rows["scores"] if r["id"] == id_), default=None) for id_ in ids
    }
    matched = {id_: first[id_] for id_ in labels if first[id_] is not None}
    assert count_labels(tables, "scores") == Labels(
        len(labels),
        len(matched),
        len(labels) - len(matched),
        sum(max(labels[id_]) < day for id_, day in matched.items()),
        sum(len(days) > 1 for days in labels.values()),
    )


def test_the_command_prints_the_counts(tables: Tables, capsys: pytest.CaptureFixture[str]) -> None:
    labelled(tables)
    for more, counts in (
        ([], "5 4 1 1 1"),
        (["--since", "2026-01-06", "--until", "2026-01-06T12:00:00Z"], "1 1 0 0 0"),
    ):
        with pytest.raises(SystemExit) as left:
            main(["tables", "labels", "scores", "--home", str(tables.home), *more])
        assert left.value.code == 0
        lines = [line.split() for line in capsys.readouterr().out.splitlines() if line.strip()]
        assert lines[0] == ["labels", "matched", "orphan", "early", "corrected"]
        assert lines[-1] == counts.split()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["scores", "--since", "yesterday"], "'yesterday' is no time; write 2026-11-24,"),
        (["scores"], "there is no table models.scores_actuals in "),
    ],
)
def test_the_command_says_what_is_wrong(
    tables: Tables, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    put(tables, "scores", schema(), {"key": "a"})
    with pytest.raises(SystemExit) as left:
        main(["tables", "labels", *arguments, "--home", str(tables.home)])
    assert left.value.code == 2
    assert message in " ".join(capsys.readouterr().err.split())


def test_commands_show_the_latest_version(
    tables: Tables, capsys: pytest.CaptureFixture[str]
) -> None:
    put(tables, "scores", schema(), {"key": "old"})
    put(tables, "scores_v2", schema(), {"key": "new"})
    for model, shown in (("scores", "new:0"), ("scores_v2", "new:0")):
        with pytest.raises(SystemExit):
            main(["tables", "show", model, "--home", str(tables.home)])
        told = capsys.readouterr().out
        assert told.startswith("models.scores_v2\n")
        assert shown in told
