"""The service as an ASGI application."""

from __future__ import annotations

import time
import traceback
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from weighbridge.asgi import CaptureMiddleware
from weighbridge.attached import attach, describe
from weighbridge.bodies import undo_encoding
from weighbridge.captured import KEPT_HEADERS
from weighbridge.errors import DecodeError
from weighbridge.model_of import Scope
from weighbridge.plain import parse_rfc3339
from weighbridge.publisher import EnvelopePublisher
from weighbridge.service.handler import Answer, BadRequestError, ModelHandler
from weighbridge.service.lifecycle import Lifecycle, log
from weighbridge.service.metrics import CONTENT_TYPE, RequestMetrics
from weighbridge.service.settings import Settings, SettingsError

JSON = "application/json"
CLIENT_GONE = 499
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_OPTIONS = orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_NON_STR_KEYS


def create_app(handler: ModelHandler | type[ModelHandler] | None = None, **given: Any) -> Starlette:
    """The service of a model: `uvicorn --factory weighbridge.service:create_app`.

    Args:
        handler: the handler; else `WEIGHBRIDGE_HANDLER` names it.
        given: other settings, see `Settings`; else they are the environment's.

    Raises:
        SettingsError: one is missing, or cannot be meant so.
        SystemExit: the same, if all are the environment's, as for a server that calls it.
    """
    if handler is not None:
        given["handler"] = handler
    try:
        return _Service(Settings.of(given)).app
    except SettingsError as error:
        if given:
            raise
        raise SystemExit(f"Error: {error}") from None


class _Refused(Exception):
    """The request is answered with this status, and a text for its caller."""

    def __init__(self, status: int, text: str, **headers: str) -> None:
        super().__init__(text)
        self.answer = _json({"error": text}, status, headers)


class _Service:
    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._handler = settings.new_handler()
        try:
            self._publisher = EnvelopePublisher(
                settings.destination,
                max_body_bytes=settings.max_body_bytes,
                headers=(*KEPT_HEADERS, *settings.headers),
                spool=settings.spool or None,
                spool_bytes=settings.spool_bytes,
            )
        except (ValueError, OSError) as error:
            raise SettingsError(f"the publisher cannot start: {error}") from None
        self._lifecycle = Lifecycle(settings, self._handler, self._publisher)
        self._metrics = RequestMetrics()
        base = f"/v1/models/{settings.model}"
        self._predicts = (f"{base}:predict", "/predict")
        predict, actual = (
            self._measured("predict", self._predict),
            self._measured("actual", self._actual),
        )
        self.app = Starlette(
            routes=[
                *(Route(path, predict, methods=["POST"]) for path in self._predicts),
                Route(f"{base}:actual", actual, methods=["POST"]),
                Route("/healthz", self._health),
                Route("/readyz", self._ready),
                Route("/metrics", self._text),
            ],
            middleware=[
                Middleware(
                    CaptureMiddleware,
                    publisher=self._publisher,
                    model=self._captured,
                    model_version=self._version,
                    methods=("POST",),
                )
            ],
            lifespan=self._lifecycle.running,
        )

    def _captured(self, scope: Scope) -> str | None:
        return self._settings.model if scope["path"] in self._predicts else None

    def _version(self, scope: Scope | None = None) -> str:
        return self._settings.model_version or str(self._handler.model_version)

    def _measured(
        self, route: str, answer: Callable[[Request], Awaitable[Response]]
    ) -> Callable[[Request], Awaitable[Response]]:
        async def measured(request: Request) -> Response:
            started = time.perf_counter()
            self._metrics.in_progress += 1
            status = CLIENT_GONE
            try:
                response = await answer(request)
                status = response.status_code
                return response
            except _Refused as refused:
                status = refused.answer.status_code
                return refused.answer
            finally:
                self._metrics.in_progress -= 1
                self._metrics.observe(route, status, time.perf_counter() - started)

        return measured

    async def _predict(self, request: Request) -> Response:
        if not self._lifecycle.answers:
            raise _Refused(503, "the model is not loaded yet", **{"retry-after": "1"})
        _, value = await self._body(request)
        try:
            answer = await self._lifecycle.call(self._handler.predict, value)
            if not isinstance(answer, Answer):
                answer = Answer(answer)
            body = orjson.dumps(answer.response, default=_plain, option=_OPTIONS)
            attach(**answer.context)
            describe(sampling_key=answer.sampling_key)
        except BadRequestError as error:
            raise _Refused(400, str(error)) from None
        except Exception as error:  # whatever a model raises; its text may quote the request
            frames = "".join(traceback.format_tb(error.__traceback__))
            log.error("predict failed with %s\n%s", type(error).__name__, frames)
            raise _Refused(500, "the model failed") from None
        return Response(body, media_type=JSON)

    async def _actual(self, request: Request) -> Response:
        body, _ = await self._body(request)
        named = request.query_params
        envelope_id = self._publisher.capture_actual(
            self._settings.model,
            body,
            event_time=_moment(named.get("event_time")),
            model_version=named.get("model_version", ""),
            sampling_key=named.get("sampling_key"),
        )
        return _json({"envelope_id": envelope_id}, 202)

    async def _body(self, request: Request) -> tuple[bytes, Any]:
        """The body, as bytes without content encodings and parsed."""
        limit = self._settings.max_body_bytes
        parts, size = [], 0
        try:
            async for part in request.stream():
                size += len(part)
                if size > limit:
                    raise _Refused(413, f"the body has more than {limit} bytes")
                parts.append(part)
        except ClientDisconnect:
            raise _Refused(CLIENT_GONE, "the client has gone") from None
        body = b"".join(parts)
        try:
            if encoding := request.headers.get("content-encoding", ""):
                body = undo_encoding(body, encoding, limit)
            return body, orjson.loads(body)
        except DecodeError as error:
            raise _Refused(400, str(error)) from None
        except ValueError:
            raise _Refused(400, "the body is not JSON") from None

    async def _health(self, request: Request) -> Response:
        state = self._lifecycle.state
        return _json({"status": state}, 500 if state == "failed" else 200)

    async def _ready(self, request: Request) -> Response:
        state = self._lifecycle.state
        return _json({"status": state}, 200 if state == "ready" else 503)

    async def _text(self, request: Request) -> Response:
        ready = self._lifecycle.state == "ready"
        text = self._metrics.text(ready, self._publisher.stats())
        return PlainTextResponse(text, headers={"content-type": CONTENT_TYPE})


def _json(value: Any, status: int, headers: dict[str, str] | None = None) -> Response:
    return Response(orjson.dumps(value), status, headers, JSON)


def _plain(value: Any) -> Any:
    """What orjson does not know as what it does."""
    for method in ("model_dump", "tolist", "to_dict"):
        if hasattr(value, method):
            return getattr(value, method)()
    if isinstance(value, (set, frozenset)):
        return list(value)
    raise TypeError(type(value).__name__)


def _moment(text: str | None) -> datetime | None:
    if text is None:
        return None
    try:
        return _EPOCH + timedelta(microseconds=parse_rfc3339(text))
    except ValueError:
        raise _Refused(
            400, "event_time is not a time with offset, such as 2026-01-31T17:00:00Z"
        ) from None
