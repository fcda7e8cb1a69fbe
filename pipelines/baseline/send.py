"""Sends a training or validation set, from a Parquet file or from a model's own tables."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipelines.arize import ArizeAccess, ArizeUnavailable, Heading, Sent, Uploader
from pipelines.baseline.check import Refusals, check_columns_of, checked
from pipelines.baseline.joined import joined
from pipelines.baseline.shape import BaselineShape
from pipelines.deliveries import Deliveries, Withheld
from pipelines.destination import Destination
from pipelines.frames import sent_columns, time_column
from pipelines.sender import Lot, in_time
from schemas import ConfigurationError

CHUNK_ROWS = 50_000


@dataclass(frozen=True)
class BaselineOptions:
    """What is sent, and as what.

    Attributes:
        source: a Parquet file; None for the model's own tables.
        environment: "training" or "validation".
        batch_id: names a validation set.
        model_version: of the model; "" where rows say.
        since: of tables: the first day of event time, UTC.
        until: the last one.
    """

    source: Path | None
    environment: str
    batch_id: str
    model_version: str
    since: date | None = None
    until: date | None = None


@dataclass
class BaselineReport:
    """Counts of rows, and the file's columns that are not sent."""

    rows: int = 0
    sent: Sent = field(default_factory=Sent)
    outside: int = 0
    without_actual: int = 0
    unknown: list[str] = field(default_factory=list)


class BaselineSender:
    """Sends one set.

    Args:
        shape: its columns.
        options: where it is, and what it is.
        tables: holds `deliveries`, and rows where no file is named.
    """

    def __init__(self, shape: BaselineShape, options: BaselineOptions, tables: Destination) -> None:
        self._shape = shape
        self._options = options
        self._tables = tables
        self.report = BaselineReport()

    def check(self) -> None:
        """Look at all rows before any is sent.

        Raises:
            ConfigurationError: the file, or rows of it, are not of the row class.
        """
        refusals = Refusals()
        self.report.rows = sum(rows.num_rows for rows in self._chunks(refusals))
        if refusals:
            raise ConfigurationError(f"{self._options.source}: rows are refused:\n{refusals}")
        if not self.report.rows:
            raise ConfigurationError("there is no row to send")

    def send(self, access: ArizeAccess) -> None:
        """Send all rows. To be called after `check`.

        Raises:
            ArizeUnavailable: some were not taken; the report says how many were.
            ConfigurationError: the key or the space is refused.
        """
        uploader = Uploader(access)
        now = datetime.now(UTC)
        notes = Deliveries(self._tables, lambda: datetime.now(UTC))
        try:
            for rows in self._chunks(Refusals()):
                time = self._time(rows)
                kept = in_time(rows, time, now) if time else rows
                self.report.outside += rows.num_rows - kept.num_rows
                for version in pc.unique(kept["model_version"]).to_pylist():
                    part = kept.filter(pc.equal(kept["model_version"], version))
                    self._send(part, version, time, uploader, notes)
        finally:
            notes.write()

    def _send(
        self, rows: pa.Table, version: str, time: str | None, uploader: Uploader, notes: Deliveries
    ) -> None:
        model, options, sent = self._shape.predictions, self._options, Sent()
        environment = options.environment.upper()
        space = model.settings.arize_space
        heading = Heading(
            space, model.model_id, model.model_type, version, environment, options.batch_id
        )
        lot = Lot(heading, sent_columns(self._shape.sent), time)
        error = None
        try:
            lot.send(rows, uploader, sent)
        except (ArizeUnavailable, ConfigurationError) as failed:
            error = str(failed)
            raise
        finally:
            self.report.sent.rows += sent.rows
            self.report.sent.possible_duplicates += sent.possible_duplicates
            self.report.sent.refused += sent.refused
            source = options.source.name if options.source else "tables"
            notes.add(source, heading, rows, sent, Withheld(), error=error)

    def _time(self, rows: pa.Table) -> str | None:
        named = time_column(self._shape.columns)
        if named != "event_time" or self._options.source is None:
            return named
        return named if self._timed else None

    def _chunks(self, refusals: Refusals) -> Iterator[pa.Table]:
        """Rows in parts, checked if they are a file's."""
        options = self._options
        if options.source is None:
            self._timed = True
            self.report.without_actual = 0
            for rows, without in joined(self._tables, self._shape, options.since, options.until):
                self.report.without_actual += without
                if options.model_version:
                    version = pa.repeat(pa.scalar(options.model_version), rows.num_rows)
                    place = rows.schema.get_field_index("model_version")
                    rows = rows.set_column(place, "model_version", version)
                if rows.num_rows:
                    yield rows
            return
        with _opened(options.source) as file:
            names = file.schema_arrow.names
            self._timed = "event_time" in names
            self.report.unknown = check_columns_of(self._shape, names)
            first = 1
            for batch in file.iter_batches(CHUNK_ROWS):
                rows = pa.Table.from_batches([batch])
                good = checked(self._shape, rows, first, options.model_version, refusals)
                first += rows.num_rows
                if good.num_rows:
                    yield good


def _opened(path: Path) -> pq.ParquetFile:
    try:
        return pq.ParquetFile(path)
    except (OSError, pa.ArrowException) as error:
        raise ConfigurationError(
            f"{path} cannot be read as Parquet: {type(error).__name__}"
        ) from None
