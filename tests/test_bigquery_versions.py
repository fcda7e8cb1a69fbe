"""Tables of a dataset follow row classes, and views show all versions and actuals."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from conftest import GoogleEmulators
from google.cloud.bigquery import SchemaField, Table
from google_emulators import InBigQuery
from support import NOW, Home, plain, write_package

from pipelines.cli import _main
from pipelines.joined import count_labels, joined
from pipelines.reader import read
from schemas import ConfigurationError

FIRST = """
from pydantic import BaseModel

from extractors import Row, extractor


class Place(BaseModel):
    city: str


class Parcel(Row):
    weight: str
    gone: int
    place: Place | None
    places: list[Place]
    tags: list[str]


@extractor("parcels", row=Parcel, model_type="untyped")
def extract(envelope):
    request = envelope.request
    place = request["place"] and Place(**request["place"])
    yield {**request, "place": place, "places": [Place(**each) for each in request["places"]]}
"""
SECOND = (
    FIRST.replace('"untyped"', '"untyped", table_version=2')
    .replace("weight: str", "weight: float")
    .replace("    gone: int\n", "")
    .replace("city: str", "zone: int = 1\n    city: str")
    .replace("tags: list[str]", "tags: list[int]\n    new: str = 'n'")
)


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.syspath_prepend(tmp_path)
    name = f"versions_{tmp_path.name}".replace("-", "_")
    yield name
    for module in [each for each in sys.modules if each.startswith(name)]:
        del sys.modules[module]


def parcel(key: str, **request: Any) -> Any:
    body = {"place": {"city": "Bonn"}, "places": [{"city": "a"}, {"city": "b"}], **request}
    return plain("parcels", {"request": body, "response": {}}, message_id=key)


def test_the_view_shows_all_versions(tmp_path: Path, google: GoogleEmulators, package: str) -> None:
    write_package(tmp_path, f"{package}_1", parcels=FIRST)
    write_package(tmp_path, f"{package}_2", parcels=SECOND)
    home, beside = InBigQuery(tmp_path, google), Home(tmp_path / "iceberg")
    old = home.put(
        parcel("a", weight="1.5", gone=1, tags=["x"]),
        parcel("b", weight="heavy", gone=2, tags=[], place=None),
        parcel("c", weight="3", gone=3, tags=[]),
        name="old",
    )
    new = home.put(parcel("c", weight=3.5, tags=[7]), parcel("d", weight=4.5, tags=[8]), name="new")
    for each in (home, beside):
        each.package = f"{package}_1"
        each.run(files=str(old))
        each.package = f"{package}_2"
        report = each.run(files=str(new))
        assert [(table.table, table.rows) for table in report.tables] == [("parcels_v2", 2)]
    rows = {row["row_id"][0]: row for row in home.rows("parcels_latest")}
    assert {key: row["weight"] for key, row in rows.items()} == {
        "a": 1.5,
        "b": None,
        "c": 3.5,
        "d": 4.5,
    }
    assert [rows[key]["gone"] for key in "abcd"] == [1, 2, None, None]
    assert [rows[key]["new"] for key in "abcd"] == [None, None, "n", "n"]
    assert rows["a"]["place"] == {"zone": None, "city": "Bonn"}
    assert rows["b"]["place"] is None
    assert rows["a"]["places"] == [{"zone": None, "city": "a"}, {"zone": None, "city": "b"}]
    assert rows["d"]["places"][1] == {"zone": 1, "city": "b"}
    assert [row["row_id"][0] for row in home.rows("parcels")] == ["a", "b", "c"]
    here = {row["row_id"][0]: row for row in read(beside.folder, "parcels").to_pylist()}
    names = ("weight", "gone", "new", "place", "places")
    for name in names:
        assert [here[key][name] for key in "abcd"] == [rows[key][name] for key in "abcd"]
    with home.tables() as tables:
        found = {row["row_id"][0]: row for row in read(tables, "parcels", columns=None).to_pylist()}
    assert [{n: found[key][n] for n in names} for key in "abcd"] == [
        {n: rows[key][n] for n in names} for key in "abcd"
    ]


def test_a_view_that_is_not_the_one_is_made_again(
    tmp_path: Path, google: GoogleEmulators, package: str
) -> None:
    write_package(tmp_path, package, parcels=FIRST)
    home = InBigQuery(tmp_path, google, package)
    home.put(parcel("a", weight="1", gone=1, tags=[]))
    home.run()
    # As after a launch that was killed between a table and its view.
    google.client.query_and_wait(
        f"CREATE OR REPLACE VIEW `{home.dataset}.parcels_latest` AS SELECT 'x' AS row_id"
    )
    table = home.table("parcels")
    table.labels = {**table.labels, "weighbridge_latest": "older"}
    google.client.update_table(table, ["labels"])
    broken = home.table("parcels_latest").modified
    home.run()
    assert [row["weight"] for row in home.rows("parcels_latest")] == ["1"]
    made = home.table("parcels_latest").modified
    assert made > broken
    home.run()
    assert home.table("parcels_latest").modified == made  # and not without need


def test_a_model_is_not_taken_for_the_version_of_another(
    tmp_path: Path, google: GoogleEmulators, package: str
) -> None:
    write_package(tmp_path, f"{package}_1", parcels=FIRST.replace('"parcels"', '"parcels-v2"'))
    write_package(tmp_path, f"{package}_2", parcels=SECOND)
    home = InBigQuery(tmp_path, google, f"{package}_1")
    home.put(parcel("a", weight="1", gone=1, tags=[]))
    home.run()
    home.package = f"{package}_2"
    with pytest.raises(ConfigurationError, match="rows of the model parcels-v2.*table_version=3"):
        home.run()


def test_required_columns_of_others(tmp_path: Path, google: GoogleEmulators, package: str) -> None:
    write_package(tmp_path, package, parcels=FIRST)
    home = InBigQuery(tmp_path, google, package)
    made = [SchemaField("event_time", "TIMESTAMP"), SchemaField("weight", "STRING", "REQUIRED")]
    google.client.create_table(Table(f"{home.dataset}.parcels", made))
    home.put(parcel("a", weight="1", gone=1, tags=[]))
    home.run()
    modes = {column.name: column.mode for column in home.table("parcels").schema}
    assert modes["weight"] == "NULLABLE"
    other = InBigQuery(tmp_path, google, package)
    made = [SchemaField("event_time", "TIMESTAMP"), SchemaField("theirs", "STRING", "REQUIRED")]
    google.client.create_table(Table(f"{other.dataset}.parcels", made))
    with pytest.raises(ConfigurationError, match="theirs is required there.*table_version=2"):
        other.run()


def case(id_: str, day: int, score: float, key: str) -> Any:
    at = NOW + timedelta(days=day - 9)
    body = {"request": {"cases": [{"id": id_, "amount": 1.0}]}, "response": {"scores": [score]}}
    return plain("scores", body, message_id=key, at=at)


def truth(id_: str, day: int, label: str, key: str) -> Any:
    at = NOW + timedelta(days=day - 9)
    body = {"actual": {"cases": [{"id": id_, "label": label}]}}
    return plain("scores", body, message_id=key, at=at, kind="actual")


@pytest.mark.slow
def test_predictions_are_joined_with_their_latest_actuals(
    tmp_path: Path, google: GoogleEmulators, capsys: pytest.CaptureFixture[str]
) -> None:
    home, beside = InBigQuery(tmp_path, google), Home(tmp_path / "iceberg")
    home.put(
        case("one", 1, 0.7, "p1"),
        case("two", 1, 0.2, "p2"),
        case("three", 2, 0.9, "p3"),
        truth("one", 3, "no", "a1"),
        truth("one", 4, "yes", "a2"),
        truth("three", 1, "yes", "a3"),
        truth("nobody", 1, "yes", "a4"),
    )
    beside.input = home.input
    home.run()
    # Loaded once more in another list of files: a row is there twice.
    home.put(truth("one", 4, "yes", "a2"), name="again")
    home.run(files=str(home.input / "again.avro"))
    assert home.row_ids("scores_actuals").count("a2:0") == 2
    beside.run()
    rows = home.rows("scores_joined")
    assert [(row["prediction_id"], row["actual_label"]) for row in rows] == [
        ("one", "yes"),
        ("two", None),
        ("three", "yes"),
    ]
    assert [row["delay_seconds"] for row in rows] == [3 * 86400.0, None, -86400.0]
    with home.tables() as tables:
        for place in (beside.folder, tables):
            found = joined(place, "scores").to_pylist()
            assert sorted(found, key=lambda row: row["row_id"]) == rows
        since = NOW - timedelta(days=7)
        assert [vars(count_labels(tables, "scores", since=each)) for each in (None, since)] == [
            vars(count_labels(beside.folder, "scores", since=each)) for each in (None, since)
        ]
        assert _main(["tables", "labels", "scores", *home.place()]) == 0
    assert capsys.readouterr().out.split()[-5:] == ["3", "2", "1", "1", "1"]
    page = (Path(__file__).parents[1] / "docs/bigquery.md").read_text()
    [count] = [part for part in page.split("```") if part.startswith("sql\nWITH labels")]
    statement = count.removeprefix("sql\n").replace(
        "my-project.weighbridge.parcels", f"{home.dataset}.scores"
    )
    [counted] = map(dict, google.client.query_and_wait(statement))
    assert counted == vars(count_labels(beside.folder, "scores"))
    assert counted == {"labels": 3, "matched": 2, "orphan": 1, "early": 1, "corrected": 1}
