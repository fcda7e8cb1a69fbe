import json
import re
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from weighbridge import DecodeError, Envelope
from weighbridge.archive import Message
from weighbridge.plain import format_rfc3339, parse_rfc3339, plain_id, read_plain

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
PUBLISHED = 1_700_000_000_123_456
PREDICTION = b'{"request": {"x": 1}, "response": [2.5, null]}'
LIMIT = 1 << 20


def message(data: Any, **attributes: str) -> Message:
    """Attributes are written with underscores here."""
    body = data if isinstance(data, bytes) else json.dumps(data).encode()
    return Message(body, attributes, "m-1", PUBLISHED)


def read(data: Any = PREDICTION, **attributes: str) -> Envelope:
    return read_plain(message(data, **attributes), "flights", LIMIT)


def refusal(data: Any = PREDICTION, **attributes: str) -> str:
    with pytest.raises(DecodeError) as caught:
        read(data, **attributes)
    return str(caught.value)


def test_a_prediction_with_nothing_but_its_body() -> None:
    envelope = read()
    assert (envelope.model_id, envelope.kind, envelope.envelope_id) == (
        "flights",
        "prediction",
        "m-1",
    )
    assert (envelope.request_bytes, envelope.response_bytes) == (b'{"x":1}', b"[2.5,null]")
    assert (envelope.context_bytes, envelope.context) == (b"", {})
    assert envelope.event_time == envelope.publish_time == EPOCH + timedelta(microseconds=PUBLISHED)
    assert (envelope.status, envelope.latency_us, envelope.model_version) == (None, None, "")
    assert (dict(envelope.headers), dict(envelope.attributes)) == ({}, {})


def test_everything_that_can_be_said() -> None:
    attributes = {
        "model_id": "flights",
        "kind": "prediction",
        "model_version": "7",
        "envelope_id": "e-9",
        "event_time": "2026-01-02T03:04:05.000006Z",
        "status": "503",
        "latency_us": "1500",
        "header-X-Tenant": "é",
        "header-": "nameless",
        "failure_stage": "extract",
        "failure_anything": "x",
        "failures": "kept",
        "googclient_schemaid": "kept, too",
        "encoding": "kept as well",
    }
    data = b'{"request": 1, "response": 2, "context": {"a": "b"}}'
    envelope = read_plain(Message(data, attributes, "m-1", PUBLISHED), "flights", LIMIT)
    assert (envelope.envelope_id, envelope.model_version) == ("e-9", "7")
    assert envelope.event_time == datetime(2026, 1, 2, 3, 4, 5, 6, UTC)
    assert (envelope.status, envelope.latency_us) == (503, 1500)
    assert envelope.context_bytes == b'{"a":"b"}'
    assert dict(envelope.headers) == {"x-tenant": "é", "": "nameless"}
    assert dict(envelope.attributes) == {
        "failures": "kept",
        "googclient_schemaid": "kept, too",
        "encoding": "kept as well",
    }


def test_an_actual() -> None:
    envelope = read(b'{"actual": {"id": 1, "late": true}}', kind="actual")
    assert (envelope.kind, envelope.actual) == ("actual", {"id": 1, "late": True})
    assert envelope.response_bytes == envelope.context_bytes == b""


@pytest.mark.parametrize("value", ["null", "0", '""', "[]", "false", "{}"])
def test_any_json_is_a_payload(value: str) -> None:
    envelope = read(f'{{"request":{value},"response":{value},"context":{value}}}'.encode())
    parts = (envelope.request_bytes, envelope.response_bytes, envelope.context_bytes)
    assert parts == (value.encode(),) * 3


@pytest.mark.parametrize(
    "data",
    [
        b"{}",
        b'{"request": 1}',
        b'{"response": 1}',
        b'{"request": 1, "context": 1}',
        b'{"request": 1, "response": 2, "more": 3}',
        b'{"request": 1, "response": 2, "actual": 3}',
        b'{"actual": 1, "context": 2}',
        b'{"Actual": 1}',
    ],
)
def test_other_keys(data: bytes) -> None:
    assert refusal(data).startswith('data has not just "request", "response"')


@pytest.mark.parametrize("data", [b"[]", b"null", b'"actual"', b"1", b"NaN", b"1" * 30, b"true"])
def test_other_json(data: bytes) -> None:
    assert refusal(data) == "data is JSON, but not an object"


@pytest.mark.parametrize("data", [b"", b"{", b'{"actual": }', b"\xff", b'{"actual": "\xff"}'])
def test_no_json(data: bytes) -> None:
    assert refusal(data) == "body is not JSON"


def test_kind_disagrees() -> None:
    assert refusal(kind="actual") == "attribute kind is not prediction, as the data is"
    assert refusal(b'{"actual":1}', kind="prediction").startswith("attribute kind is not actual")
    assert refusal(kind="") == refusal(kind="Prediction") == refusal(kind="actual")


def test_a_key_twice() -> None:
    """JSON leaves open which one counts; here it is the last one, also where it must be exact."""
    for more in ("", "1234567890" * 3):
        envelope = read(f'{{"actual": 1, "actual": 2{more}}}'.encode())
        assert envelope.request_bytes == f"2{more}".encode()


