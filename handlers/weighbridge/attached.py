"""What a handler says about the request that it is serving, beyond its public answer."""

from __future__ import annotations

from contextvars import ContextVar
from typing import Any


class Attached:
    """Of one request. `context` is None once the envelope has been handed over."""

    __slots__ = ("context", "model_id", "model_version", "sampling_key")

    context: dict[str, Any] | None
    model_id: str
    model_version: str
    sampling_key: str | None

    def take_context(self) -> dict[str, Any] | None:
        """The context, or None if there is none; what is attached from now on is left out."""
        # A copy, as a thread of the handler may still be adding to this one.
        context, self.context = self.context, None
        return context.copy() if context else None


current: ContextVar[Attached | None] = ContextVar("weighbridge_attached", default=None)
"""Threads and tasks that a request starts share the object, as they copy the context."""


def attach(**values: Any) -> None:
    """Add to the context of the envelope of the request in hand: what the handler looked up.

    The values become one JSON object, written later by another thread: hand over what is not
    changed any more. Without a captured request, or after its answer, nothing happens.
    """
    attached = current.get()
    if attached is not None and (context := attached.context) is not None:
        context.update(values)


def describe(
    *,
    model_id: str | None = None,
    model_version: str | None = None,
    sampling_key: str | None = None,
) -> None:
    """Say of the request in hand what only the handler knows; it wins over the middleware's.

    Args:
        model_id: the model that answers, when the body names it.
        model_version: version of the model that answers.
        sampling_key: what sampling is sticky by, such as a customer's id.
    """
    attached = current.get()
    if attached is None:
        return
    if model_id is not None:
        attached.model_id = model_id
    if model_version is not None:
        attached.model_version = model_version
    if sampling_key is not None:
        attached.sampling_key = sampling_key
