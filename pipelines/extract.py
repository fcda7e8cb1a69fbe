"""Messages to rows: decode, route, extract, validate and stamp, in one fused step."""

from __future__ import annotations

import gc
from collections.abc import Iterator, Sequence
from itertools import compress, repeat
from typing import Any, NamedTuple, Protocol, TypeAlias

import apache_beam as beam
import pyarrow as pa
from apache_beam.pvalue import TaggedOutput
from apache_beam.transforms.window import GlobalWindow
from apache_beam.utils.timestamp import MIN_TIMESTAMP
from apache_beam.utils.windowed_value import WindowedValue

from extractors import Extractor, Extractors
from extractors._calls import ExtractorCalls, Taken
from extractors._registry import MODEL_ID
from pipelines.decode import MAX_TIME, Decoded, decode, whole_dead_letter
from pipelines.ledger import HEARTBEATS, SKIPPED, heartbeat_rows, record_batch, skipped_row
from pipelines.metrics import UNKNOWN, counter
from pipelines.tables import RowTable, table_of
from schemas import Failure, RecordError, RouteError, RowValidationError
from schemas.buffer import RowBuffer
from schemas.guard import TimeLimit
from weighbridge.archive import Message

ROWS, FAILURES, PARKED = "rows", "failures", "parked"
FLUSH_ROWS = 2000
"""Rows that are checked at once: 1,000 to 4,000 cost the same, one by one costs twice as much."""
_GC_THRESHOLD = 100_000
_EVERYWHERE = (GlobalWindow(),)


class Extracted(NamedTuple):
    """What `emit` made of the rows, dead letters, and messages that no extractor takes."""

    rows: Any
    failures: Any
    parked: Any


class Emit(Protocol):
    """What becomes of the record batches of a table. Pickles; is used by one thread."""

    element_type: Any
    max_table_bytes: int
    max_bytes: int

    def __call__(self, table: RowTable, batches: list[pa.RecordBatch]) -> Iterator[Any]:
        """Elements for the batches of one table; a `WindowedValue` keeps its own timestamp."""


class ExtractRows(beam.PTransform[Any, Any]):
    """Turns messages into what `emit` makes of their rows. In: `Message`. Out: `Extracted`.

    An envelope is all or nothing: its rows stay together, or it is a dead letter. Adding a model
    adds an entry to a dictionary, and no step.

    Args:
        extractors: what `load_extractors` gave in the launching process; it travels in the step.
        emit: called with record batches between envelopes and at the end of a bundle.
        max_future: seconds that an event may lie ahead of its publish time.
        max_envelope_bytes: the most payload bytes of one envelope.
    """

    def __init__(
        self, extractors: Extractors, emit: Emit, max_future: float, max_envelope_bytes: int
    ) -> None:
        super().__init__()
        self._fn = _ExtractRowsFn(extractors, emit, max_future, max_envelope_bytes)
        self._element_type = emit.element_type

    def expand(self, messages: Any) -> Extracted:
        """One step with three outputs."""
        outputs = messages | "Extract" >> beam.ParDo(self._fn).with_outputs(
            FAILURES, PARKED, main=ROWS
        )
        outputs[ROWS].element_type = self._element_type
        return Extracted(outputs[ROWS], outputs[FAILURES], outputs[PARKED])


_Source: TypeAlias = tuple[Decoded, int]
"""A message, and the position of one of its envelopes."""


class _Held:
    """Record batches of one table that are not emitted yet."""

    def __init__(self, table: RowTable) -> None:
        self.table = table
        self.clear()

    def clear(self) -> None:
        self.batches: list[pa.RecordBatch] = []
        self.bytes = 0


class _Route:
    """One extractor at work: its calls, and its rows."""

    def __init__(self, extractor: Extractor, limit: TimeLimit) -> None:
        shape = extractor.shape()
        self.extractor = extractor
        self.calls = ExtractorCalls(extractor, limit)
        self.checked: RowBuffer[_Source] = RowBuffer(shape, True)
        self.unchecked: RowBuffer[_Source] = RowBuffer(shape, False)
        self.held = _Held(table_of(extractor))

    def clear(self) -> None:
        self.checked.clear()
        self.unchecked.clear()
        self.held.clear()


