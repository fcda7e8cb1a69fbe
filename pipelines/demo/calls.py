"""What callers ask the demo's service, in the order in which they would."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import groupby
from typing import Any, NamedTuple

from pipelines.demo.flights import Flight, FlightData, Weather

CHANNELS = ("web", "app", "desk")
HOURS_PER_GATE_PLAN = 8


class Call(NamedTuple):
    """One request: when it is made, to which path, and how its JSON body comes about.

    The body is made when it is sent, as all of them at once would take hundreds of megabytes.
    """

    at: datetime
    path: str
    make: Callable[[], Any]
    envelopes: int = 1
    channel: str = ""

    def body(self) -> bytes:
        """The request body."""
        return json.dumps(self.make()).encode()


def plan_calls(data: FlightData) -> list[Call]:
    """Every call that the traffic makes, by time."""
    calls = [
        *map(_delay_call, data.traffic),
        *_hourly_calls(data),
        *_gate_calls(data.traffic),
        *_arrival_calls(data.traffic),
    ]
    return sorted(calls, key=lambda call: call.at)


def flight_json(flight: Flight) -> dict[str, Any]:
    """A flight as callers describe it: nothing of how it went."""
    return {
        "flight_id": flight.flight_id,
        "carrier": flight.carrier,
        "number": flight.number,
        "origin": flight.origin,
        "dest": flight.dest,
        "distance": flight.distance,
        "scheduled_departure": flight.scheduled_departure.isoformat(),
    }


def _delay_call(flight: Flight) -> Call:
    return Call(
        at=flight.scheduled_departure.astimezone(UTC) - timedelta(hours=2),
        path="/v1/models/flight-delay:predict",
        make=partial(flight_json, flight),
        channel=CHANNELS[flight.number % len(CHANNELS)],
    )


def _hourly_calls(data: FlightData) -> Iterable[Call]:
    def key(flight: Flight) -> tuple[datetime, str]:
        return flight.hour, flight.origin

    for (hour, origin), group in groupby(sorted(data.traffic, key=key), key):
        flights, weather = list(group), data.weather.get((origin, hour))
        yield Call(
            at=hour - timedelta(hours=1),
            path="/v1/models/late-departures:predict",
            make=partial(_hour_json, flights, weather),
        )


def _hour_json(flights: list[Flight], weather: Weather | None) -> dict[str, Any]:
    return {
        "origin": flights[0].origin,
        "weather": weather,
        "flights": [
            {**flight_json(flight), "tailnum": flight.tailnum, "seats": flight.seats}
            for flight in flights
        ],
    }


def _gate_calls(traffic: list[Flight]) -> Iterable[Call]:
    def key(flight: Flight) -> tuple[str, Any, int]:
        local = flight.scheduled_departure
        return flight.origin, local.date(), local.hour // HOURS_PER_GATE_PLAN

    for _, group in groupby(sorted(traffic, key=key), key):
        flights = list(group)
        yield Call(
            at=flights[0].hour - timedelta(hours=12),
            path="/v1/models/gate-conflicts:predict",
            make=partial(_gates_json, flights),
        )


def _gates_json(flights: list[Flight]) -> dict[str, Any]:
    departures = [flight.scheduled_departure.isoformat() for flight in flights]
    return {"origin": flights[0].origin, "departures": departures}


def _arrival_calls(traffic: list[Flight]) -> Iterable[Call]:
    for _, group in groupby(traffic, lambda flight: flight.scheduled_departure.date()):
        flights = list(group)
        landings = [flight.landed_at for flight in flights if flight.landed_at]
        yield Call(
            at=max(landings),
            path="/v1/actuals/flight-delay",
            make=partial(_arrivals_json, flights),
            envelopes=len(landings),
        )


def _arrivals_json(flights: list[Flight]) -> dict[str, Any]:
    arrivals = [
        {
            "flight_id": flight.flight_id,
            "landed_at": flight.landed_at.isoformat(),
            "arrival_delay": flight.arrival_delay,
        }
        for flight in flights
        if flight.landed_at
    ]
    return {"flights": arrivals}
