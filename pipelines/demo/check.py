"""What the demo's tables, and the receiver, must hold: from the source data alone."""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import blake2b
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from pipelines.demo.calls import flight_json
from pipelines.demo.flights import Flight, FlightData
from pipelines.demo.service import LATE_ABOVE
from pipelines.demo.training import Models, features

CHECKED = {
    "flight_delay": ("prediction_id", "carrier", "distance", "wind_speed_mph", "delay_minutes"),
    "flight_delay_actuals": ("prediction_id", "delay_minutes"),
    "late_departures": ("prediction_id", "carrier", "seats", "label", "score"),
}
"""The columns that the checksum of each table is over."""


class Summary(NamedTuple):
    """Two tables with equal summaries hold the same rows, in whatever order."""

    rows: int
    checksum: int


def expected(data: FlightData, models: Models) -> dict[str, Summary]:
    """The summary of each table after all of the traffic went through the pipeline."""
    return {
        name: summary(name, pa.Table.from_pylist(rows))
        for name, rows in _rows(data, models).items()
    }


def summary(table_name: str, table: pa.Table) -> Summary:
    """The summary of a table, or of uploads, with the columns of that name in `CHECKED`."""
    columns = [_as_text(table[name]) for name in CHECKED[table_name]]
    # "|" is in none of the values.
    rows = pc.binary_join_element_wise(*columns, "|").to_pylist()
    return Summary(len(rows), sum(map(_hash, rows)) % 2**64)


def _rows(data: FlightData, models: Models) -> dict[str, list[dict[str, Any]]]:
    delays, late = [], []
    for flight in data.traffic:
        weather = data.weather.get((flight.origin, flight.hour))
        inputs = features(flight_json(flight), weather)
        score = models.late_probability(inputs)
        shared = {"prediction_id": flight.flight_id, "carrier": flight.carrier}
        delays.append(
            {
                **shared,
                "distance": flight.distance,
                "wind_speed_mph": weather and weather["wind_speed_mph"],
                "delay_minutes": models.delay_minutes(inputs),
            }
        )
        label = "late" if score > LATE_ABOVE else "on-time"
        late.append({**shared, "seats": flight.seats, "label": label, "score": score})
    return {
        "flight_delay": delays,
        "flight_delay_actuals": list(_actuals(data.traffic)),
        "late_departures": late,
    }


def _actuals(traffic: Iterable[Flight]) -> Iterable[dict[str, Any]]:
    for flight in traffic:
        if flight.landed_at is not None:
            yield {"prediction_id": flight.flight_id, "delay_minutes": flight.arrival_delay}


def _as_text(column: Any) -> Any:
    if not pa.types.is_string(column.type) and not pa.types.is_dictionary(column.type):
        # An upload may hold integers with gaps as floats, and gaps as NaN.
        column = column.cast(pa.float64())
        column = pc.if_else(pc.is_nan(column), None, column)
    return pc.fill_null(column.cast(pa.string()), "null")


def _hash(text: str) -> int:
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest())
