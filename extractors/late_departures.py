"""Late departures: all flights of one airport and hour a request, one row a flight."""

from collections.abc import Iterator
from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import Field

from extractors import (
    Envelope,
    Feature,
    ModelSettings,
    PredictionId,
    PredictionLabel,
    PredictionScore,
    Row,
    TableOnly,
    Tag,
    extractor,
)


class LateDeparture(Row, default_role=Feature):
    """One flight, as predicted an hour before the hour of its departure."""

    flight_id: Annotated[str, PredictionId]
    carrier: str
    origin: str
    distance: int
    """miles"""
    hour: int
    """of the scheduled departure, New York time"""
    flights_in_hour: int
    """how many depart from that airport in that hour"""
    seats: int | None = None
    """null for planes that the register does not know"""
    wind_speed_mph: float | None = None
    precipitation_in: float | None = None
    visibility_mi: float | None = None
    dest: Annotated[str, Tag]
    tailnum: Annotated[str | None, TableOnly] = None
    label: Annotated[Literal["late", "on-time"], PredictionLabel]
    """late is more than 15 minutes"""
    score: Annotated[float, PredictionScore] = Field(ge=0, le=1)
    """probability of late"""


@extractor(
    "late-departures",
    row=LateDeparture,
    model_type="binary",
    settings=ModelSettings(owner="gate-planning@example.com"),
)
def extract(envelope: Envelope) -> Iterator[dict[str, Any]]:
    """Every flight of the request, paired with the prediction at the same place."""
    request = envelope.request
    weather = request["weather"] or {}
    pairs = zip(request["flights"], envelope.response["predictions"], strict=True)
    for flight, prediction in pairs:
        # Plain dicts, as these are many rows: checked as strictly as objects, at half the cost.
        yield {
            "flight_id": flight["flight_id"],
            "carrier": flight["carrier"],
            "origin": request["origin"],
            "distance": flight["distance"],
            "hour": datetime.fromisoformat(flight["scheduled_departure"]).hour,
            "flights_in_hour": len(request["flights"]),
            "seats": flight["seats"],
            "wind_speed_mph": weather.get("wind_speed_mph"),
            "precipitation_in": weather.get("precipitation_in"),
            "visibility_mi": weather.get("visibility_mi"),
            "dest": flight["dest"],
            "tailnum": flight["tailnum"],
            "label": prediction["label"],
            "score": prediction["probability"],
        }
