"""Tables in BigQuery, on its emulator: what a run leaves there, and what is said when it cannot."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import GoogleEmulators
from forked import killed_at
from google_emulators import InBigQuery
from support import Home, environment, packed, plain, scored, write_package
from test_docs import Walk, blocks
from test_docs import plain as shown

from pipelines.cli import main
from pipelines.main import run
from pipelines.outbox import Outbox
from pipelines.receiver import ArizeReceiver
from schemas import ConfigurationError, RetriableError
from weighbridge.archive import write_archive

PAGE = Path(__file__).parents[1] / "docs/bigquery.md"
ALL_TYPES = """
from datetime import date
from typing import Annotated, Literal

from pydantic import BaseModel, Field

from extractors import ClassScores, Envelope, ModelSettings, Row, Timestamp, extractor


class Place(BaseModel):
    city: str
    zone: int | None = None


class Parcel(Row):
    '''What was weighed.'''

    weight: float
    '''in kg'''
    count: int | None
    fragile: bool
    sent: date
    seen_at: Timestamp
    label: bytes
    tags: list[str]
    curve: list[float] | None
    place: Place | None
    places: list[Place]
    odds: ClassScores


@extractor(
    "parcels", row=Parcel, model_type="untyped", settings=ModelSettings(owner="Scales@acme.example")
)
def extract(envelope: Envelope):
    yield {
        **envelope.request,
        "label": b"x",
        "sent": date(2026, 1, 31),
        "place": Place(**envelope.request["place"]),
        "places": [Place(city="a"), Place(city="b", zone=1)],
    }
