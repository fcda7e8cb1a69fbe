"""A service to measure under load, that hands its requests over in one of several ways."""

from __future__ import annotations

import socket
from multiprocessing.connection import Connection
from typing import Any

import orjson

from benchmarks.capture.payloads import MODEL
from benchmarks.capture.ways import FILE, OURS, PUBLISH, WAYS, Place, Sink

NONE, MIDDLEWARE = "none", "middleware"
_WEIGHTS = [(0.01 * i, -0.02 * i, 0.03, 0.1) for i in range(96)]
LABELS = {
    NONE: "no capture",
    OURS: "ours, capture() in the handler",
    MIDDLEWARE: "ours, the middleware",
    FILE: WAYS[FILE].label,
    PUBLISH: WAYS[PUBLISH].label,
}


def serve(connection: Connection, name: str, place: Place) -> None:
    """Run it, and say its port; until it is killed."""
    import uvicorn

    with socket.create_server(("127.0.0.1", 0), backlog=128) as listening:
        connection.send(listening.getsockname()[1])
        config = uvicorn.Config(
            _app(name, place), http="httptools", loop="uvloop", log_level="critical", lifespan="off"
        )
        uvicorn.Server(config).run([listening])


def _app(name: str, place: Place) -> Any:
    from starlette.applications import Starlette
    from starlette.middleware import Middleware
    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.routing import Route

    sink: Sink | None = None
    middleware = []
    if name == MIDDLEWARE:
        from weighbridge import CaptureMiddleware, EnvelopePublisher

        publisher = EnvelopePublisher(place.topic)
        middleware = [Middleware(CaptureMiddleware, publisher=publisher, model=MODEL)]
    elif name != NONE:
        sink = WAYS[name].open(place)

    async def predict(request: Request) -> Response:
        body = await request.body()
        answer = orjson.dumps(_predict(orjson.loads(body)))
        if sink is not None:
            sink.call(body, answer, request.scope["headers"], "")
        return Response(answer, media_type="application/json")

    routes = [Route("/predict", predict, methods=["POST"])]
    return Starlette(routes=routes, middleware=middleware)


def _predict(request: dict[str, Any]) -> dict[str, Any]:
    """A model that takes some 0.3 ms: services that do less than that are rare."""
    scored = []
    for item in request["items"]:
        values = (item["ctr_7d"], item["price"] / 100, item["views_7d"] / 1e5, 1.0)
        score = 0.0
        for weights in _WEIGHTS:
            score += max(0.0, sum(value * weight for value, weight in zip(values, weights)))
        scored.append((round(score, 6), item["item_id"]))
    scored.sort(reverse=True)
    return {
        "request_id": request["request_id"],
        "model": {"id": MODEL, "version": "2025-10-01.3"},
        "predictions": [
            {"item_id": item_id, "score": score, "label": "click"} for score, item_id in scored[:2]
        ],
    }
