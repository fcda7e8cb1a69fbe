"""What every registered extractor must keep to; a new model is taken up by itself.

Authors add golden cases, no test code: tests/golden/<model>/<case>/{envelope,rows}.json.
"""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
from contextlib import AbstractContextManager
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

import cloudpickle
import pyarrow as pa
import pytest
from support import PACKAGES, Home, environment, micros, plain

from extractors import Extractor, load_extractors
from extractors.testing import GoldenCase, golden_cases
from pipelines.arize import ArizeAccess, Sent, Uploader
from pipelines.main import run
from pipelines.receiver import ArizeReceiver
from pipelines.sender import ArizeSender
from schemas.roles import Role
from schemas.row import STAMPED

PLACES = {"extractors": Path(__file__).parent / "golden", "shop": PACKAGES / "golden"}


def keys() -> AbstractContextManager[None]:
    return environment(ARIZE_API_KEY="key", ARIZE_SPACE_ID="space")


class Registered(NamedTuple):
    package: str
    extractor: Extractor

    def cases(self) -> list[GoldenCase]:
        return [
            case
            for case in golden_cases(PLACES[self.package])
            if case.model_id == self.extractor.model_id
            and case.envelope().kind == self.extractor.kind
        ]


REGISTERED = [
    pytest.param(Registered(package, entry), id=f"{entry.model_id}-{entry.kind}")
    for package in PLACES
    for entry in load_extractors(package).values()
]
CASES = [
    pytest.param(package, case, id=case.name)
    for package, folder in PLACES.items()
    for case in golden_cases(folder)
]


@pytest.mark.parametrize("registered", REGISTERED)
def test_it_has_an_owner_and_a_golden_case(registered: Registered) -> None:
    assert "@" in registered.extractor.settings.owner
    assert registered.cases(), f"add one below {PLACES[registered.package]}"


@pytest.mark.parametrize(("package", "case"), CASES)
def test_its_golden_cases_give_the_expected_rows(package: str, case: GoldenCase) -> None:
    assert case.given(load_extractors(package)) == case.expected()


@pytest.mark.parametrize(("package", "case"), CASES)
def test_it_is_deterministic(package: str, case: GoldenCase) -> None:
    extractors = load_extractors(package)
    assert case.given(extractors) == case.given(extractors)


@pytest.mark.parametrize(("package", "case"), CASES)
def test_it_leaves_the_envelope_as_it_is(package: str, case: GoldenCase) -> None:
    """A second look, by a retry or a replay, must find what the first one found."""
    captured = case.envelope()
    function = load_extractors(package)[case.model_id, captured.kind].function

    def seen() -> tuple[Any, ...]:
        try:
            return "rows", [dict(row) for row in function(captured)]
        except Exception as error:
            return type(error), str(error)

    bodies = (captured.request_bytes, captured.response_bytes, captured.context_bytes)
    first, again = seen(), seen()
    assert first == again
    parsed = [getattr(captured, part) for part in ("request", "context")]
    assert parsed == [getattr(case.envelope(), part) for part in ("request", "context")]
    assert bodies == (captured.request_bytes, captured.response_bytes, captured.context_bytes)


@pytest.mark.parametrize("registered", REGISTERED)
def test_it_travels_by_reference(registered: Registered) -> None:
    entry = registered.extractor
    for dumped in (pickle.dumps(entry), cloudpickle.dumps(entry)):
        again = pickle.loads(dumped)
        assert again.function is entry.function
        assert again.row is entry.row
        assert len(dumped) < 2000


@pytest.mark.parametrize("package", PLACES)
def test_they_work_in_a_process_that_has_loaded_nothing(package: str, tmp_path: Path) -> None:
    """As on a worker, where no decorator has run before the step arrives."""
    path = tmp_path / "extractors.pickle"
    path.write_bytes(cloudpickle.dumps(dict(load_extractors(package))))
    code = (
        "import pickle, sys\n"
        "extractors = pickle.load(open(sys.argv[1], 'rb'))\n"
        "print(sorted(f'{e.table} {len(e.shape().columns)}' for e in extractors.values()))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(path)],
        env={**os.environ, "PYTHONPATH": str(PACKAGES)},
        capture_output=True,
        text=True,
        check=True,
    )
    here = load_extractors(package).values()
    assert done.stdout.strip() == str(sorted(f"{e.table} {len(e.shape().columns)}" for e in here))


