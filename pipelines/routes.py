"""What a worker keeps for each table: its calls, its rows that are not emitted yet."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import repeat
from time import time_ns
from typing import Any, TypeAlias

import pyarrow as pa

from extractors import Extractor
from extractors._calls import ExtractorCalls, Taken
from pipelines.decode import Decoded
from pipelines.ledger import cost_rows
from pipelines.quarantine import Ward
from pipelines.stuck import slot_of
from pipelines.tables import RowTable, table_of
from schemas.buffer import RowBuffer
from schemas.guard import TimeLimit

Source: TypeAlias = tuple[Decoded, int]
"""A message, and the position of one of its envelopes."""


class Held:
    """Record batches of one table that are not emitted yet."""

    def __init__(self, table: RowTable) -> None:
        self.table = table
        self.clear()

    def clear(self) -> None:
        """Forget them."""
        self.batches: list[pa.RecordBatch] = []
        self.bytes = 0


@dataclass(slots=True)
class Spent:
    """What one extractor has cost.

    Attributes:
        envelopes: given to it.
        message_bytes: of their messages, as they were received.
        cpu_ns: nanoseconds of CPU of this thread, in its calls and in checking its rows.
    """

    extractor: Extractor
    envelopes: int = 0
    message_bytes: int = 0
    cpu_ns: int = 0

    def taken(self) -> tuple[str, str, str, int, int, int]:
        """What `cost_rows` takes; from now on it counts anew."""
        one = self.extractor
        counts = self.envelopes, self.message_bytes, self.cpu_ns
        self.envelopes = self.message_bytes = self.cpu_ns = 0
        return (one.model_id, one.kind, one.version, *counts)


class Route:
    """One extractor at work: its calls, and its rows.

    Attributes:
        buffers: rows of the row class, and dicts, that are not checked yet.
        pending: payload bytes of the messages that these rows came from, at most.
        spent: what it has cost since `cost_rows` was told.
        held: rows that are checked.
    """

    def __init__(self, extractor: Extractor, limit: TimeLimit, ward: Ward) -> None:
        shape, most = extractor.shape(), extractor.settings.max_row_bytes
        self.extractor = extractor
        self.ward = ward
        self.slot = slot_of(extractor.table, extractor.version)
        self.calls = ExtractorCalls(extractor, limit)
        self.checked: RowBuffer[Source] = RowBuffer(shape, True, most)
        self.unchecked: RowBuffer[Source] = RowBuffer(shape, False, most)
        self.buffers = (self.checked, self.unchecked)
        self.pending = 0
        self.spent = Spent(extractor)
        self.held = Held(table_of(extractor))

    def clear(self) -> None:
        """Forget all rows, as those of a bundle that failed."""
        for buffer in self.buffers:
            buffer.clear()
        self.pending = 0
        self.spent = Spent(self.extractor)
        self.held.clear()


def rows_of_costs(routes: Iterable[Route]) -> Iterator[tuple[Any, ...]]:
    """What routes have cost since they were asked before, as of now."""
    spent = [route.spent.taken() for route in routes if route.spent.envelopes]
    return cost_rows(time_ns() // 1000, spent)


class Ledger:
    """Rows of a table of the platform's own."""

    def __init__(self, name: str) -> None:
        self.held = Held(RowTable(name))
        self.rows: list[tuple[Any, ...]] = []

    def clear(self) -> None:
        """Forget all rows."""
        self.rows = []
        self.held.clear()


def hand_over(
    decoded: Decoded, wanted: Sequence[int], taken: Taken, buffer: RowBuffer[Source]
) -> None:
    """Give rows to the buffer that checks them.

    Args:
        decoded: the message that they came from.
        wanted: positions in the message of the envelopes that were given to the extractor.
        taken: its rows.
        buffer: takes them.
    """
    positions, ids, times = taken.positions, decoded.ids, decoded.times
    if len(positions) < len(ids):
        positions = [wanted[index] for index in positions]
        ids = [ids[position] for position in positions]
        times = [times[position] for position in positions]
    published = decoded.message.publish_time
    ingested = times if published is None else [published] * len(times)
    sources = zip(repeat(decoded), positions)
    buffer.extend(taken.rows, taken.counts, ids, times, ingested, decoded.model_version, sources)
