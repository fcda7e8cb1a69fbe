"""Sends rows of one model's table to Arize: in parts that it takes, refused rows one by one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from hashlib import blake2b

import pyarrow as pa
import pyarrow.compute as pc

from extractors import Extractor
from pipelines.arize import ATTEMPTS, Heading, RowsRefused, Sent, Uploader
from pipelines.frames import apart, data_frame, sdk_schema, sent_columns, time_column
from pipelines.write import MAX_PUSHED_ROWS
from schemas.arize import sdk_limits
from schemas.columns import Column, columns_of


@dataclass(frozen=True)
class Lot:
    """Rows that go out under one heading.

    Attributes:
        columns: what `sent_columns` gave.
        time: name of the column that says when, if Arize is told.
        max_rows: most rows of one upload.
    """

    heading: Heading
    columns: Sequence[Column]
    time: str | None
    max_rows: int = MAX_PUSHED_ROWS

    def send(
        self, rows: pa.Table, uploader: Uploader, sent: Sent, attempts: int = ATTEMPTS
    ) -> None:
        """Send rows, and add to `sent` what becomes of them, also on failure.

        Raises:
            ArizeUnavailable: after the last attempt; some rows may have been taken.
            ConfigurationError: the key or the space is refused.
        """
        most = uploader.access.space(self.heading.space).max_upload_bytes
        for part in apart(rows, self.columns, self.heading.model_type):
            step = max(1, min(self.max_rows, part.num_rows * most // max(1, part.nbytes)))
            for start in range(0, part.num_rows, step):
                self._send(part.slice(start, step), uploader, sent, attempts)

    def _send(self, rows: pa.Table, uploader: Uploader, sent: Sent, attempts: int) -> None:
        schema = sdk_schema(rows, self.columns, self.heading.model_type, self.time)
        try:
            frame = data_frame(rows, self.columns, self.time)
            uploader.upload(frame, schema, self.heading, sent, attempts)
            sent.rows += rows.num_rows
        except RowsRefused as error:
            if rows.num_rows == 1:
                sent.refused.append((rows["row_id"][0].as_py(), str(error)))
                return
            # One row is enough to have a whole batch refused: halve until it stands alone.
            middle = rows.num_rows // 2
            self._send(rows.slice(0, middle), uploader, sent, attempts)
            self._send(rows.slice(middle), uploader, sent, attempts)


class ArizeSender:
    """Sends rows of one extractor's table.

    Args:
        extractor: whose row class names the roles.
        uploader: of the process.
    """

    def __init__(self, extractor: Extractor, uploader: Uploader) -> None:
        self._extractor = extractor
        self._uploader = uploader
        columns = columns_of(extractor.row)
        self._time = time_column(columns)
        self._sent = sent_columns(columns)
        heading = Heading(
            extractor.settings.arize_space, extractor.model_id, extractor.model_type, ""
        )
        told = extractor.kind == "prediction" or self._time != "event_time"
        self._lot = Lot(
            heading, self._sent, self._time if told else None, extractor.settings.arize_batch_rows
        )

    @property
    def columns(self) -> list[str]:
        """Columns of the table that sending needs."""
        stamped = ["envelope_id", "row_id", "prediction_id", "model_version", "event_time"]
        return [*stamped, *(c.name for c in self._sent if c.name not in stamped)]

    def selected(self, rows: pa.Table, now: datetime) -> tuple[pa.Table, int, int]:
        """The rows to send, and how many Arize's clock has no place for, and are sampled out."""
        kept = in_time(rows, self._time, now)
        outside = rows.num_rows - kept.num_rows
        rate, unit = self._extractor.settings.arize_sample_rate, self._sampling_unit()
        if rate < 1 and unit:
            chosen = [_share(id_) < rate for id_ in kept[unit].to_pylist()]
            kept = kept.filter(pa.array(chosen, pa.bool_()))
        return kept, outside, rows.num_rows - outside - kept.num_rows

    def _sampling_unit(self) -> str:
        """The column whose values are pushed or left out as a whole; "" pushes all."""
        if self._extractor.settings.arize_sample_by == "prediction":
            return "prediction_id"
        # The envelope of an actual is another than that of its prediction, which must not miss it.
        if self._extractor.kind == "actual":
            return ""
        return next((c.name for c in self._sent if c.role.kind == "group_id"), "envelope_id")

    def send(
        self, rows: pa.Table, model_version: str, sent: Sent, attempts: int = ATTEMPTS
    ) -> None:
        """Send rows of one model version. See `Lot.send`."""
        heading = replace(self._lot.heading, model_version=model_version)
        replace(self._lot, heading=heading).send(rows, self._uploader, sent, attempts)


def in_time(rows: pa.Table, time: str, now: datetime) -> pa.Table:
    """The rows whose column `time` is within the years that Arize takes."""
    limits = sdk_limits()
    year = timedelta(days=365)
    oldest = now - limits.MAX_PAST_YEARS_FROM_CURRENT_TIME * year
    newest = now + limits.MAX_FUTURE_YEARS_FROM_CURRENT_TIME * year
    values = rows[time]
    fits = pc.and_(pc.greater(values, pa.scalar(oldest, values.type)),
                   pc.less(values, pa.scalar(newest, values.type)))  # fmt: skip
    return rows if pc.all(fits).as_py() else rows.filter(fits)


def _share(name: str) -> float:
    """A number in [0, 1) that belongs to what is sampled as a whole, wherever it is computed."""
    digest = blake2b(name.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2**64