"""
PARCEL = {
    "weight": 1.5,
    "count": 3,
    "fragile": True,
    "seen_at": "2026-01-31T12:00:00.000001Z",
    "tags": ["x", "y"],
    "curve": [1.0, 2.5],
    "place": {"city": "Bonn"},
    "odds": {"small": 0.25, "large": 0.75},
}


@pytest.fixture
def home(tmp_path: Path, google: GoogleEmulators) -> InBigQuery:
    return InBigQuery(tmp_path, google)


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.syspath_prepend(tmp_path)
    name = f"loaded_{tmp_path.name}".replace("-", "_")
    yield name
    for module in [each for each in sys.modules if each.partition(".")[0] == name]:
        del sys.modules[module]


def parcels(*ids: str, **more: Any) -> Iterator[Any]:
    for id_ in ids:
        yield plain("parcels", {"request": {**PARCEL, **more}, "response": {}}, message_id=id_)


def test_rows_are_those_of_an_iceberg_table(
    tmp_path: Path, google: GoogleEmulators, package: str
) -> None:
    write_package(tmp_path, package, parcels=ALL_TYPES)
    home = InBigQuery(tmp_path, google, package)
    home.put(*parcels("a"), *parcels("b", count=None, tags=[], curve=None))
    beside = Home(tmp_path / "iceberg", package)
    beside.input = home.input
    assert [table.rows for table in home.run().tables] == [2]
    beside.run()
    rows, wanted = home.rows("parcels"), beside.rows("parcels")
    assert wanted[1]["curve"] is None
    wanted[1]["curve"] = []  # BigQuery has no null lists
    assert rows == wanted
    assert home.rows("parcels_latest") == rows


def test_a_table_is_made_as_its_row_class_says(
    tmp_path: Path, google: GoogleEmulators, package: str
) -> None:
    write_package(tmp_path, package, parcels=ALL_TYPES)
    home = InBigQuery(tmp_path, google, package)
    home.put(*parcels("a"))
    home.run()
    table = home.table("parcels")
    assert (table.time_partitioning.type_, table.time_partitioning.field) == ("DAY", "event_time")
    assert table.clustering_fields == ["model_version"]
    assert table.description == "What was weighed."
    own = {key: table.labels[key] for key in ("model", "owner")}
    assert own == {"model": "parcels", "owner": "scales_acme_example"}
    columns = {field.name: field for field in table.schema}
    assert columns["weight"].description == "in kg"
    kinds = {name: (field.field_type, field.mode) for name, field in columns.items()}
    assert kinds["curve"] == ("FLOAT", "REPEATED")
    assert kinds["places"] == ("RECORD", "REPEATED")
    assert [field.name for field in columns["odds"].fields] == ["class_name", "score"]
    assert {field.mode for field in table.schema} == {"NULLABLE", "REPEATED"}
    heartbeats = {field.name: field for field in home.table("weighbridge_heartbeats").schema}
    assert [field.name for field in heartbeats["dropped"].fields] == ["key", "value"]


def test_what_was_loaded_is_not_loaded_again(home: InBigQuery) -> None:
    home.put(packed("scores", [scored(0.5, 0.7, prefix="c")]))
    home.run()
    jobs = home.jobs()
    assert len(jobs) == 1
    home.run()
    assert home.jobs() == jobs
    assert home.row_ids("scores") == ["pub-0:0", "pub-0:1"]


def test_the_view_shows_what_overlapping_inputs_hold_once(home: InBigQuery) -> None:
    one, two, three = (packed("scores", [scored(0.5)], first=n) for n in range(3))
    home.put(one, two, name="a")
    home.put(two, three, name="b")
    home.run(files=str(home.input / "a.avro"))
    home.run(files=str(home.input / "b.avro"))
    assert Counter(home.row_ids("scores")) == {"pub-0:0": 1, "pub-1:0": 2, "pub-2:0": 1}
    assert home.row_ids("scores_latest") == ["pub-0:0", "pub-1:0", "pub-2:0"]


def test_a_table_that_was_made_anew_is_filled_anew(home: InBigQuery) -> None:
    home.put(packed("scores", [scored(0.5)]))
    home.run()
    home.google.client.delete_table(f"{home.dataset}.scores")
    home.run()
    assert home.row_ids("scores") == ["pub-0:0"]


def test_new_columns_are_added_behind_the_old_ones(
    tmp_path: Path, google: GoogleEmulators, package: str
) -> None:
    write_package(tmp_path, package, parcels=ALL_TYPES)
    home = InBigQuery(tmp_path, google, package)
    home.put(*parcels("a"), name="a")
    home.run()
    later = ALL_TYPES.replace("    count: int", "    colour: str | None = 'red'\n    count: int")
    later = later.replace("    city: str", "    city: str\n    street: str | None = 'Ring'")
    later = later.replace("    tags: list[str]\n", "")
    again = f"{package}_2"
    write_package(tmp_path, again, parcels=later)
    home.package = again
    more = {name: value for name, value in PARCEL.items() if name != "tags"}
    body = {"request": more, "response": {}}
    home.put(plain("parcels", body, message_id="b"), name="b")
    home.run("--no_arize", files=str(home.input / "b.avro"))
    columns = [field.name for field in home.table("parcels").schema]
    assert columns[-2:] == ["odds", "colour"]
    assert "tags" in columns  # what the row class leaves out stays
    first, second = home.rows("parcels_latest")
    assert (first["colour"], second["colour"]) == (None, "red")
    assert (first["place"]["street"], second["place"]["street"]) == (None, "Ring")
    assert (first["tags"], second["tags"]) == (["x", "y"], [])


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("weight: float", "weight: str", "column weight is FLOAT, and the row class says STRING"),
        ("count: int | None", "count: list[int]", "is INTEGER, and the row class says repeated"),
        ("city: str", "city: int", "column place.city is STRING"),
    ],
)
def test_another_type_is_refused(
    tmp_path: Path, google: GoogleEmulators, package: str, old: str, new: str, message: str
) -> None:
    write_package(tmp_path, package, parcels=ALL_TYPES)
    home = InBigQuery(tmp_path, google, package)
    home.put(*parcels("a"))
    home.run()
    home.package = f"{package}_2"
    write_package(tmp_path, home.package, parcels=ALL_TYPES.replace(old, new, 1))
    with pytest.raises(ConfigurationError, match=message) as error:
        home.run()
    assert "add a column of another name" in str(error.value)


def test_a_job_that_fails_for_a_moment_gets_another_attempt(home: InBigQuery) -> None:
    home.put(packed("scores", [scored(0.5)]))
    with home.google.faults(failures=["backendError"], polls=1):
        home.run()
    first, second = home.jobs().items()
    assert first[1] == "backendError"
    assert second == (f"{first[0]}-2", None)
    assert home.row_ids("scores") == ["pub-0:0"]


@pytest.mark.parametrize(
    ("reason", "error"),
    [
        ("quotaExceeded", RetriableError),
        pytest.param("invalid", ValueError, marks=pytest.mark.slow),
        pytest.param("accessDenied", PermissionError, marks=pytest.mark.slow),
        ("notFound", FileNotFoundError),
    ],
)
def test_a_refused_job_fails_the_run_and_the_next_run_tries_again(
    home: InBigQuery, reason: str, error: type[Exception]
) -> None:
    home.put(packed("scores", [scored(0.5)]))
    with home.google.faults(failures=[reason]), pytest.raises(error, match=reason) as raised:
        home.run()
    assert "4711" not in str(raised.value)  # what BigQuery says of rows
    assert home.row_ids("scores") == []
    home.run()
    assert list(home.jobs().values()) == [reason, None]
    assert home.row_ids("scores") == ["pub-0:0"]


@pytest.mark.parametrize(
    ("refusal", "message"),
    [
        ([403, "accessDenied"], "may not be used by this account; grant it roles/bigquery.dataE"),
        ([401, "authError"], "refuses the credentials"),
    ],
)
def test_a_launch_without_permission_says_what_to_grant(
    home: InBigQuery, refusal: list[Any], message: str
) -> None:
    home.put(packed("scores", [scored(0.5)]))
    with home.google.faults(refusal=refusal), pytest.raises(ConfigurationError) as error:
        home.run()
    assert message in str(error.value)
    assert "secret" not in str(error.value)


def test_a_quota_is_no_lack_of_permission(home: InBigQuery) -> None:
    home.put(packed("scores", [scored(0.5)]))
    refused = home.google.faults(refusal=[403, "quotaExceeded"])
    with refused, pytest.raises(RetriableError, match="quotaExceeded; try again later"):
        home.run()


def test_the_command_says_that_a_quota_is_used_up(
    home: InBigQuery, capsys: pytest.CaptureFixture[str]
) -> None:
    home.put(packed("scores", [scored(0.5)]))
    with (
        environment(**home.google.environment),
        home.google.faults(failures=["quotaExceeded"]),
        pytest.raises(SystemExit) as left,
    ):
        main(["run", *home.arguments("--no_arize")])
    assert left.value.code == 1
    told = capsys.readouterr().err
    assert told.startswith("Error: the run failed: job weighbridge-")
    assert told.endswith("failed: quotaExceeded; try again later\n")


def test_a_dataset_or_bucket_that_is_not_there_is_named(home: InBigQuery) -> None:
    home.put(packed("scores", [scored(0.5)]))
    place = ("--dataset", "test-project.nowhere")
    with pytest.raises(ConfigurationError, match=r"bq mk --dataset test-project:nowhere"):
        home.run("--no_arize", *place)
    with pytest.raises(ConfigurationError, match=r"buckets create gs://nowhere"):
        home.run("--no_arize", "--staging", "gs://nowhere/files")


def test_arize_gets_the_rows_of_staged_files(home: InBigQuery) -> None:
    home.put(packed("scores", [scored(0.5, 0.7)]))
    keys = environment(ARIZE_API_KEY="key", ARIZE_SPACE_ID="space")
    with keys, ArizeReceiver("key", "space") as receiver:
        report = home.run("--arize_url", receiver.url)
        home.run("--arize_url", receiver.url)
        ids = [id_ for each in receiver.uploads for id_ in each.table["prediction_id"].to_pylist()]
    assert ids == ["c-0", "c-1"]
    assert report.undelivered_rows == 0
    [delivery] = home.rows("weighbridge_deliveries")
    assert (delivery["outcome"], delivery["rows"]) == ("delivered", 2)


STEPS = [
    f"{when} {what}"
    for what in ("staged file", "entry", "job", "outcome", "upload", "acknowledgement")
    for when in ("before", "after")
]


@pytest.mark.slow
@pytest.mark.parametrize("step", STEPS)
def test_a_killed_run_is_made_whole_by_the_next(home: InBigQuery, step: str) -> None:
    bodies = [scored(0.5, 0.7, prefix=f"c{i}") for i in range(10)]
    home.put(packed("scores", bodies))
    keys = environment(ARIZE_API_KEY="key", ARIZE_SPACE_ID="space", **home.google.environment)
    with keys, ArizeReceiver("key", "space") as receiver:
        arguments = home.arguments("--arize_url", receiver.url)
        killed_at(step, *arguments)
        report = run(arguments)
        got = Counter(
            id_ for each in receiver.uploads for id_ in each.table["prediction_id"].to_pylist()
        )
    assert home.row_ids("scores") == sorted(f"pub-{i}:{k}" for i in range(10) for k in (0, 1))
    assert len([job for job in home.jobs() if job.startswith("scores-")]) == 1
    assert report.undelivered_rows == 0
    assert Outbox(home.folder).entries() == set()
    once = Counter({f"c{i}-{k}": 1 for i in range(10) for k in (0, 1)})
    assert once <= got
    if step not in ("after upload", "before acknowledgement"):
        assert got == once


@pytest.mark.slow
def test_the_page_shows_what_happens(
    tmp_path: Path, google: GoogleEmulators, monkeypatch: pytest.MonkeyPatch
) -> None:
    google.client.create_dataset("my-project.weighbridge", exists_ok=True)
    google.bucket("my-bucket")
    write_package(tmp_path, "scales", parcels=ALL_TYPES)
    (tmp_path / "archive").mkdir()
    write_archive(tmp_path / "archive/a.avro", list(parcels("a", "b", "c")))
    for name, value in google.environment.items():
        monkeypatch.setenv(name, value)
    walk = Walk(tmp_path)
    for block in blocks(PAGE):
        if block.language == "console":
            assert shown(walk.follow(block)) == shown(block.text)
        elif block.language == "sql" and "_actuals" not in block.text:
            [row] = google.client.query_and_wait(block.text)
            assert dict(row) == {"label": b"x", "parcels": 3}
