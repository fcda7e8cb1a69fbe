import gzip
import math
import zlib
from datetime import UTC, datetime
from typing import Any

import pytest
from pydantic import BaseModel, Json, ValidationError

from weighbridge import DecodeError, Envelope, Origin

READ_ONLY = [
    "model_id",
    "envelope_id",
    "kind",
    "event_time",
    "publish_time",
    "model_version",
    "status",
    "latency_us",
    "headers",
    "attributes",
    "request_bytes",
    "response_bytes",
    "context_bytes",
    "request",
    "response",
    "context",
    "actual",
    "request_as",
    "response_as",
    "item_id",
    "used_nan",
    "event_micros",
    "size",
]


def envelope(
    request: bytes | None = b'{"x": 1}',
    response: bytes | None = b'{"y": 2}',
    context: bytes | None = None,
    *,
    headers: Any = b"{}",
    attributes: Any = b"{}",
    **origin: Any,
) -> Envelope:
    known = {"model_id": "flights", "model_version": "3", "publish_time": 1_700_000_000_000_000}
    return Envelope(
        Origin(**{**known, **origin}),
        "p-7",
        1_700_000_000_000_001,
        request,
        response,
        context,
        200,
        1500,
        headers,
        attributes,
    )


def test_what_it_says() -> None:
    one = envelope(headers=b'{"x-a": "1"}', attributes=b'{"region": "eu", "n": 3}')
    assert (one.model_id, one.envelope_id, one.kind) == ("flights", "p-7", "prediction")
    assert one.event_time == datetime(2023, 11, 14, 22, 13, 20, 1, UTC)
    assert one.publish_time == datetime(2023, 11, 14, 22, 13, 20, tzinfo=UTC)
    assert (one.model_version, one.status, one.latency_us) == ("3", 200, 1500)
    assert dict(one.headers) == {"x-a": "1"}
    assert dict(one.attributes) == {"region": "eu", "n": "3"}
    assert (one.request_bytes, one.response_bytes) == (b'{"x": 1}', b'{"y": 2}')
    assert (one.request, one.response) == ({"x": 1}, {"y": 2})
    assert one.size == 16
    assert envelope(publish_time=None).publish_time is None


@pytest.mark.parametrize("name", [*READ_ONLY, "status_code", "prediction", "__dict__"])
def test_nothing_can_be_set_or_deleted(name: str) -> None:
    one = envelope()
    with pytest.raises(AttributeError):
        setattr(one, name, "other")
    with pytest.raises(AttributeError):
        delattr(one, name)


def test_unknown_attributes_do_not_exist() -> None:
    with pytest.raises(AttributeError):
        envelope().status_code  # type: ignore[attr-defined]  # noqa: B018


@pytest.mark.parametrize("given", [b'{"x-a": "1"}', {"x-a": "1"}])
def test_headers_and_attributes_cannot_be_changed(given: Any) -> None:
    one = envelope(headers=given, attributes=given)
    for mapping in (one.headers, one.attributes):
        with pytest.raises(TypeError):
            mapping["x-a"] = "2"  # type: ignore[index]
        assert dict(mapping) == {"x-a": "1"}
    assert one.headers is one.headers


def test_headers_stay_what_they_were_when_they_were_read() -> None:
    given = {"x-a": "1"}
    one = envelope(headers=given)
    assert dict(one.headers) == {"x-a": "1"}
    given["x-a"] = "2"
    assert dict(one.headers) == {"x-a": "1"}


@pytest.mark.parametrize("broken", [b"[]", b"x", b"null", b'"a"', b"\xff"])
def test_headers_that_are_no_object(broken: bytes) -> None:
    one = envelope(headers=broken, attributes=broken)
    assert one.request == {"x": 1}
    with pytest.raises(DecodeError):
        one.headers  # noqa: B018
    with pytest.raises(DecodeError):
        one.attributes  # noqa: B018


def test_parsed_on_first_use_and_once() -> None:
    one = envelope(request=b"no JSON", response=b"[1]")
    assert one.response is one.response
    assert (one.status, one.context, one.request_bytes) == (200, {}, b"no JSON")
    for _ in range(2):
        with pytest.raises(DecodeError, match="body is not JSON"):
            one.request  # noqa: B018


