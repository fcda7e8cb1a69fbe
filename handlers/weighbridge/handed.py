"""What callers hand over, as the queue holds it: bytes that do not change, within the limit."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

from weighbridge.captured import CONTEXT_BYTES
from weighbridge.wire import CUT_CONTEXT, CUT_REQUEST, CUT_RESPONSE

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


def nanos(moment: datetime) -> int:
    """Nanoseconds since 1970. TypeError for a time without zone, which would be a guess."""
    return (moment - _EPOCH) // _MICROSECOND * 1000


def body_of(body: Any) -> bytes | None:
    """The body; a copy of what can still change. TypeError for a str."""
    return body if body is None or type(body) is bytes else memoryview(body).tobytes()


def context_of(context: Any) -> tuple[Any, int]:
    """A context, and the bytes that it counts for."""
    if context is None:
        return None, 0
    if isinstance(context, (bytearray, memoryview)):
        context = bytes(context)
    return context, len(context) if type(context) is bytes else CONTEXT_BYTES


class Limit(NamedTuple):
    """The most bytes of a body, and whether a larger one is left out instead of cut."""

    most: int
    leave_out: bool

    def applied(
        self, request: bytes | None, response: bytes | None, context: Any, cut: int
    ) -> tuple[bytes | None, bytes | None, Any, int, int]:
        """Request, response and context within the limit; the bits of `cut`; and their bytes."""
        most = self.most
        if request is not None and len(request) > most:
            request, cut = None if self.leave_out else request[:most], cut | CUT_REQUEST
        if response is not None and len(response) > most:
            response, cut = None if self.leave_out else response[:most], cut | CUT_RESPONSE
        context, bulk = context_of(context)
        if type(context) is bytes and bulk > most:  # an object is measured once it is JSON
            context, bulk, cut = None, 0, cut | CUT_CONTEXT
        return request, response, context, cut, len(request or b"") + len(response or b"") + bulk
