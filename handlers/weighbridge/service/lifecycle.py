"""From the start of the process to its end: loading, ready, draining."""

from __future__ import annotations

import asyncio
import inspect
import logging
import signal
import threading
import traceback
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from functools import partial
from types import FrameType
from typing import Any, Literal, TypeVar

from anyio import CapacityLimiter, to_thread

from weighbridge.publisher import EnvelopePublisher
from weighbridge.service.handler import ModelHandler
from weighbridge.service.settings import Settings

State = Literal["loading", "ready", "failed", "draining"]
T = TypeVar("T")
log = logging.getLogger("weighbridge.service")


class Lifecycle:
    """The state of a service, and its calls of the handler.

    Args:
        settings: its settings.
        handler: loaded in `running`.
        publisher: closed at the end of `running`.
    """

    def __init__(
        self, settings: Settings, handler: ModelHandler, publisher: EnvelopePublisher
    ) -> None:
        self._settings = settings
        self._handler = handler
        self._publisher = publisher
        self._limiter: CapacityLimiter | None = None
        self.state: State = "loading"
        self._loaded = False

    @property
    def answers(self) -> bool:
        """Whether requests are answered: from the end of `load` to that of the process."""
        return self._loaded

    @asynccontextmanager
    async def running(self, app: object) -> AsyncIterator[None]:
        """What a server does around serving."""
        self._limiter = CapacityLimiter(self._settings.threads)
        # Beside it, so that the probes are answered while a large model is loaded.
        loading = asyncio.create_task(self._load())
        restore = self._watch_for_the_end(asyncio.get_running_loop())
        try:
            yield
        finally:
            self.state = "draining"
            restore()
            loading.cancel()
            with suppress(asyncio.CancelledError):
                await loading
            await to_thread.run_sync(self._publisher.close, self._settings.close_seconds)

    async def call(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """What a method of the handler says, called in a thread unless it is `async`."""
        if inspect.iscoroutinefunction(function):
            return await function(*arguments)
        return await to_thread.run_sync(
            partial(function, *arguments), limiter=self._limiter, abandon_on_cancel=True
        )

    async def _load(self) -> None:
        try:
            await self.call(self._handler.load)
        except Exception as error:
            self.state = "failed"
            log.error("load failed with %s\n%s", type(error).__name__, traceback.format_exc())
            return
        self._loaded = True
        if self.state == "loading":
            self.state = "ready"

    def _watch_for_the_end(self, loop: asyncio.AbstractEventLoop) -> Callable[[], None]:
        """Be not ready from SIGTERM on: a server tells its application only when all is over."""
        if threading.current_thread() is not threading.main_thread():
            return lambda: None
        servers = signal.getsignal(signal.SIGTERM)
        if not callable(servers):
            return lambda: None

        def on_sigterm(number: int, frame: FrameType | None) -> None:
            again, self.state = self.state == "draining", "draining"
            delay = 0.0 if again else self._settings.drain_seconds
            stop = partial(servers, number, frame)
            if delay:
                loop.call_soon_threadsafe(loop.call_later, delay, stop)
            else:
                stop()

        signal.signal(signal.SIGTERM, on_sigterm)

        def restore() -> None:
            if signal.getsignal(signal.SIGTERM) is on_sigterm:
                signal.signal(signal.SIGTERM, servers)

        return restore