@pytest.mark.parametrize("name", ["status", "latency_us"])
@pytest.mark.parametrize(
    "text", ["", " 200", "200 ", "+200", "-1", "2e2", "200.0", "0x10", "٢٠٠", "²", "1_0", "1" * 19]
)
def test_numbers_that_are_no_decimals(name: str, text: str) -> None:
    assert refusal(**{name: text}) == f"attribute {name} is not a decimal number"


def test_decimals() -> None:
    assert read(status="0", latency_us="9" * 18).latency_us == 10**18 - 1
    assert read(status="0200").status == 200


TIMES = {
    "1970-01-01T00:00:00Z": 0,
    "1970-01-01T00:00:01.5Z": 1_500_000,
    "1970-01-01 00:00:00.000001+00:00": 1,
    "1970-01-01t01:00:00z": 3_600_000_000,
    "1970-01-01T01:30:00+01:30": 0,
    "1969-12-31T23:30:00-00:30": 0,
    "1970-01-01T00:00:00-00:00": 0,
    "1970-01-01T00:00:00.123456789Z": 123_456,
    "1970-01-01T00:00:00.999999999Z": 999_999,
    "1970-01-01T00:00:00.123456789012Z": 123_456,
    "1969-12-31T23:59:59.999999Z": -1,
    "2016-12-31T23:59:60Z": 1_483_228_800_000_000,
    "2017-01-01T01:59:60.25+02:00": 1_483_228_800_250_000,
    "0001-01-01T00:00:00Z": -62_135_596_800_000_000,
    "9999-12-31T23:59:59.999999Z": 253_402_300_799_999_999,
}


@pytest.mark.parametrize("text", TIMES)
def test_event_times(text: str) -> None:
    """What is finer than a microsecond is cut off; a leap second is the second behind it."""
    envelope = read(event_time=text)
    assert envelope.event_micros == TIMES[text]
    assert envelope.event_time == EPOCH + timedelta(microseconds=TIMES[text])


@pytest.mark.parametrize(
    "text",
    [
        "",
        "now",
        "1700000000",
        "2026-01-01",
        "2026-01-01T00:00:00",
        "2026-01-01T00:00Z",
        "2026-01-01T00:00:00 Z",
        "2026-01-01T00:00:00.Z",
        "2026-01-01T00:00:00,5Z",
        "2026-01-01T00:00:00+0100",
        "2026-01-01T00:00:00+01",
        "2026-01-01T00:00:00+24:00",
        "2026-01-01T00:00:00+01:60",
        "2026-01-01T00:00:00Z\n",
        "20260101T000000Z",
        "2026-02-30T00:00:00Z",
        "2026-01-01T24:00:00Z",
        "2026-01-01T00:60:00Z",
        "2026-01-01T00:00:60Z",
        "2026-01-01T23:59:61Z",
        "2026-01-01T23:59:60+01:00",
        "0000-01-01T00:00:00Z",
        "0001-01-01T00:00:00+00:01",
        "9999-12-31T23:59:59-00:01",
        "9999-12-31T23:59:60Z",
        "10000-01-01T00:00:00Z",
        "٢٠٢٦-01-01T00:00:00Z",
        "2026-01-01T00:00:00Z2026-01-01T00:00:00Z",
    ],
)
def test_malformed_event_times(text: str) -> None:
    assert refusal(event_time=text) == "attribute event_time is not RFC 3339 with offset"


def test_no_time_at_all() -> None:
    with pytest.raises(DecodeError, match="neither attribute event_time nor a publish time"):
        read_plain(Message(PREDICTION, {}), "flights", LIMIT)
    timed = Message(PREDICTION, {"event_time": "1970-01-01T00:00:00Z"})
    envelope = read_plain(timed, "flights", LIMIT)
    assert (envelope.event_micros, envelope.publish_time) == (0, None)


offsets = st.integers(-23 * 60, 23 * 60).map(lambda m: timezone(timedelta(minutes=m)))


@given(st.datetimes(datetime(2, 1, 1), datetime(9998, 1, 1), timezones=offsets))
def test_times_as_python_writes_them(moment: datetime) -> None:
    micros = parse_rfc3339(moment.isoformat())
    assert EPOCH + timedelta(microseconds=micros) == moment
    assert parse_rfc3339(format_rfc3339(micros)) == micros


