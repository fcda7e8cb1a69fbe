"""Lines in the service's log: few, and never with anything from a payload."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from contextlib import suppress

_SECONDS = 60.0
_log = logging.getLogger("weighbridge")
_logged: dict[str, float] = {}


def log_once(step: str, error: BaseException, reason: Callable[[], str] = lambda: "") -> None:
    """One line a minute and step. Never the error's text, which may quote a payload.

    Args:
        step: what could not be done.
        error: why not; its class is named,
        reason: unless this says more.
    """
    if may_log(step):
        code = getattr(error, "code", None)  # of gRPC: NOT_FOUND says more than its class
        name = code().name if callable(code) else type(error).__name__
        with suppress(Exception):  # it looks at whatever the service handed over
            name = reason() or name
        warn("weighbridge could not %s envelopes: %s", step, name)


def may_log(topic: str) -> bool:
    """Whether a minute has passed since this was last asked for with success."""
    now = time.monotonic()
    if now - _logged.get(topic, -_SECONDS) < _SECONDS:
        return False
    _logged[topic] = now
    return True


def warn(text: str, *values: object) -> None:
    """A warning, whatever the service's handlers of log lines do."""
    with suppress(Exception):
        _log.warning(text, *values)
