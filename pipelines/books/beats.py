"""Heartbeats: what publishers say of themselves."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from extractors._registry import MODEL_ID
from pipelines.books.ids import Numbers

Counts = Counter[tuple[str, str]]
"""Envelopes by what became of them, and why where there are several causes."""
COLUMNS = ("served", "sampled_out", "spooled", "published")


@dataclass(frozen=True)
class Beat:
    """What a publisher has counted since it started.

    Attributes:
        time: microseconds since 1970, UTC.
        sequence: numbers that were given out by then.
        final: whether it has closed since.
        models: counts by model id.
    """

    time: int
    sequence: int
    final: bool
    models: dict[str, Counts]

    @cached_property
    def total(self) -> Counts:
        """The sums over all models."""
        total: Counts = Counter()
        for counts in self.models.values():
            total.update(counts)
        return total


OTHERS = ""
PUBLISHER = "^[A-Za-z0-9_.-]{1,64}$"
"""Who has another id is not believed, as ids are printed."""
_CAUSE = re.compile("[a-z_]{1,32}")
NOTHING = Beat(0, 0, False, {})
"""Before the first heartbeat."""


class Beats:
    """All heartbeats of a time.

    Args:
        rows: of the table of heartbeats.
    """

    def __init__(self, rows: pa.Table) -> None:
        named = pc.match_substring_regex(rows["publisher_id"], PUBLISHER)
        rows = rows.filter(named.fill_null(False)).combine_chunks()
        rows = rows.sort_by([("publisher_id", "ascending"), ("event_time", "ascending")])
        self._rows = rows
        self._times: Numbers = rows["event_time"].cast(pa.int64()).to_numpy()
        encoded = rows["publisher_id"].combine_chunks().dictionary_encode()
        codes = encoded.indices.to_numpy()
        starts = np.flatnonzero(np.diff(codes, prepend=-1))
        ends = [*starts[1:], len(codes)]
        names = encoded.dictionary.to_pylist()
        self._ranges = {
            names[codes[start]]: (int(start), int(end)) for start, end in zip(starts, ends)
        }

    @property
    def publishers(self) -> list[str]:
        """Ids of those that sent any."""
        return sorted(self._ranges)

    def times(self, publisher: str) -> Numbers:
        """When a publisher's heartbeats were, in order."""
        start, end = self._ranges[publisher]
        return np.unique(self._times[start:end])

    def at(self, publisher: str, time: int) -> Beat:
        """The heartbeat of that moment."""
        start, end = self._ranges[publisher]
        times = self._times[start:end]
        first, last = np.searchsorted(times, [time, time + 1]) + start
        found = self._rows.slice(first, last - first).to_pylist()
        models: dict[str, Counts] = {}
        for row in {row["row_id"]: row for row in found if row["model_id"] is not None}.values():
            # Whoever calls a service may name models: what cannot be one is not repeated here.
            name = row["model_id"] if MODEL_ID.fullmatch(row["model_id"]) else OTHERS
            models.setdefault(name, Counter()).update(_counts(row))
        return Beat(time, found[0]["sequence"] or 0, any(row.get("final") for row in found), models)

    def before(self, publisher: str, time: int, count: int = 1) -> Iterator[Beat]:
        """The last heartbeats before that moment, the latest first."""
        times = self.times(publisher)
        end = int(np.searchsorted(times, time))
        for moment in times[max(0, end - count) : end][::-1]:
            yield self.at(publisher, int(moment))


def _counts(row: dict[str, Any]) -> Counts:
    counts: Counts = Counter({(name, ""): row[name] or 0 for name in COLUMNS})
    for cause, count in row["dropped"] or ():
        counts["dropped", cause if _CAUSE.fullmatch(cause) else "other"] += count or 0
    return counts
