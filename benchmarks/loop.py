"""A loop written by hand for the same work with the same libraries: what the ratios compare with.

It has what the work needs and no more. Nothing of what goes wrong is handled but rows that the
columns refuse; there is no time limit, no second look at what the table has, and nothing is synced.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterable, Sequence
from importlib.resources import files
from operator import itemgetter
from pathlib import Path
from typing import Any
from uuid import uuid4

import fastavro
import numpy as np
import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import zstandard
from pydantic import ValidationError
from pyiceberg.catalog.sql import SqlCatalog

from extractors import Extractor, Extractors

FLUSH_ROWS = 2000
_DAY = 86_400_000_000
_TIME = pa.timestamp("us", "UTC")
_BATCH: Any = fastavro.parse_schema(
    json.loads(files("weighbridge").joinpath("envelope.avsc").read_text())
)
_ORDER = [("event_time", "ascending"), ("envelope_id", "ascending"), ("row_id", "ascending")]
_REPETITIVE = {
    1: ["model_id", "model_version", "ingest_time", "extractor_version", "country", "device"]
    + ["segment", "locale", "orders_90d", "position", "label"],
    20: ["envelope_id", "model_id", "model_version", "event_time", "ingest_time"]
    + ["extractor_version", "user_id", "country", "device", "segment", "locale", "age_days"]
    + ["orders_90d", "position", "label"],
}
"""Columns written with a dictionary, by rows an envelope: those that the pipeline would choose."""


class _Pair:
    """What the extractors look at."""

    __slots__ = ("request", "response")

    def __init__(self, request: Any, response: Any) -> None:
        self.request = request
        self.response = response


class _Rows:
    """Rows of one model that are not an Arrow batch yet, and its batches."""

    def __init__(self, extractor: Extractor) -> None:
        self.extract: Callable[[Any], Iterable[dict[str, Any]]] = extractor.function
        self._extractor = extractor
        self._shape = extractor.shape()
        names = [column.name for column in self._shape.columns]
        self._width = {len(names)}
        self._values = itemgetter(*names)
        self.batches: list[pa.RecordBatch] = []
        self._clear()

    def _clear(self) -> None:
        self.rows: list[dict[str, Any]] = []
        self.counts: list[int] = []
        self.ids: list[str] = []
        self.times: list[int] = []
        self.published: list[int] = []
        self.versions: list[str] = []

    def flush(self) -> None:
        """Check all columns, and keep the rows of envelopes that no column refuses."""
        if set(map(len, self.rows)) != self._width:
            raise ValueError("rows of another width")
        arrays, bad = [], set()
        for column, values in zip(self._shape.columns, zip(*map(self._values, self.rows))):
            checked, refused = _checked(column.validate, list(values))
            arrays.append(pa.array(checked, column.type))
            bad |= refused
        owners = np.repeat(np.arange(len(self.counts)), self.counts)
        batch = pa.RecordBatch.from_arrays(
            [*self._stamped(owners), *arrays], schema=self._shape.schema
        )
        if bad:
            refused_envelopes = np.unique(owners[list(bad)])
            batch = batch.filter(pa.array(~np.isin(owners, refused_envelopes)))
        self.batches.append(batch)
        self._clear()

    def _stamped(self, owners: Any) -> list[pa.Array]:
        rows, take = len(owners), pa.array(owners)
        row_ids = pa.array([f"{i}:{n}" for i, c in zip(self.ids, self.counts) for n in range(c)])
        return [
            pa.array(self.ids).take(take),
            row_ids,
            row_ids,
            pa.repeat(self._extractor.model_id, rows),
            pa.array(self.versions).take(take),
            pa.array(self.times).take(take).view(_TIME),
            pa.array(self.published).take(take).view(_TIME),
            pa.repeat(self._extractor.version, rows),
        ]


def run_loop(
    paths: Sequence[Path], extractors: Extractors, home: Path, rows_per_envelope: int
) -> None:
    """Add the rows of archive files to tables that are there.

    Args:
        paths: the archive files.
        extractors: those of predictions, which give dicts.
        home: folder of the tables.
        rows_per_envelope: by it the columns with a dictionary are chosen.
    """
    gathered: dict[str, _Rows] = {}
    decompress = zstandard.ZstdDecompressor().decompress
    for path in paths:
        with open(path, "rb") as stream:
            messages: Iterable[Any] = fastavro.reader(stream)
            for message in messages:
                raw = decompress(message["data"])
                batch: Any = fastavro.schemaless_reader(io.BytesIO(raw), _BATCH, None)
                model = batch["model_id"]
                rows = gathered.get(model)
                if rows is None:
                    rows = gathered[model] = _Rows(extractors[model, "prediction"])
                _extract(batch, message["publish_time"], rows)
                if len(rows.rows) >= FLUSH_ROWS:
                    rows.flush()
    catalog = SqlCatalog("weighbridge", uri=f"sqlite:///{home.resolve()}/tables/catalog.db")
    for model, rows in gathered.items():
        if rows.rows:
            rows.flush()
        table = catalog.load_table(f"models.{model}")
        folder = Path(table.location().removeprefix("file://")) / "data"
        found = pa.Table.from_batches(rows.batches)
        written = _write(found, folder, _REPETITIVE[rows_per_envelope])
        with table.transaction() as transaction:
            transaction.add_files(written, check_duplicate_files=False)


def _extract(batch: Any, published: Any, rows: _Rows) -> None:
    loads, extract = orjson.loads, rows.extract
    found, counts = rows.rows, rows.counts
    before = len(found)
    for request, response in zip(batch["request"], batch["response"]):
        found.extend(extract(_Pair(loads(request), loads(response))))
        after = len(found)
        counts.append(after - before)
        before = after
    prefix, first = f"{batch['publisher_id']}-", batch["first_sequence"]
    count = len(batch["event_time"])
    rows.ids += [f"{prefix}{first + offset}" for offset in batch["sequence_offset"]]
    rows.times += batch["event_time"]
    rows.published += [round(published.timestamp() * 1e6)] * count
    rows.versions += [batch["model_version"]] * count


def _checked(
    validate: Callable[[list[Any]], list[Any]], values: list[Any]
) -> tuple[list[Any], set[int]]:
    """The values with null for those that are refused, and their positions."""
    try:
        return validate(values), set()
    except ValidationError as error:
        places = error.errors(include_input=False, include_url=False, include_context=False)
        bad = {int(place["loc"][0]) for place in places}
    good = iter(validate([value for place, value in enumerate(values) if place not in bad]))
    return [None if place in bad else next(good) for place in range(len(values))], bad


def _write(rows: pa.Table, folder: Path, repetitive: list[str]) -> list[str]:
    """A file a day, in the order and with the settings of the pipeline."""
    rows = rows.sort_by(_ORDER)
    days = rows["event_time"].cast(pa.int64()).to_numpy() // _DAY
    written = []
    for day in np.unique(days):
        part = rows if days[0] == days[-1] else rows.filter(pa.array(days == day))
        path = folder / f"event_day={np.datetime64(int(day), 'D')}" / f"{uuid4().hex}.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(
            part,
            path,
            compression="zstd",
            row_group_size=64 * 1024,
            use_dictionary=repetitive,
        )
        written.append(f"file://{path}")
    return written