@pytest.mark.parametrize("absent", [None, b""])
def test_absent_bodies(absent: bytes | None) -> None:
    """A handler that looks nothing up sends no context; bodies must be JSON to be parsed."""
    for encoding in ("", "gzip", "unknown"):
        parts = {f"{part}_encoding": encoding for part in ("request", "response", "context")}
        one = envelope(absent, absent, absent, **parts)
        assert one.request_bytes == one.response_bytes == one.context_bytes == b""
        assert one.context == {}
        for part in ("request", "response"):
            with pytest.raises(DecodeError, match="body is not JSON"):
                getattr(one, part)


def test_an_actual() -> None:
    one = envelope(b'{"late": true}', None, kind="actual")
    assert one.actual == one.request == {"late": True}


def test_encodings_are_undone_each_for_its_part() -> None:
    one = envelope(
        zlib.compress(gzip.compress(b"[1]")),
        gzip.compress(b"[2]"),
        b"[3]",
        request_encoding="gzip, deflate",
        response_encoding="gzip",
    )
    assert (one.request, one.response, one.context) == ([1], [2], [3])
    assert (one.request_bytes, one.response_bytes, one.context_bytes) == (b"[1]", b"[2]", b"[3]")


def test_encodings_are_undone_within_the_limit() -> None:
    body = gzip.compress(b"[" + b" " * 98 + b"]")
    assert envelope(body, request_encoding="gzip", max_bytes=100).request == []
    one = envelope(body, request_encoding="gzip", max_bytes=99)
    for name in ("request_bytes", "request"):
        with pytest.raises(DecodeError, match="more than 99 bytes"):
            getattr(one, name)
    with pytest.raises(DecodeError, match="more than 99 bytes"):
        one.request_as(dict)
    assert one.response == {"y": 2}


def test_a_body_in_another_encoding_than_it_says() -> None:
    one = envelope(b"[1]", b"[2]", b"[3]", request_encoding="gzip", context_encoding="lzw")
    for part in ("request", "context"):
        with pytest.raises(DecodeError):
            getattr(one, part)
    assert one.response == [2]


def test_nan_is_read_and_noted() -> None:
    one = envelope(b'{"x": NaN}', b'{"y": "NaN"}', b"[Infinity]")
    assert one.response == {"y": "NaN"}
    assert not one.used_nan
    assert one.context == [math.inf]
    assert one.used_nan
    assert math.isnan(one.request["x"])


class Flight(BaseModel):
    number: int
    delay: float | None = None
    more: Json[Any] = None


def test_typed_views() -> None:
    one = envelope(b'{"number": 7, "delay": 1.5}', b"[1, 2]")
    assert one.request_as(Flight) == Flight(number=7, delay=1.5)
    assert one.response_as(list[int]) == [1, 2]


def test_typed_views_undo_encodings() -> None:
    one = envelope(gzip.compress(b'{"number": 7}'), request_encoding="gzip")
    assert one.request_as(Flight) == Flight(number=7)


@pytest.mark.parametrize("text", [b"", b"{", b"\xff", b'{"number": 1}]', b"[" * 100_000])
def test_typed_views_of_what_is_no_json(text: bytes) -> None:
    one = envelope(text, text)
    for view in (one.request_as, one.response_as):
        with pytest.raises(DecodeError, match="body is not JSON"):
            view(Flight)


@pytest.mark.parametrize(
    "text", [b"{}", b"[]", b"null", b'{"number": "x"}', b'{"number": 1, "more": "{"}']
)
def test_typed_views_of_another_shape(text: bytes) -> None:
    one = envelope(text, text)
    for view in (one.request_as, one.response_as):
        with pytest.raises(ValidationError):
            view(Flight)


def test_item_ids_do_not_depend_on_what_is_left_out() -> None:
    assert [envelope().item_id(i) for i in (0, 2)] == ["p-7:0", "p-7:2"]


def test_no_payload_in_its_text() -> None:
    one = envelope(b'["canary"]', b'["canary"]', b'["canary"]', headers=b'{"x-a": "canary"}')
    assert (one.request, one.response, one.context) == (["canary"],) * 3
    assert repr(one) == str(one) == "<Envelope p-7 of flights>"
