"""Review topics in two languages: all class scores, and the text with its embedding."""

from collections.abc import Iterator
from typing import Annotated

from extractors import (
    ActualScore,
    ClassScores,
    EmbeddingLink,
    EmbeddingText,
    EmbeddingVector,
    Envelope,
    Feature,
    ModelSettings,
    PredictionId,
    PredictionScore,
    Row,
    TableOnly,
    Tag,
    extractor,
)

SETTINGS = ModelSettings(owner="nlp@example.com")


class ReviewTopic(Row):
    prediction_id: Annotated[str, PredictionId]
    text: Annotated[str | None, EmbeddingText("review")] = None
    vector: Annotated[list[float] | None, EmbeddingVector("review")] = None
    link: Annotated[str | None, EmbeddingLink("review")] = None
    characters: Annotated[int, Feature]
    language: Annotated[str, Tag]
    scores: Annotated[ClassScores, PredictionScore]
    topic: Annotated[str, TableOnly]
    """the class with the highest score"""


class ReviewTruth(Row):
    prediction_id: Annotated[str, PredictionId]
    topics: Annotated[ClassScores, ActualScore]


@extractor("review-topic-en", row=ReviewTopic, model_type="multiclass", settings=SETTINGS)
@extractor("review-topic-de", row=ReviewTopic, model_type="multiclass", settings=SETTINGS)
def extract(envelope: Envelope) -> Iterator[ReviewTopic]:
    vectors = envelope.context.get("vectors")
    pairs = zip(envelope.request["reviews"], envelope.response["predictions"], strict=True)
    for index, (review, scores) in enumerate(pairs):
        yield ReviewTopic(
            prediction_id=envelope.item_id(index),
            text=review.get("text"),
            vector=vectors[index] if vectors else None,
            link=review.get("url"),
            characters=len(review.get("text") or ""),
            language=review["lang"],
            scores=scores,
            topic=max(scores, key=scores.__getitem__),
        )


@extractor("review-topic-en", row=ReviewTruth, kind="actual")
@extractor("review-topic-de", row=ReviewTruth, kind="actual")
def extract_actual(envelope: Envelope) -> Iterator[ReviewTruth]:
    label = envelope.actual
    yield ReviewTruth(
        prediction_id=label["prediction_id"],
        topics=dict.fromkeys(label["topics"], 1.0),
    )
