"""One side of a comparison: rows, failures and time, of an extractor or of a table."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from apache_beam.pvalue import TaggedOutput
from apache_beam.utils.windowed_value import WindowedValue
from pyiceberg.expressions import And, GreaterThanOrEqual, LessThanOrEqual

from extractors import Extractor
from pipelines.extract import FAILURES, ExtractRows
from pipelines.read import read_messages
from pipelines.replay.letters import open_messages
from pipelines.selection import Selection
from pipelines.store import Store
from pipelines.stored import FAILURES as FOLDER
from pipelines.stored import failed_id
from pipelines.tables import RowTable, Tables, table_of

MAX_BYTES = 64 << 20


@dataclass
class Side:
    """What was made of the envelopes.

    Attributes:
        name: for people.
        rows: by `row_id`, each once.
        failed: fingerprint by id of the envelope.
        seconds: that extraction took; None of a table.
    """

    name: str
    rows: pa.Table
    failed: dict[str, str] = field(default_factory=dict)
    seconds: float | None = None


class _Keep:
    """Takes record batches of one table, and drops those of others."""

    element_type: Any = Any
    max_table_bytes = MAX_BYTES
    max_bytes = 4 * MAX_BYTES

    def __init__(self, name: str) -> None:
        self._name = name
        self.batches: list[pa.RecordBatch] = []

    def __call__(self, table: RowTable, batches: list[pa.RecordBatch]) -> Iterator[Any]:
        if table.name == self._name:
            self.batches += batches
        yield from ()


def extracted(
    name: str,
    extractor: Extractor,
    paths: Sequence[str],
    max_future: float,
    max_envelope_bytes: int,
) -> Side:
    """What an extractor makes of archive files, by the very step of a run; nothing is written."""
    keep = _Keep(table_of(extractor).name)
    extractors = {(extractor.model_id, extractor.kind): extractor}
    selection, seconds = Selection(extractor.model_id), 0.0
    failed: dict[str, str] = {}
    with TemporaryDirectory() as home:  # of no quarantine, neither now nor earlier
        limits = max_future, max_envelope_bytes
        step = ExtractRows(extractors, keep, *limits, Path(home), False).step
        step.setup()
        step.start_bundle()
        try:
            for path in paths:
                for message in read_messages(path, selection):
                    started = time.perf_counter()
                    outputs = list(step.process(message))
                    seconds += time.perf_counter() - started
                    failed |= _failed(outputs, extractor)
            started = time.perf_counter()
            outputs = list(step.finish_bundle())
            seconds += time.perf_counter() - started
            failed |= _failed(outputs, extractor)
        finally:
            step.teardown()
    schema = extractor.shape().schema
    rows = pa.Table.from_batches(keep.batches, schema) if keep.batches else schema.empty_table()
    return Side(name, _each_once(rows), failed, seconds)


def stored(tables: Tables, table: str, extractor: Extractor, home: Path, other: Side) -> Side:
    """What a table holds of the other side's envelopes, and which of them are dead letters.

    Raises:
        NoSuchTableError: there is no such table.
    """
    ids = [*pc.unique(other.rows["envelope_id"]).to_pylist(), *other.failed]
    letters = open_messages(Store(home), FOLDER, Selection(extractor.model_id))
    found = {failed_id(item.message): item.message.attributes for item in letters}
    failed = {id_: found[id_].get("failure_fingerprint", "") for id_ in set(ids) if id_ in found}
    rows = tables.load(table).scan(**_span(other.rows)).to_arrow()
    wanted = rows.filter(pc.is_in(rows["envelope_id"], value_set=pa.array(ids, pa.string())))
    have = set(wanted["envelope_id"].to_pylist())
    return Side(table, _each_once(wanted), {k: v for k, v in failed.items() if k not in have})


def _span(rows: pa.Table) -> dict[str, Any]:
    """Only the days of the captured traffic are read; all, if it gave no row today."""
    if not rows.num_rows:
        return {}
    low, high = (
        int(found(rows["event_time"].cast(pa.int64())).as_py()) for found in (pc.min, pc.max)
    )
    return {
        "row_filter": And(
            GreaterThanOrEqual(term="event_time", value=low - 86_400_000_000),
            LessThanOrEqual(term="event_time", value=high + 86_400_000_000),
        )
    }


def _failed(outputs: list[Any], extractor: Extractor) -> dict[str, str]:
    found = {}
    for output in outputs:
        if not isinstance(output, TaggedOutput) or output.tag != FAILURES:
            continue
        letter = output.value
        if isinstance(letter, WindowedValue):
            letter = letter.value
        found[failed_id(letter)] = letter.attributes["failure_fingerprint"]
    return found


def _each_once(rows: pa.Table) -> pa.Table:
    """One row for each id, in the order of ids."""
    rows = rows.sort_by("row_id")
    ids = rows["row_id"].combine_chunks()
    if len(ids) < 2:
        return rows
    new = pa.concat_arrays(
        [pa.array([True]), pc.not_equal(ids.slice(1), ids.slice(0, len(ids) - 1))]
    )
    return rows.filter(new)
