"""Messages to a destination without losing any: what waits here is waited for."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from types import TracebackType

from weighbridge.destinations import Destination, Packed, RefusedError, Sending, open_destination

_POLL_SECONDS = 0.002
_LONGEST_PAUSE = 5.0
_HOPELESS = {
    "NOT_FOUND": "there is no such topic, or no such project",
    "PERMISSION_DENIED": "these credentials may not publish: they need roles/pubsub.publisher",
    "UNAUTHENTICATED": "Google refuses the credentials",
}
"""By gRPC's status: trying again is of no use until somebody has done something."""


class UndeliveredError(Exception):
    """Some messages were not taken; the text says why, and quotes nothing of them."""


@dataclass
class _Call:
    messages: Sequence[Packed]
    envelopes: int
    sending: Sending | None
    failed_at: float | None = None
    pause: float = 0.1
    again_at: float = 0.0


class Delivery:
    """Delivers messages in the order in which they come, a few calls at a time.

    Args:
        destination: a topic or a folder.
        patience: seconds for which a failing call is tried again.

    Raises:
        ValueError: no such destination.
        OSError: the folder cannot be made.
    """

    def __init__(self, destination: str, patience: float) -> None:
        self._name = destination
        self._destination: Destination = open_destination(destination)
        self._patience = patience
        self._calls: deque[_Call] = deque()
        self.delivered = 0
        """Envelopes that were taken."""

    def __enter__(self) -> Delivery:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._destination.close()

    def put(self, messages: Sequence[Packed], envelopes: int) -> None:
        """Begin to send messages that hold so many envelopes, once there is room for the call.

        Raises:
            UndeliveredError: a call was refused, or failed until the patience ended.
        """
        while len(self._calls) >= self._destination.in_flight:
            self._wait()
        call = _Call(messages, envelopes, None)
        self._calls.append(call)
        self._begin(call)

    def finish(self) -> None:
        """Wait until everything was taken; raises like `put`."""
        while self._calls:
            self._wait()

    def _wait(self) -> None:
        for call in list(self._calls):
            if call.sending is None:
                if time.monotonic() >= call.again_at:
                    self._begin(call)
            elif call.sending.done():
                failure = call.sending.failure()
                if failure is None:
                    self.delivered += call.envelopes
                    self._calls.remove(call)
                else:
                    self._failed(call, failure)
        time.sleep(_POLL_SECONDS)

    def _begin(self, call: _Call) -> None:
        try:
            call.sending = self._destination.send(call.messages)
        except Exception as error:  # a destination raises what its libraries do
            self._failed(call, error)

    def _failed(self, call: _Call, error: Exception) -> None:
        now = time.monotonic()
        call.sending = None
        call.failed_at = now if call.failed_at is None else call.failed_at
        reason = _reason(error, self._name)
        if reason is None and now - call.failed_at + call.pause > self._patience:
            reason = (
                f"{self._name} did not take it within {self._patience:g} s ({_status(error)}); "
                "--retry_for has it tried for longer"
            )
        if reason:
            self._give_up(call)
            raise UndeliveredError(reason)
        call.again_at = now + call.pause
        call.pause = min(2 * call.pause, _LONGEST_PAUSE)

    def _give_up(self, failed: _Call) -> None:
        """Count what else was under way: each call ends by its own deadline."""
        for call in self._calls:
            if call is not failed and call.sending is not None:
                while not call.sending.done():
                    time.sleep(_POLL_SECONDS)
                if call.sending.failure() is None:
                    self.delivered += call.envelopes
        self._calls.clear()


def _reason(error: Exception, name: str) -> str | None:
    """Why it is of no use to try again, if it is not."""
    if isinstance(error, RefusedError):
        return f"{name} refuses a message ({_status(error.__cause__ or error)})"
    if isinstance(error, OSError):
        return f"{name}: {error.strerror or type(error).__name__}"
    if type(error).__module__.startswith("google.auth"):
        return (
            "there are no Google credentials: `gcloud auth application-default login` makes some, "
            "and for the emulator set PUBSUB_EMULATOR_HOST"
        )
    found = _HOPELESS.get(_status(error))
    return f"{name}: {found}" if found else None


def _status(error: BaseException) -> str:
    code = getattr(error, "code", None)
    status = code() if callable(code) else None
    return getattr(status, "name", type(error).__name__)
