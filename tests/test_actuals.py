"""Late actuals out of files: what becomes of each value, and that nothing is lost or doubled."""

import csv
import json
import re
import socket
from collections.abc import Callable, Iterator
from concurrent import futures
from contextlib import contextmanager
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

import fastavro
import grpc
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import Emulator
from forked import call
from google.pubsub_v1.types import PublishRequest, PublishResponse
from hypothesis import given
from hypothesis import strategies as st
from support import Home, micros, stored, write_package

from pipelines.actuals.csv_records import CsvRecords
from pipelines.actuals.payload import EventTimes, payload
from pipelines.actuals.records import open_records
from pipelines.cli import _main
from pipelines.commands.terminal import console
from pipelines.decode import decode
from schemas import ConfigurationError
from weighbridge.archive import Message, write_archive
from weighbridge.sampling import Sampling

SOLD = datetime(2026, 3, 1, 12, tzinfo=UTC)
ROWS = [
    {"house_id": "h-1", "sold_at": SOLD, "price": 395_000.5, "rooms": 4},
    {"house_id": "h-2", "sold_at": SOLD + timedelta(days=1), "price": 120_000.0, "rooms": None},
    {"house_id": "h-3", "sold_at": SOLD + timedelta(days=1), "price": 99_000.25, "rooms": 2},
]
SALES = """
from typing import Annotated

from extractors import ActualLabel, PredictionId, PredictionLabel, Row, extractor


class Estimate(Row):
    house_id: Annotated[str, PredictionId]
    price: Annotated[float, PredictionLabel]


class Sale(Row):
    house_id: Annotated[str, PredictionId]
    rooms: int | None = None
    price: Annotated[float, ActualLabel]


@extractor("house-price", row=Estimate, model_type="regression")
def extract(envelope):
    yield envelope.request


@extractor("house-price", row=Sale, kind="actual")
def extract_actual(envelope):
    sale = envelope.actual
    yield Sale(house_id=sale["house_id"], rooms=sale["rooms"], price=sale["price"])
"""
AVRO = {
    "type": "record",
    "name": "Sale",
    "fields": [
        {"name": "house_id", "type": "string"},
        {"name": "sold_at", "type": {"type": "long", "logicalType": "timestamp-millis"}},
        {"name": "price", "type": "double"},
        {"name": "rooms", "type": ["null", "int"]},
    ],
}


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    if path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    elif path.suffix == ".avro":
        with open(path, "wb") as stream:
            fastavro.writer(stream, AVRO, rows)
    else:
        with open(path, "w", newline="") as stream:
            writer = csv.DictWriter(stream, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
    return path


def upload(path: Path, destination: object, *more: str, **env: str) -> str:
    status, out, err = call(
        "actuals", "upload", "--model=house-price", str(path), f"--destination={destination}",
        *more, **env,
    )  # fmt: skip
    assert (status, err) == (0, "")
    return out


def sent(folder: Path) -> list[Any]:
    """The payloads in a folder, parsed."""
    return [one.actual for message in stored(folder) for one in envelopes(message)]


def envelopes(message: Message) -> list[Any]:
    read = decode(message, 10 << 20)
    assert not isinstance(read, dict)
    return list(read.envelopes())


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    package = f"sales_{abs(hash(tmp_path))}"
    write_package(tmp_path, package, house_price=SALES)
    monkeypatch.syspath_prepend(str(tmp_path))
    return Home(tmp_path, package)


@pytest.mark.parametrize("suffix", ["parquet", "csv", "avro"])
def test_a_file_becomes_rows_once_however_often_it_is_sent(
    home: Home, tmp_path: Path, suffix: str
) -> None:
    path = write(tmp_path / f"sales.{suffix}", ROWS)
    for _ in range(2):
        said = upload(path, home.input, "--event-time=sold_at")
        assert "3 actuals of house-price are in" in said
        report = home.run()
        assert report.failures == {}
    assert len(list(stored(home.input))) == 2
    rows = sorted(home.rows("house_price_actuals"), key=lambda row: row["house_id"])
    assert [
        {name: row[name] for name in ("house_id", "rooms", "price")}
        | {"sold_at": row["event_time"]}
        for row in rows
    ] == [{**row} for row in ROWS]


def test_a_file_that_has_grown_or_was_corrected_adds_what_is_new(
    home: Home, tmp_path: Path
) -> None:
    path = write(tmp_path / "sales.csv", ROWS[:2])
    upload(path, home.input, "--event-time=sold_at")
    write(path, [ROWS[2], {**ROWS[0], "price": 1.5}, ROWS[1]])
    upload(path, home.input, "--event-time=sold_at")
    home.run()
    rows = home.rows("house_price_actuals")
    assert sorted((row["house_id"], row["price"]) for row in rows) == [
        ("h-1", 1.5),
        ("h-1", 395_000.5),
        ("h-2", 120_000.0),
        ("h-3", 99_000.25),
    ]


def test_equal_records_are_one_actual(home: Home, tmp_path: Path) -> None:
    path = write(tmp_path / "sales.parquet", [ROWS[0]] * 3)
    upload(path, home.input, "--event-time=sold_at")
    home.run()
    assert len(home.rows("house_price_actuals")) == 1


def test_without_a_column_the_event_time_is_the_files(tmp_path: Path) -> None:
    path = write(tmp_path / "sales.csv", ROWS)
    said = upload(path, tmp_path / "out", "--model-version=7")
    assert "when" in said and "was written; --event_time names a column instead" in said
    [message] = stored(tmp_path / "out")
    found = envelopes(message)
    assert {one.event_micros for one in found} == {path.stat().st_mtime_ns // 1000}
    assert {one.model_version for one in found} == {"7"}
    assert {one.kind for one in found} == {"actual"}


def test_many_records_go_in_many_messages_and_all_arrive(tmp_path: Path) -> None:
    count = 25_000
    path = tmp_path / "many.parquet"
    pq.write_table(
        pa.table({"number": range(count), "text": ["x" * (n % 700) for n in range(count)]}), path
    )
    upload(path, tmp_path / "out")
    messages = list(stored(tmp_path / "out"))
    assert len(messages) >= count // 1000
    found = [one for message in messages for one in envelopes(message)]
    assert sorted(one.actual["number"] for one in found) == list(range(count))
    assert len({one.envelope_id for one in found}) == count
    assert len({message.attributes["batch_id"] for message in messages}) == len(messages)


def test_labeller_and_service_keep_the_same_keys(tmp_path: Path) -> None:
    path = tmp_path / "sales.csv"
    path.write_text("house_id,price\n" + "".join(f"{n},1.5\n" for n in range(1000)) + ",2.5\n")
    rates = {"house-price": 0.3, "*": 0.9}
    text = ",".join(f"{name}={rate}" for name, rate in rates.items())
    said = upload(path, tmp_path / "out", "--sampling_key=house_id", WEIGHBRIDGE_SAMPLE=text)
    share = Sampling(rates).share("house-price")
    assert share is not None
    kept = [n for n in range(1000) if share.keeps(str(n))]
    assert 200 < len(kept) < 400
    # What has no key cannot be asked for, and is kept.
    assert [one["house_id"] for one in sent(tmp_path / "out")] == [*kept, None]
    assert f"{1000 - len(kept)} are sampled out" in said
    upload(path, tmp_path / "all", WEIGHBRIDGE_SAMPLE=text)
    assert len(sent(tmp_path / "all")) == 1001


def test_a_dry_run_shows_the_first_actual_and_sends_nothing(tmp_path: Path) -> None:
    path = write(tmp_path / "sales.csv", ROWS)
    said = upload(path, tmp_path / "out", "--dry-run")
    assert '"house_id":"h-1"' in said
    assert not (tmp_path / "out").exists()


def test_values_become_json() -> None:
    record = {
        "text": "é",
        "none": None,
        "nan": float("nan"),
        "infinite": float("-inf"),
        "large": (1 << 64) - 1,
        "exact": Decimal("12345678901234567890.10"),
        "no number": Decimal("NaN"),
        "bytes": b"\x00\xff",
        "moment": datetime(2026, 1, 2, 3, 4, 5, 6, UTC),
        "local": datetime(2026, 1, 2, 3, 4),
        "day": date(2026, 1, 2),
        "time": time(3, 4, 5),
        "took": timedelta(seconds=1.5),
        "id": UUID(int=1),
        "nested": [{"a": [1, Decimal("2.50")], "b": None}],
        "map": {1: "one"},
    }
    assert payload(record, 1).decode() == (
        '{"text":"é","none":null,"nan":null,"infinite":null,"large":18446744073709551615,'
        '"exact":12345678901234567890.10,"no number":null,"bytes":"AP8=",'
        '"moment":"2026-01-02T03:04:05.000006+00:00","local":"2026-01-02T03:04:00",'
        '"day":"2026-01-02","time":"03:04:05","took":1.5,'
        '"id":"00000000-0000-0000-0000-000000000001",'
        '"nested":[{"a":[1,2.50],"b":null}],"map":{"1":"one"}}'
    )


def test_arrow_types_become_json(tmp_path: Path) -> None:
    path = tmp_path / "types.parquet"
    columns = {
        "nanos": pa.array([1_767_323_045_000_000_123], pa.timestamp("ns", "UTC")),
        "naive": pa.array([1_767_323_045_000], pa.timestamp("ms")),
        "decimal": pa.array([Decimal("1.10")], pa.decimal128(10, 2)),
        "words": pa.array(["a"]).dictionary_encode(),
        "struct": pa.array([{"x": [1.5, float("nan")]}]),
        "map": pa.array([[("k", 1)]], pa.map_(pa.string(), pa.int32())),
        "binary": pa.array([b"\x01"], pa.large_binary()),
        "nothing": pa.nulls(1),
        "took": pa.array([1500], pa.duration("ms")),
    }
    pq.write_table(pa.table(columns), path)
    [([record], _)] = open_records(path).chunks()
    assert json.loads(payload(record, 1)) == {
        "nanos": "2026-01-02T03:04:05.000000123+00:00",
        "naive": "2026-01-02T03:04:05",
        "decimal": 1.1,
        "words": "a",
        "struct": {"x": [1.5, None]},
        "map": {"k": 1},
        "binary": "AQ==",
        "nothing": None,
        "took": 1.5,
    }


def test_a_value_that_is_no_json_is_named_by_its_column() -> None:
    with pytest.raises(ConfigurationError, match=r"record 7, column odd: .* this complex"):
        payload({"fine": 1, "odd": 1j}, 7)
    with pytest.raises(ConfigurationError, match="record 7 has more than 8 MiB"):
        payload({"text": "x" * (8 << 20)}, 7)


def typed(folder: Path, text: str, **settings: Any) -> list[dict[str, Any]]:
    path = folder / "typed.csv"
    path.write_bytes(text.encode())
    records = CsvRecords(path, **{"delimiter": ",", "as_text": (), **settings})
    return [record for chunk, _ in records.chunks() for record in chunk]


@pytest.mark.parametrize(
    ("texts", "values"),
    [
        (["1", "", "-2"], [1, None, -2]),
        (["1", "2.5", "1e3"], [1.0, 2.5, 1000.0]),
        (["true", "FALSE", ""], [True, False, None]),
        (["007", "8"], ["007", "8"]),
        (["1", "x"], ["1", "x"]),
        (["true", "1"], ["true", "1"]),
        (["", ""], [None, None]),
        (["9223372036854775807"], [9223372036854775807]),
        (["9223372036854775808"], ["9223372036854775808"]),
        (["-9223372036854775808"], [-9223372036854775808]),
        (["12345678901234567890", "1"], ["12345678901234567890", "1"]),
        (["1e999", "1"], ["1e999", "1"]),
        (["NaN", "1.5"], ["NaN", "1.5"]),
        ([" 1", "2"], [" 1", "2"]),
        (['"1"', '""'], ["1", ""]),
        (['"a,\nb"', '"c""d"'], ["a,\nb", 'c"d']),
    ],
)
def test_a_csv_column_has_one_type(tmp_path: Path, texts: list[str], values: list[Any]) -> None:
    found = typed(
        tmp_path, "".join(f"{text},\n" for text in ["value", *texts]).replace(",\n", ",z\n", 1)
    )
    assert [record["value"] for record in found] == values
    assert [type(record["value"]) for record in found] == [type(value) for value in values]


def test_a_type_holds_from_the_first_to_the_last_block(tmp_path: Path) -> None:
    filler = f"true,{'x' * 1000}\n" * 20_000
    found = typed(tmp_path, f"value,filler\n{filler}5,y\n")
    assert {record["value"] for record in found} == {"true", "5"}
    assert len(found) == 20_001


def test_csv_of_other_forms(tmp_path: Path) -> None:
    assert typed(tmp_path, "\ufeffid;n\r\n12;1\r\n", delimiter=";", as_text=("id",)) == [
        {"id": "12", "n": 1}
    ]


@given(st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1)))
def test_any_text_comes_out_of_csv_as_it_went_in(
    tmp_path_factory: pytest.TempPathFactory, texts: list[str]
) -> None:
    path = tmp_path_factory.getbasetemp() / "any.csv"
    with open(path, "w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream, quoting=csv.QUOTE_ALL)
        writer.writerows([["text", "n"], *([text, 1] for text in texts)])
    records = CsvRecords(path, ",", ("text",))
    found = [record["text"] for chunk, _ in records.chunks() for record in chunk]
    assert found == texts


@pytest.mark.parametrize(
    ("value", "zone", "unit", "moment"),
    [
        ("2026-03-01T12:00:00Z", None, "", SOLD),
        ("2026-03-01T13:00:00+01:00", UTC, "", SOLD),
        ("2026-03-01 12:00", UTC, "", SOLD),
        (datetime(2026, 3, 1, 12), UTC, "", SOLD),
        (date(2026, 3, 1), UTC, "", SOLD - timedelta(hours=12)),
        (1772366400, None, "s", SOLD),
        (1772366400.5, None, "s", SOLD + timedelta(seconds=0.5)),
        (1772366400123, None, "ms", SOLD + timedelta(milliseconds=123)),
        (1772366400000001, None, "us", SOLD + timedelta(microseconds=1)),
        (1772366400000001999, None, "ns", SOLD + timedelta(microseconds=1)),
        (Decimal("1772366400.25"), None, "s", SOLD + timedelta(seconds=0.25)),
    ],
)
def test_event_times(value: object, zone: Any, unit: str, moment: datetime) -> None:
    times = EventTimes("at", 0, zone, unit, micros(SOLD + timedelta(days=1)))
    assert times.of({"at": value}, 1) == micros(moment)


@pytest.mark.parametrize(
    ("value", "unit", "said"),
    [
        (None, "", "is empty; every actual needs an event time"),
        (True, "", "is a bool and no time"),
        ("yesterday", "", "the text is no time as ISO 8601 has it"),
        ("2026-03-01T12:00:00", "", "no time zone; name it, e.g. --time_zone UTC"),
        (date(2026, 3, 1), "", "no time zone"),
        (1772366400, "", "say what it counts since 1970, e.g. --time_unit ms"),
        (1772366400000, "s", "beyond the years 1 to 9999; is --time_unit the right one?"),
        (float("nan"), "s", "is no number"),
        (SOLD + timedelta(days=2), "", "the time is in the future"),
    ],
)
def test_what_is_no_event_time_is_said_without_its_value(
    value: object, unit: str, said: str
) -> None:
    times = EventTimes("at", 0, None, unit, micros(SOLD + timedelta(days=1)))
    with pytest.raises(ConfigurationError, match=r"record 3, column at") as raised:
        times.of({"at": value}, 3)
    assert said in str(raised.value)
    assert "yesterday" not in str(raised.value)


def write_text(text: str | bytes) -> Callable[[Path], object]:
    return lambda path: path.write_bytes(text if isinstance(text, bytes) else text.encode())


def truncated(rows: int) -> Callable[[Path], object]:
    def make(path: Path) -> None:
        write(path, ROWS * rows)
        path.write_bytes(path.read_bytes()[:-100])

    return make


@pytest.mark.parametrize(
    ("name", "make", "options", "said"),
    [
        ("a.csv", write_text(""), [], "it is empty; its first line must name the columns"),
        ("a.csv", write_text("a,b\n1,2\nSECRET\n"), [], "record 2 has 1 values and not 2"),
        ("a.csv", write_text("a,a\n1,2\n"), [], "the column a is there twice"),
        ("a.csv", write_text("a;b\n1;2\n"), [], "add --delimiter ';'"),
        ("a.csv", write_text('a,b\n1,"2\n' + "1,2\n" * 10**6), [], "in record 1 is not closed"),
        ("a.csv", write_text('a,b\n1,2\n3,"4\n'), [], "in record 2 is not closed"),
        ("a.csv", write_text("a,b\n" + "1,2\n" * 10**6 + '1,"2\n' + "1,2\n" * 10**6), [],
         "a quotation mark that is not closed"),
        ("a.csv", write_text(b"a,b\n1,\xff\n"), [], "it is not UTF-8"),
        ("a.csv", write_text("a,b\n1,2\n".encode("utf-16")), [], "it is UTF-16; convert it"),
        ("a.csv", write_text("a,b\n1,2\n"), ["--event_time=c"], "has no column c; it has a, b"),
        ("a.csv", write_text("a,b\n1,2\n"), ["--as_text=c"], "has no column c; it has a, b"),
        ("a.csv", write_text("a,b\n1,2\n"), ["--sampling_key=c"], "has no column c; it has a, b"),
        ("a.csv", write_text("a,b\n1.5,2\n"), ["--sampling_key=a"], "text or a whole number"),
        ("a.csv", write_text("a,b\n1,2\n"), ["--time_zone=UTC"], "--time_zone is for a column"),
        ("a.csv", write_text("a,b\n1,2\n"), ["--delimiter=;;"], "it is one character"),
        ("a.csv", write_text("a\n1\n"), ["--event_time=a", "--time_zone=Mars"], "no zone Mars"),
        ("a.csv", write_text("a,b\n1,2\n"), ["--model=Not"], "Not is no model id"),
        ("a.txt", write_text("a,b\n1,2\n"), [], "say what it is with --format"),
        ("a.avro", write_text("a,b\n1,2\n"), [], "is no Avro file; see --format"),
        ("a.avro", truncated(5000), [], "it is damaged or was not written to its end"),
        ("a.avro", lambda path: write_archive(path, []), [], "is an archive file"),
        ("a.parquet", write_text("a,b\n1,2\n"), [], "is no Parquet file; see --format"),
        ("a.parquet", truncated(1), [], "is no Parquet file"),
        ("a.parquet", lambda path: write(path, ROWS), ["--as_text=price"], "are for CSV"),
        ("a.csv", None, [], "does not exist"),
    ],
)  # fmt: skip
def test_a_wrong_file_or_option_sends_nothing(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    name: str,
    make: Any,
    options: list[str],
    said: str,
) -> None:
    if make:
        make(tmp_path / name)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WEIGHBRIDGE_SAMPLE", "*=0.5")
    monkeypatch.setattr(console, "_width", 120)  # read from the environment once
    # In this process, as one for each would take most of a second.
    status = _main(["actuals", "upload", "--model=m", name, "--destination=out", *options])
    out, err = capsys.readouterr()
    assert said in " ".join(err.split())
    assert status == 2
    assert "Traceback" not in out + err and "SECRET" not in out + err
    assert not (tmp_path / "out").exists()


def test_a_destination_must_be_one(tmp_path: Path) -> None:
    path = write(tmp_path / "sales.csv", ROWS)
    start = ("actuals", "upload", "--model=m", str(path))
    for destination, said in (("", "is missing"), ("projects/p", "no topic"), (path, "be made")):
        status, _, err = call(*start, f"--destination={destination}")
        assert (status, said in err) == (2, True), err


def test_the_emulator_gets_each_record(emulator: Emulator, tmp_path: Path) -> None:
    topic, subscription = emulator.topic()
    path = tmp_path / "sales.parquet"
    pq.write_table(pa.table({"number": range(2500), "at": [SOLD] * 2500}), path)
    upload(path, topic, "--event_time=at", PUBSUB_EMULATOR_HOST=emulator.host)
    found = [
        one
        for message in emulator.pull(subscription, 2500)
        for one in envelopes(Message(message.data, dict(message.attributes), "m", 1))
    ]
    assert sorted(one.actual["number"] for one in found) == list(range(2500))
    assert {one.event_time for one in found} == {SOLD}


def test_a_topic_that_is_missing_is_said_at_once(emulator: Emulator, tmp_path: Path) -> None:
    path = write(tmp_path / "sales.csv", ROWS)
    status, _, err = call(
        "actuals", "upload", "--model=m", str(path), "--destination=projects/p/topics/nowhere",
        "--retry_for=1h", PUBSUB_EMULATOR_HOST=emulator.host,
    )  # fmt: skip
    assert status == 1
    assert "0 of 3 actuals were delivered: projects/p/topics/nowhere: there is no such" in err


def test_what_nobody_takes_is_said(tmp_path: Path) -> None:
    path = write(tmp_path / "sales.csv", ROWS)
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        host = f"127.0.0.1:{closed.getsockname()[1]}"
        status, _, err = call(
            "actuals", "upload", "--model=m", str(path), "--destination=projects/p/topics/t",
            "--retry_for=500ms", PUBSUB_EMULATOR_HOST=host,
        )  # fmt: skip
    assert status == 1
    assert "0 of 3 actuals were delivered" in err
    assert "did not take it within 0.5 s (UNAVAILABLE); --retry_for" in err
    assert "The same command sends the rest, and doubles nothing" in err


@contextmanager
def broker(answer: Callable[[int], grpc.StatusCode | None]) -> Iterator[tuple[str, list[Message]]]:
    """Takes what is published, unless there is another answer to the call of that number."""
    taken: list[Message] = []
    calls = iter(range(1 << 30))

    def publish(request: PublishRequest, context: grpc.ServicerContext) -> PublishResponse:
        code = answer(next(calls))
        if code is not None:
            context.abort(code, "")
        taken.extend(Message(one.data, dict(one.attributes)) for one in request.messages)
        return PublishResponse(message_ids=[str(n) for n in range(len(request.messages))])

    server = grpc.server(futures.ThreadPoolExecutor(1))
    handler = grpc.unary_unary_rpc_method_handler(
        publish, PublishRequest.deserialize, PublishResponse.serialize
    )
    server.add_generic_rpc_handlers(
        [grpc.method_handlers_generic_handler("google.pubsub.v1.Publisher", {"Publish": handler})]
    )
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield f"127.0.0.1:{port}", taken
    finally:
        server.stop(0).wait()


def test_calls_that_fail_are_made_again_and_nothing_is_lost(tmp_path: Path) -> None:
    path = tmp_path / "many.parquet"
    pq.write_table(pa.table({"number": range(60_000)}), path)

    def unwilling(number: int) -> grpc.StatusCode | None:
        return grpc.StatusCode.UNAVAILABLE if number % 3 else None

    with broker(unwilling) as (host, taken):
        upload(path, "projects/p/topics/t", PUBSUB_EMULATOR_HOST=host)
    numbers = [one.actual["number"] for message in taken for one in envelopes(message)]
    assert sorted(numbers) == list(range(60_000))


def test_what_was_delivered_before_a_refusal_is_counted(tmp_path: Path) -> None:
    path = tmp_path / "many.parquet"
    pq.write_table(pa.table({"number": range(100_000)}), path)

    def refuse(number: int) -> grpc.StatusCode | None:
        return grpc.StatusCode.PERMISSION_DENIED if number == 2 else None

    with broker(refuse) as (host, taken):
        status, _, err = call(
            "actuals", "upload", "--model=m", str(path), "--destination=projects/p/topics/t",
            PUBSUB_EMULATOR_HOST=host,
        )  # fmt: skip
    found = re.search(r"([\d,]+) of 100,000 actuals were delivered: .* may not publish", err)
    assert (status, bool(found)) == (1, True), err
    assert found is not None
    arrived = sum(int(message.attributes["envelope_count"]) for message in taken)
    assert int(found[1].replace(",", "")) == arrived < 100_000
