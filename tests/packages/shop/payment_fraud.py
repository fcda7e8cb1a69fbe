"""Payment fraud: a nested request, features from the handler's context, labels weeks later."""

from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import BaseModel, Field

from extractors import (
    ActualLabel,
    Envelope,
    EventTime,
    Feature,
    ModelSettings,
    NanAsNull,
    PredictionId,
    PredictionLabel,
    PredictionScore,
    Row,
    ShapValue,
    TableOnly,
    Tag,
    Timestamp,
    extractor,
)

Verdict = Literal["fraud", "legitimate"]


class Card(BaseModel):
    country: str


class Payment(BaseModel):
    """The part of the request that is read."""

    id: str
    created_at: Timestamp
    amount_minor: int
    currency: str
    card: Card
    items: list[dict[str, object]] = []


class ScoredPayment(Row, default_role=Feature):
    payment_id: Annotated[str, PredictionId]
    paid_at: Annotated[Timestamp, EventTime]
    amount: float
    """major units of the currency"""
    currency: str
    card_country: str
    item_count: int
    payments_24h: int | None = None
    distance_km: Annotated[float | None, Feature, NanAsNull] = None
    amount_shap: Annotated[float | None, ShapValue("amount")] = None
    channel: Annotated[str | None, Tag] = None
    rule_hits: Annotated[list[str], TableOnly] = []
    verdict: Annotated[Verdict, PredictionLabel]
    score: Annotated[float, PredictionScore] = Field(ge=0, le=1)


class Chargeback(Row):
    payment_id: Annotated[str, PredictionId]
    verdict: Annotated[Verdict, ActualLabel]
    reason: str | None = None


@extractor(
    "payment-fraud",
    row=ScoredPayment,
    model_type="binary",
    settings=ModelSettings(owner="risk@example.com"),
)
def extract(envelope: Envelope) -> Iterator[ScoredPayment]:
    payment, answer = envelope.request_as(Payment), envelope.response
    looked_up = envelope.context
    yield ScoredPayment(
        payment_id=payment.id,
        paid_at=payment.created_at,
        amount=payment.amount_minor / 100,
        currency=payment.currency,
        card_country=payment.card.country,
        item_count=len(payment.items),
        payments_24h=looked_up.get("payments_24h"),
        distance_km=looked_up.get("distance_km"),
        amount_shap=answer.get("explanation", {}).get("amount"),
        channel=envelope.headers.get("x-channel"),
        rule_hits=answer.get("rules", []),
        verdict="fraud" if answer["decision"] == "DECLINE" else "legitimate",
        score=answer["score"],
    )


@extractor("payment-fraud", row=Chargeback, kind="actual")
def extract_actual(envelope: Envelope) -> Iterator[Chargeback]:
    label = envelope.actual
    yield Chargeback(
        payment_id=label["payment_id"],
        verdict="fraud" if label["chargeback"] else "legitimate",
        reason=label.get("reason_code"),
    )
