"""Parcels: several rows an envelope, or none; and truth that comes later."""

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
    extractor,
)

Label = Literal["heavy", "light"]


class Parcel(Row, default_role=Feature):
    parcel_id: Annotated[str, PredictionId]
    kilos: float
    label: Annotated[Label, PredictionLabel]
    score: Annotated[float, PredictionScore] = Field(ge=0, le=1)


class Weighed(Row):
    parcel_id: Annotated[str, PredictionId]
    label: Annotated[Label, ActualLabel]


@extractor("parcels", row=Parcel, model_type="binary")
def extract(envelope: Envelope) -> Iterator[dict[str, Any]]:
    scores = envelope.response["scores"]
    for parcel, score in zip(envelope.request["parcels"], scores, strict=True):
        label = "heavy" if score >= 0.5 else "light"
        yield {"parcel_id": parcel["id"], "kilos": parcel["kilos"], "label": label, "score": score}


@extractor("parcels", row=Weighed, kind="actual")
def extract_actual(envelope: Envelope) -> Iterator[Weighed]:
    yield Weighed(parcel_id=envelope.actual["id"], label=envelope.actual["label"])
