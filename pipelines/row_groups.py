"""Which event times a row group of a data file may hold, by its statistics."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.parquet as pq

from schemas.arrow import TIME


def time_bounds(file: pq.ParquetFile, group: int) -> tuple[int, int] | None:
    """Earliest and latest event time of a row group, microseconds since 1970; None: not known."""
    # Parquet counts columns with those within others, which may stand before.
    paths = (file.schema.column(number).path for number in range(file.metadata.num_columns))
    stats = file.metadata.row_group(group).column([*paths].index("event_time")).statistics
    if stats is None or not stats.has_min_max:
        return None
    low, high = pa.array([stats.min, stats.max], TIME).cast(pa.int64()).to_pylist()
    return low, high
