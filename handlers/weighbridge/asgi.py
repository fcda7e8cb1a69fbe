"""The ASGI middleware: captures what passes, and changes nothing but one header of the answer."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Collection
from typing import TypeAlias

from weighbridge.attached import current
from weighbridge.captured import TOKEN
from weighbridge.exchange import Exchange, Message, Receive, Send
from weighbridge.log import log_once
from weighbridge.model_of import ModelOf, Scope, from_path
from weighbridge.publisher import EnvelopePublisher

ASGIApp: TypeAlias = Callable[[Scope, Receive, Send], Awaitable[None]]

_SHUT_DOWN = ("lifespan.shutdown.complete", "lifespan.shutdown.failed")


class CaptureMiddleware:
    """Hands each request to a model, and its answer, to a publisher.

    Args:
        app: the ASGI application.
        publisher: where envelopes go.
        model: the model id, or a function from the scope to a model id or `Model`; where that says
            None nothing is captured. Default: the paths of `INFERENCE_PATHS`.
        model_version: the version, or a function from the scope; a path's version comes first.
        sampling_key: a function from the scope to what sampling is sticky by.
        methods: the HTTP methods that are captured.
        id_header: the header of the answer that carries the envelope's id; None: no header.
        close_timeout: seconds that closing the publisher may take when the server ends the app's
            lifespan; None: closing it is up to the service.

    Raises:
        ValueError: an argument of another kind, which would capture nothing without a word.
    """

    def __init__(
        self,
        app: ASGIApp,
        publisher: EnvelopePublisher,
        *,
        model: str | ModelOf | None = None,
        model_version: str | Callable[[Scope], str | None] = "",
        sampling_key: Callable[[Scope], str | None] | None = None,
        methods: Collection[str] = ("POST", "PUT", "PATCH"),
        id_header: str | None = "x-envelope-id",
        close_timeout: float | None = 5.0,
    ) -> None:
        if publisher is None or isinstance(publisher, (str, os.PathLike, type)):
            raise ValueError(
                "publisher: give an EnvelopePublisher, such as EnvelopePublisher(topic)"
            )
        if not (model is None or isinstance(model, str) or callable(model)):
            raise ValueError("model: give a model id, or a function from the scope to one")
        if isinstance(methods, str):
            raise ValueError('methods: give a list of them, such as ["POST"]')
        if id_header is not None and not TOKEN.fullmatch(id_header):
            raise ValueError(f"id_header: {id_header!r} is no name of a header")
        self.app = app
        self._publisher = publisher
        self._model = from_path() if model is None else model
        self._version = model_version
        self._sampling_key = sampling_key
        self._close_timeout = close_timeout
        self._methods = frozenset(method.upper() for method in methods)
        self._id_header = None if id_header is None else id_header.lower().encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Run the app, and record its exchange if it is one with a model."""
        if scope.get("type") == "lifespan":
            await self.app(scope, receive, self._closing(send))
            return
        exchange = self._exchange(scope, receive, send)
        if exchange is None:
            await self.app(scope, receive, send)
            return
        token = current.set(exchange)
        try:
            await self.app(scope, exchange.receive, exchange.send)
        except BaseException as error:
            exchange.finish(error)
            raise
        else:
            exchange.finish()
        finally:
            try:  # noqa: SIM105  # suppress() would cost each request some more
                current.reset(token)
            except ValueError:  # a coroutine may be closed from another context
                pass

    def _exchange(self, scope: Scope, receive: Receive, send: Send) -> Exchange | None:
        try:
            if scope["type"] != "http" or scope["method"] not in self._methods:
                return None
            model = self._model if isinstance(self._model, str) else self._model(scope)
            if model is None:
                return None
            name, version = (model, "") if isinstance(model, str) else (model.id, model.version)
            if not version:
                named = self._version
                version = named if isinstance(named, str) else named(scope) or ""
            key = None if self._sampling_key is None else self._sampling_key(scope)
            return Exchange(
                self._publisher, name, version, key, self._id_header, scope, receive, send
            )
        except Exception as error:
            log_once("record", error)
            return None

    def _closing(self, send: Send) -> Send:
        # Some servers end by the signal that told them to: nothing runs at exit then.
        async def watched(message: Message) -> None:
            try:
                kind = message["type"]
                if self._close_timeout is not None and kind in _SHUT_DOWN:
                    self._publisher.close(self._close_timeout)
            except Exception as error:
                log_once("record", error)
            await send(message)

        return watched
