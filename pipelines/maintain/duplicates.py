"""How many rows compaction has removed as they were there twice, kept with the table itself.

The numbers are a property of the table, set in the commit that removes the rows: each is counted
once, whatever is killed, and outlives the snapshot.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress

import pyarrow as pa
import pyarrow.compute as pc
from pyiceberg.table import Table

from schemas.arrow import TIME

PROPERTY = "weighbridge.duplicates"
KEPT_HOURS = 200
"""Hours that a table remembers, of those that had any: metadata is written with each commit."""
_HOUR = 3_600_000_000


def duplicates(table: Table) -> Counter[int]:
    """Rows removed, by the hour of their events, in hours since 1970, UTC."""
    found: Counter[int] = Counter()
    with suppress(ValueError, AttributeError):  # another program's idea of the property
        for hour, count in json.loads(table.properties.get(PROPERTY, "{}")).items():
            found[int(hour)] = int(count)
    return found


def with_duplicates(table: Table, removed: pa.Table) -> Mapping[str, str]:
    """The property that is to be set with a commit that removes rows; none if there are none."""
    if not removed.num_rows:
        return {}
    times = removed["event_time"].cast(TIME).cast(pa.int64())
    found = duplicates(table)
    for group in pc.value_counts(pc.divide(times, _HOUR)).to_pylist():
        found[group["values"]] += group["counts"]
    newest = sorted(found)[-KEPT_HOURS:]
    return {PROPERTY: json.dumps({hour: found[hour] for hour in newest})}
