"""Messages to rows: decode, route, extract, validate and stamp, in one fused step."""

from __future__ import annotations

import gc
from collections.abc import Generator, Iterator, Sequence
from functools import cache
from itertools import compress, islice
from operator import attrgetter
from time import perf_counter, thread_time_ns
from typing import Any, NamedTuple, Protocol

import apache_beam as beam
import pyarrow as pa
from apache_beam.pvalue import TaggedOutput
from apache_beam.transforms.window import GlobalWindow
from apache_beam.utils.timestamp import MIN_TIMESTAMP
from apache_beam.utils.windowed_value import WindowedValue

from extractors import Extractor, Extractors
from extractors._calls import Extracted as Found
from extractors._registry import MODEL_ID
from pipelines.address import Folder
from pipelines.decode import Decoded, decode, refusals, unwanted_statuses, whole_dead_letter
from pipelines.ledger import COSTS, HEARTBEATS, SKIPPED, heartbeat_rows, record_batch, skipped_row
from pipelines.metrics import UNKNOWN, counter
from pipelines.quarantine import Quarantine
from pipelines.routes import Held, Ledger, Route, Source, hand_over, rows_of_costs
from pipelines.store import Store
from pipelines.stuck import AtWork, bury
from pipelines.tables import RowTable
from schemas import Failure, RecordError, RouteError, RowValidationError
from schemas.buffer import Flushed, RowBuffer
from schemas.guard import MemoryLimitReached, Raised, TimeLimit, TimeLimitReached
from weighbridge import Envelope
from weighbridge.archive import Message

