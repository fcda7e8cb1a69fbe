"""One request and its answer, recorded from the ASGI messages that pass."""

from __future__ import annotations

import time
from collections.abc import MutableMapping
from typing import Any, TypeAlias

from weighbridge.attached import Attached
from weighbridge.model_of import Scope, model_id_of
from weighbridge.publisher import EnvelopePublisher
from weighbridge.wire import CUT_REQUEST, CUT_RESPONSE

Message: TypeAlias = MutableMapping[str, Any]
FAILED = 500
CLIENT_GONE = 499
"""The status that proxies log for a client that did not wait; HTTP has none."""


class Body:
    """The bytes that pass, up to a limit."""

    __slots__ = ("_bytes", "_room", "cut", "seen")

    def __init__(self, limit: int) -> None:
        self._bytes: bytes | bytearray = b""
        self._room = limit
        self.seen = 0
        self.cut = False

    def add(self, chunk: Any) -> None:
        """Keep a chunk, or as much of it as there is room for."""
        if type(chunk) is not bytes:
            try:
                chunk = memoryview(chunk).tobytes()
            except TypeError:
                self.cut = True
                raise
        size = len(chunk)
        self.seen += size
        if size > self._room:
            self.cut = True
            chunk = chunk[: self._room]
        self._room -= len(chunk)
        if not self._bytes:
            self._bytes = chunk  # most bodies are one chunk, and are not copied
        elif chunk:
            if type(self._bytes) is bytes:
                self._bytes = bytearray(self._bytes)
            self._bytes += chunk

    def take(self) -> bytes:
        """What was kept; it is not kept any longer."""
        kept, self._bytes = self._bytes, b""
        return kept if type(kept) is bytes else bytes(kept)


class Exchange(Attached):
    """Records what passes, and hands it to the publisher once."""

    def __init__(
        self,
        publisher: EnvelopePublisher,
        model_id: str,
        model_version: str,
        sampling_key: str | None,
        id_header: bytes | None,
        scope: Scope,
    ) -> None:
        self._started = time.perf_counter_ns()
        self._publisher = publisher
        self.context = {}
        self.model_id, self.model_version = model_id, model_version
        self.sampling_key = sampling_key
        self._headers = list(scope["headers"])  # the app may change its own
        self._http_version = scope.get("http_version")
        limit = publisher.max_body_bytes + 1  # by the one more the publisher sees what to shorten
        self._request = Body(limit)
        self._request_ended = False
        self._response = Body(limit)
        self._response_type = self._response_encoding = self._response_length = ""
        self._status: int | None = None
        self._body_ended = self._trailers = False
        self._gone = False
        self._id_header = id_header
        self._envelope_id: str | None = None
        self.done = False

    def arrived(self, message: Message) -> None:
        """Note what the server hands to the app."""
        kind = message["type"]
        if kind == "http.request":
            self._request_ended = not message.get("more_body", False)
            self._request.add(message.get("body", b""))
        # Behind the answer a disconnect says only that the exchange is over.
        elif kind == "http.disconnect" and not self._ended():
            self._gone = True

    def leaving(self, message: Message) -> bool:
        """Note what the app hands to the server, and tell whether the answer ends with it."""
        kind = message["type"]
        if kind == "http.response.start":
            self._status = int(message["status"])
            self._trailers = bool(message.get("trailers", False))
            self._describe_response(message.get("headers", ()))
        elif kind == "http.response.body":
            self._body_ended = not message.get("more_body", False)
            self._response.add(message.get("body", b""))
        elif kind in ("http.response.pathsend", "http.response.zerocopysend"):
            # The server reads the file by itself: its bytes do not pass.
            self._body_ended = not message.get("more_body", False)
            self._response.cut = True
        elif kind == "http.response.trailers":
            self._trailers = bool(message.get("more_trailers", False))
        return self._ended()

    def _ended(self) -> bool:
        return self._body_ended and not self._trailers

    def with_id(self, message: Message) -> Message:
        """The start of the answer with the envelope's id among its headers."""
        headers = message.get("headers", [])
        # An iterator can be read once only, and that is for the server.
        if self._id_header is None or not isinstance(headers, (list, tuple)):
            return message
        if self._envelope_id is None:
            self._envelope_id = self._publisher.reserve()
        return {**message, "headers": [*headers, (self._id_header, self._envelope_id.encode())]}

    def client_gone(self) -> None:
        """Note that the server could not send."""
        self._gone = True

    def capture(self, error: BaseException | None = None) -> None:
        """Hand the envelope over; `error` is what the app raised before its answer was complete."""
        latency = time.perf_counter_ns() - self._started
        attributes = self._attributes(error)
        name = str(self.model_id)
        model_id = model_id_of(name)
        if model_id != name:
            attributes["model-name"] = name
        started = self._status is not None
        answered = started and self._has_answered(error)
        status = self._status if answered else CLIENT_GONE if self._gone else FAILED
        cut = 0
        if self._request.cut or not self._request_complete():
            cut |= CUT_REQUEST
        if started and (self._response.cut or not answered):
            cut |= CUT_RESPONSE
        self._publisher.capture(
            model_id,
            self._request.take(),
            self._response.take() if started else None,
            context=self.take_context(),
            model_version=str(self.model_version),
            status=status,
            latency_us=latency // 1000,
            headers=self._headers,
            attributes=attributes,
            sampling_key=self.sampling_key,
            response_type=self._response_type,
            response_encoding=self._response_encoding,
            cut=cut,
            envelope_id=self._envelope_id,
        )

    def _has_answered(self, error: BaseException | None) -> bool:
        if self._gone:  # frameworks end a stream in good order when nobody listens any more
            return self._body_ended and self._response_length == str(self._response.seen)
        # An app that announced trailers and sends none has answered all the same.
        return self._body_ended and (error is None or not self._trailers)

    def _describe_response(self, headers: Any) -> None:
        if not isinstance(headers, (list, tuple)):
            return
        for name, value in headers:
            name = name.lower()
            if name == b"content-type":
                self._response_type = value.decode("latin-1")
            elif name == b"content-length":
                self._response_length = value.decode("latin-1")
            elif name == b"content-encoding":
                self._response_encoding = value.decode("latin-1")
            elif name == self._id_header:
                self._id_header = None  # the app says it itself

    def _attributes(self, error: BaseException | None) -> dict[str, str]:
        attributes = {}
        if (request_id := self._request_header(b"x-request-id")) is not None:
            attributes["x-request-id"] = request_id
        if self._gone:
            attributes["disconnected"] = "response" if self._request_complete() else "request"
        elif error is not None:
            attributes["error"] = type(error).__name__
        return attributes

    def _request_complete(self) -> bool:
        """Whether all of the request has passed, also when the app has not read on to its end."""
        if self._request_ended:
            return True
        length = self._request_header(b"content-length")
        if length is not None:
            return length == str(self._request.seen)
        # In HTTP/1 a request has a body only if a header says so.
        chunked = self._request_header(b"transfer-encoding") is not None
        return str(self._http_version).startswith("1") and not chunked

    def _request_header(self, wanted: bytes) -> str | None:
        for name, value in self._headers:
            if name == wanted:
                return str(value, "latin-1")
        return None
