"""Ride fares: several rides a request, one row each; what was paid comes as the actual."""

from collections.abc import Iterator
from typing import Annotated

from iso3166 import countries_by_alpha2

from extractors import (
    ActualLabel,
    Envelope,
    Feature,
    ModelSettings,
    PredictionId,
    PredictionLabel,
    Row,
    Tag,
    extractor,
)


class Fare(Row, default_role=Feature):
    ride_id: Annotated[str, PredictionId]
    kilometres: float
    minutes: float
    night: bool = False
    country: Annotated[str, Tag]
    """its code of three letters"""
    fare: Annotated[float, PredictionLabel]
    """in euros"""


class Payment(Row):
    ride_id: Annotated[str, PredictionId]
    fare: Annotated[float, ActualLabel]


@extractor(
    "ride-fare",
    row=Fare,
    model_type="regression",
    settings=ModelSettings(owner="pricing@acme.example"),
)
def extract(envelope: Envelope) -> Iterator[Fare]:
    """Every ride of the request, with the fare at the same place."""
    for ride, fare in zip(envelope.request["rides"], envelope.response["fares"], strict=True):
        yield Fare(
            ride_id=ride["id"],
            kilometres=ride["km"],
            minutes=ride["minutes"],
            night=ride.get("night", False),
            country=countries_by_alpha2[ride["country"]].alpha3,
            fare=fare,
        )


@extractor("ride-fare", row=Payment, kind="actual")
def extract_actual(envelope: Envelope) -> Iterator[Payment]:
    """What the ride cost in the end."""
    yield Payment(ride_id=envelope.actual["id"], fare=envelope.actual["paid"])
