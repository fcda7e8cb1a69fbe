"""A commented extractor: copy this file to extractors/<your_model>.py and fill it in.

    cp extractors/_template.py extractors/my_model.py
    weighbridge models my-model        # what follows from it: columns, roles, table
    make test                          # the contract suite takes it up by itself

Modules that begin with `_` are not loaded; helpers for several models go into such files.
"""

from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import Field

from extractors import (
    ActualLabel,
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

Verdict = Literal["yes", "no"]


class MyPrediction(Row, default_role=Feature):
    """One row per prediction.

    A column without a role is a Feature here; without `default_role` it stays in the table only.
    """

    # Joins the actual to its prediction; leave it out where there are none: row ids stand in.
    case_id: Annotated[str, PredictionId]
    amount: float
    """major units; a text below a column becomes its description in the table"""
    country: str
    # `| None = None` where the request may not have it. Types are strict: "0.5" is no float.
    age_days: int | None = None
    # Slices in Arize without being a feature.
    channel: Annotated[str | None, Tag] = None
    # Stays in the table.
    rules: Annotated[list[str], TableOnly] = []
    verdict: Annotated[Verdict, PredictionLabel]
    # pydantic's constraints hold; an envelope that breaks one is a dead letter.
    score: Annotated[float, PredictionScore] = Field(ge=0, le=1)


class MyActual(Row):
    """What turned out to be true, with the same classes and the same id."""

    case_id: Annotated[str, PredictionId]
    verdict: Annotated[Verdict, ActualLabel]


# model_type: regression | binary | categorical | multiclass | ranking, or untyped: table only.
@extractor(
    "my-model",
    row=MyPrediction,
    model_type="binary",
    settings=ModelSettings(owner="my-team@example.com"),
)
def extract(envelope: Envelope) -> Iterator[MyPrediction]:
    """Give one row per prediction; `envelope.context` is what the handler looked up itself.

    Raise whatever comes: the envelope becomes a dead letter, and can be replayed once the
    extractor is mended. For large envelopes yield dicts instead of rows, at half the cost.
    """
    request, response = envelope.request, envelope.response
    yield MyPrediction(
        case_id=request["id"],
        amount=request["amount"],
        country=request["country"],
        age_days=envelope.context.get("age_days"),
        channel=envelope.headers.get("x-channel"),
        rules=response.get("rules", []),
        verdict="yes" if response["score"] >= 0.5 else "no",
        score=response["score"],
    )


@extractor("my-model", row=MyActual, kind="actual")
def extract_actual(envelope: Envelope) -> Iterator[MyActual]:
    """Give the truth about one prediction, or about many."""
    yield MyActual(case_id=envelope.actual["id"], verdict=envelope.actual["verdict"])