ROWS, FAILURES, PARKED = "rows", "failures", "parked"
FLUSH_ROWS = 2000
"""Rows that are checked at once: 1,000 to 4,000 cost the same, one by one costs twice as much."""
FLUSH_BYTES = 64 << 20
"""Payload bytes of one table's messages that are kept until their rows are checked."""
PENDING_BYTES = 256 << 20
"""The same of all tables."""
CHECK_SECONDS = 30.0
"""Checking so many rows takes some milliseconds, unless a validator of a row class never ends."""
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
        home: where it is kept which models are quarantined.
        quarantine: whether models that harm the others are. One that took down a process is anyhow.

    Attributes:
        step: the `DoFn`, for those that call it without a pipeline around it.
    """

    def __init__(
        self,
        extractors: Extractors,
        emit: Emit,
        max_future: float,
        max_envelope_bytes: int,
        home: Folder,
        quarantine: bool,
    ) -> None:
        super().__init__()
        limits = max_future, max_envelope_bytes
        self.step = _ExtractRowsFn(extractors, emit, *limits, home, quarantine)
        self._element_type = emit.element_type

    def expand(self, messages: Any) -> Extracted:
        """One step with three outputs."""
        outputs = messages | "Extract" >> beam.ParDo(self.step).with_outputs(
            FAILURES, PARKED, main=ROWS
        )
        outputs[ROWS].element_type = self._element_type
        return Extracted(outputs[ROWS], outputs[FAILURES], outputs[PARKED])


class _ExtractRowsFn(beam.DoFn):
    def __init__(
        self,
        extractors: Extractors,
        emit: Emit,
        max_future: float,
        max_envelope_bytes: int,
        home: Folder,
        quarantine: bool,
    ) -> None:
        self._extractors = dict(extractors)
        self._emit = emit
        self._max_future = int(max_future * 1e6)
        self._max_envelope_bytes = max_envelope_bytes
        self._home = home
        self._judging = quarantine

    def setup(self) -> None:
        self._routes: dict[tuple[str, str], Route] = {}
        names = SKIPPED, HEARTBEATS, COSTS
        self._skipped, self._heartbeats, self._costs = self._ledgers = tuple(map(Ledger, names))
        store = Store(self._home)
        bury(store)
        self._quarantine = Quarantine(store, self._judging)
        limits = (item.settings.timeout.total_seconds() for item in self._extractors.values())
        self._at_work = AtWork(store, max(limits, default=0.0))
        self._limit = TimeLimit(self._at_work.tick, self._at_work.end_process)
        _collect_seldom()

    def teardown(self) -> None:
        self._limit.close()
        self._at_work.close()

    def start_bundle(self) -> None:
        # A bundle that failed half-way has left rows behind.
        for source in self._sources():
            source.clear()
        self._held = self._pending = 0

    def process(self, message: Message) -> Iterator[Any]:
        try:
            decoded = decode(message, self._max_envelope_bytes)
            if isinstance(decoded, dict):
                counter(UNKNOWN, "heartbeats_received").inc()
                final = message.attributes.get("final") == "true"
                self._heartbeats.rows += heartbeat_rows(decoded, message.publish_time, final)
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
        counter(route.extractor.table, "envelopes_decoded").inc(len(decoded.ids))
        if route.ward.admitted() == 0:
            yield self._parked(decoded, route, range(len(decoded.ids)))
            return
        yield from self._extract(decoded, route)
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

    def _route(self, decoded: Decoded) -> Route | None:
        key = (decoded.model_id, decoded.kind)
        route = self._routes.get(key)
        if route is None and key in self._extractors:
            extractor = self._extractors[key]
            ward = self._quarantine.ward(extractor)
            route = self._routes[key] = Route(extractor, self._limit, ward)
        return route

    def _extract(self, decoded: Decoded, route: Route) -> Iterator[Any]:
        wanted, envelopes = yield from self._wanted(decoded, route)
        ward, done = route.ward, 0
        route.pending += decoded.bytes
        self._pending += decoded.bytes
        route.spent.message_bytes += len(decoded.message.data)
        self._at_work.enter(route.slot)
        while done < len(wanted):
            room = ward.admitted()
            if room == 0:
                yield self._parked(decoded, route, wanted[done:])
                break
            began, cpu = perf_counter(), thread_time_ns()
            found = route.calls.extract(envelopes if room is None else islice(envelopes, room))
            seconds = perf_counter() - began
            route.spent.cpu_ns += thread_time_ns() - cpu
            route.spent.envelopes += found.calls
            yield from self._take(decoded, wanted[done : done + found.calls], found, route)
            done += found.calls
            if room is not None or any(len(buffer.rows) >= FLUSH_ROWS for buffer in route.buffers):
                yield from self._flush(route)
            if ward.judging:
                ward.took(found.calls, len(found.failed), seconds)
                ward.judge(not any(buffer.rows for buffer in route.buffers))
        self._at_work.leave()
        if route.pending >= FLUSH_BYTES:
            yield from self._flush(route)
        while self._pending >= PENDING_BYTES:
            yield from self._flush(max(self._routes.values(), key=attrgetter("pending")))

    def _wanted(
        self, decoded: Decoded, route: Route
    ) -> Generator[Any, None, tuple[Sequence[int], Iterator[Envelope]]]:
        """Gives the dead letters of what no extractor may see, and returns what it may."""
        extractor, skip = route.extractor, self._skipped.rows
        wanted: Sequence[int] = range(len(decoded.ids))
        envelopes = decoded.envelopes()
        refused = refusals(decoded, self._max_future)
        unwanted = unwanted_statuses(decoded.statuses, extractor.statuses)
        if refused or unwanted:
            by_status = [decoded.statuses[position] in unwanted for position in wanted]
            if unwanted:
                counter(extractor.table, "envelopes_skipped").inc(sum(by_status))
            skip += (skipped_row(decoded, i, "status") for i in compress(wanted, by_status))
            for position in [p for p in refused if not by_status[p]]:
                yield self._dead_letter((decoded, position), extractor, refused[position])
            chosen = [not by_status[p] and p not in refused for p in wanted]
            wanted, envelopes = list(compress(wanted, chosen)), compress(envelopes, chosen)
        return wanted, envelopes

    def _take(
        self, decoded: Decoded, taken: Sequence[int], found: Found, route: Route
    ) -> Iterator[Any]:
        table = route.extractor.table
        for index, error in found.failed:
            yield self._dead_letter((decoded, taken[index]), route.extractor, error)
        if found.empty:
            counter(table, "envelopes_skipped").inc(len(found.empty))
            rows = (skipped_row(decoded, taken[index], "no_rows") for index in found.empty)
            self._skipped.rows += rows
        for part, buffer in ((found.checked, route.checked), (found.unchecked, route.unchecked)):
            if part.rows:
                hand_over(decoded, taken, part, buffer)
        counter(table, "rows_extracted").inc(len(found.checked.rows) + len(found.unchecked.rows))
        if found.with_nan:
            counter(table, "payloads_with_nan").inc(found.with_nan)

    def _parked(self, decoded: Decoded, route: Route, positions: Sequence[int]) -> Any:
        table = route.extractor.table
        counter(table, "envelopes_quarantined").inc(len(positions))
        return TaggedOutput(PARKED, decoded.parked(positions, "quarantine"))

    def _flush(self, route: Route) -> Iterator[Any]:
        self._at_work.enter(route.slot)
        for buffer in route.buffers:
            if not buffer.rows:
                continue
            cpu = thread_time_ns()
            flushed = self._checked(buffer)
            route.spent.cpu_ns += thread_time_ns() - cpu
            for source, error in flushed.refused:
                yield self._dead_letter(source, route.extractor, error)
            route.ward.refused(len(flushed.refused))
            if flushed.batch is not None:
                yield from self._hold(route.held, flushed.batch)
        self._pending -= route.pending
        route.pending = 0
        self._at_work.leave()

    def _checked(self, buffer: RowBuffer[Source]) -> Flushed[Source]:
        outcome = next(self._limit.each(RowBuffer.flush, [buffer], CHECK_SECONDS))
        if not isinstance(outcome, Raised):
            return outcome
        if not isinstance(outcome.error, (TimeLimitReached, MemoryLimitReached)):
            raise outcome.error
        error = RowValidationError("its rows took too long, or too much memory, to be checked")
        refused: list[tuple[Source, RecordError]] = [(source, error) for source in buffer.sources]
        buffer.clear()
        return Flushed(None, refused)

    def _note(self, ledger: Ledger) -> Iterator[Any]:
        rows, ledger.rows = ledger.rows, []
        yield from self._hold(ledger.held, record_batch(ledger.held.table.name, rows))

    def _hold(self, held: Held, batch: pa.RecordBatch) -> Iterator[Any]:
        held.batches.append(batch)
        held.bytes += batch.nbytes
        self._held += batch.nbytes
        if held.bytes >= self._emit.max_table_bytes:
            yield from self._emitted(held)
        while self._held >= self._emit.max_bytes:
            yield from self._emitted(max(self._holding(), key=_bytes))

    def _remaining(self) -> Iterator[Any]:
        for route in self._routes.values():
            yield from self._flush(route)
            if route.ward.judging:
                route.ward.judge(True)
                route.ward.save()
        self._costs.rows += rows_of_costs(self._routes.values())
        for ledger in self._ledgers:
            if ledger.rows:
                yield from self._note(ledger)
        for held in self._holding():
            if held.batches:
                yield from self._emitted(held)

    def _holding(self) -> list[Held]:
        return [source.held for source in self._sources()]

    def _sources(self) -> list[Route | Ledger]:
        return [*self._routes.values(), *self._ledgers]

    def _emitted(self, held: Held) -> Iterator[Any]:
        batches, self._held = held.batches, self._held - held.bytes
        held.clear()
        yield from self._emit(held.table, batches)

    def _dead_letter(self, source: Source, extractor: Extractor, error: RecordError) -> Any:
        counter(extractor.table, f"failures_{error.stage}").inc()
        failure = Failure.of(error, extractor.model_id)
        decoded, position = source
        letter = decoded.dead_letter(position, failure)
        letter.attributes["failure_extractor_version"] = extractor.version
        return TaggedOutput(FAILURES, letter)


@cache
def _collect_seldom() -> None:
    """Rows are many small objects without cycles: collecting often costs 4 to 16 per cent."""
    # Once a process: what an earlier bundle left behind would be frozen for good.
    gc.freeze()
    gc.set_threshold(_GC_THRESHOLD)


def _bytes(held: Held) -> int:
    return held.bytes
