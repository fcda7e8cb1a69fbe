"""What a record can be refused for while it is read. `schemas.errors` draws the whole tree."""

from __future__ import annotations

from typing import ClassVar


class RecordError(Exception):
    """One record is refused and becomes a dead letter; everything around it goes on.

    Args:
        cause: what is wrong, without input values: equal causes are one group for an operator.
        detail: where in the record, e.g. "row 3"; not part of the group.
        error: class name of the underlying exception, if there is one.
        trace: where in the refusing code it happened, as lines of text without input values.
    """

    stage: ClassVar[str]

    def __init__(self, cause: str, *, detail: str = "", error: str = "", trace: str = "") -> None:
        super().__init__(f"{detail}: {cause}" if detail else cause)
        self.cause = cause
        self.detail = detail
        self.error = error or type(self).__name__
        self.trace = trace

    def __reduce__(self) -> tuple[object, ...]:
        return (_rebuild, (type(self), self.cause, self.detail, self.error, self.trace))


class DecodeError(RecordError):
    """The bytes are not what they claim to be: message, batch, body encoding or JSON."""

    stage = "decode"


def _rebuild(
    kind: type[RecordError], cause: str, detail: str, error: str, trace: str
) -> RecordError:
    return kind(cause, detail=detail, error=error, trace=trace)
