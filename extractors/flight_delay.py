"""Flight delay: one flight a request, weather from the handler's context, actuals after landing."""

from collections.abc import Iterator
from datetime import datetime
from typing import Annotated

from extractors import (
    ActualLabel,
    Envelope,
    Feature,
    ModelSettings,
    PredictionId,
    PredictionLabel,
    Row,
    TableOnly,
    Tag,
    Timestamp,
    extractor,
)


class FlightDelay(Row, default_role=Feature):
    """One flight, as predicted two hours before its departure."""

    flight_id: Annotated[str, PredictionId]
    scheduled_departure: Annotated[Timestamp, TableOnly]
    carrier: str
    origin: str
    distance: int
    """miles"""
    hour: int
    """of the scheduled departure, New York time"""
    temp_f: float | None = None
    """at the airport, in the hour of departure, as all weather; null where nobody observed it"""
    wind_speed_mph: float | None = None
    precipitation_in: float | None = None
    visibility_mi: float | None = None
    pressure_mb: float | None = None
    dest: Annotated[str, Tag]
    channel: Annotated[str | None, Tag] = None
    """where the caller sits: web, app or desk"""
    delay_minutes: Annotated[float, PredictionLabel]
    """on arrival; negative is early"""


class FlightArrival(Row):
    """One flight that landed; a cancelled or diverted one has no arrival."""

    flight_id: Annotated[str, PredictionId]
    landed_at: Timestamp
    delay_minutes: Annotated[float, ActualLabel]


@extractor(
    "flight-delay",
    row=FlightDelay,
    model_type="regression",
    settings=ModelSettings(owner="flight-ops-ml@example.com"),
)
def extract(envelope: Envelope) -> Iterator[FlightDelay]:
    """The flight of the request, with the weather that the handler looked up for it."""
    flight, weather = envelope.request, envelope.context["weather"] or {}
    yield FlightDelay(
        flight_id=flight["flight_id"],
        scheduled_departure=flight["scheduled_departure"],
        carrier=flight["carrier"],
        origin=flight["origin"],
        distance=flight["distance"],
        hour=datetime.fromisoformat(flight["scheduled_departure"]).hour,
        temp_f=weather.get("temp_f"),
        wind_speed_mph=weather.get("wind_speed_mph"),
        precipitation_in=weather.get("precipitation_in"),
        visibility_mi=weather.get("visibility_mi"),
        pressure_mb=weather.get("pressure_mb"),
        dest=flight["dest"],
        channel=envelope.headers.get("x-channel"),
        delay_minutes=envelope.response["delay_minutes"],
    )


@extractor("flight-delay", row=FlightArrival, kind="actual")
def extract_actual(envelope: Envelope) -> Iterator[FlightArrival]:
    """The airline's word on one flight; it counts whole minutes, the model does not."""
    arrival = envelope.actual
    yield FlightArrival(
        flight_id=arrival["flight_id"],
        landed_at=arrival["landed_at"],
        delay_minutes=float(arrival["arrival_delay"]),
    )
