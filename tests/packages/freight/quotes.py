"""Quotes: one row an envelope."""

from collections.abc import Iterator
from typing import Annotated

from extractors import Envelope, Feature, PredictionId, PredictionLabel, Row, extractor


class Quote(Row, default_role=Feature):
    quote_id: Annotated[str, PredictionId]
    kilometres: int
    price: Annotated[float, PredictionLabel]


@extractor("quotes", row=Quote, model_type="regression")
def extract(envelope: Envelope) -> Iterator[Quote]:
    request = envelope.request
    yield Quote(
        quote_id=request["id"], kilometres=request["kilometres"], price=envelope.response["price"]
    )
