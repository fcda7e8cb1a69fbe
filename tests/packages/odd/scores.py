"""A plain model with actuals, in dicts, and its twin in objects."""

from collections.abc import Iterator
from typing import Annotated, Any, Literal

from pydantic import Field

from extractors import (
    ActualLabel,
    Envelope,
    Feature,
    PredictionId,
    PredictionLabel,
    PredictionScore,
    Row,
    TableOnly,
    Tag,
    Timestamp,
    extractor,
)

Label = Literal["yes", "no"]


class Scored(Row, default_role=Feature):
    case_id: Annotated[str, PredictionId]
    amount: float
    country: str | None = None
    seen_at: Annotated[Timestamp | None, TableOnly] = None
    channel: Annotated[str | None, Tag] = None
    label: Annotated[Label, PredictionLabel]
    score: Annotated[float, PredictionScore] = Field(ge=0, le=1)


class Truth(Row):
    case_id: Annotated[str, PredictionId]
    label: Annotated[Label, ActualLabel]


def _values(envelope: Envelope) -> Iterator[dict[str, Any]]:
    scores = envelope.response["scores"]
    for case, score in zip(envelope.request["cases"], scores, strict=True):
        yield {
            "case_id": case["id"],
            "amount": case["amount"],
            "country": case.get("country"),
            "seen_at": envelope.context.get("seen_at"),
            "channel": envelope.headers.get("x-channel"),
            "label": "yes" if isinstance(score, float) and score >= 0.5 else "no",
            "score": score,
        }


@extractor("scores", row=Scored, model_type="binary")
def extract(envelope: Envelope) -> Iterator[dict[str, Any]]:
    yield from _values(envelope)


@extractor("scores-objects", row=Scored, model_type="binary")
def extract_objects(envelope: Envelope) -> Iterator[Scored]:
    for values in _values(envelope):
        yield Scored(**values)


@extractor("scores", row=Truth, kind="actual")
def extract_actual(envelope: Envelope) -> Iterator[Truth]:
    for case in envelope.actual["cases"]:
        yield Truth(case_id=case["id"], label=case["label"])
