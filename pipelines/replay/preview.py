"""What a replay would change, told without calling an extractor or writing anything."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pyarrow as pa
from pyiceberg.exceptions import NoSuchTableError

from extractors import Extractors
from pipelines.batches import cut
from pipelines.decode import MAX_TIME, MIN_TIME, decode
from pipelines.files import ORDER, without_held
from pipelines.options import RunOptions
from pipelines.read import read_messages
from pipelines.replay.plan import Plan
from pipelines.tables import Tables, table_of
from schemas import RecordError
from schemas.arrow import TIME


@dataclass
class Preview:
    """Envelopes that a replay would read for a table ("": of models that nobody registered).

    Attributes:
        envelopes: all of them.
        held: those that the table holds; None where it cannot be asked.
    """

    envelopes: int = 0
    held: int | None = 0


def preview(plan: Plan, extractors: Extractors, options: RunOptions) -> dict[str, Preview]:
    """Envelopes by full name of their table. Messages that cannot be decoded are left out."""
    tables = options.open()
    found: dict[str, Preview] = {}
    for batch in cut(plan.files):
        for name, seen in _seen([file.path for file in batch], extractors, options).items():
            entry = found.setdefault(name, Preview())
            ids = pa.array([id_ for id_, _ in seen], pa.string())
            times = pa.array([time for _, time in seen], pa.int64()).view(TIME)
            entry.envelopes += len(ids)
            if not name or not isinstance(tables, Tables):
                entry.held = None
            elif entry.held is not None:
                rows = pa.table({"envelope_id": ids, "event_time": times, "row_id": ids})
                entry.held += len(ids) - _missing(tables, name, rows)
    return found


def _missing(tables: Tables, name: str, rows: pa.Table) -> int:
    try:
        table = tables.load(name)
    except NoSuchTableError:
        return int(rows.num_rows)
    fresh = without_held(table, rows.sort_by(ORDER))
    return len(set(fresh["envelope_id"].to_pylist()))


def _seen(
    paths: list[str], extractors: Extractors, options: RunOptions
) -> dict[str, set[tuple[str, int]]]:
    found: dict[str, set[tuple[str, int]]] = {}
    for name, id_, time in _envelopes(paths, extractors, options):
        found.setdefault(name, set()).add((id_, time))
    return found


def _envelopes(
    paths: list[str], extractors: Extractors, options: RunOptions
) -> Iterator[tuple[str, str, int]]:
    names = {key: table_of(extractor).name for key, extractor in extractors.items()}
    for path in paths:
        for message in read_messages(path, options.selection):
            try:
                decoded = decode(message, options.max_envelope_bytes)
            except RecordError:
                continue
            if isinstance(decoded, dict):
                continue
            name = names.get((decoded.model_id, decoded.kind), "")
            for id_, time in zip(decoded.ids, decoded.times):
                if MIN_TIME <= time <= MAX_TIME:
                    yield name, id_, time
