"""The demo's model service: three models and a feed of actuals, each captured in one line."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from pipelines.demo.flights import Weather
from pipelines.demo.training import Models, features
from weighbridge import EnvelopePublisher

CHANNEL_HEADER = "x-channel"
EVENT_TIME_HEADER = "x-event-time"
LATE_ABOVE = 0.3
"""A fifth of all flights are late; at 0.5 hardly any would be called so."""
GATES_PER_MINUTE = 3


class FlightService:
    """The handlers. Weather is what a feature store would be: the handler looks it up itself."""

    def __init__(
        self,
        publisher: EnvelopePublisher,
        models: Models,
        weather: Mapping[tuple[str, datetime], Weather],
    ) -> None:
        self._publisher = publisher
        self._models = models
        self._weather = weather

    async def flight_delay(self, request: Request) -> Response:
        """Minutes by which one flight will arrive late."""
        started = time.perf_counter()
        body = await request.body()
        flight = json.loads(body)
        hour = datetime.fromisoformat(flight["scheduled_departure"]).replace(minute=0)
        weather = self._weather.get((flight["origin"], hour))
        minutes = self._models.delay_minutes(features(flight, weather))
        answer = json.dumps({"delay_minutes": minutes}).encode()
        self._publisher.capture(
            "flight-delay",
            body,
            answer,
            # Looked up here and not for the caller; without it the model could not be monitored.
            context=json.dumps({"weather": weather}).encode(),
            model_version=self._models.version,
            latency_us=_micros_since(started),
            event_time=_simulated_time(request),
            headers=_kept_headers(request),
        )
        return Response(answer, media_type="application/json")

    async def late_departures(self, request: Request) -> Response:
        """Which of all flights of one airport and hour will depart late."""
        started = time.perf_counter()
        body = await request.body()
        hour = json.loads(body)
        predictions = []
        for flight in hour["flights"]:
            probability = self._models.late_probability(features(flight, hour["weather"]))
            label = "late" if probability > LATE_ABOVE else "on-time"
            predictions.append({"label": label, "probability": probability})
        answer = json.dumps({"predictions": predictions}).encode()
        self._publisher.capture(
            "late-departures",
            body,
            answer,
            model_version=self._models.version,
            latency_us=_micros_since(started),
            event_time=_simulated_time(request),
        )
        return Response(answer, media_type="application/json")

    async def gate_conflicts(self, request: Request) -> Response:
        """Minutes in which more flights depart than there are gates; a rule, not a model."""
        started = time.perf_counter()
        body = await request.body()
        departures = Counter(json.loads(body)["departures"])
        conflicts = [minute for minute, count in departures.items() if count > GATES_PER_MINUTE]
        answer = json.dumps({"conflicts": conflicts}).encode()
        self._publisher.capture(
            "gate-conflicts",
            body,
            answer,
            latency_us=_micros_since(started),
            event_time=_simulated_time(request),
        )
        return Response(answer, media_type="application/json")

    async def flight_arrivals(self, request: Request) -> Response:
        """The airlines' late feed of what turned out to be true, one actual a landed flight."""
        flights: list[dict[str, Any]] = json.loads(await request.body())["flights"]
        for flight in flights:
            self._publisher.capture_actual(
                "flight-delay",
                json.dumps(flight).encode(),
                event_time=datetime.fromisoformat(flight["landed_at"]),
            )
        return JSONResponse({"accepted": len(flights)}, status_code=202)


def create_app(
    publisher: EnvelopePublisher,
    models: Models,
    weather: Mapping[tuple[str, datetime], Weather],
) -> Starlette:
    """The service as an ASGI application."""
    service = FlightService(publisher, models, weather)
    predict = "/v1/models/{}:predict".format
    return Starlette(
        routes=[
            Route(predict("flight-delay"), service.flight_delay, methods=["POST"]),
            Route(predict("late-departures"), service.late_departures, methods=["POST"]),
            Route(predict("gate-conflicts"), service.gate_conflicts, methods=["POST"]),
            Route("/v1/actuals/flight-delay", service.flight_arrivals, methods=["POST"]),
        ]
    )


def _simulated_time(request: Request) -> datetime | None:
    # Only because the demo replays the past: a real service leaves event_time out, which is now.
    text = request.headers.get(EVENT_TIME_HEADER)
    return datetime.fromisoformat(text) if text else None


def _kept_headers(request: Request) -> dict[str, str]:
    channel = request.headers.get(CHANNEL_HEADER)
    return {CHANNEL_HEADER: channel} if channel else {}


def _micros_since(started: float) -> int:
    return int((time.perf_counter() - started) * 1e6)
