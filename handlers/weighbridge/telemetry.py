"""The counts as OpenTelemetry metrics, where that API is installed."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable, Iterator
from importlib.util import find_spec
from typing import Any, Protocol

from weighbridge.counts import Stats

COUNTER, GAUGE = "weighbridge.envelopes", "weighbridge.envelopes.waiting"
_sources: weakref.WeakSet[Any] = weakref.WeakSet()
_exported = False


class Counted(Protocol):
    """What has counts."""

    def stats(self) -> Stats:
        """The counts so far."""


def export_counts(publisher: Counted) -> None:
    """Give the counts of a publisher to whatever meter provider the service has set.

    `weighbridge.envelopes` counts by `model_id` and `outcome`: sampled_out, published, and
    dropped with its `cause`. `weighbridge.envelopes.waiting` are those in memory ("queued") and
    in the spool ("spooled").
    """
    global _exported
    _sources.add(publisher)
    if _exported or find_spec("opentelemetry") is None:
        return
    _exported = True
    try:
        from opentelemetry.metrics import Observation, get_meter
    except ImportError:  # another part of OpenTelemetry
        return
    meter = get_meter("weighbridge")
    meter.create_observable_counter(COUNTER, [_observed(_outcomes, Observation)], "{envelope}")
    meter.create_observable_gauge(GAUGE, [_observed(_waiting, Observation)], "{envelope}")


def _observed(
    counts: Callable[[], Iterator[tuple[int, dict[str, str]]]], observation: Any
) -> Callable[[Any], Iterable[Any]]:
    return lambda options: [observation(count, labels) for count, labels in counts()]


def _outcomes() -> Iterator[tuple[int, dict[str, str]]]:
    for source in list(_sources):
        for model_id, counts in source.stats()["models"].items():
            for outcome in ("sampled_out", "published"):
                yield counts[outcome], {"model_id": model_id, "outcome": outcome}
            for cause, count in counts["dropped"].items():
                yield count, {"model_id": model_id, "outcome": "dropped", "cause": cause}


def _waiting() -> Iterator[tuple[int, dict[str, str]]]:
    for source in list(_sources):
        for model_id, counts in source.stats()["models"].items():
            for place in ("queued", "spooled"):
                yield counts[place], {"model_id": model_id, "place": place}