@given(
    st.text(max_size=40)
    | st.from_regex(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(\.\d+)?Z", fullmatch=True)
)
def test_any_event_time_is_a_time_or_a_refusal(text: str) -> None:
    try:
        envelope = read(event_time=text)
    except DecodeError:
        return
    assert parse_rfc3339(format_rfc3339(envelope.event_micros)) == envelope.event_micros


@pytest.mark.parametrize(
    "number", ["123456789012345678901234567890", "-9223372036854775809", "18446744073709551616"]
)
def test_long_integers_stay_what_they_are(number: str) -> None:
    body = f'{{"id":{number},"é":1.5}}'
    envelope = read(f'{{"request": {body}, "response": {body}, "context": {body}}}'.encode())
    exact = body.replace("é", "\\u00e9").encode()
    assert (envelope.request_bytes, envelope.response_bytes, envelope.context_bytes) == (exact,) * 3
    assert read(f'{{"actual": {number}}}'.encode()).request_bytes == number.encode()


def test_nan_and_infinity() -> None:
    envelope = read(b'{"request": [NaN, Infinity, -Infinity, "NaN"], "response": 1}')
    assert envelope.request_bytes == b'[NaN,Infinity,-Infinity,"NaN"]'
    assert repr(envelope.request) == "[nan, inf, -inf, 'NaN']"
    assert envelope.used_nan


def test_half_a_surrogate_pair() -> None:
    """It has no UTF-8. Where it gets through, it stays as it was, and parsing fails."""
    assert refusal(b'{"actual": "\\ud800"}') == "body is not JSON"
    envelope = read(b'{"actual": [1234567890123456789, "\\ud800"]}')
    assert envelope.request_bytes == b'[1234567890123456789,"\\ud800"]'
    with pytest.raises(DecodeError):
        envelope.request  # noqa: B018


@pytest.mark.parametrize("digits", ["1", "1234567890123456789"])
def test_nesting(digits: str) -> None:
    def nested(depth: int) -> bytes:
        return b'{"actual":' + b"[" * depth + digits.encode() + b"]" * depth + b"}"

    assert read(nested(200)).request_bytes == nested(200)[10:-1]
    for depth in (300, 500, 900, 1020, 2000, 100_000):
        try:
            assert read(nested(depth)).request_bytes == nested(depth)[10:-1]
        except DecodeError as error:
            assert "nested too deeply" in str(error)
    assert "nested too deeply" in refusal(nested(100_000))


def test_numbers_beyond_what_can_be_written() -> None:
    assert refusal(b'{"actual": 1e400}') == "body is not JSON"
    assert refusal(b'{"actual": ' + b"1" * 5000 + b"}") == "body is not JSON"


def test_the_id_without_any() -> None:
    """Two calls with equal bodies are two envelopes as long as anything tells them apart."""
    message = Message(PREDICTION, {"model_id": "flights", "event_time": "a"}, "", PUBLISHED)
    others = [
        message._replace(data=PREDICTION + b" "),
        message._replace(attributes={"model_id": "flights", "event_time": "b"}),
        message._replace(publish_time=PUBLISHED + 1),
        message._replace(publish_time=None),
    ]
    turned = message._replace(attributes=dict(reversed(message.attributes.items())))
    assert plain_id(turned) == plain_id(message) == "b0b163cf00b095a34cfe7113e1c2d7be"
    assert len({plain_id(one) for one in [message, *others]}) == 5
    assert re.fullmatch("[0-9a-f]{32}", plain_id(Message(b"", {})))
    assert plain_id(message._replace(message_id="m")) == "m"
    assert plain_id(Message(b"", {"envelope_id": "e"}, "m")) == "e"


def test_refusals_quote_nothing() -> None:
    for said in (
        refusal(b'{"canary": "canary"}'),
        refusal(b"canary"),
        refusal(kind="canary"),
        refusal(status="canary"),
        refusal(event_time="canary"),
    ):
        assert "canary" not in said


names = st.sampled_from(
    [
        "model_id",
        "kind",
        "envelope_id",
        "event_time",
        "status",
        "latency_us",
        "header-a",
        "failure_x",
    ]
)
attributes = st.dictionaries(names | st.text(max_size=9), st.text(max_size=9), max_size=3)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=9,
)
bodies = st.fixed_dictionaries(
    {}, optional=dict.fromkeys(("request", "response", "context", "actual"), json_values)
)


@given(
    st.binary(max_size=60) | st.text(alphabet='{}[]":,19NaN\\ud80 actual', max_size=40), attributes
)
def test_any_bytes_are_an_envelope_or_a_refusal(
    data: bytes | str, attributes: dict[str, str]
) -> None:
    body = data if isinstance(data, bytes) else data.encode()
    for text in (body, b'{"actual":' + body + b"}"):
        try:
            envelope = read_plain(Message(text, attributes, "m", PUBLISHED), "flights", LIMIT)
        except DecodeError:
            continue
        assert json.dumps(json.loads(envelope.request_bytes)) == json.dumps(
            json.loads(text)["actual"]
        )


@given(json_values | bodies, attributes)
def test_any_json_is_an_envelope_or_a_refusal(value: Any, attributes: dict[str, str]) -> None:
    data = json.dumps(value).encode()
    try:
        envelope = read_plain(Message(data, attributes, "m", PUBLISHED), "flights", LIMIT)
    except DecodeError:
        return
    parts = {"request": envelope.request_bytes, "response": envelope.response_bytes}
    if envelope.kind == "actual":
        parts = {"actual": envelope.request_bytes}
    if "context" in value:
        parts["context"] = envelope.context_bytes
    assert json.dumps({k: json.loads(v) for k, v in parts.items()}, sort_keys=True) == json.dumps(
        value, sort_keys=True
    )
