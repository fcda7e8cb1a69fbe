"""Counters per model, with names that no input can multiply."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from typing import Any, TypeAlias

Counts: TypeAlias = dict[str, dict[str, int]]
"""Namespace -> name -> count."""
UNKNOWN = "unknown_model"
"""Namespace of ids that no extractor has, and of messages whose id is not to be trusted."""


@cache
def counter(table: str, name: str) -> Any:
    """The counter of a table, in the namespace of its name, or of `UNKNOWN`.

    Names: envelopes_decoded, envelopes_parked, envelopes_quarantined, envelopes_skipped,
    envelopes_known (left out as the table has them), rows_extracted, rows_written, commits_refused,
    rows_pushed, failures_decode, failures_route, failures_extract, failures_validate,
    payloads_with_nan, heartbeats_received, files_damaged, pushes_denied.
    """
    from apache_beam.metrics.metric import Metrics  # other commands do without Beam

    return Metrics.counter(table, name)


def counts(result: Any) -> Counts:
    """What a finished run counted.

    Some runners tell only what was attempted, which counts a bundle again that was repeated.
    """
    found: Counts = {}
    for item in result.metrics().query()["counters"]:
        name, count = item.key.metric, item.committed
        names = found.setdefault(name.namespace, {})
        names[name.name] = names.get(name.name, 0) + (item.attempted if count is None else count)
    return found


def merge(parts: Iterable[Counts]) -> Counts:
    """The sums of counts."""
    total: Counts = {}
    for part in parts:
        for namespace, names in part.items():
            sums = total.setdefault(namespace, {})
            for name, value in names.items():
                sums[name] = sums.get(name, 0) + value
    return total
