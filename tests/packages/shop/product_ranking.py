"""Search ranking: a row per product shown, and the search is their group."""

from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import Field

from extractors import (
    Envelope,
    Feature,
    GroupId,
    ModelSettings,
    PredictionId,
    PredictionScore,
    Rank,
    RelevanceLabel,
    RelevanceScore,
    Row,
    Tag,
    extractor,
)

GRADES = {"none": 0.0, "click": 1.0, "order": 3.0}


class RankedProduct(Row, default_role=Feature):
    prediction_id: Annotated[str, PredictionId]
    search_id: Annotated[str, GroupId]
    rank: Annotated[int, Rank] = Field(ge=1, le=100)
    score: Annotated[float, PredictionScore]
    query_length: int
    price: float
    rating: float | None = None
    categories: list[str]
    market: Annotated[str, Tag]


class Outcome(Row):
    prediction_id: Annotated[str, PredictionId]
    outcome: Annotated[list[Literal["none", "click", "order"]], RelevanceLabel]
    relevance: Annotated[float, RelevanceScore] = Field(ge=0, le=3)


@extractor(
    "product-ranking",
    row=RankedProduct,
    model_type="ranking",
    settings=ModelSettings(owner="search@example.com"),
)
def extract(envelope: Envelope) -> Iterator[RankedProduct]:
    request = envelope.request
    products = {product["sku"]: product for product in request["candidates"]}
    for rank, ranked in enumerate(envelope.response["ranking"], start=1):
        product = products[ranked["sku"]]
        yield RankedProduct(
            prediction_id=f"{request['search_id']}:{ranked['sku']}",
            search_id=request["search_id"],
            rank=rank,
            score=ranked["score"],
            query_length=len(request["query"]),
            price=product["price"],
            rating=product.get("rating"),
            categories=product["categories"],
            market=envelope.headers["x-market"],
        )


@extractor("product-ranking", row=Outcome, kind="actual")
def extract_actual(envelope: Envelope) -> Iterator[Outcome]:
    search = envelope.actual
    for product in search["products"]:
        yield Outcome(
            prediction_id=f"{search['search_id']}:{product['sku']}",
            outcome=product["outcome"],
            relevance=max(GRADES[outcome] for outcome in product["outcome"]),
        )
