"""The envelope as an extractor sees it: read-only, decoded and parsed on first use."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from types import MappingProxyType
from typing import Any, NamedTuple, TypeVar

import orjson

from weighbridge.bodies import MAX_BODY_BYTES, parse_json, undo_encoding
from weighbridge.errors import DecodeError
from weighbridge.wire import Kind

T = TypeVar("T")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_UNPARSED: Any = object()


class Origin(NamedTuple):
    """What the envelopes of one message have in common. Times in microseconds since 1970, UTC."""

    model_id: str
    kind: Kind = "prediction"
    model_version: str = ""
    publish_time: int | None = None
    request_encoding: str = ""
    response_encoding: str = ""
    context_encoding: str = ""
    max_bytes: int = MAX_BODY_BYTES


class Envelope:
    """One raw request/response pair, or one late actual. No attribute can be set.

    Anything that parses raises `DecodeError` when the body is not what it claims to be; left
    uncaught it makes the envelope a dead letter of stage `decode`.
    """

    __slots__ = (
        "_attributes",
        "_context",
        "_context_raw",
        "_envelope_id",
        "_event_time",
        "_headers",
        "_latency_us",
        "_nan",
        "_origin",
        "_request",
        "_request_raw",
        "_response",
        "_response_raw",
        "_status",
    )

    def __init__(
        self,
        origin: Origin,
        envelope_id: str,
        event_time: int,
        request: bytes | None,
        response: bytes | None = None,
        context: bytes | None = None,
        status: int | None = None,
        latency_us: int | None = None,
        headers: bytes | Mapping[str, str] = b"",
        attributes: bytes | Mapping[str, str] = b"",
    ) -> None:
        self._origin = origin
        self._envelope_id = envelope_id
        self._event_time = event_time
        self._request_raw = request
        self._response_raw = response
        self._context_raw = context
        self._status = status
        self._latency_us = latency_us
        self._headers = headers
        self._attributes = attributes
        self._request = self._response = self._context = _UNPARSED
        self._nan = False

    @property
    def model_id(self) -> str:
        """Id of the model that answered."""
        return self._origin.model_id

    @property
    def envelope_id(self) -> str:
        """Unique id of this pair, `<publisher_id>-<sequence>` when our publisher made it."""
        return self._envelope_id

    @property
    def kind(self) -> Kind:
        """Either "prediction" or "actual"."""
        return self._origin.kind

    @property
    def event_time(self) -> datetime:
        """When the model answered (or the truth became known), UTC."""
        return _EPOCH + timedelta(microseconds=self._event_time)

    @property
    def event_micros(self) -> int:
        """The event time in microseconds since 1970, UTC."""
        return self._event_time

    @property
    def size(self) -> int:
        """Bytes of the payloads as they were captured."""
        bodies = (self._request_raw, self._response_raw, self._context_raw)
        return sum(len(body) for body in bodies if body is not None)

    @property
    def publish_time(self) -> datetime | None:
        """When Pub/Sub took the message, UTC; None where the archive does not say."""
        micros = self._origin.publish_time
        return None if micros is None else _EPOCH + timedelta(microseconds=micros)

    @property
    def model_version(self) -> str:
        """Version that the handler named, "" if it named none."""
        return self._origin.model_version

    @property
    def status(self) -> int | None:
        """HTTP status of the answer."""
        return self._status

    @property
    def latency_us(self) -> int | None:
        """Microseconds that the answer took."""
        return self._latency_us

    @property
    def headers(self) -> Mapping[str, str]:
        """Captured request headers, names in lower case."""
        if not isinstance(self._headers, MappingProxyType):
            self._headers = _strings(self._headers, "headers")
        return self._headers

    @property
    def attributes(self) -> Mapping[str, str]:
        """What the handler added for the pipeline."""
        if not isinstance(self._attributes, MappingProxyType):
            self._attributes = _strings(self._attributes, "attributes")
        return self._attributes

    @property
    def request_bytes(self) -> bytes:
        """The request body, HTTP encodings undone; b"" if absent."""
        return self._decoded(self._request_raw, self._origin.request_encoding)

    @property
    def response_bytes(self) -> bytes:
        """The response body, HTTP encodings undone; b"" if absent."""
        return self._decoded(self._response_raw, self._origin.response_encoding)

    @property
    def context_bytes(self) -> bytes:
        """What the handler used beyond its public answer; b"" if absent."""
        return self._decoded(self._context_raw, self._origin.context_encoding)

    @property
    def request(self) -> Any:
        """The request as JSON."""
        value = self._request
        if value is _UNPARSED:
            value = self._request = self._parse(self._request_raw, self._origin.request_encoding)
        return value

    @property
    def response(self) -> Any:
        """The response as JSON."""
        value = self._response
        if value is _UNPARSED:
            value = self._response = self._parse(self._response_raw, self._origin.response_encoding)
        return value

    @property
    def context(self) -> Any:
        """The context as JSON; {} if there is none."""
        value = self._context
        if value is _UNPARSED:
            value = self._context = self._parse(self.context_bytes or b"{}", "")
        return value

    @property
    def actual(self) -> Any:
        """The payload of a late actual as JSON."""
        return self.request

    def request_as(self, model: type[T]) -> T:
        """The request as an instance of a pydantic model (or any type pydantic knows).

        Raises:
            DecodeError: not JSON.
            pydantic.ValidationError: JSON of another shape.
        """
        return _validated(model, self.request_bytes)

    def response_as(self, model: type[T]) -> T:
        """The response as an instance of a pydantic model; raises like `request_as`."""
        return _validated(model, self.response_bytes)

    def item_id(self, index: int) -> str:
        """Prediction id of item `index` of the request, whatever the extractor leaves out."""
        return f"{self._envelope_id}:{index}"

    @property
    def used_nan(self) -> bool:
        """Whether a body parsed so far held NaN or Infinity, which JSON does not have."""
        return self._nan

    def _decoded(self, body: bytes | None, encoding: str) -> bytes:
        if not body or not encoding:
            return body or b""
        return undo_encoding(body, encoding, self._origin.max_bytes)

    def _parse(self, raw: bytes | None, encoding: str) -> Any:
        body = self._decoded(raw, encoding) if encoding else raw or b""
        try:
            return orjson.loads(body)  # here, as each call between costs as much as small bodies do
        except ValueError:
            value, self._nan = parse_json(body)
            return value

    def __repr__(self) -> str:
        return f"<Envelope {self._envelope_id} of {self._origin.model_id}>"


@lru_cache(maxsize=1024)
def _adapter(model: Any) -> Any:
    from pydantic import TypeAdapter  # only extractors need it, services do not

    return TypeAdapter(model)


def _validated(model: type[T], body: bytes) -> T:
    from pydantic import ValidationError

    try:
        value: T = _adapter(model).validate_json(body)  # type: ignore[arg-type]
        return value
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        if first["type"] == "json_invalid" and not first["loc"]:  # with a place: of a Json field
            raise DecodeError("body is not JSON") from None
        raise


def _strings(data: bytes | Mapping[str, str], field: str) -> Mapping[str, str]:
    if isinstance(data, Mapping):
        return MappingProxyType(dict(data))
    value = parse_json(data)[0] if data else {}
    if not isinstance(value, dict):
        raise DecodeError(f"{field} is not a JSON object")
    return MappingProxyType({key: str(item) for key, item in value.items()})
