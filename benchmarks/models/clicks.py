"""One row class of fifteen columns, and its rows made in the two ways there are."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Annotated, Any, Literal

from pydantic import Field

from extractors import (
    Envelope,
    Feature,
    PredictionLabel,
    PredictionScore,
    Row,
    TableOnly,
    Tag,
    extractor,
)

Extract = Callable[[Envelope], Iterator[Any]]


class Click(Row, default_role=Feature):
    """One ranked item, and whether the model expects a click on it."""

    user_id: Annotated[str, TableOnly]
    country: Annotated[str, Tag]
    device: Literal["ios", "android", "web"]
    segment: str
    locale: Annotated[str | None, Tag] = None
    age_days: int
    orders_90d: int
    item_id: Annotated[str, TableOnly]
    price: float = Field(ge=0)
    ctr_7d: float
    distance_km: Annotated[float | None, Field(ge=0)] = None
    views_7d: int
    position: int = Field(ge=0, le=10_000)
    score: Annotated[float, PredictionScore, Field(ge=0, le=1)]
    label: Annotated[Literal["click", "skip"], PredictionLabel]


def as_dicts(envelope: Envelope) -> Iterator[dict[str, Any]]:
    """A dict for each item of the request."""
    request = envelope.request
    user = request["user"]
    answers = zip(request["items"], envelope.response["predictions"], strict=True)
    for position, (item, answer) in enumerate(answers):
        yield {
            "user_id": user["user_id"],
            "country": user["country"],
            "device": user["device"],
            "segment": user["segment"],
            "locale": user["locale"],
            "age_days": user["age_days"],
            "orders_90d": user["orders_90d"],
            "item_id": item["item_id"],
            "price": item["price"],
            "ctr_7d": item["ctr_7d"],
            "distance_km": item["distance_km"],
            "views_7d": item["views_7d"],
            "position": position,
            "score": answer["score"],
            "label": answer["label"],
        }


def as_objects(envelope: Envelope) -> Iterator[Click]:
    """A row object for each item of the request."""
    request = envelope.request
    user = request["user"]
    answers = zip(request["items"], envelope.response["predictions"], strict=True)
    for position, (item, answer) in enumerate(answers):
        yield Click(
            user_id=user["user_id"],
            country=user["country"],
            device=user["device"],
            segment=user["segment"],
            locale=user["locale"],
            age_days=user["age_days"],
            orders_90d=user["orders_90d"],
            item_id=item["item_id"],
            price=item["price"],
            ctr_7d=item["ctr_7d"],
            distance_km=item["distance_km"],
            views_7d=item["views_7d"],
            position=position,
            score=answer["score"],
            label=answer["label"],
        )


def register(function: Extract, models: int) -> None:
    """Register one function for the models m000, m001 and so on, each with a table of its own."""
    for number in range(models):
        extractor(model_id(number), row=Click, model_type="binary")(function)


def model_id(number: int) -> str:
    """Id of a model of the benchmark."""
    return f"m{number:03}"