class _Ledger:
    """Rows of a table of the platform's own."""

    def __init__(self, name: str) -> None:
        self.held = _Held(RowTable(name))
        self.rows: list[tuple[Any, ...]] = []

    def clear(self) -> None:
        self.rows = []
        self.held.clear()


class _ExtractRowsFn(beam.DoFn):
    def __init__(
        self, extractors: Extractors, emit: Emit, max_future: float, max_envelope_bytes: int
    ) -> None:
        self._extractors = dict(extractors)
        self._emit = emit
        self._max_future = int(max_future * 1e6)
        self._max_envelope_bytes = max_envelope_bytes

    def setup(self) -> None:
        self._routes: dict[tuple[str, str], _Route] = {}
        self._skipped, self._heartbeats = _Ledger(SKIPPED), _Ledger(HEARTBEATS)
        self._limit = TimeLimit()
        # Rows are many small objects without cycles: collecting often costs 4 to 16 per cent.
        gc.freeze()
        gc.set_threshold(_GC_THRESHOLD)

    def teardown(self) -> None:
        self._limit.close()

    def start_bundle(self) -> None:
        # A bundle that failed half-way has left rows behind.
        for source in self._sources():
            source.clear()
        self._held = 0

    def process(self, message: Message) -> Iterator[Any]:
        try:
            decoded = decode(message, self._max_envelope_bytes)
            if isinstance(decoded, dict):
                counter(UNKNOWN, "heartbeats_received").inc()
                self._heartbeats.rows += heartbeat_rows(decoded, message.publish_time)
                return
            if not MODEL_ID.fullmatch(decoded.model_id):
                raise RouteError("attribute model_id is not 1 to 63 of a-z, 0-9, - and _")
        except RecordError as error:
            counter(UNKNOWN, f"failures_{error.stage}").inc()
            yield TaggedOutput(FAILURES, whole_dead_letter(message, Failure.of(error)))
            return
        route = self._route(decoded)
        if route is None:
            counter(UNKNOWN, "envelopes_parked").inc(len(decoded.ids))
            yield TaggedOutput(PARKED, message)
            return
        yield from self._extract(decoded, route)
        for buffer in (route.checked, route.unchecked):
            if len(buffer.rows) >= FLUSH_ROWS:
                yield from self._flush(route, buffer)
        for ledger in (self._skipped, self._heartbeats):
            if len(ledger.rows) >= FLUSH_ROWS:
                yield from self._note(ledger)

    def finish_bundle(self) -> Iterator[Any]:
        for output in self._remaining():
            if isinstance(output, WindowedValue):
                yield output
            elif isinstance(output, TaggedOutput):
                value = WindowedValue(output.value, MIN_TIMESTAMP, _EVERYWHERE)
                yield TaggedOutput(output.tag, value)
            else:
                yield WindowedValue(output, MIN_TIMESTAMP, _EVERYWHERE)

    def _route(self, decoded: Decoded) -> _Route | None:
        key = (decoded.model_id, decoded.kind)
        route = self._routes.get(key)
        if route is None and key in self._extractors:
            route = self._routes[key] = _Route(self._extractors[key], self._limit)
        return route

    def _extract(self, decoded: Decoded, route: _Route) -> Iterator[Any]:
        extractor, skip = route.extractor, self._skipped.rows
        already = len(skip)
        wanted: Sequence[int] = range(len(decoded.ids))
        envelopes = decoded.envelopes()
        refusals = self._refusals(decoded)
        unwanted = _unwanted(decoded.statuses, extractor.statuses)
        if refusals or unwanted:
            by_status = [decoded.statuses[position] in unwanted for position in wanted]
            skip += (skipped_row(decoded, i, "status") for i in compress(wanted, by_status))
            for position in [p for p in refusals if not by_status[p]]:
                yield self._dead_letter((decoded, position), extractor, refusals[position])
            chosen = [not by_status[p] and p not in refusals for p in wanted]
            wanted, envelopes = list(compress(wanted, chosen)), compress(envelopes, chosen)
        found = route.calls.extract(envelopes)
        for index, error in found.failed:
            yield self._dead_letter((decoded, wanted[index]), extractor, error)
        skip += (skipped_row(decoded, wanted[index], "no_rows") for index in found.empty)
        for taken, buffer in ((found.checked, route.checked), (found.unchecked, route.unchecked)):
            if taken.rows:
                _hand_over(decoded, wanted, taken, buffer)
        table = extractor.table
        counter(table, "envelopes_decoded").inc(len(decoded.ids))
        counter(table, "rows_extracted").inc(len(found.checked.rows) + len(found.unchecked.rows))
        if len(skip) > already:
            counter(table, "envelopes_skipped").inc(len(skip) - already)
        if found.with_nan:
            counter(table, "payloads_with_nan").inc(found.with_nan)

    def _refusals(self, decoded: Decoded) -> dict[int, RecordError]:
        """Envelopes that no extractor may see, by position."""
        published, times = decoded.message.publish_time, decoded.times
        latest = MAX_TIME if published is None else published + self._max_future
        if not decoded.suspicious and max(times, default=0) <= latest:
            return {}
        found: dict[int, RecordError] = {}
        for position, time in enumerate(times):
            refusal = decoded.refusal(position)
            if refusal is not None:
                found[position] = refusal
            elif time > latest:
                cause = "event_time is further ahead than --max_future"
                found[position] = RowValidationError(cause)
        return found

    def _flush(self, route: _Route, buffer: RowBuffer[_Source]) -> Iterator[Any]:
        flushed = buffer.flush()
        for source, error in flushed.refused:
            yield self._dead_letter(source, route.extractor, error)
        if flushed.batch is None:
            return
        yield from self._hold(route.held, flushed.batch)

    def _note(self, ledger: _Ledger) -> Iterator[Any]:
        rows, ledger.rows = ledger.rows, []
        yield from self._hold(ledger.held, record_batch(ledger.held.table.name, rows))

    def _hold(self, held: _Held, batch: pa.RecordBatch) -> Iterator[Any]:
        held.batches.append(batch)
        held.bytes += batch.nbytes
        self._held += batch.nbytes
        if held.bytes >= self._emit.max_table_bytes:
            yield from self._emitted(held)
        while self._held >= self._emit.max_bytes:
            yield from self._emitted(max(self._holding(), key=_bytes))

    def _remaining(self) -> Iterator[Any]:
        for route in self._routes.values():
            for buffer in (route.checked, route.unchecked):
                if buffer.rows:
                    yield from self._flush(route, buffer)
        for ledger in (self._skipped, self._heartbeats):
            if ledger.rows:
                yield from self._note(ledger)
        for held in self._holding():
            if held.batches:
                yield from self._emitted(held)

    def _holding(self) -> list[_Held]:
        return [source.held for source in self._sources()]

    def _sources(self) -> list[_Route | _Ledger]:
        return [*self._routes.values(), self._skipped, self._heartbeats]

    def _emitted(self, held: _Held) -> Iterator[Any]:
        batches, self._held = held.batches, self._held - held.bytes
        held.clear()
        yield from self._emit(held.table, batches)

    def _dead_letter(self, source: _Source, extractor: Extractor, error: RecordError) -> Any:
        counter(extractor.table, f"failures_{error.stage}").inc()
        failure = Failure.of(error, extractor.model_id)
        decoded, position = source
        letter = decoded.dead_letter(position, failure)
        letter.attributes["failure_extractor_version"] = extractor.version
        return TaggedOutput(FAILURES, letter)


def _hand_over(
    decoded: Decoded, wanted: Sequence[int], taken: Taken, buffer: RowBuffer[_Source]
) -> None:
    positions, ids, times = taken.positions, decoded.ids, decoded.times
    if len(positions) < len(ids):
        positions = [wanted[index] for index in positions]
        ids = [ids[position] for position in positions]
        times = [times[position] for position in positions]
    published = decoded.message.publish_time
    ingested = times if published is None else [published] * len(times)
    sources = zip(repeat(decoded), positions)
    buffer.extend(taken.rows, taken.counts, ids, times, ingested, decoded.model_version, sources)


def _unwanted(statuses: list[int | None], taken: range | None) -> set[int | None]:
    """Of the statuses, those that the extractor does not take."""
    if taken is None:
        return set()
    return {status for status in set(statuses) if status is not None and status not in taken}


def _bytes(held: _Held) -> int:
    return held.bytes
