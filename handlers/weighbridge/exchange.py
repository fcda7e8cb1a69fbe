"""One request and its answer, recorded from the ASGI messages that pass."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from time import perf_counter_ns
from typing import Any, TypeAlias

from weighbridge.attached import Attached
from weighbridge.log import log_once
from weighbridge.model_of import Scope, model_id_of
from weighbridge.passing import Body, seen, taken
from weighbridge.publisher import EnvelopePublisher
from weighbridge.wire import CUT_REQUEST, CUT_RESPONSE

Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]
FAILED = 500
CLIENT_GONE = 499
"""The status that proxies log for a client that did not wait; HTTP has none."""
_SENT_BY_SERVER = ("http.response.pathsend", "http.response.zerocopysend")
_BY_MESSAGES = ("http.response.start", "http.response.body")


class Exchange(Attached):
    """Passes messages between server and app, records them, and hands them over once.

    `receive` and `send` are what the app is given.
    """

    # Without a dictionary: a request makes one of these, and none of its parts by itself.
    __slots__ = (
        "_body_ended", "_envelope_id", "_gone", "_headers", "_http_version", "_id_header",
        "_publisher", "_receive", "_request", "_request_ended", "_response", "_response_encoding",
        "_response_length", "_response_type", "_send", "_started", "_status", "_trailers", "done",
    )  # fmt: skip

    def __init__(
        self,
        publisher: EnvelopePublisher,
        model_id: str,
        model_version: str,
        sampling_key: str | None,
        id_header: bytes | None,
        scope: Scope,
        receive: Receive,
        send: Send,
    ) -> None:
        self._started = perf_counter_ns()
        self._publisher = publisher
        self.context = {}
        self.model_id, self.model_version = model_id, model_version
        self.sampling_key = sampling_key
        self._headers = list(scope["headers"])  # the app may change its own
        self._http_version = scope.get("http_version")
        self._receive, self._send = receive, send
        # Bytes as long as a body is one chunk of them: the publisher sees whether it is too long.
        self._request: bytes | Body = b""
        self._response: bytes | Body = b""
        self._response_type = self._response_encoding = self._response_length = ""
        self._status: int | None = None
        self._request_ended = self._body_ended = self._trailers = self._gone = False
        self._id_header = id_header
        self._envelope_id: str | None = None
        self.done = False

    async def receive(self) -> Message:
        """The next message of the server."""
        message = await self._receive()
        if not self.done:
            try:
                kind = message["type"]
                if kind == "http.request":
                    self._request_ended = not message.get("more_body", False)
                    chunk = message.get("body", b"")
                    whole = self._request == b"" and type(chunk) is bytes
                    self._request = chunk if whole else self._with(self._request, chunk)
                # Behind the answer a disconnect says only that the exchange is over.
                elif kind == "http.disconnect" and not self._ended():
                    self._gone = True
            except Exception as error:
                log_once("record", error)
        return message

    async def send(self, message: Message) -> None:
        """Hand a message of the app to the server."""
        if self.done:
            await self._send(message)
            return
        last, kind = False, ""
        try:
            kind = message["type"]
            if kind == "http.response.body":
                self._body_ended = not message.get("more_body", False)
                chunk = message.get("body", b"")
                whole = self._response == b"" and type(chunk) is bytes
                self._response = chunk if whole else self._with(self._response, chunk)
                last = self._body_ended and not self._trailers
            elif kind == "http.response.start":
                message = self._started_with(message)
            else:
                last = self._leaving(kind, message)
        except Exception as error:
            log_once("record", error)
        try:
            await self._send(message)
        except OSError:
            # Of other messages it may mean that a file is not there.
            if kind in _BY_MESSAGES:
                self._gone = True
            raise
        if last:
            self.finish()

    def finish(self, error: BaseException | None = None) -> None:
        """Hand the envelope over, once; `error` is what the app raised."""
        if not self.done:
            self.done = True
            try:
                self._capture(error)
            except Exception as failure:
                log_once("record", failure)

    def _leaving(self, kind: str, message: Message) -> bool:
        """Note another message of the answer, and tell whether the answer ends with it."""
        if kind in _SENT_BY_SERVER:
            # The server reads the file by itself: its bytes do not pass.
            self._body_ended = not message.get("more_body", False)
            self._response = self._as_body(self._response)
            self._response.cut = True
        elif kind == "http.response.trailers":
            self._trailers = bool(message.get("more_trailers", False))
        return self._ended()

    def _ended(self) -> bool:
        return self._body_ended and not self._trailers

    def _with(self, body: bytes | Body, chunk: Any) -> bytes | Body:
        """A body and one more chunk."""
        body = self._as_body(body)
        try:
            body.add(chunk)
        except TypeError as error:  # it is marked as cut
            log_once("record", error)
        return body

    def _as_body(self, body: bytes | Body) -> Body:
        if isinstance(body, Body):
            return body
        # By the one more the publisher sees what to shorten.
        fresh = Body(self._publisher.max_body_bytes + 1)
        fresh.add(body)
        return fresh

    def _started_with(self, message: Message) -> Message:
        """Note the start of the answer; the message with the envelope's id among its headers."""
        self._status = int(message["status"])
        self._trailers = bool(message.get("trailers", False))
        headers = message.get("headers", ())
        # An iterator can be read once only, and that is for the server.
        if not isinstance(headers, (list, tuple)):
            return message
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
        if self._id_header is None:
            return message
        if self._envelope_id is None:
            self._envelope_id = self._publisher.reserve()
        return {**message, "headers": [*headers, (self._id_header, self._envelope_id.encode())]}

    def _capture(self, error: BaseException | None) -> None:
        latency = perf_counter_ns() - self._started
        name, publisher = str(self.model_id), self._publisher
        request: Any = self._request
        response: Any = self._response
        status, cut = self._status, 0
        attributes: dict[str, str] = {}
        # Most exchanges are complete and of one piece; the others are looked at more closely.
        if not (
            error is None
            and status is not None
            and self._request_ended
            and self._body_ended
            and not self._gone
            and type(request) is type(response) is bytes
        ):
            request, response, status, cut, attributes = self._pieces(error)
        if (model_id := model_id_of(name)) != name:
            attributes["model-name"] = name
        publisher.take(
            publisher.number_of(self._envelope_id),
            model_id,
            str(self.model_version),
            "prediction",
            self._response_type,
            self._response_encoding,
            None,
            status,
            latency // 1000,
            self._headers,
            attributes,
            request,
            response,
            self.take_context(),
            cut,
            self.sampling_key,
        )
        self._request = self._response = b""  # nothing here keeps them any longer

    def _pieces(
        self, error: BaseException | None
    ) -> tuple[bytes, bytes | None, int | None, int, dict[str, str]]:
        """Request, response, status, bits of `cut` and attributes, however it went."""
        request, response = self._request, self._response
        answered = self._status is not None and self._has_answered(error)
        complete = self._request_complete()
        cut = 0
        if (isinstance(request, Body) and request.cut) or not complete:
            cut |= CUT_REQUEST
        answer = None
        if self._status is not None:
            answer = taken(response)
            if (isinstance(response, Body) and response.cut) or not answered:
                cut |= CUT_RESPONSE
        status = self._status if answered else CLIENT_GONE if self._gone else FAILED
        attributes = {}
        if self._gone:
            attributes["disconnected"] = "response" if complete else "request"
        elif error is not None:
            attributes["error"] = type(error).__name__
        return taken(request), answer, status, cut, attributes

    def _has_answered(self, error: BaseException | None) -> bool:
        if self._gone:  # frameworks end a stream in good order when nobody listens any more
            return self._body_ended and self._response_length == str(seen(self._response))
        # An app that announced trailers and sends none has answered all the same.
        return self._body_ended and (error is None or not self._trailers)

    def _request_complete(self) -> bool:
        """Whether all of the request has passed, also when the app has not read on to its end."""
        if self._request_ended:
            return True
        length = self._request_header(b"content-length")
        if length is not None:
            return length == str(seen(self._request))
        # In HTTP/1 a request has a body only if a header says so.
        chunked = self._request_header(b"transfer-encoding") is not None
        return str(self._http_version).startswith("1") and not chunked

    def _request_header(self, wanted: bytes) -> str | None:
        for name, value in self._headers:
            if name == wanted:
                return str(value, "latin-1")
        return None