@pytest.mark.parametrize("registered", REGISTERED)
def test_its_columns_have_types_and_roles(registered: Registered) -> None:
    entry = registered.extractor
    shape = entry.shape()
    assert shape.schema.names[: len(STAMPED)] == list(STAMPED)
    assert set(entry.row.model_fields) <= set(shape.schema.names)
    for column in shape.columns:
        assert isinstance(column.role, Role)
        assert isinstance(column.type, pa.DataType)
        assert not pa.types.is_null(column.type)


@pytest.mark.parametrize("registered", [p for p in REGISTERED if p.values[0].extractor.pushed])
def test_the_sdk_takes_its_golden_rows(registered: Registered) -> None:
    """Through the real client, to a receiver that parses what it gets."""
    entry = registered.extractor
    rows = [row for case in registered.cases() for row in _table_rows(entry, case)]
    table = pa.Table.from_pylist(rows, schema=entry.shape().schema)
    with keys(), ArizeReceiver("key", "space") as receiver:
        sender = ArizeSender(entry, Uploader(ArizeAccess(receiver.url)))
        sent = Sent()
        sender.send(table.select(sender.columns), "1", sent)
        assert (sent.rows, sent.refused) == (len(rows), [])
        [upload] = receiver.uploads
    assert upload.model_id == entry.model_id
    received = upload.table.select(["prediction_id"]).to_pylist()
    assert [row["prediction_id"] for row in received] == [row["prediction_id"] for row in rows]
    for column in entry.shape().columns:
        if column.name in upload.table.column_names and column.name in table.column_names:
            assert upload.table[column.name].to_pylist() == table[column.name].to_pylist()


@pytest.mark.parametrize("package", PLACES)
def test_all_golden_cases_go_through_the_pipeline_at_once(package: str, tmp_path: Path) -> None:
    home = Home(tmp_path, package)
    extractors = load_extractors(package)
    cases = list(golden_cases(PLACES[package]))
    home.put(*(_message(case) for case in cases))
    with keys(), ArizeReceiver("key", "space") as receiver:
        report = run(home.arguments("--arize_url", receiver.url))
    wanted: dict[str, list[str]] = {entry.table: [] for entry in extractors.values()}
    refused = 0
    for case in cases:
        expected = case.expected()
        if isinstance(expected, dict):
            refused += 1
            continue
        entry = extractors[case.model_id, case.envelope().kind]
        wanted[entry.table] += [f"{case.name}:{i}" for i in range(len(expected))]
    assert {table: home.row_ids(table) for table in wanted} == {
        table: sorted(ids) for table, ids in wanted.items()
    }
    assert sum(report.failures.values()) == refused == len(home.stored("failures"))
    assert report.undelivered_rows == 0
    assert sum(upload.table.num_rows for upload in receiver.uploads) == sum(
        map(len, wanted.values())
    )


def _table_rows(entry: Extractor, case: GoldenCase) -> list[dict[str, Any]]:
    expected = case.expected()
    if isinstance(expected, dict):
        return []
    time = case.envelope().event_time
    stamps = {"event_time": time, "ingest_time": time}
    return [{**row, **_parsed_times(entry, row), **stamps} for row in expected]


def _parsed_times(entry: Extractor, row: dict[str, Any]) -> dict[str, Any]:
    return {
        column.name: datetime.fromisoformat(row[column.name])
        for column in entry.shape().columns
        if pa.types.is_timestamp(column.type) and row[column.name] is not None
    }


def _message(case: GoldenCase) -> Any:
    stored = json.loads((case.folder / "envelope.json").read_text())
    parts = ("request", "response", "context", "actual")
    body = {part: stored[part] for part in parts if part in stored}
    headers = {f"header-{name}": value for name, value in stored.get("headers", {}).items()}
    published = case.envelope().event_time
    message = plain(
        case.model_id, body, message_id=case.name, at=published, model_version="1", **headers
    )
    assert message.publish_time == micros(published)
    return message
